package middleware_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// costly asks h for a request that says its cost.
func costly(h http.Handler, cost int) *http.Response {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Cost", strconv.Itoa(cost))
	return answerTo(h, r)
}

func costOf(r *http.Request) int {
	n, err := strconv.Atoi(r.Header.Get("Cost"))
	if err != nil {
		return 1
	}
	return n
}

// Costs add up; what does not fit is refused and counts nothing; what never fits
// is not told to come back; cost 0 asks and passes.
//
// Red when RateLimit calls Allow, refuses a request of cost 0, or sends
// Retry-After in spite of Never.
func TestRateLimit_cost(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(5))
	h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithCostFunc(costOf))(new(countedHandler))
	for i, tt := range []struct {
		cost, status int
		remaining    int64
		after        bool
	}{
		{0, 200, 5, false}, {2, 200, 3, false}, {2, 200, 1, false}, {0, 200, 1, false}, {2, 429, 1, true}, {3, 429, 1, true}, {6, 429, 1, false},
		{1, 200, 0, false}, {2, 429, 0, true}, {10, 429, 0, false}, {1, 429, 0, true}, {0, 200, 0, false},
	} {
		got := costly(h, tt.cost)
		if remaining := seconds(t, got.Header, "X-RateLimit-Remaining"); got.StatusCode != tt.status || remaining != tt.remaining || (got.Header.Get("Retry-After") != "") != tt.after {
			t.Errorf("request %d of cost %d: %d, %d remaining, Retry-After %q; want %d, %d, one: %v", i+1, tt.cost, got.StatusCode, remaining, got.Header.Get("Retry-After"), tt.status, tt.remaining, tt.after)
		}
		if tt.status == 429 {
			p := checkProblem(t, got, 429)
			if never := strings.Contains(p.Detail, "more than is ever admitted"); never == tt.after || !slices.Equal(p.Policies, []string{"per-hour"}) {
				t.Errorf("request %d of cost %d: %+v", i+1, tt.cost, p)
			}
		}
	}

	fixed := middleware.RateLimit(newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(5)), fixedKey("k"), middleware.WithCost(3))(new(countedHandler))
	for i, want := range []int{200, 429} {
		if got := ask(fixed, "192.0.2.1"); got.StatusCode != want || seconds(t, got.Header, "X-RateLimit-Remaining") != 2 {
			t.Errorf("request %d of cost 3: %d %v; want %d, 2 remaining", i+1, got.StatusCode, got.Header, want)
		}
	}
}

// A cost that makes no sense is nobody's gain.
//
// Red when a cost below 0 is asked for as 0, or passed on.
func TestRateLimit_negativeCost(t *testing.T) {
	lines := capture(t) // not parallel: the default logger is everybody's
	for _, option := range []ratelimit.Option{ratelimit.WithInstances(1), ratelimit.WithFailOpen(), ratelimit.WithShadow()} {
		limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(5), option)
		next := new(countedHandler)
		h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithCostFunc(costOf))(next)
		checkProblem(t, costly(h, -3), 500)
		if next.calls.Load() != 0 || !strings.Contains(lines.String(), "WithCostFunc returned -3") {
			t.Errorf("%d handlers ran, logged %q; want none, and the cost", next.calls.Load(), lines)
		}
	}
}

// Each request has the limits of its plan, up and down, on one usage; a limiter
// made for the request alone is as good, and is not kept.
//
// Red when refusals or RateLimit-Policy are made of the mounted limiter alone, and
// when policies keeps all limiters it has seen.
func TestRateLimit_plan(t *testing.T) {
	t.Parallel()
	mounted := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(2), ratelimit.WithName("plans"))
	var made, collected atomic.Int64
	plan := func(r *http.Request) *ratelimit.Limiter {
		n, err := strconv.Atoi(r.Header.Get("Plan"))
		if err != nil {
			return nil
		}
		limiter, err := mounted.With(ratelimit.PerHour(n).Named("plan-" + strconv.Itoa(n)))
		if err != nil {
			t.Error(err)
		}
		made.Add(1)
		runtime.AddCleanup(limiter, func(*atomic.Int64) { collected.Add(1) }, nil)
		return limiter
	}
	h := middleware.RateLimit(mounted, fixedKey("k"), middleware.WithPlan(plan))(new(countedHandler))
	with := func(plan string) *http.Response {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Plan", plan)
		return answerTo(h, r)
	}
	for i, tt := range []struct {
		plan           string
		status         int
		remaining      int64
		policy, member string
	}{
		{"", 200, 1, "per-hour", `"per-hour";q=2;w=3600`},
		{"5", 200, 3, "plan-5", `"plan-5";q=5;w=3600`},
		{"", 429, 0, "per-hour", `"per-hour";q=2;w=3600`},
		{"5", 200, 2, "plan-5", `"plan-5";q=5;w=3600`},
		{"1", 429, 0, "plan-1", `"plan-1";q=1;w=3600`},
		{"3", 429, 0, "plan-3", `"plan-3";q=3;w=3600`},
		{"5", 200, 1, "plan-5", `"plan-5";q=5;w=3600`},
	} {
		got := with(tt.plan)
		if remaining := seconds(t, got.Header, "X-RateLimit-Remaining"); got.StatusCode != tt.status || remaining != tt.remaining || got.Header.Get("RateLimit-Policy") != tt.member {
			t.Errorf("request %d of plan %q: %d, %d remaining, %s; want %d, %d, %s", i+1, tt.plan, got.StatusCode, remaining, got.Header.Get("RateLimit-Policy"), tt.status, tt.remaining, tt.member)
		}
		if tt.status == 429 {
			if p := checkProblem(t, got, 429); !slices.Equal(p.Policies, []string{tt.policy}) {
				t.Errorf("request %d of plan %q: policies %q; want %q", i+1, tt.plan, p.Policies, tt.policy)
			}
		}
	}
	for range 3000 {
		with("7")
	}
	testkit.Eventually(t, "the limiters of past requests to be collected", func() bool {
		runtime.GC()
		return collected.Load() >= made.Load()-int64(middleware.KeptPolicies)
	})
}

// Skipped requests are neither counted nor told.
func TestRateLimit_skip(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(2))
	is := func(path string) func(*http.Request) bool {
		return func(r *http.Request) bool { return r.URL.Path == path }
	}
	next := new(countedHandler)
	h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithSkip(is("/healthz")), middleware.WithSkip(is("/metrics")))(next)
	for range 5 {
		for _, path := range []string{"/healthz", "/metrics"} {
			got := answerTo(h, httptest.NewRequest("GET", path, nil))
			if got.StatusCode != 200 || got.Header.Get("X-RateLimit-Limit") != "" || got.Header.Get("RateLimit") != "" {
				t.Errorf("%s: %d %v; want 200 without the fields", path, got.StatusCode, got.Header)
			}
		}
	}
	if got := ask(h, "192.0.2.1"); seconds(t, got.Header, "X-RateLimit-Remaining") != 1 || next.calls.Load() != 11 {
		t.Errorf("%v after %d calls; want 1 remaining after 11", got.Header, next.calls.Load())
	}
}

// Addresses on the lists are not counted, or are shut out, without Redis; in
// whatever form they come; and the deny list prevails.
//
// Red when a list is asked for an address that is not folded, when listed asks
// the allow list first, or when a request without an address is on one.
func TestRateLimit_lists(t *testing.T) {
	t.Parallel()
	client := &brokenRedis{err: errUnreachable}
	allow := []netip.Prefix{prefix("10.0.0.0/8"), prefix("2001:db8:a::/48"), prefix("::ffff:172.16.0.0/108"), prefix("64:ff9b::198.18.0.0/111")}
	lists := []middleware.RateLimitOption{
		middleware.WithAllowList(allow...),
		middleware.WithAllowList(prefix("192.0.2.7/32"), prefix("::1/128")),
		middleware.WithDenyList(prefix("10.9.0.0/16"), prefix("203.0.113.0/24"), prefix("2001:db8:a:bad::/64"), prefix("2001:db8:b::1/128")),
		middleware.WithSkip(func(r *http.Request) bool { return r.URL.Path == "/skip" }),
	}
	allow[0] = prefix("0.0.0.0/0") // the caller's slice is the caller's
	key := func(*http.Request) (string, error) { return "k", nil }
	h := middleware.RateLimit(newLimiter(t, client, ratelimit.PerHour(1<<20), ratelimit.WithFailClosed()), key, lists...)(new(countedHandler))
	const counted = 503 // Redis is asked
	tests := map[string]int{
		"10.1.2.3:1": 200, "10.8.255.255:1": 200, "10.9.0.1:1": 403, "11.0.0.1:1": counted,
		"[::ffff:10.1.2.3]:1": 200, "[::ffff:10.9.0.1]:1": 403, "[64:ff9b::10.1.2.3]:1": 200, "[64:ff9b::10.9.0.1]:1": 403,
		"172.16.5.5:1": 200, "172.32.0.1:1": counted, "198.19.0.1:1": 200, "198.20.0.1:1": counted,
		"192.0.2.7:1": 200, "192.0.2.8:1": counted, "203.0.113.200:1": 403,
		"[2001:db8:a:1::5]:1": 200, "[2001:db8:a:bad::5]:1": 403, "[2001:db8:b::1]:1": 403, "[2001:db8:b::2]:1": counted,
		"[2001:db8:a:1::5%eth0]:1": 200, "[::1]:1": 200, "[::2]:1": counted,
		"@": counted, "": counted, "garbage": counted,
	}
	for remote, want := range tests {
		for _, path := range []string{"/", "/skip"} {
			r := httptest.NewRequest("GET", path, nil)
			r.RemoteAddr = remote
			r.Header.Set("X-Forwarded-For", "10.1.2.3") // any client can write it
			got, want := answerTo(h, r), want
			if path == "/skip" && want == counted {
				want = 200
			}
			if got.StatusCode != want || got.Header.Get("X-RateLimit-Limit") != "" {
				t.Errorf("%s of %q: %d %v; want %d", path, remote, got.StatusCode, got.Header, want)
			}
			if want == 403 {
				checkProblem(t, got, 403)
			}
		}
	}
	// With chi's word for it, the client behind the proxy is on the lists.
	behind := middleware.Chain(chimiddleware.ClientIPFromXFF("10.0.0.0/8"))(h)
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "10.0.0.1:1"
	r.Header.Set("X-Forwarded-For", "203.0.113.5")
	checkProblem(t, answerTo(behind, r), 403)

	calls := client.calls.Load()
	for _, ip := range []string{"10.1.2.3", "10.9.0.1"} {
		ask(h, ip)
	}
	if client.calls.Load() != calls {
		t.Error("Redis was asked about an address on a list")
	}
}

// The caller's own answer to what the limit refuses; the rest stays as it is.
//
// Red when WithDenied's function is called before the fields are set, or for
// other refusals.
func TestRateLimit_denied(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(1).Named("hourly"))
	var results []ratelimit.Result
	denied := func(w http.ResponseWriter, r *http.Request, result ratelimit.Result) {
		results = append(results, result)
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "slow down, "+r.URL.Path)
	}
	next := new(countedHandler)
	h := middleware.RateLimit(limiter, middleware.KeyByHeader("X-Api-Key"), middleware.WithDenied(denied))(next)
	keyed := func() *http.Response {
		r := httptest.NewRequest("GET", "/page", nil)
		r.Header.Set("X-Api-Key", "k")
		return answerTo(h, r)
	}
	keyed()
	got := keyed()
	body, _ := io.ReadAll(got.Body)
	if after := seconds(t, got.Header, "Retry-After"); got.StatusCode != 418 || string(body) != "slow down, /page" || after < 3590 || after > 3600 ||
		got.Header.Get("Cache-Control") != "no-store" || seconds(t, got.Header, "X-RateLimit-Remaining") != 0 || !strings.HasPrefix(got.Header.Get("RateLimit"), `"hourly";r=0;t=`) {
		t.Errorf("%d %q %v; want the own answer with the fields", got.StatusCode, body, got.Header)
	}
	if len(results) != 1 || results[0].Allowed || results[0].Limit.Name() != "hourly" {
		t.Errorf("results %+v; want the verdict", results)
	}
	checkProblem(t, ask(h, "192.0.2.1"), 400) // no key
	if len(results) != 1 || next.calls.Load() != 1 {
		t.Errorf("%d results, %d calls; want one each", len(results), next.calls.Load())
	}
}

// Who is banned is told so, for as long as the ban lasts, and cannot even ask.
//
// Red when a ban is told as a spent quota, or when its cost-0 requests pass.
func TestRateLimit_banned(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(5), ratelimit.WithBan(3, time.Minute, 10*time.Minute))
	if err := limiter.Ban(context.Background(), "k", 90*time.Second); err != nil {
		t.Fatal(err)
	}
	next := new(countedHandler)
	h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithCostFunc(costOf))(next)
	for _, cost := range []int{1, 0} {
		got := costly(h, cost)
		p := checkProblem(t, got, 429)
		if p.Type != "https://iana.org/assignments/http-problem-types#abnormal-usage-detected" || p.Policies != nil {
			t.Errorf("cost %d: %+v; want abnormal usage, of no policy", cost, p)
		}
		after := seconds(t, got.Header, "Retry-After")
		if after < 80 || after > 90 || seconds(t, got.Header, "X-RateLimit-Remaining") != 0 || got.Header.Get("RateLimit") != `"per-hour";r=0;t=`+strconv.Itoa(int(after)) {
			t.Errorf("cost %d: %v; want the ban's rest", cost, got.Header)
		}
	}
	if next.calls.Load() != 0 {
		t.Error("a banned request passed")
	}
	if err := limiter.Reset(context.Background(), "k"); err != nil {
		t.Fatal(err)
	}
	if got := costly(h, 1); got.StatusCode != 200 {
		t.Errorf("after Reset: %d; want 200", got.StatusCode)
	}
}

// What is not enforced is not told: what a limiter in shadow mode would refuse
// passes without the fields.
//
// Red without Shadowed in verdict.counted.
func TestRateLimit_shadow(t *testing.T) {
	t.Parallel()
	var shadowed atomic.Int64
	observe := func(_ context.Context, e ratelimit.Event) {
		if e.Result.Shadowed {
			shadowed.Add(1)
		}
	}
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(2), ratelimit.WithShadow(), ratelimit.WithObserver(observe))
	next := new(countedHandler)
	h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithRefund(middleware.OnFailure))(next)
	for i := range 5 {
		got := ask(h, "192.0.2.1")
		if got.StatusCode != 200 || got.Header.Get("Retry-After") != "" {
			t.Errorf("request %d: %d %v; want 200", i+1, got.StatusCode, got.Header)
		}
		if got.Header.Get("X-RateLimit-Limit") != "" || got.Header.Get("RateLimit") != "" || got.Header.Get("RateLimit-Policy") != "" {
			t.Errorf("request %d: %v; want no fields", i+1, got.Header)
		}
	}
	if next.calls.Load() != 5 || shadowed.Load() != 3 {
		t.Errorf("%d calls, %d would have been refused; want 5, 3", next.calls.Load(), shadowed.Load())
	}
}
