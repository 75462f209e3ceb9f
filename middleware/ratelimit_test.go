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
				if p.Type != "https://iana.org/assignments/http-problem-types#quota-exceeded" || !slices.Equal(p.Policies, []string{"3 per 1h0m0s"}) {
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
				policy := map[string]string{"2": "2 per 1s", "3": "3 per 1m0s"}[want.limit]
				if p := checkProblem(t, got, 429); !slices.Equal(p.Policies, []string{policy}) {
					t.Errorf("request %d: policies %q; want %q", i+1, p.Policies, policy)
				}
			}
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

func TestRateLimit_panicsAtMount(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, new(brokenRedis), ratelimit.PerHour(1))
	mounts := map[string]func(){
		"the limiter is nil: check the error of ratelimit.New": func() { middleware.RateLimit(nil, middleware.KeyByIP) },
		"the key function is nil":                              func() { middleware.RateLimit(limiter, nil) },
		"no key function":                                      func() { middleware.JoinKeys() },
		"a key function is nil":                                func() { middleware.JoinKeys(middleware.KeyByIP, nil) },
		"middleware 2 of 2 is nil":                             func() { middleware.Chain(middleware.Chain(), nil) },
		"the condition or the middleware is nil":               func() { middleware.When(nil, middleware.Chain()) },
		"middleware.When: the condition or":                    func() { middleware.When(func(*http.Request) bool { return true }, nil) },
	}
	for want, mount := range mounts {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.HasPrefix(got, "middleware.") || !strings.Contains(got, want) {
					t.Errorf("panic %q; want middleware.…%s", got, want)
				}
			}()
			mount()
		}()
	}
}

// Without Redis each stand-in answers as it says, and tells clients nothing of
// why.
func TestRateLimit_withoutRedis(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		err      error
		option   ratelimit.Option
		statuses []int
	}{
		{"local", errUnreachable, ratelimit.WithInstances(1), []int{200, 200, 429}},
		{"local, half", errUnreachable, ratelimit.WithInstances(2), []int{200, 429, 429}},
		{"open", errUnreachable, ratelimit.WithFailOpen(), []int{200, 200, 200}},
		{"closed", errUnreachable, ratelimit.WithFailClosed(), []int{503, 503, 503}},
		{"out of memory", refusal("OOM command not allowed when used memory > 'maxmemory'"), ratelimit.WithFailClosed(), []int{503}},
		{"refused", refusal("NOPERM this user has no permissions to run the 'evalsha' command"), ratelimit.WithInstances(1), []int{500, 500}},
		{"refused, open", refusal("NOPERM this user has no permissions to run the 'evalsha' command"), ratelimit.WithFailOpen(), []int{500}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			limiter := newLimiter(t, &brokenRedis{err: tt.err}, ratelimit.PerHour(2), tt.option)
			next := new(countedHandler)
			h := middleware.RateLimit(limiter, middleware.KeyByIP)(next)
			admitted := 0
			for i, status := range tt.statuses {
				got := ask(h, "192.0.2.1")
				switch {
				case status == 200 && tt.name == "open":
					admitted++ // and not counted: there is nothing true to say
					if got.StatusCode != 200 || got.Header.Get("X-RateLimit-Remaining") != "" {
						t.Errorf("request %d: %d %v; want 200 without the fields", i+1, got.StatusCode, got.Header)
					}
				case status == 200:
					admitted++
					if got.StatusCode != 200 || seconds(t, got.Header, "X-RateLimit-Remaining") < 0 {
						t.Errorf("request %d: %d %v; want 200", i+1, got.StatusCode, got.Header)
					}
				case status == 429:
					checkProblem(t, got, 429)
					if after := seconds(t, got.Header, "Retry-After"); after < 3600 || after > 3600+3600/16+1 {
						t.Errorf("request %d: Retry-After %d; want an hour, at most a 16th more", i+1, after)
					}
				case status == 503:
					p := checkProblem(t, got, 503)
					if after := seconds(t, got.Header, "Retry-After"); after != 1 || !strings.HasSuffix(p.Type, "#temporary-reduced-capacity") {
						t.Errorf("request %d: Retry-After %d, %+v; want 1, temporary-reduced-capacity", i+1, after, p)
					}
				default:
					checkProblem(t, got, status)
				}
				if status >= 500 && got.Header.Get("X-RateLimit-Limit") != "" {
					t.Errorf("request %d: X-RateLimit fields without a verdict", i+1)
				}
			}
			if got := next.calls.Load(); got != int64(admitted) {
				t.Errorf("the handler ran %d times; want %d", got, admitted)
			}
		})
	}
}

// A request through two limiters on one silent client meets the silence once.
//
// Red when RateLimit passes r on without rdb.Remember.
func TestRateLimit_silenceIsMetOnce(t *testing.T) {
	t.Parallel()
	client := &brokenRedis{err: errUnreachable}
	h := middleware.Chain(
		middleware.RateLimit(newLimiter(t, client, ratelimit.PerHour(2)), middleware.KeyByIP),
		middleware.RateLimit(newLimiter(t, client, ratelimit.PerMinute(2)), middleware.KeyByIP),
	)(new(countedHandler))
	if got := ask(h, "192.0.2.1"); got.StatusCode != 200 {
		t.Errorf("status %d; want 200", got.StatusCode)
	}
	if got := client.calls.Load(); got != 1 {
		t.Errorf("Redis was asked %d times; want once", got)
	}
}

// Who cannot be counted is refused, and counted against nobody.
func TestRateLimit_noKey(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		key    middleware.KeyFunc
		status int
	}{
		{"ErrNoKey", func(*http.Request) (string, error) { return "", middleware.ErrNoKey }, 400},
		{"wrapped", func(*http.Request) (string, error) {
			return "", fmt.Errorf("%w: no such secret", middleware.ErrNoKey)
		}, 400},
		{"empty", func(*http.Request) (string, error) { return "", nil }, 400},
		{"header missing", middleware.KeyByHeader("X-Api-Key"), 400},
		{"joined", middleware.JoinKeys(middleware.KeyByIP, middleware.KeyByRoute), 400},
		{"a key with an error", func(*http.Request) (string, error) { return "alice", middleware.ErrNoKey }, 400},
		{"any other error", func(*http.Request) (string, error) { return "", errUnreachable }, 500},
		{"another, with a key", func(*http.Request) (string, error) { return "alice", errUnreachable }, 500},
		{"a database in time-out", func(*http.Request) (string, error) { return "", context.DeadlineExceeded }, 500},
	}
	client := &brokenRedis{err: errUnreachable}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			next := new(countedHandler)
			h := middleware.RateLimit(newLimiter(t, client, ratelimit.PerHour(2)), tt.key)(next)
			checkProblem(t, ask(h, "192.0.2.1"), tt.status)
			if next.calls.Load() != 0 || client.calls.Load() != 0 {
				t.Errorf("%d handlers ran, Redis was asked %d times; want neither", next.calls.Load(), client.calls.Load())
			}
		})
	}
}

// A client that is gone gets no verdict, and the handler does not run.
func TestRateLimit_clientGone(t *testing.T) {
	t.Parallel()
	next := new(countedHandler)
	h := middleware.RateLimit(newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(2)), middleware.KeyByIP)(next)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	checkProblem(t, answerTo(h, httptest.NewRequestWithContext(ctx, "GET", "/", nil)), 503)
	if next.calls.Load() != 0 {
		t.Error("the handler ran")
	}
}

// An outage is logged at most once a second, with what was left out; clients'
// keys are not.
//
// Red when report does not look at the time of the latest line.
func TestRateLimit_reports(t *testing.T) {
	// Not parallel: the default logger is everybody's.
	lines := capture(t)
	synctest.Test(t, func(t *testing.T) {
		limiter := newLimiter(t, &brokenRedis{err: errUnreachable}, ratelimit.PerHour(2))
		h := middleware.RateLimit(limiter, middleware.KeyByIP)(new(countedHandler))
		for range 250 { // 2.49 seconds
			ask(h, "192.0.2.1")
			time.Sleep(10 * time.Millisecond)
		}
	})
	got := strings.Split(strings.TrimSpace(lines.String()), "\n")
	if len(got) != 3 || !strings.Contains(got[0], "omitted=0") || !strings.Contains(got[1], "omitted=99") || !strings.Contains(got[2], "omitted=99") {
		t.Errorf("logged\n%s\nwant three lines, the latter two omitting 99", strings.Join(got, "\n"))
	}
	for _, line := range got {
		if !strings.Contains(line, "weir: rate limit: decided without Redis") || !strings.Contains(line, "redis unavailable: ") || strings.Contains(line, "192.0.2.1") {
			t.Errorf("line %q; want what happened and why, not to whom", line)
		}
	}
	if !strings.Contains(got[0], "10.1.2.3:6379") {
		t.Errorf("line %q; want the cause", got[0])
	}
}
