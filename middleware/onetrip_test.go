package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
	"github.com/go-weir/weir/session"
)

// tripSite is a page for all and one for each visitor, behind a limit of 100, a session
// and a cache; between, unless nil, is right outside of the cache.
type tripSite struct {
	http.Handler
	t         testing.TB
	sessions  *session.Manager
	store     *cache.Store
	cookie    *http.Cookie
	made      int  // by the handler
	limitless bool // requests cost nothing, and only ask
	between   func(*http.Request)
}

func newTripSite(t testing.TB, client redis.UniversalClient, prefix string, chain func(...middleware.Middleware) middleware.Middleware) *tripSite {
	t.Helper()
	limiter, err1 := ratelimit.New(client, ratelimit.PerHour(100), ratelimit.WithPrefix(prefix), ratelimit.WithTimeout(cachePatience), ratelimit.WithDenyCache(0))
	sessions, err2 := session.New(client, session.WithPrefix(prefix), session.WithTimeout(cachePatience))
	store, err3 := cache.New(client, cache.WithPrefix(prefix), cache.WithTimeout(cachePatience))
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := &tripSite{t: t, sessions: sessions, store: store}
	cost := func(r *http.Request) int {
		switch {
		case r.URL.Path == "/refused": // costs all there is
			return 100
		case s.limitless:
			return 0
		}
		return 1
	}
	s.Handler = chain(
		middleware.RateLimit(limiter, middleware.KeyByIP, middleware.WithCostFunc(cost)),
		middleware.Session(sessions),
		func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if s.between != nil {
					s.between(r)
				}
				next.ServeHTTP(w, r)
			})
		},
		middleware.When(func(r *http.Request) bool { return r.URL.Path == "/page" }, middleware.Cache(store)),
	)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/login":
			sessions.Put(r.Context(), "user", "ann")
		case "/page":
			s.made++
			w.Header().Set("Cache-Control", "public, max-age=60")
			fmt.Fprintf(w, "page %d", s.made)
		default:
			fmt.Fprint(w, sessions.GetString(r.Context(), "user"))
		}
	}))
	return s
}

func (s *tripSite) get(path string) *httptest.ResponseRecorder {
	s.t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	if s.cookie != nil {
		r.AddCookie(s.cookie)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if cookies := w.Result().Cookies(); len(cookies) > 0 {
		s.cookie = cookies[0]
	}
	return w
}

// Behind OneTrip all is as it is behind Chain, but for the round trips.
func TestOneTrip_trips(t *testing.T) {
	t.Parallel()
	steps := []struct {
		path, body string
		status     int
		chain, one int // round trips
	}{
		{"/login", "", 200, 2, 2},      // limit; the session is written
		{"/page", "page 1", 200, 3, 3}, // limit; the page is missed, and claimed, and kept
		{"/page", "page 1", 200, 2, 1},
		{"/mine", "ann", 200, 2, 1},
		{"/page", "page 1", 200, 2, 1},
		{"/refused", "", 429, 1, 1},
	}
	for name, chain := range map[string]func(...middleware.Middleware) middleware.Middleware{"Chain": middleware.Chain, "OneTrip": middleware.OneTrip} {
		p := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
		site := newTripSite(t, p.Client(t), "trip", chain)
		for range 2 { // from then on the server knows the scripts
			other := newTripSite(t, p.Client(t), "other", chain)
			for _, step := range steps {
				other.get(step.path)
			}
		}
		for i, step := range steps {
			want := step.chain
			if name == "OneTrip" {
				want = step.one
			}
			p.Reset()
			w := site.get(step.path)
			if w.Code != step.status || w.Code == 200 && w.Body.String() != step.body {
				t.Errorf("%s: step %d, %s: got %d %q; want %d %q", name, i, step.path, w.Code, w.Body, step.status, step.body)
			}
			if p.RoundTrips() != want {
				t.Errorf("%s: step %d, %s: %d round trips; want %d", name, i, step.path, p.RoundTrips(), want)
			}
		}
	}
}

// On every kind of Redis, whichever masters the parts are on, a visitor sees the same.
func TestOneTrip_contract(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		client, prefix := b.Client(t), b.Prefix(t)
		for i := range 8 { // keys of other slots each
			site := newTripSite(t, client, fmt.Sprintf("%s-%d", prefix, i), middleware.OneTrip)
			site.get("/login")
			for step, path := range []string{"/page", "/page", "/mine", "/page", "/mine"} {
				want := map[string]string{"/page": "page 1", "/mine": "ann"}[path]
				if w := site.get(path); w.Body.String() != want {
					t.Errorf("step %d: got %q; want %q", step, w.Body, want)
				}
			}
			if err := middleware.NewPurger(site.store).All(t.Context()); err != nil {
				t.Fatal(err)
			}
			if w := site.get("/page"); w.Body.String() != "page 2" {
				t.Errorf("after a purge: got %q; want page 2", w.Body)
			}
		}
	})
}

// What a middleware in between changes under the request's context is not overlooked.
func TestOneTrip_changeBetween(t *testing.T) {
	t.Parallel()
	site := newTripSite(t, testkit.Mini(t).Client(t), "trip", middleware.OneTrip)
	purger := middleware.NewPurger(site.store)
	site.get("/login")
	site.get("/page")
	site.between = func(r *http.Request) {
		if err := purger.URLs(r.Context(), "http://example.com/page"); err != nil {
			t.Error(err)
		}
	}
	if w := site.get("/page"); w.Body.String() != "page 2" {
		t.Errorf("purged in between: got %q; want page 2", w.Body)
	}
}

// Whoever gives up what is foreseen by the request's end leaves nothing behind; and a
// silent Redis has each part answer as its page says.
func TestOneTrip_silence(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	sessions, err1 := session.New(client)
	limiter, err2 := ratelimit.New(client, ratelimit.PerHour(100))
	store, err3 := cache.New(client)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			t.Fatal(err)
		}
	}
	made := 0
	h := middleware.OneTrip(
		middleware.RateLimit(limiter, middleware.KeyByIP),
		middleware.Session(sessions),
		middleware.Cache(store),
	)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		made++
		if r.URL.Path == "/mine" {
			sessions.GetString(r.Context(), "user")
		}
	}))
	get := func(path string) int {
		r := httptest.NewRequest("GET", path, nil)
		r.AddCookie(&http.Cookie{Name: "__Host-session", Value: strings.Repeat("A", 43)})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
	testkit.Eventually(t, "Redis answers", func() bool { return get("/mine") == 200 })
	b.Pause()
	if mine, open := get("/mine"), get("/open"); mine != 503 || open != 200 {
		t.Errorf("silent: got %d for a page that looks at the session, %d for one that does not; want 503, 200", mine, open)
	}
	b.Resume()
	testkit.Eventually(t, "it is back", func() bool { return get("/mine") == 200 })
}

// A rule that looks at the session works as it does behind Chain, where it has been found
// by then. Red without the recover of foresee.
func TestOneTrip_ruleOfSession(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	sessions, err1 := session.New(client, session.WithTimeout(cachePatience))
	store, err2 := cache.New(client, cache.WithTimeout(cachePatience))
	for _, err := range []error{err1, err2} {
		if err != nil {
			t.Fatal(err)
		}
	}
	known := func(r *http.Request) bool { return sessions.Exists(r.Context(), "user") }
	h := middleware.OneTrip(
		middleware.Session(sessions),
		middleware.When(known, middleware.Chain()),
		middleware.Cache(store, middleware.WithBypass(known)),
	)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 200 {
		t.Errorf("got %d; want 200", w.Code)
	}
}

func TestOneTrip_mistakes(t *testing.T) {
	t.Parallel()
	defer func() {
		if p, _ := recover().(string); p != "middleware.OneTrip: middleware 2 of 2 is nil: leave it out" {
			t.Errorf("got panic %q", p)
		}
	}()
	middleware.OneTrip(middleware.AnonymousFallback, nil)
}

func ExampleOneTrip() {
	rdb, stop := exampleRedis()
	defer stop()
	limiter, err1 := ratelimit.New(rdb, ratelimit.PerMinute(100))
	sessions, err2 := session.New(rdb)
	responses, err3 := cache.New(rdb)
	for _, err := range []error{err1, err2, err3} {
		if err != nil {
			panic(err)
		}
	}
	trips := 0
	rdb.AddHook(countTrips{&trips}) // your program needs none
	h := middleware.OneTrip(
		middleware.RateLimit(limiter, middleware.KeyByIP),
		middleware.Session(sessions),
		middleware.Cache(responses),
	)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		fmt.Fprint(w, "a page")
	}))
	get := func() string {
		trips = 0
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return w.Header().Get("Cache-Status")[:8]
	}
	get()
	fmt.Println(get(), "in", trips, "round trip")
	// Output:
	// weir;hit in 1 round trip
}

// countTrips is a hook of go-redis's.
type countTrips struct{ n *int }

func (countTrips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c countTrips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { *c.n++; return next(ctx, cmd) }
}

func (c countTrips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { *c.n++; return next(ctx, cmds) }
}
