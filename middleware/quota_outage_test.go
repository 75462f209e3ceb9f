package middleware_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit/quota"
)

func TestQuota_clientGone(t *testing.T) {
	t.Parallel()
	ledger := newLedger(t, testkit.Mini(t).Client(t))
	topUp(t, ledger, "alice", 100)
	tests := []struct {
		name    string
		handler http.HandlerFunc
		cost    int64
	}{
		{"gives up", func(http.ResponseWriter, *http.Request) {}, 0},
		{"gives up by panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0},
		{"says so", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(499) }, 0},
		{"done all the same", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(201) }, 10},
	}
	for _, tt := range tests {
		before, _ := ledger.Balance(t.Context(), "alice")
		ctx, leave := context.WithCancel(t.Context())
		h := middleware.Quota(ledger, byUser, middleware.FixedCost(10))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			leave()
			tt.handler(w, r)
		}))
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.Header.Set("X-User", "alice")
		func() {
			defer func() { _ = recover() }()
			h.ServeHTTP(httptest.NewRecorder(), r)
		}()
		t.Log(tt.name)
		checkAccount(t, ledger, "alice", before.Balance-tt.cost)
	}

	next, client := new(countedHandler), &brokenRedis{err: errUnreachable}
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	r.Header.Set("X-User", "alice")
	checkProblem(t, answerTo(middleware.Quota(newLedger(t, client), byUser, middleware.FixedCost(1))(next), r), 503)
	if next.calls.Load() != 0 || client.calls.Load() != 0 {
		t.Errorf("%d handlers ran, Redis was asked %d times; want neither", next.calls.Load(), client.calls.Load())
	}
}

func TestQuota_clientLeaves(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	p := testkit.NewProxy(t, b.Addrs()[0])
	ledger := newLedger(t, p.Client(t))
	topUp(t, ledger, "alice", 100)
	p.Delay(50 * time.Millisecond)
	ctx, leave := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer leave()
	r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	r.Header.Set("X-User", "alice")
	ran := false
	answerTo(middleware.Quota(ledger, byUser, middleware.FixedCost(10))(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { ran = true })), r)
	p.Heal()
	if !ran {
		t.Error("the handler did not run; want it to see that its client is gone")
	}
	checkAccount(t, ledger, "alice", 100)
}

func TestQuota_outlastsItsHold(t *testing.T) {
	t.Parallel()
	for _, spent := range []int64{0, 95} {
		synctest.Test(t, func(t *testing.T) {
			ledger := newLedger(t, testkit.Memory(t).Client(t), quota.WithHold(time.Minute))
			topUp(t, ledger, "alice", 100)
			h := middleware.Quota(ledger, byUser, middleware.FixedCost(10))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(2 * time.Minute)
				if spent > 0 {
					_, _ = ledger.Deduct(r.Context(), "alice", spent, "")
				}
				w.Header().Set("X-Secret", "unpaid")
				_, _ = io.WriteString(w, "unpaid")
			}))
			got := asAlice(h)
			if spent == 0 {
				if got.StatusCode != 200 {
					t.Errorf("%d; want 200", got.StatusCode)
				}
				checkAccount(t, ledger, "alice", 90)
				return
			}
			checkProblem(t, got, 402)
			checkAccount(t, ledger, "alice", 5)
		})
	}
}

func TestQuota_silence(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	ledger := newLedger(t, p.Client(t), quota.WithTimeout(50*time.Millisecond))
	testkit.Eventually(t, "the account", func() bool {
		_, err := ledger.TopUp(t.Context(), "alice", 100, "once")
		return err == nil
	})
	outside := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Outside", "kept")
			next.ServeHTTP(w, r)
		})
	}
	h := middleware.Chain(outside, middleware.Quota(ledger, byUser, middleware.FixedCost(10)))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.Hang()
		w.Header().Set("X-Secret", "unpaid")
		w.Header().Set("Set-Cookie", "unpaid=1")
		w.WriteHeader(201)
		_, _ = io.WriteString(w, "secret")
	}))
	testkit.Eventually(t, "the reservation", func() bool {
		p.Heal()
		begun := time.Now()
		got := asAlice(h)
		checkProblem(t, got, 503)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("took %v; want two budgets of 50ms at most", took)
		}
		if got.Header.Get("X-Outside") != "kept" || got.Header.Get("Set-Cookie") != "" || got.Header.Get("Retry-After") != "1" {
			t.Errorf("header %v; want that of outside, and Retry-After", got.Header)
		}
		p.Heal()
		r, err := ledger.Balance(t.Context(), "alice")
		return err == nil && r.Held > 0
	})

	for name, tt := range map[string]struct {
		err    error
		status int
	}{"unreachable": {errUnreachable, 503}, "refused": {refusal("NOPERM no permissions to run the 'evalsha' command"), 500}} {
		next := new(countedHandler)
		for _, options := range [][]middleware.QuotaOption{nil, {middleware.WithDeductFirst()}, {middleware.WithIdempotencyKey()}} {
			got := asAlice(middleware.Quota(newLedger(t, &brokenRedis{err: tt.err}), byUser, middleware.FixedCost(1), options...)(next), "Idempotency-Key: k")
			checkProblem(t, got, tt.status)
			if retry := got.Header.Get("Retry-After"); (retry == "1") != (tt.status == 503) || next.calls.Load() != 0 {
				t.Errorf("%s: Retry-After %q, %d handlers ran", name, retry, next.calls.Load())
			}
		}
	}
}

func TestQuota_reports(t *testing.T) {
	// Not parallel: the default logger is everybody's.
	lines := capture(t)
	asAlice(middleware.Quota(newLedger(t, &brokenRedis{err: errUnreachable}), byUser, middleware.FixedCost(1))(new(countedHandler)))
	if got := lines.String(); !strings.Contains(got, "weir: quota: no verdict") || !strings.Contains(got, "10.1.2.3:6379") || strings.Contains(got, "alice") {
		t.Errorf("logged %q; want what happened and why, not to whom", got)
	}
}

func TestQuota_hijackUnpaid(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	ledger := newLedger(t, p.Client(t), quota.WithTimeout(100*time.Millisecond))
	testkit.Eventually(t, "the account", func() bool {
		_, err := ledger.TopUp(t.Context(), "alice", 100, "once")
		return err == nil
	})
	var conn net.Conn
	err := errors.New("the handler did not run")
	server := httptest.NewServer(middleware.Quota(ledger, byUser, middleware.FixedCost(10))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.Hang()
		conn, _, err = http.NewResponseController(w).Hijack()
	})))
	defer server.Close()
	testkit.Eventually(t, "the reservation", func() bool {
		p.Heal()
		r, _ := http.NewRequest("GET", server.URL, nil)
		r.Header.Set("X-User", "alice")
		response, failure := http.DefaultClient.Do(r)
		if failure != nil {
			t.Fatal(failure)
		}
		defer response.Body.Close()
		if response.StatusCode != 503 || conn != nil {
			t.Errorf("status %d, connection %v; want 503 and none", response.StatusCode, conn)
		}
		return err == nil || err.Error() != "the handler did not run"
	})
	if err == nil {
		t.Error("Hijack: nil; want an error")
	}
}
