package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

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

// In shadow mode not even an error keeps a request out; it is logged, and tells
// clients nothing.
//
// Red when serve refuses whatever comes with an error.
func TestRateLimit_shadowWithoutRedis(t *testing.T) {
	lines := capture(t) // not parallel: the default logger is everybody's
	for name, err := range map[string]error{"silent": errUnreachable, "refusing": refusal("NOAUTH Authentication required.")} {
		limiter := newLimiter(t, &brokenRedis{err: err}, ratelimit.PerHour(1), ratelimit.WithShadow(), ratelimit.WithFailClosed())
		next := new(countedHandler)
		h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithRefund(middleware.OnSuccess))(next)
		for range 3 {
			if got := ask(h, "192.0.2.1"); got.StatusCode != 200 || got.Header.Get("X-RateLimit-Limit") != "" || got.Header.Get("RateLimit-Policy") != "" {
				t.Errorf("%s: %d %v; want 200 without the fields", name, got.StatusCode, got.Header)
			}
		}
		if next.calls.Load() != 3 || !strings.Contains(lines.String(), err.Error()) {
			t.Errorf("%s: %d calls, logged %q; want 3, and why", name, next.calls.Load(), lines)
		}
	}
}
