package middleware_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// A place is held while the handler runs, however long; whoever is kept out is
// told to come back in a second; and it is free when the handler is done.
//
// Red when no timer renews the lease, when renew does not set it again, and when
// end does not release.
func TestRateLimit_atOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := newLimiter(t, testkit.Memory(t).Client(t), ratelimit.AtOnce(1, 30*time.Second))
		slow := func(_ http.ResponseWriter, r *http.Request) {
			d, _ := time.ParseDuration(r.URL.Query().Get("d"))
			time.Sleep(d)
		}
		h := middleware.RateLimit(limiter, fixedKey("k"))(http.HandlerFunc(slow))
		begin := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			if got := answerTo(h, httptest.NewRequest("GET", "/?d=5m", nil)); got.StatusCode != 200 {
				t.Errorf("the first: %d; want 200", got.StatusCode)
			}
		})
		for _, at := range []time.Duration{time.Second, 29 * time.Second, 31 * time.Second, 2 * time.Minute, 4*time.Minute + 59*time.Second} {
			time.Sleep(time.Until(begin.Add(at)))
			got := ask(h, "192.0.2.1")
			checkProblem(t, got, 429)
			if seconds(t, got.Header, "Retry-After") != 1 {
				t.Errorf("after %v: Retry-After %q; want 1", at, got.Header.Get("Retry-After"))
			}
		}
		wg.Wait()
		if got := ask(h, "192.0.2.1"); got.StatusCode != 200 {
			t.Errorf("after the first: %d; want 200", got.StatusCode)
		}
		// No timer is left: a lease later the bubble is at rest, and the place free.
		time.Sleep(time.Minute)
		if got := ask(h, "192.0.2.1"); got.StatusCode != 200 {
			t.Errorf("a minute later: %d; want 200", got.StatusCode)
		}
	})
}

// Panics, refusals of an inner limit and clients who leave free the place, too; and
// the writer is not wrapped for it.
//
// Red when end is not deferred, and without context.WithoutCancel in settle.
func TestRateLimit_atOnceIsReleased(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.AtOnce(1, time.Hour))
	var w http.ResponseWriter
	ways := map[string]http.HandlerFunc{
		"returns": func(got http.ResponseWriter, _ *http.Request) {
			if got != w {
				t.Errorf("the writer is a %T; want the one that was given", got)
			}
		},
		"panics":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"refuses": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) },
		"is left": func(_ http.ResponseWriter, r *http.Request) { r.Context().Value(cancelKey{}).(func())() },
	}
	for name, way := range ways {
		h := middleware.RateLimit(limiter, fixedKey("k"))(way)
		ctx, cancel := withCancelInside(t)
		w = httptest.NewRecorder()
		func() {
			defer func() {
				if recovered := recover(); (recovered == http.ErrAbortHandler) != (name == "panics") {
					t.Errorf("%s: recovered %v", name, recovered)
				}
			}()
			h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
		}()
		cancel()
		if got := left(t, limiter, "k"); got != 1 {
			t.Errorf("%s: %d places left; want 1", name, got)
		}
	}
}

// Giving the count back frees the place with it: one round trip after the handler,
// not two. Without a place there is none.
//
// Red when settle releases what it has refunded.
func TestRateLimit_roundTrips(t *testing.T) {
	t.Parallel()
	server := testkit.Shared(t, "server")
	tests := []struct {
		name    string
		limits  []ratelimit.Limit
		options []middleware.RateLimitOption
		trips   int
	}{
		{"a window", []ratelimit.Limit{ratelimit.PerHour(100)}, nil, 1},
		{"a refund that is not due", []ratelimit.Limit{ratelimit.PerHour(100)}, []middleware.RateLimitOption{middleware.WithRefund(middleware.OnFailure)}, 1},
		{"a refund", []ratelimit.Limit{ratelimit.PerHour(100)}, []middleware.RateLimitOption{middleware.WithRefund(middleware.OnSuccess)}, 2},
		{"a place", []ratelimit.Limit{ratelimit.PerHour(100), ratelimit.AtOnce(5, time.Minute)}, nil, 2},
		{"a place and a refund", []ratelimit.Limit{ratelimit.PerHour(100), ratelimit.AtOnce(5, time.Minute)}, []middleware.RateLimitOption{middleware.WithRefund(middleware.OnSuccess)}, 2},
		{"a look", []ratelimit.Limit{ratelimit.PerHour(100), ratelimit.AtOnce(5, time.Minute)}, []middleware.RateLimitOption{middleware.WithCost(0), middleware.WithRefund(middleware.OnSuccess)}, 1},
	}
	for _, tt := range tests {
		p := testkit.NewProxy(t, server.Addrs()[0])
		options := []ratelimit.Option{ratelimit.WithPrefix(server.Prefix(t)), ratelimit.WithName(strings.ReplaceAll(tt.name, " ", "-"))}
		for _, l := range tt.limits[1:] {
			options = append(options, l)
		}
		limiter := newLimiter(t, p.Client(t), tt.limits[0], options...)
		h := middleware.RateLimit(limiter, fixedKey("k"), tt.options...)(new(countedHandler))
		ask(h, "192.0.2.1") // connections and scripts
		p.Reset()
		if got := ask(h, "192.0.2.1"); got.StatusCode != 200 || p.RoundTrips() != tt.trips {
			t.Errorf("%s: %d after %d round trips; want 200 after %d", tt.name, got.StatusCode, p.RoundTrips(), tt.trips)
		}
	}
}

// A lease that is lost is logged, once; the handler goes on.
func TestRateLimit_leaseLost(t *testing.T) {
	lines := capture(t) // not parallel: the default logger is everybody's
	synctest.Test(t, func(t *testing.T) {
		limiter := newLimiter(t, testkit.Memory(t).Client(t), ratelimit.AtOnce(1, 30*time.Second))
		h := middleware.RateLimit(limiter, fixedKey("k"))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := limiter.Reset(r.Context(), "k"); err != nil {
				t.Error(err)
			}
			if other, err := limiter.Allow(r.Context(), "k"); !other.Allowed || err != nil {
				t.Errorf("the other: %+v, %v", other, err)
			}
			time.Sleep(5 * time.Minute)
			_, _ = io.WriteString(w, "done")
		}))
		if got := bodyOf(ask(h, "192.0.2.1")); got != "done" {
			t.Errorf("got %q; want done", got)
		}
	})
	if got := strings.Count(lines.String(), "a lease was lost"); got != 1 {
		t.Errorf("logged %q; want one lost lease", lines)
	}
}

// Many at once over real connections: never more than the limit in flight, and none
// is left when all are done.
func TestRateLimit_atOnceUnderLoad(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Shared(t, "server").Client(t), ratelimit.AtOnce(4, time.Minute), ratelimit.WithPrefix(testkit.Shared(t, "server").Prefix(t)))
	var mu sync.Mutex
	var flying, most, served int
	h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithRefund(middleware.OnFailure))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		flying++
		served++
		most = max(most, flying)
		mu.Unlock()
		for range 100 {
			runtime.Gosched()
		}
		mu.Lock()
		flying--
		odd := served%2 == 1
		mu.Unlock()
		if odd {
			w.WriteHeader(500)
		}
	}))
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				ask(h, "192.0.2.1")
			}
		})
	}
	wg.Wait()
	if most > 4 || served < 4 {
		t.Errorf("%d in flight of %d served; want at most 4", most, served)
	}
	if got := left(t, limiter, "k"); got != 4 {
		t.Errorf("%d places left; want 4", got)
	}
}

// A client who leaves while Redis decides keeps no place.
//
// Red when AllowN is asked under the request's own context.
func TestRateLimit_leavesDuringTheVerdict(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t)
	limiter := newLimiter(t, client, ratelimit.AtOnce(1, time.Hour), ratelimit.WithPrefix(b.Prefix(t)))
	h := middleware.RateLimit(limiter, fixedKey("k"))(new(countedHandler))
	answerTo(h, httptest.NewRequest("GET", "/", nil)) // connections, scripts
	proxies.Each(func(p *testkit.Proxy) { p.Delay(50 * time.Millisecond) })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	answerTo(h, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
	proxies.Each((*testkit.Proxy).Heal)
	if got, err := limiter.Peek(t.Context(), "k"); err != nil || got.Remaining != 1 {
		t.Errorf("%d places free, %v; want 1", got.Remaining, err)
	}
}
