package middleware_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit/quota"
)

// newLedger returns a Ledger on which a loaded machine's calls do not fail.
func newLedger(tb testing.TB, client redis.UniversalClient, options ...quota.Option) *quota.Ledger {
	tb.Helper()
	l, err := quota.New(client, append([]quota.Option{quota.WithTimeout(20 * time.Second)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

func topUp(tb testing.TB, l *quota.Ledger, account string, amount int64) {
	tb.Helper()
	if r, err := l.TopUp(context.Background(), account, amount, ""); err != nil || !r.OK {
		tb.Fatalf("top up: %+v, %v", r, err)
	}
}

// checkAccount fails tb unless the account has so much to spend, and nothing held.
func checkAccount(tb testing.TB, l *quota.Ledger, account string, balance int64) {
	tb.Helper()
	r, err := l.Balance(context.Background(), account)
	if err != nil || r.Balance != balance || r.Held != 0 {
		tb.Errorf("%s has %d, %d held, %v; want %d", account, r.Balance, r.Held, err, balance)
	}
}

// byUser is the account of the requests in these tests.
var byUser = middleware.KeyByHeader("X-User")

// asAlice asks h as alice, with header fields "Name: value".
func asAlice(h http.Handler, fields ...string) *http.Response {
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("X-User", "alice")
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		r.Header.Add(name, value)
	}
	return answerTo(h, r)
}

// The verdict in HTTP, on every Redis.

func TestQuota_answers(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ledger := newLedger(t, b.Client(t), quota.WithPrefix(b.Prefix(t)))
		topUp(t, ledger, "alice", 25)
		next := new(countedHandler)
		for i, tt := range []struct {
			options []middleware.QuotaOption
			status  int
			left    int64
		}{
			{nil, 200, 15},
			{[]middleware.QuotaOption{middleware.WithTooManyRequests()}, 200, 5},
			{nil, 402, 5},
			{[]middleware.QuotaOption{middleware.WithTooManyRequests()}, 429, 5},
			{[]middleware.QuotaOption{middleware.WithDeductFirst()}, 402, 5},
		} {
			server := httptest.NewServer(middleware.Quota(ledger, byUser, middleware.FixedCost(10), tt.options...)(next))
			r, _ := http.NewRequest("GET", server.URL, nil)
			r.Header.Set("X-User", "alice")
			response, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			if tt.status == 200 {
				if body, _ := io.ReadAll(response.Body); response.StatusCode != 200 || string(body) != "the answer" {
					t.Errorf("request %d: %d %q; want the handler's answer", i+1, response.StatusCode, body)
				}
			} else {
				p := checkProblem(t, response, tt.status)
				if strings.Contains(p.Detail, "5") || strings.Contains(p.Detail, "alice") || response.Header.Get("Retry-After") != "" {
					t.Errorf("request %d: %+v; want neither account nor balance", i+1, p)
				}
			}
			_ = response.Body.Close()
			server.Close()
			checkAccount(t, ledger, "alice", tt.left)
		}
		if got := next.calls.Load(); got != 2 {
			t.Errorf("the handler ran %d times; want 2", got)
		}
	})
}

// What costs, and what does not.
//

// Red, in turn: without v.release, or when it is not deferred (panics), when

// BeforeHeader does not ask for the status or takes a hijack's 0 for one, when it

// commits an amount of 0, or when Use does not look at what is held.

func TestQuota_charges(t *testing.T) {
	t.Parallel()
	use := func(n int64) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			c, _ := middleware.QuotaFromContext(r.Context())
			if got, want := c.Use(n), n >= 0 && n <= 10; got != want {
				t.Errorf("Use(%d) = %v; want %v", n, got, want)
			}
			w.WriteHeader(200)
			if c.Use(1) {
				t.Error("Use after the header: true; want false")
			}
		}
	}
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	created := middleware.WithChargeOn(func(status int) bool { return status == 201 || status == 404 })
	tests := []struct {
		name    string
		handler http.HandlerFunc
		option  middleware.QuotaOption
		cost    int64 // of 10
	}{
		{"nothing written", func(http.ResponseWriter, *http.Request) {}, nil, 10},
		{"written", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, nil, 10},
		{"204", answer(204), nil, 10},
		{"304", answer(304), nil, 10},
		{"103, then 200", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(200) }, nil, 10},
		{"103, then 500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(500) }, nil, 0},
		{"400", answer(400), nil, 0},
		{"404", answer(404), nil, 0},
		{"500", answer(500), nil, 0},
		{"200, not charged", answer(200), created, 0},
		{"201, charged", answer(201), created, 10},
		{"404, charged", answer(404), created, 10},
		{"panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, 0},
		{"panic of its own", func(http.ResponseWriter, *http.Request) { panic("oh") }, nil, 0},
		{"panic after the header", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(200)
			panic(http.ErrAbortHandler)
		}, nil, 10},
		{"panic, written before", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			panic(http.ErrAbortHandler)
		}, nil, 0},
		{"flushed", func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }, nil, 10},
		{"less", use(3), nil, 3},
		{"nothing", use(0), nil, 0},
		{"all", use(10), nil, 10},
		{"too much", use(11), nil, 10},
		{"negative", use(-1), nil, 10},
		{"hijacked", func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.Close()
			} else {
				t.Error(err)
			}
		}, nil, 10},
		{"panic, charged first", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, middleware.WithDeductFirst(), 10},
		{"500, charged first", answer(500), middleware.WithDeductFirst(), 10},
		{"200, charged first", answer(200), middleware.WithDeductFirst(), 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ledger := newLedger(t, testkit.Mini(t).Client(t))
			topUp(t, ledger, "alice", 100)
			var options []middleware.QuotaOption
			if tt.option != nil {
				options = append(options, tt.option)
			}
			done := make(chan struct{})
			wrapped := middleware.Quota(ledger, byUser, middleware.FixedCost(10), options...)(tt.handler)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer close(done)
				defer func() {
					if p := recover(); p != nil && !strings.HasPrefix(tt.name, "panic") {
						t.Errorf("panic %v", p)
					} else if p == nil && strings.HasPrefix(tt.name, "panic") {
						t.Error("the panic did not pass")
					}
				}()
				wrapped.ServeHTTP(w, r)
			}))
			server.Start()
			defer server.Close()
			r, _ := http.NewRequest("GET", server.URL, nil)
			r.Header.Set("X-User", "alice")
			if response, err := http.DefaultClient.Do(r); err == nil {
				_ = response.Body.Close()
			}
			<-done
			checkAccount(t, ledger, "alice", 100-tt.cost)
		})
	}
}

// An event stream is paid for when it begins: its client sees the first event while

// the handler still runs, and the hold need not last.

func TestQuota_streams(t *testing.T) {
	t.Parallel()
	ledger := newLedger(t, testkit.Mini(t).Client(t))
	topUp(t, ledger, "alice", 100)
	end := make(chan struct{})
	server := httptest.NewServer(middleware.Quota(ledger, byUser, middleware.FixedCost(10))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-end
	})))
	defer server.Close()
	defer close(end)
	r, _ := http.NewRequest("GET", server.URL, nil)
	r.Header.Set("X-User", "alice")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); line != "data: 1\n" || err != nil {
		t.Errorf("%q, %v; want the first event", line, err)
	}
	checkAccount(t, ledger, "alice", 90)
}

// A client that leaves: what gave up costs nothing, what was done is paid for, and

// who was gone before is not asked about.
//

// Red when Commit, or Cancel, is called under the request's context; without v.gone;

// when serve does not look at the context first.

// A client that leaves while Redis is asked does not leave its account in doubt.
//

// Red when begin is called under the request's context.

// Two round trips a request that passes, one that is refused, one with

// WithDeductFirst, which does not wrap the writer either, and none for what is free.
//

// Red when the hold is released before the handler runs: it is then paid for late.

func TestQuota_roundTrips(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	ledger := newLedger(t, p.Client(t))
	topUp(t, ledger, "alice", 1000)
	var wrapped bool
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, plain := w.(*httptest.ResponseRecorder)
		wrapped = !plain
		if r.Header.Get("X-Fail") != "" {
			w.WriteHeader(500)
		}
	})
	for _, tt := range []struct {
		name    string
		cost    int64
		fields  []string
		option  middleware.QuotaOption
		trips   int
		wrapped bool
	}{
		{"passes", 1, nil, middleware.WithTooManyRequests(), 2, true},
		{"fails", 1, []string{"X-Fail: 1"}, middleware.WithTooManyRequests(), 2, true},
		{"refused", 5000, nil, middleware.WithTooManyRequests(), 1, false},
		{"charged first", 1, nil, middleware.WithDeductFirst(), 1, false},
		{"free", 0, nil, middleware.WithTooManyRequests(), 0, false},
	} {
		h := middleware.Quota(ledger, byUser, func(*http.Request) int64 { return tt.cost }, tt.option)(next)
		asAlice(h, tt.fields...) // the scripts
		p.Reset()
		wrapped = false
		asAlice(h, tt.fields...)
		if got := p.RoundTrips(); got != tt.trips || wrapped != tt.wrapped {
			t.Errorf("%s: %d round trips, writer wrapped: %v; want %d, %v", tt.name, got, wrapped, tt.trips, tt.wrapped)
		}
	}
}

// As many requests at a time as there may be: those that are paid for pass.

func TestQuota_atOnce(t *testing.T) {
	t.Parallel()
	ledger := newLedger(t, testkit.Shared(t, "server").Client(t), quota.WithPrefix(testkit.Shared(t, "server").Prefix(t)))
	topUp(t, ledger, "alice", 105)
	h := middleware.Quota(ledger, byUser, middleware.FixedCost(10))(new(countedHandler))
	var passed, refused atomic.Int64
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			switch asAlice(h).StatusCode {
			case 200:
				passed.Add(1)
			case 402:
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if passed.Load() != 10 || refused.Load() != 30 {
		t.Errorf("%d passed, %d refused; want 10, 30", passed.Load(), refused.Load())
	}
	checkAccount(t, ledger, "alice", 5)
}

// A handler that outlasts its hold is paid from the balance, or not answered.
//

// Red without the Deduct after Commit.

// With Redis silent nothing passes; when it falls silent under the handler nothing

// of its answer is sent.
//

// Red when BeforeHeader returns true on an error, or does not clear the header.

// One Idempotency-Key is paid with once, and gives one answer; what was not paid for

// may be tried again.
//

// Red when begin uses one id for all tries, or the key itself, when serve lets

// Repeated pass, or when the key is looked at without the option.

// Tries under one key end. Red, by a hang, without maxAttempts.

// Who cannot pay because nobody knows who pays, or how much.

// An account with too much under way is told to wait, one that was spoiled is an

// error of the server's.

// What a handler learns of its charge.

func TestQuota_fromContext(t *testing.T) {
	t.Parallel()
	ledger := newLedger(t, testkit.Mini(t).Client(t))
	topUp(t, ledger, "alice", 100)
	var charge *middleware.QuotaCharge
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		charge, _ = middleware.QuotaFromContext(r.Context())
		if charge.Balance() != 90 || charge.Amount() != 10 {
			t.Errorf("balance %d, amount %d; want 90, 10", charge.Balance(), charge.Amount())
		}
		charge.Use(4)
		if status := r.Header.Get("X-Status"); status != "" {
			w.WriteHeader(500)
		}
	})
	h := middleware.Quota(ledger, byUser, middleware.FixedCost(10))(next)
	asAlice(h)
	if charge.Balance() != 96 || charge.Amount() != 4 {
		t.Errorf("after: balance %d, amount %d; want 96, 4", charge.Balance(), charge.Amount())
	}
	topUp(t, ledger, "alice", 4)
	asAlice(h, "X-Status: 500")
	if charge.Amount() != 0 {
		t.Errorf("after a failure: amount %d; want 0", charge.Amount())
	}
	asAlice(middleware.Quota(ledger, byUser, middleware.FixedCost(10), middleware.WithDeductFirst())(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if c, ok := middleware.QuotaFromContext(r.Context()); !ok || c.Balance() != 90 || c.Amount() != 10 || c.Use(1) {
			t.Errorf("charged first: balance %d, amount %d; want 90, 10, and no Use", c.Balance(), c.Amount())
		}
	})))
	if c, ok := middleware.QuotaFromContext(t.Context()); c != nil || ok {
		t.Errorf("no Quota: %v, %v; want nil, false", c, ok)
	}
}

// What went wrong is logged, to whom it happened is not.

// A connection taken over by the handler, at a time when Redis has no answer, is

// not given away unpaid.
//

// Red when BeforeHeader lets status 0 pass after a failure.
