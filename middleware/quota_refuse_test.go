package middleware_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit/quota"
)

func TestQuota_idempotencyKey(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} {
		t.Run(fmt.Sprint("charged first: ", first), func(t *testing.T) {
			t.Parallel()
			ledger := newLedger(t, testkit.Mini(t).Client(t))
			options := []middleware.QuotaOption{middleware.WithIdempotencyKey()}
			if first {
				options = append(options, middleware.WithDeductFirst())
			}
			status, cost := 500, int64(10)
			var within func()
			h := middleware.Quota(ledger, byUser, func(*http.Request) int64 { return cost }, options...)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if within != nil {
					within()
				}
				w.WriteHeader(status)
			}))
			ask := func(want int, left int64, fields ...string) {
				t.Helper()
				got := asAlice(h, fields...)
				if got.StatusCode != want {
					t.Errorf("%q: %d; want %d", fields, got.StatusCode, want)
				}
				if want == 409 || want == 422 || want == 402 || want == 400 {
					checkProblem(t, got, want)
				}
				checkAccount(t, ledger, "alice", left)
			}
			ask(402, 0, "Idempotency-Key: a")
			topUp(t, ledger, "alice", 100)
			if !first {
				ask(500, 100, "Idempotency-Key: a") // failed, and was not charged
			}
			status = 200
			ask(200, 90, "Idempotency-Key: a")
			for range 3 {
				ask(409, 90, "Idempotency-Key: a")
			}
			cost = 11
			ask(422, 90, "Idempotency-Key: a")
			cost = 10
			ask(200, 80, "Idempotency-Key: b")
			ask(200, 70)
			ask(200, 60)
			ask(400, 60, "Idempotency-Key: c", "Idempotency-Key: d")
			ask(400, 60, "Idempotency-Key: ")
			within = func() { // the same request while the first is under way
				within = nil
				if got := asAlice(h, "Idempotency-Key: e"); got.StatusCode != 409 {
					t.Errorf("at the same time: %d; want 409", got.StatusCode)
				}
			}
			ask(200, 50, "Idempotency-Key: e")
			// A key cannot take the id of a payment to come.
			ask(200, 40, "Idempotency-Key: payment 1")
			if r, err := ledger.TopUp(t.Context(), "alice", 1, "payment 1"); err != nil || !r.OK || r.Repeated {
				t.Errorf("%+v, %v; want the payment", r, err)
			}
			plain := middleware.Quota(ledger, byUser, middleware.FixedCost(10))(new(countedHandler))
			for range 2 {
				if got := asAlice(plain, "Idempotency-Key: a"); got.StatusCode != 200 {
					t.Errorf("without the option: %d; want 200", got.StatusCode)
				}
			}
			checkAccount(t, ledger, "alice", 21)
		})
	}
}

func TestQuota_idempotencyKeyTries(t *testing.T) {
	t.Parallel()
	ledger := newLedger(t, testkit.Mini(t).Client(t))
	next := new(countedHandler)
	h := middleware.Quota(ledger, byUser, middleware.FixedCost(10), middleware.WithIdempotencyKey())(next)
	for range 8 {
		checkProblem(t, asAlice(h, "Idempotency-Key: a"), 402)
	}
	topUp(t, ledger, "alice", 100)
	checkProblem(t, asAlice(h, "Idempotency-Key: a"), 402)
	if got := asAlice(h, "Idempotency-Key: b"); got.StatusCode != 200 || next.calls.Load() != 1 {
		t.Errorf("another key: %d, %d calls; want 200, 1", got.StatusCode, next.calls.Load())
	}
}

func TestQuota_refusedUnasked(t *testing.T) {
	t.Parallel()
	client := &brokenRedis{err: errUnreachable}
	ledger := newLedger(t, client)
	key := func(key string, err error) middleware.KeyFunc {
		return func(*http.Request) (string, error) { return key, err }
	}
	tests := []struct {
		name   string
		key    middleware.KeyFunc
		cost   int64
		status int
	}{
		{"no account", key("", middleware.ErrNoKey), 1, 400},
		{"empty account", key("", nil), 1, 400},
		{"account unknown", key("", errUnreachable), 1, 500},
		{"negative cost", key("alice", nil), -1, 500},
		{"too high a cost", key("alice", nil), quota.MaxAmount + 1, 500},
		{"free", key("alice", nil), 0, 200},
	}
	for _, tt := range tests {
		next := new(countedHandler)
		got := asAlice(middleware.Quota(ledger, tt.key, func(*http.Request) int64 { return tt.cost })(next))
		if tt.status == 200 {
			if got.StatusCode != 200 || next.calls.Load() != 1 {
				t.Errorf("%s: %d; want 200", tt.name, got.StatusCode)
			}
			continue
		}
		checkProblem(t, got, tt.status)
		if next.calls.Load() != 0 {
			t.Errorf("%s: the handler ran", tt.name)
		}
	}
	if got := client.calls.Load(); got != 0 {
		t.Errorf("Redis was asked %d times; want never", got)
	}
}

func TestQuota_fullAndCorrupt(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	ledger := newLedger(t, client, quota.WithMaxHolds(1))
	topUp(t, ledger, "alice", 100)
	var h http.Handler
	var inner *http.Response
	h = middleware.Quota(ledger, byUser, middleware.FixedCost(10))(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if inner == nil {
			inner = asAlice(h)
		}
	}))
	if got := asAlice(h); got.StatusCode != 200 {
		t.Errorf("%d; want 200", got.StatusCode)
	}
	checkProblem(t, inner, 429)
	if inner.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q; want 1", inner.Header.Get("Retry-After"))
	}
	for _, key := range client.Keys(t.Context(), "*").Val() {
		if err := client.Set(t.Context(), key, "money", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	checkProblem(t, asAlice(h), 500)
}

func TestQuota_panicsAtMount(t *testing.T) {
	t.Parallel()
	ledger := newLedger(t, new(brokenRedis))
	cost := middleware.FixedCost(1)
	tests := []struct {
		want  []string // a line each
		mount func()
	}{
		{[]string{"the ledger is nil: check the error of quota.New"}, func() { middleware.Quota(nil, byUser, cost) }},
		{[]string{"the account function is nil"}, func() { middleware.Quota(ledger, nil, cost) }},
		{[]string{"the cost function is nil"}, func() { middleware.Quota(ledger, byUser, nil) }},
		{[]string{"option 2 is nil"}, func() { middleware.Quota(ledger, byUser, cost, middleware.WithDeductFirst(), nil) }},
		{[]string{"WithChargeOn(nil)"}, func() { middleware.Quota(ledger, byUser, cost, middleware.WithChargeOn(nil)) }},
		{[]string{"exclude each other"}, func() {
			middleware.Quota(ledger, byUser, cost, middleware.WithDeductFirst(), middleware.WithChargeOn(func(int) bool { return true }))
		}},
		{[]string{"ledger", "account", "cost", "option 1"}, func() { middleware.Quota(nil, nil, nil, nil) }},
		{[]string{"middleware.FixedCost: 0: must be from 1"}, func() { middleware.FixedCost(0) }},
		{[]string{"to 9007199254740992"}, func() { middleware.FixedCost(quota.MaxAmount + 1) }},
	}
	for _, tt := range tests {
		func() {
			defer func() {
				lines := strings.Split(fmt.Sprint(recover()), "\n")
				if len(lines) != len(tt.want) {
					t.Errorf("panic %q; want %d lines", lines, len(tt.want))
					return
				}
				for i, line := range lines {
					if !strings.HasPrefix(line, "middleware.") || !strings.Contains(line, tt.want[i]) {
						t.Errorf("panic %q; want middleware.…%s", line, tt.want[i])
					}
				}
			}()
			tt.mount()
		}()
	}
}
