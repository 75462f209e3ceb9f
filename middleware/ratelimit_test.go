package middleware_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// brokenRedis is a client whose every command ends in err, and counts them.
type brokenRedis struct {
	redis.UniversalClient
	err   error
	calls atomic.Int64
}

func (c *brokenRedis) Process(_ context.Context, cmd redis.Cmder) error {
	c.calls.Add(1)
	cmd.SetErr(c.err)
	return c.err
}

func (c *brokenRedis) Pipeline() redis.Pipeliner   { return c.client().Pipeline() }
func (c *brokenRedis) TxPipeline() redis.Pipeliner { return c.client().TxPipeline() }

// client is one that never dials.
func (c *brokenRedis) client() *redis.Client {
	client := redis.NewClient(&redis.Options{MaxRetries: -1})
	client.AddHook(brokenHook{c})
	return client
}

type brokenHook struct{ c *brokenRedis }

func (h brokenHook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h brokenHook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return h.c.Process
}
func (h brokenHook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		h.c.calls.Add(1)
		for _, cmd := range cmds {
			cmd.SetErr(h.c.err)
		}
		return h.c.err
	}
}

// refusal is an error reply of a server.
type refusal string

func (r refusal) Error() string { return string(r) }
func (refusal) RedisError()     {}

// errUnreachable is the kind of error that must not reach a client.
var errUnreachable = errors.New("dial tcp 10.1.2.3:6379: connect: connection refused")

// newLimiter returns a Limiter that a loaded machine cannot make stand in for.
func newLimiter(tb testing.TB, client redis.UniversalClient, limit ratelimit.Limit, options ...ratelimit.Option) *ratelimit.Limiter {
	tb.Helper()
	limiter, err := ratelimit.New(client, limit, append([]ratelimit.Option{ratelimit.WithTimeout(20 * time.Second)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return limiter
}

// countedHandler answers 200 and counts.
type countedHandler struct{ calls atomic.Int64 }

func (h *countedHandler) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h.calls.Add(1)
	_, _ = io.WriteString(w, "the answer")
}

// ask sends h a request from ip.
func ask(h http.Handler, ip string) *http.Response {
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = ip + ":4711"
	return answerTo(h, r)
}

func answerTo(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// checkProblem fails t unless response is a refusal as clients are to see one.
func checkProblem(t *testing.T, response *http.Response, status int) (p middleware.Problem) {
	t.Helper()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != status {
		t.Errorf("status %d; want %d", response.StatusCode, status)
	}
	h := response.Header
	if h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("header %v; want application/problem+json, no-store, nosniff", h)
	}
	if got := h.Get("Content-Length"); got != strconv.Itoa(len(body)) {
		t.Errorf("Content-Length %q for %d bytes", got, len(body))
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		t.Fatalf("%v in %q", err, body)
	}
	if p.Status != status || p.Title == "" {
		t.Errorf("problem %+v; want the status %d and a title", p, status)
	}
	var all strings.Builder
	_ = h.Write(&all)
	all.Write(body)
	for _, internal := range []string{"redis", "10.1.2.3", "6379", "127.0.0.1", "dial", "refused", "breaker", "budget", "NOPERM", "evalsha", "secret", "weir:", "192.0.2"} {
		if strings.Contains(strings.ToLower(all.String()), strings.ToLower(internal)) {
			t.Errorf("the answer tells %q: %s", internal, all.String())
		}
	}
	return p
}

// seconds reads a header field that must be a plain number.
func seconds(t *testing.T, h http.Header, name string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(h.Get(name), 10, 64)
	if err != nil || len(h.Values(name)) != 1 || strconv.FormatInt(n, 10) != h.Get(name) {
		t.Fatalf("%s: %q; want one integer", name, h.Values(name))
	}
	return n
}

// The verdict in HTTP, on every Redis.
func TestRateLimit_answers(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		limiter := newLimiter(t, b.Client(t), ratelimit.PerHour(3), ratelimit.WithPrefix(b.Prefix(t)))
		next := new(countedHandler)
		server := httptest.NewServer(middleware.RateLimit(limiter, middleware.KeyByIP)(next))
		defer server.Close()
		begun := time.Now().Unix()
		for i := range 5 {
			response, err := http.Get(server.URL)
			if err != nil {
				t.Fatal(err)
			}
			h := response.Header
			if limit, remaining := seconds(t, h, "X-RateLimit-Limit"), seconds(t, h, "X-RateLimit-Remaining"); limit != 3 || remaining != int64(max(0, 2-i)) {
				t.Errorf("request %d: %d of %d remaining; want %d of 3", i+1, remaining, limit, max(0, 2-i))
			}
			if reset := seconds(t, h, "X-RateLimit-Reset"); reset < begun+3600 || reset > time.Now().Unix()+3601 {
				t.Errorf("request %d: reset at %d; want an hour after %d", i+1, reset, begun)
			}
			if i < 3 {
				body, _ := io.ReadAll(response.Body)
				if response.StatusCode != 200 || string(body) != "the answer" || h.Get("Retry-After") != "" || h.Get("Cache-Control") != "" {
					t.Errorf("request %d: %d %q %v; want the handler's answer, no Retry-After", i+1, response.StatusCode, body, h)
				}
			} else {
				p := checkProblem(t, response, 429)
				if p.Type != "https://iana.org/assignments/http-problem-types#quota-exceeded" || !slices.Equal(p.Policies, []string{"per-hour"}) {
					t.Errorf("request %d: %+v; want quota-exceeded of the policy", i+1, p)
				}
				if after := seconds(t, h, "Retry-After"); after < 3590 || after > 3600 {
					t.Errorf("request %d: Retry-After %d; want an hour or a little less", i+1, after)
				}
			}
			_ = response.Body.Close()
		}
		if got := next.calls.Load(); got != 3 {
			t.Errorf("the handler ran %d times; want 3", got)
		}
		head, err := http.Head(server.URL)
		if err != nil || head.StatusCode != 429 || head.Header.Get("Retry-After") == "" {
			t.Errorf("HEAD: %v, %v; want 429 with Retry-After", head, err)
		}
	})
}

// In faked time: who waits Retry-After is admitted, who comes a second earlier is
// not if that is more than a second; Reset is an instant at which Remaining has
// grown, and less than a second after it has.
//
// Red when ceilSeconds or announce rounds down.
func TestRateLimit_retryAfterIsTrue(t *testing.T) {
	t.Parallel()
	for _, window := range []time.Duration{50 * time.Millisecond, time.Second, 1001 * time.Millisecond, 1999 * time.Millisecond, time.Minute, 1500*time.Millisecond + time.Microsecond} {
		for _, offset := range []time.Duration{0, time.Microsecond, 333 * time.Millisecond, 999999 * time.Microsecond} {
			t.Run(fmt.Sprint(window, "+", offset), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					limiter := newLimiter(t, testkit.Memory(t).Client(t), ratelimit.Every(2, window))
					h := middleware.RateLimit(limiter, middleware.KeyByIP)(new(countedHandler))
					time.Sleep(offset)
					first := time.Now()
					ask(h, "192.0.2.1")
					time.Sleep(window / 7)
					allowed := ask(h, "192.0.2.1")
					grows := first.Add(window)
					reset := time.Unix(seconds(t, allowed.Header, "X-RateLimit-Reset"), 0)
					if allowed.StatusCode != 200 || reset.Before(grows) || reset.Sub(grows) >= time.Second {
						t.Errorf("%d, reset at %v; want 200, %v rounded up", allowed.StatusCode, reset, grows)
					}
					denied := ask(h, "192.0.2.1")
					after := time.Duration(seconds(t, denied.Header, "Retry-After")) * time.Second
					if wait := time.Until(grows); denied.StatusCode != 429 || after < max(wait, time.Second) || after >= wait+time.Second {
						t.Errorf("%d, Retry-After %v; want 429, %v rounded up, at least 1s", denied.StatusCode, after, wait)
					}
					if after > time.Second {
						time.Sleep(after - time.Second)
						if early := ask(h, "192.0.2.1"); early.StatusCode != 429 {
							t.Errorf("a second early: %d; want 429", early.StatusCode)
						}
						after = time.Second
					}
					time.Sleep(after)
					if late := ask(h, "192.0.2.1"); late.StatusCode != 200 {
						t.Errorf("at Retry-After: %d; want 200", late.StatusCode)
					}
				})
			})
		}
	}
}

// Of several limits the numbers and the policy are those of the one that matters.
func TestRateLimit_tiers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := newLimiter(t, testkit.Memory(t).Client(t), ratelimit.PerSecond(2), ratelimit.PerMinute(3))
		h := middleware.RateLimit(limiter, middleware.KeyByIP)(new(countedHandler))
		for i, want := range []struct {
			status int
			limit  string
		}{{200, "2"}, {200, "2"}, {429, "2"}, {200, "3"}, {429, "3"}} {
			if i == 3 {
				time.Sleep(time.Second)
			}
			got := ask(h, "192.0.2.1")
			if got.StatusCode != want.status || got.Header.Get("X-RateLimit-Limit") != want.limit {
				t.Errorf("request %d: %d, limit %s; want %d, %s", i+1, got.StatusCode, got.Header.Get("X-RateLimit-Limit"), want.status, want.limit)
			}
			if want.status == 429 {
				policy := map[string]string{"2": "per-second", "3": "per-minute"}[want.limit]
				if p := checkProblem(t, got, 429); !slices.Equal(p.Policies, []string{policy}) {
					t.Errorf("request %d: policies %q; want %q", i+1, p.Policies, policy)
				}
			}
		}
	})
}

// A refusal names the limits that are full now, not those that were.
//
// Red when the refusal made for several limits is kept for one of them.
func TestRateLimit_fullTiers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := newLimiter(t, testkit.Memory(t).Client(t), ratelimit.PerMinute(2), ratelimit.PerHour(2))
		h := middleware.RateLimit(limiter, fixedKey("k"))(new(countedHandler))
		ask(h, "192.0.2.1")
		ask(h, "192.0.2.1")
		for _, want := range [][]string{{"per-minute", "per-hour"}, {"per-hour"}, {"per-hour"}} {
			for range 2 { // by Redis, and remembered
				got := ask(h, "192.0.2.1")
				if p := checkProblem(t, got, 429); !slices.Equal(p.Policies, want) {
					t.Errorf("policies %q; want %q", p.Policies, want)
				}
				if after := seconds(t, got.Header, "Retry-After"); after < 3480 {
					t.Errorf("Retry-After %d; want what the hour asks for", after)
				}
			}
			time.Sleep(time.Minute)
		}
	})
}

// Nothing stands between the handler and its writer, nor the request; the handler
// runs once. Flush, Hijack, ReadFrom and the rest are thus net/http's own.
//
// Red when RateLimit wraps w, or copies r when Redis has decided.
func TestRateLimit_transparent(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(3))
	var calls int
	var gotW http.ResponseWriter
	var gotR *http.Request
	h := middleware.RateLimit(limiter, middleware.KeyByIP)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		gotW, gotR = w, r
	}))
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
	h.ServeHTTP(w, r)
	if calls != 1 || gotW != http.ResponseWriter(w) || gotR != r {
		t.Errorf("%d calls, writer %T, the same request: %v; want one with what was given", calls, gotW, gotR == r)
	}
	// A handler that adds to a field does not write into another one's value.
	w.Header()["X-Ratelimit-Limit"] = append(w.Header()["X-Ratelimit-Limit"], "of the handler")
	if got := w.Header().Get("X-RateLimit-Remaining"); got != "2" {
		t.Errorf("X-RateLimit-Remaining is %q after another field was added to; want 2", got)
	}
}

// A handler's panic passes.
func TestRateLimit_panicPasses(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(3))
	h := middleware.RateLimit(limiter, middleware.KeyByIP)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	defer func() {
		if got := recover(); got != http.ErrAbortHandler {
			t.Errorf("recovered %v; want http.ErrAbortHandler", got)
		}
	}()
	ask(h, "192.0.2.1")
}

// mountPanic is what mount panics with, as text.
func mountPanic(mount func()) (text string) {
	defer func() {
		if recovered := recover(); recovered != nil {
			text = fmt.Sprint(recovered)
		}
	}()
	mount()
	return ""
}

func TestRateLimit_panicsAtMount(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, new(brokenRedis), ratelimit.PerHour(1))
	with := func(options ...middleware.RateLimitOption) func() {
		return func() { middleware.RateLimit(limiter, middleware.KeyByIP, options...) }
	}
	ip := func(s string) netip.Prefix { return netip.MustParsePrefix(s) }
	mounts := map[string]func(){
		"the limiter is nil: check the error of ratelimit.New": func() { middleware.RateLimit(nil, middleware.KeyByIP) },
		"the key function is nil":                              func() { middleware.RateLimit(limiter, nil) },
		"option 2 is nil: leave it out":                        with(middleware.WithCost(1), nil),
		"WithCost(-1): must be from 0":                         with(middleware.WithCost(-1)),
		"WithCost(2147483648): must be from 0":                 with(middleware.WithCost(1 << 31)),
		"WithCostFunc: the function is nil":                    with(middleware.WithCostFunc(nil)),
		"WithCost and WithCostFunc exclude each other":         with(middleware.WithCost(1), middleware.WithCostFunc(func(*http.Request) int { return 1 })),
		"WithPlan: the function is nil":                        with(middleware.WithPlan(nil)),
		"WithSkip: the function is nil":                        with(middleware.WithSkip(nil)),
		"WithRefund: a function is nil":                        with(middleware.WithRefund(middleware.OnSuccess, nil)),
		"WithDenied: the function is nil":                      with(middleware.WithDenied(nil)),
		"WithReset(3): use":                                    with(middleware.WithReset(3)),
		"WithDialect(3): use":                                  with(middleware.WithDialect(3)),
		"a secret of 15 bytes could be guessed":                with(middleware.WithPartitionKey(make([]byte, 15))),
		"a secret of 0 bytes":                                  with(middleware.WithPartitionKey(nil)),
		"no field is left to carry pk":                         with(middleware.WithPartitionKey(make([]byte, 16)), middleware.WithDialect(middleware.NoDialect)),
		"WithAllowList: invalid Prefix is no prefix":           with(middleware.WithAllowList(netip.Prefix{})),
		"WithDenyList: 10.1.2.3/8 has bits behind its length: write 10.0.0.0/8 for the network, or 10.1.2.3/32": with(middleware.WithDenyList(ip("10.1.2.3/8"))),
		"WithDenyList: ::ffff:0.0.0.0/90 is IPv4 in IPv6 and more":                                              with(middleware.WithDenyList(netip.PrefixFrom(netip.MustParseAddr("::ffff:0:0"), 90))),

		"KeyByIPPrefix(31): the length":          func() { middleware.KeyByIPPrefix(31) },
		"KeyByIPPrefix(129): the length":         func() { middleware.KeyByIPPrefix(129) },
		"KeyByUser: the function is nil":         func() { middleware.KeyByUser(nil) },
		"KeyBySession: the manager is nil":       func() { middleware.KeyBySession(nil) },
		"no key function":                        func() { middleware.JoinKeys() },
		"a key function is nil":                  func() { middleware.JoinKeys(middleware.KeyByIP, nil) },
		"middleware 2 of 2 is nil":               func() { middleware.Chain(middleware.Chain(), nil) },
		"the condition or the middleware is nil": func() { middleware.When(nil, middleware.Chain()) },
		"middleware.When: the condition or":      func() { middleware.When(func(*http.Request) bool { return true }, nil) },
	}
	for want, mount := range mounts {
		if got := mountPanic(mount); !strings.HasPrefix(got, "middleware.") || !strings.Contains(got, want) || strings.Contains(got, "\n") {
			t.Errorf("panic %q; want middleware.…%s", got, want)
		}
	}
}

// All mistakes are told in one panic.
//
// Red when RateLimit panics before the last of its checks.
func TestRateLimit_allMistakesAtOnce(t *testing.T) {
	t.Parallel()
	secret := "the secret itself"[:10]
	got := mountPanic(func() {
		middleware.RateLimit(nil, nil, nil, middleware.WithCost(-2), middleware.WithCostFunc(nil), middleware.WithPlan(nil),
			middleware.WithSkip(nil), middleware.WithRefund(nil), middleware.WithDenied(nil), middleware.WithReset(9), middleware.WithDialect(9),
			middleware.WithPartitionKey([]byte(secret)), middleware.WithAllowList(netip.Prefix{}), middleware.WithDenyList(netip.Prefix{}))
	})
	lines := strings.Split(got, "\n\t")
	if len(lines) != 16 || lines[0] != "middleware.RateLimit: 15 mistakes:" || strings.Contains(got, secret) {
		t.Errorf("%d lines: %s\nwant one for each of the 15 mistakes, and not the secret", len(lines), got)
	}
	for _, want := range []string{"the limiter", "the key function", "option 1", "WithCost(-2)", "WithCostFunc: ", "exclude", "WithPlan", "WithSkip", "WithRefund", "WithDenied", "WithReset", "WithDialect", "WithPartitionKey", "WithAllowList", "WithDenyList"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nwant %s among it", got, want)
		}
	}
}
