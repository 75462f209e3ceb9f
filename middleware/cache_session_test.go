package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
	"github.com/go-weir/weir/session"
)

// cacheSite is a cache and a session manager on one client.
type cacheSite struct {
	*cached
	sessions *session.Manager
	visit    middleware.Middleware
}

func newSite(t *testing.T, h func(*session.Manager) http.HandlerFunc, options ...middleware.CacheOption) *cacheSite {
	t.Helper()
	s := &cacheSite{cached: newCached(t, nil, options...)}
	sessions, err := session.New(s.rdb, session.WithTimeout(cachePatience))
	if err != nil {
		t.Fatal(err)
	}
	s.sessions, s.visit = sessions, middleware.Session(sessions)
	s.Handler = s.counted(h(sessions))
	return s
}

// login gives a visitor a session, and returns the cookie as a request's field.
func (s *cacheSite) login(name string) string {
	s.t.Helper()
	login := &cacheSite{cached: &cached{t: s.t, Handler: s.visit(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		s.sessions.Put(r.Context(), "name", name)
	}))}}
	cookie, _, _ := strings.Cut(login.get().header.Get("Set-Cookie"), ";")
	if cookie == "" {
		s.t.Fatal("no cookie")
	}
	return "Cookie: " + cookie
}

// A page whose handler looked at its session is that visitor's. With Session
// outside, Cache knows: protected by session.Touched in decide. With Session
// inside, a request with a cookie keeps it from being stored (safe profile), and
// Vary: Cookie from being served to anybody else (RFC profile).
func TestCache_sessions(t *testing.T) {
	t.Parallel()
	greet := func(m *session.Manager) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			fresh("hello "+m.GetString(r.Context(), "name"))(w, r)
		}
	}
	for name, options := range map[string][]middleware.CacheOption{"safe": nil, "rfc": {middleware.WithRFCProfile()}} {
		for _, order := range []string{"outside", "inside"} {
			t.Run(name+"/"+order, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, greet, options...)
				if order == "outside" {
					s.behind(s.wrap).behind(s.visit)
				} else {
					s.behind(s.visit).behind(s.wrap)
				}
				ann, ben := s.login("ann"), s.login("ben")
				before := len(s.keys())
				for range 2 {
					s.get(ann).hasBody(200, "hello ann")
					s.get(ben).hasBody(200, "hello ben")
					s.get().hasBody(200, "hello ")
				}
				if order == "outside" {
					s.get(ann).isMiss("uri-miss", map[string]string{"safe": "credentials", "rfc": "session"}[name], false)
					s.get().isMiss("uri-miss", "session", false).has("Vary", "Cookie")
					if after := len(s.keys()); after != before {
						t.Errorf("got %d keys more", after-before)
					}
				}
			})
		}
	}
}

// The same of a page that says public, which no profile protects.
func TestCache_sessionAndPublic(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(m *session.Manager) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			page("hello "+m.GetString(r.Context(), "name"), "Cache-Control: public, max-age=60")(w, r)
		}
	})
	s.behind(s.wrap).behind(s.visit)
	s.get(s.login("ann")).isMiss("uri-miss", "session", false).hasBody(200, "hello ann")
	s.get().isMiss("uri-miss", "session", false).hasBody(200, "hello ")
}

// A look after the header has left is a look. Protected by session.Touched in
// store.
func TestCache_lateLookAtTheSession(t *testing.T) {
	t.Parallel()
	for _, length := range []string{"", "9"} { // which says when the last piece is there
		s := newSite(t, func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=60")
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				_, _ = io.WriteString(w, "hello ")
				_, _ = io.WriteString(w, (m.GetString(r.Context(), "name") + "...")[:3])
			}
		})
		s.behind(s.wrap).behind(s.visit)
		s.get(s.login("ann")).hasBody(200, "hello ann")
		s.get().hasBody(200, "hello ...")
		s.called(2)
	}
}

// A page that does not look is everybody's, with a session around or not, and
// finding it does not touch the session.
func TestCache_sessionNotLookedAt(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(*session.Manager) http.HandlerFunc {
		return page("for all", "Cache-Control: public, max-age=60")
	})
	s.behind(s.wrap).behind(s.visit)
	ann := s.login("ann")
	s.get(ann).isStored().has("Vary")
	s.get().isHit().has("Vary")
	s.get(ann).isHit().has("Vary")
	s.called(1)
}

// A session begun, changed or ended sets a cookie: never stored, in any order.
func TestCache_sessionSetsACookie(t *testing.T) {
	t.Parallel()
	for _, order := range []string{"outside", "inside"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(m *session.Manager) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					m.Put(r.Context(), "seen", "yes")
					page("x", "Cache-Control: public, max-age=60")(w, r)
				}
			}, middleware.WithRFCProfile())
			if order == "outside" {
				s.behind(s.wrap).behind(s.visit)
			} else {
				s.behind(s.visit).behind(s.wrap)
			}
			for range 2 {
				if a := s.get(); a.header.Get("Set-Cookie") == "" || a.header.Get("Cache-Control") != "no-store" {
					t.Errorf("got %v", a.header)
				}
			}
			s.called(2)
		})
	}
}

// The order that the package recommends, on every kind of Redis.
func TestCache_insideSessionInsideRateLimit(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		c := newCachedOn(t, b, nil, fresh("x", "X-Own: 1"))
		limiter, err := ratelimit.New(c.rdb, ratelimit.PerHour(3), ratelimit.WithPrefix(b.Prefix(t)), ratelimit.WithTimeout(cachePatience))
		if err != nil {
			t.Fatal(err)
		}
		sessions, err := session.New(c.rdb, session.WithTimeout(cachePatience))
		if err != nil {
			t.Fatal(err)
		}
		c.behind(middleware.RateLimit(limiter, middleware.KeyByIP), middleware.Session(sessions))
		c.get().isStored().has("X-Ratelimit-Remaining", "2")
		for i := range 2 {
			c.get().isHit().has("X-Ratelimit-Remaining", fmt.Sprint(1-i)).has("X-Own", "1").has("Set-Cookie")
		}
		if a := c.get(); a.status != http.StatusTooManyRequests || a.header.Get("Cache-Status") != "" {
			t.Errorf("past the limit: got %d %v", a.status, a.header)
		}
		c.called(1)
	})
}
