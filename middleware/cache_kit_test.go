package middleware_test

import (
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// cachePatience is a budget that a busy machine does not exceed.
const cachePatience = 10 * time.Second

// cached is a handler behind a cache of its own, and what they did.
type cached struct {
	http.Handler
	t      testing.TB
	calls  *atomic.Int64
	rdb    redis.UniversalClient
	prefix string
	store  *cache.Store
	wrap   middleware.Middleware // the cache alone
}

// newCached puts h behind a cache on a Redis of the test's own.
func newCached(t testing.TB, h http.HandlerFunc, options ...middleware.CacheOption) *cached {
	t.Helper()
	return newCachedOn(t, testkit.Mini(t), nil, h, options...)
}

func newCachedOn(t testing.TB, b *testkit.Backend, settings []cache.Option, h http.HandlerFunc, options ...middleware.CacheOption) *cached {
	t.Helper()
	return newCachedFor(t, b.Client(t), b.Prefix(t), settings, h, options...)
}

func newCachedFor(t testing.TB, rdb redis.UniversalClient, prefix string, settings []cache.Option, h http.HandlerFunc, options ...middleware.CacheOption) *cached {
	t.Helper()
	settings = append([]cache.Option{cache.WithPrefix(prefix), cache.WithTimeout(cachePatience)}, settings...)
	store, err := cache.New(rdb, settings...)
	if err != nil {
		t.Fatal(err)
	}
	c := &cached{t: t, calls: new(atomic.Int64), rdb: rdb, prefix: prefix, store: store, wrap: middleware.Cache(store, options...)}
	c.Handler = c.wrap(c.counted(h))
	return c
}

func (c *cached) counted(h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.calls.Add(1)
		h(w, r)
	})
}

// behind puts the handler, cache and all, inside of other wrappers.
func (c *cached) behind(outside ...middleware.Middleware) *cached {
	c.Handler = middleware.Chain(outside...)(c.Handler)
	return c
}

// cacheAnswer is what a client got.
type cacheAnswer struct {
	t      testing.TB
	status int
	header http.Header
	body   string
}

// get asks for /page, with header fields "Name: value".
func (c *cached) get(fields ...string) cacheAnswer { return c.do("GET", "/page", fields...) }

func (c *cached) do(method, target string, fields ...string) cacheAnswer {
	c.t.Helper()
	return c.serve(httptest.NewRequest(method, target, nil), fields...)
}

func (c *cached) serve(r *http.Request, fields ...string) cacheAnswer {
	c.t.Helper()
	for _, f := range fields {
		name, value, ok := strings.Cut(f, ": ")
		if !ok {
			c.t.Fatalf("%q is no field", f)
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	c.ServeHTTP(w, r)
	return cacheAnswer{c.t, w.Code, w.Result().Header, w.Body.String()}
}

// received is the answer of a real server.
func received(t testing.TB, resp *http.Response, err error) cacheAnswer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return cacheAnswer{t, resp.StatusCode, resp.Header, string(body)}
}

// status is the cache's member of Cache-Status, which must be the last, and a
// structured field (RFC 9211).
func (a cacheAnswer) cacheStatus() (said map[string]any) {
	a.t.Helper()
	list, err := httpsfv.UnmarshalList(a.header["Cache-Status"])
	if err != nil || len(list) == 0 {
		a.t.Fatalf("Cache-Status %q: %v", a.header["Cache-Status"], err)
	}
	item, ok := list[len(list)-1].(httpsfv.Item)
	if !ok || item.Value != httpsfv.Token("weir") {
		a.t.Fatalf("Cache-Status %q: want an item named weir", a.header["Cache-Status"])
	}
	said = make(map[string]any)
	for _, name := range item.Params.Names() {
		said[name], _ = item.Params.Get(name)
		if token, ok := said[name].(httpsfv.Token); ok {
			said[name] = string(token)
		}
	}
	return said
}

// isHit checks that the answer was a stored one.
func (a cacheAnswer) isHit() cacheAnswer {
	a.t.Helper()
	said := a.cacheStatus()
	if said["hit"] != true || said["fwd"] != nil || said["stored"] != nil || said["ttl"] == nil {
		a.t.Errorf("got %q; want a hit", a.header["Cache-Status"])
	}
	if len(a.header["Age"]) != 1 {
		a.t.Errorf("Age: got %q; want one", a.header["Age"])
	}
	return a
}

// isMiss checks that the answer was the handler's, and why. Of detail "" there
// is none; "stored" and detail exclude each other.
func (a cacheAnswer) isMiss(fwd, detail string, stored bool) cacheAnswer {
	a.t.Helper()
	want := map[string]any{"fwd": fwd}
	if detail != "" {
		want["detail"] = detail
	}
	if stored {
		want["stored"] = true
	}
	if said := a.cacheStatus(); !maps.Equal(said, want) {
		a.t.Errorf("got %q; want %v", a.header["Cache-Status"], want)
	}
	return a
}

func (a cacheAnswer) isStored() cacheAnswer {
	a.t.Helper()
	return a.isMiss("uri-miss", "", true)
}

// hasBody checks status and body.
func (a cacheAnswer) hasBody(status int, body string) cacheAnswer {
	a.t.Helper()
	if a.status != status || a.body != body {
		a.t.Errorf("got %d %.60q; want %d %.60q", a.status, a.body, status, body)
	}
	return a
}

// has checks a field's lines.
func (a cacheAnswer) has(name string, lines ...string) cacheAnswer {
	a.t.Helper()
	if got := a.header[http.CanonicalHeaderKey(name)]; !slices.Equal(got, lines) {
		a.t.Errorf("%s: got %q; want %q", name, got, lines)
	}
	return a
}

// called checks how often the handler was asked so far.
func (c *cached) called(want int64) {
	c.t.Helper()
	if got := c.calls.Load(); got != want {
		c.t.Errorf("the handler was called %d times; want %d", got, want)
	}
}

// keys are the resources in Redis of which something is stored.
func (c *cached) keys() []string {
	c.t.Helper()
	keys, err := c.rdb.Keys(c.t.Context(), "*:r:*").Result()
	if err != nil {
		c.t.Fatal(err)
	}
	return slices.DeleteFunc(keys, func(key string) bool {
		fields, err := c.rdb.HKeys(c.t.Context(), key).Result()
		return err == nil && !slices.Contains(fields, "by")
	})
}

// page answers with a body and header fields "Name: value".
func page(body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		_, _ = io.WriteString(w, body)
	}
}

// fresh answers with a body that may be stored for a minute.
func fresh(body string, fields ...string) http.HandlerFunc {
	return page(body, append([]string{"Cache-Control: max-age=60"}, fields...)...)
}

// served starts a real server for the handler.
func (c *cached) served() *httptest.Server {
	s := httptest.NewServer(c.Handler)
	c.t.Cleanup(s.Close)
	return s
}

// quiet is for servers whose handlers panic on purpose.
var quiet = log.New(io.Discard, "", 0)
