package middleware_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// A bypassed request goes to the handler as if there was no cache. Red when serve looks at
// what is stored first, or keeps the answer.
func TestWithBypass(t *testing.T) {
	t.Parallel()
	preview := func(r *http.Request) bool { return r.Header.Get("X-Preview") != "" }
	admin := func(r *http.Request) bool { return r.URL.Path == "/admin" }
	c := newCached(t, conditional(`"a"`, "x", "Cache-Control: max-age=60"), middleware.WithBypass(preview), middleware.WithBypass(admin))
	bypassed := func(a cacheAnswer) cacheAnswer {
		t.Helper()
		return a.isMiss("bypass", "bypass-rule", false)
	}
	bypassed(c.get("X-Preview: 1")).hasBody(200, "x")
	c.get().isStored()
	bypassed(c.get("X-Preview: 1")).hasBody(200, "x")
	bypassed(c.get("X-Preview: 1", `If-None-Match: "a"`)).hasBody(304, "") // the handler's own
	bypassed(c.get("X-Preview: 1", "Cache-Control: only-if-cached")).hasBody(200, "x")
	bypassed(c.do("HEAD", "/page", "X-Preview: 1"))
	c.called(6)
	c.get().isHit()
	bypassed(c.do("GET", "/admin"))
	bypassed(c.do("GET", "/admin"))
	if got := len(c.keys()); got != 1 {
		t.Errorf("%d resources are stored; want 1", got)
	}
	panicsWith(t, "middleware.WithBypass: the rule is nil: ", func() { middleware.WithBypass(nil) })
}

// It makes old what it changes all the same (RFC 9111 section 4.4). Red when BeforeHeader
// asks for fwd=method.
func TestWithBypass_invalidates(t *testing.T) {
	t.Parallel()
	c := newCached(t, fresh("x"), middleware.WithBypass(func(r *http.Request) bool { return r.Method != http.MethodGet }))
	c.get().isStored()
	c.get().isHit()
	c.do("OPTIONS", "/page").isMiss("bypass", "bypass-rule", false)
	c.get().isHit()
	c.do("POST", "/page").isMiss("bypass", "bypass-rule", false)
	c.get().isStored()
}

// It asks Redis for nothing, silent or not.
func TestWithBypass_silence(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	c := newCachedOn(t, b, []cache.Option{cache.WithTimeout(5 * time.Second)}, fresh("x"), middleware.WithBypass(func(*http.Request) bool { return true }))
	b.Pause()
	defer b.Resume()
	took(t, "a bypassed request", cacheSlack, func() { c.get().hasBody(200, "x").isMiss("bypass", "bypass-rule", false) })
}

// The name is a token or a string, in every answer (RFC 9211 section 2).
func TestWithCacheName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]any{
		"shop-edge":          httpsfv.Token("shop-edge"),
		"edge.example:443/a": httpsfv.Token("edge.example:443/a"),
		"*":                  httpsfv.Token("*"),
		"1st":                "1st",
		`the "edge" \ cache`: `the "edge" \ cache`,
	} {
		c := newCached(t, conditional(`"a"`, "x", "Cache-Control: max-age=60"), middleware.WithCacheName(name))
		for _, a := range []cacheAnswer{
			c.get(), c.get(), c.get("Cache-Control: no-cache"), c.do("POST", "/page"),
			c.do("GET", "/none", "Cache-Control: only-if-cached"), c.get("Range: bytes=0-0"),
		} {
			list, err := httpsfv.UnmarshalList(a.header["Cache-Status"])
			if err != nil || len(list) != 1 || list[0].(httpsfv.Item).Value != want {
				t.Errorf("%q: got %q, %v; want %v", name, a.header["Cache-Status"], err, want)
			}
		}
	}
	for _, name := range []string{"", "caché", "a\nb", "a\x7f"} {
		panicsWith(t, "middleware.WithCacheName: ", func() { middleware.WithCacheName(name) })
	}
}
