package middleware_test

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
	"github.com/go-weir/weir/session"
)

const (
	cacheBudget = 50 * time.Millisecond
	cacheSlack  = 500 * time.Millisecond
)

// took checks how long do takes.
func took(t *testing.T, what string, limit time.Duration, do func()) {
	t.Helper()
	begun := time.Now()
	do()
	if d := time.Since(begun); d > limit {
		t.Errorf("%s took %v; want at most %v", what, d, limit)
	}
}

// faultsOfRedis are how a server is silent.
var faultsOfRedis = map[string]struct {
	begin, end func(*testing.T, *testkit.Backend)
	lost       bool // what was stored
}{
	"paused": {
		func(_ *testing.T, b *testkit.Backend) { b.Pause() },
		func(_ *testing.T, b *testkit.Backend) { b.Resume() }, false,
	},
	"killed": {
		func(_ *testing.T, b *testkit.Backend) { b.Kill() },
		func(t *testing.T, b *testkit.Backend) { b.Restart(t) }, true,
	},
}

// While Redis is silent the handler answers, within the budget, and is not asked
// by way of the cache: find failed, so no keep. After it the same program stores
// and serves again.
func TestCache_silence(t *testing.T) {
	t.Parallel()
	for name, fault := range faultsOfRedis {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Server(t)
			c := newCachedOn(t, b, []cache.Option{cache.WithTimeout(cacheBudget)}, fresh("x"))
			testkit.Eventually(t, "the response to be stored", func() bool { return c.get().cacheStatus()["hit"] == true })
			fault.begin(t, b)
			before := c.calls.Load()
			for range 20 { // the breaker opens on the way
				took(t, "a request", cacheBudget+cacheSlack, func() {
					c.get().hasBody(200, "x").isMiss("miss", "unavailable", false)
				})
			}
			if got := c.calls.Load() - before; got != 20 {
				t.Errorf("the handler was called %d times; want 20", got)
			}
			took(t, "a request that wants a stored answer only", cacheBudget+cacheSlack, func() {
				if a := c.get("Cache-Control: only-if-cached"); a.status != http.StatusGatewayTimeout {
					t.Errorf("got %d; want 504", a.status)
				}
			})
			took(t, "an unsafe request", cacheBudget+cacheSlack, func() {
				c.do("POST", "/other").hasBody(200, "x").isMiss("method", "method", false)
			})
			fault.end(t, b)
			before = c.calls.Load()
			testkit.Eventually(t, "a hit after recovery", func() bool { return c.get().cacheStatus()["hit"] == true })
			if fault.lost && c.calls.Load() == before {
				t.Error("a hit out of an empty Redis")
			}
		})
	}
}

// Protected by "keep" staying false in answer when find failed.
func TestCache_silenceIsAskedOnce(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
	store, err := cache.New(p.Client(t), cache.WithPrefix(testkit.Shared(t, "server").Prefix(t)), cache.WithTimeout(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	h := middleware.Cache(store)(fresh("x"))
	c := &cached{t: t, Handler: h}
	testkit.Eventually(t, "a hit", func() bool { return c.get().cacheStatus()["hit"] == true })
	p.SwallowReply(1, "evalsha", testkit.ThenSilence)
	p.Reset()
	c.do("GET", "/other").hasBody(200, "x").isMiss("miss", "unavailable", false)
	if got := p.Commands(); got != 1 {
		t.Errorf("got %d commands; want 1: find, and no keep", got)
	}
}

// A response that could not be kept is the client's all the same.
func TestCache_keepFails(t *testing.T) {
	t.Parallel()
	for _, then := range []testkit.Then{testkit.ThenSilence, testkit.ThenClose} {
		b := testkit.Shared(t, "server")
		p := testkit.NewProxy(t, b.Addrs()[0])
		store, err := cache.New(p.Client(t), cache.WithPrefix(b.Prefix(t)), cache.WithTimeout(500*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		hang := false
		c := &cached{t: t, Handler: middleware.Cache(store)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if hang {
				p.SwallowReply(-1, "evalsha", then)
			}
			fresh("x")(w, r)
		}))}
		testkit.Eventually(t, "a hit", func() bool { return c.do("GET", "/warm").cacheStatus()["hit"] == true })
		hang = true
		took(t, "a request", 500*time.Millisecond+cacheSlack, func() { c.get().hasBody(200, "x").isStored() })
	}
}

// Three engines on one silent client make a request wait for one budget, not two. Protected by
// rdb.Remember in the wrappers.
func TestCache_oneBudgetForAll(t *testing.T) {
	t.Parallel()
	const wait = 600 * time.Millisecond
	b := testkit.Server(t)
	c := newCachedOn(t, b, []cache.Option{cache.WithTimeout(wait)}, nil)
	limiter, err := ratelimit.New(c.rdb, ratelimit.PerHour(1000), ratelimit.WithTimeout(wait))
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := session.New(c.rdb, session.WithTimeout(wait))
	if err != nil {
		t.Fatal(err)
	}
	look := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/look" {
			_ = sessions.GetString(r.Context(), "name")
		}
		fresh("x")(w, r)
	}
	visit, limit := middleware.Session(sessions), middleware.RateLimit(limiter, middleware.KeyByIP)
	orders := map[string]http.Handler{
		"limit, session, cache": middleware.Chain(limit, visit, c.wrap)(http.HandlerFunc(look)),
		"cache, session":        middleware.Chain(c.wrap, visit)(http.HandlerFunc(look)),
		"session, cache":        middleware.Chain(visit, c.wrap)(http.HandlerFunc(look)),
	}
	c.Handler = orders["limit, session, cache"]
	testkit.Eventually(t, "a hit", func() bool { return c.get().cacheStatus()["hit"] == true })
	token := "Cookie: __Host-session=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	b.Pause()
	for name, h := range orders { // fewer requests than open the breaker
		c.Handler = h
		took(t, name, 2*wait-100*time.Millisecond, func() {
			if a := c.do("GET", "/look", token); a.status != http.StatusServiceUnavailable {
				t.Errorf("%s: got %d; want 503", name, a.status)
			}
		})
	}
	// An unsafe request: the cache's removal, then the session's change.
	c.Handler = middleware.Chain(visit, c.wrap)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sessions.Put(r.Context(), "name", "ann") // without a cookie this asks nothing
		_, _ = io.WriteString(w, "done")
	}))
	took(t, "POST", 2*wait-100*time.Millisecond, func() {
		if a := c.do("POST", "/look"); a.status != http.StatusServiceUnavailable {
			t.Errorf("POST: got %d; want 503", a.status)
		}
	})
	b.Resume()
	c.Handler = orders["limit, session, cache"]
	testkit.Eventually(t, "a hit after recovery", func() bool { return c.get().cacheStatus()["hit"] == true })
}
