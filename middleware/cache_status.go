package middleware

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

// defaultCacheName is a cache's name in Cache-Status.
const defaultCacheName = "weir"

// WithCacheName names the cache in Cache-Status, so that the caches on an answer's way
// are told apart (RFC 9211 section 2): a token such as "shop-edge" or "edge.example:443",
// or any other text of printable ASCII, which is then written as a quoted string. The
// default is weir. It panics if name can be neither.
func WithCacheName(name string) CacheOption {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
		panic(fmt.Sprintf("middleware.WithCacheName: %q can stand in no structured field: write printable ASCII, such as shop-edge", name))
	}
	return func(c *responseCache) { c.name = name }
}

// WithBypass passes a request on for which rule says true: it goes to the handler as if
// there was no cache, which answers nothing, stores nothing and holds nobody up.
// Cache-Status says fwd=bypass. A request of an unsafe method still removes what it makes
// old (RFC 9111 section 4.4).
//
// It keeps nothing secret: what other requests have brought is stored, and served to
// others. Answers that depend on who asks must say private, or Vary.
//
// rule is called once for each request, twice inside of [OneTrip], before the handler and
// in its goroutine; it must not change the request, and be safe for concurrent use. Given several times, one rule that
// says true is enough. It panics if rule is nil.
func WithBypass(rule func(*http.Request) bool) CacheOption {
	if rule == nil {
		panic("middleware.WithBypass: the rule is nil: leave the option out to bypass nothing")
	}
	return func(c *responseCache) {
		if before := c.bypass; before != nil {
			c.bypass = func(r *http.Request) bool { return before(r) || rule(r) }
			return
		}
		c.bypass = rule
	}
}

// say adds the cache's member to Cache-Status, and has the observer know as much.
func (c *responseCache) say(h http.Header, a *asked, kind CacheEventKind, said rfc9111.Status, age time.Duration) {
	said.Cache = c.name
	said.AddTo(h)
	if e := a.event; e != nil {
		e.Kind, e.Fwd, e.Detail, e.Collapsed = kind, said.Fwd.String(), said.Detail, said.Collapsed
		e.Age, e.TTL = age, said.TTL
	}
}
