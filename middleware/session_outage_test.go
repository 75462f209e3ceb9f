package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

const (
	outageBudget = 200 * time.Millisecond
	// outageSlack is what a request may take on top; and one out of eight, on a
	// busy machine. go-redis alone would wait for 5 s, several times.
	outageSlack     = 500 * time.Millisecond
	outageBusySlack = 3 * time.Second
)

// While Redis is silent, requests that do not look at a session pass; the others
// are refused in time, with nothing of the handler's and no cookie; afterwards
// all is as it was.
func TestSession_silence(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		strike func(b *testkit.Backend, p *testkit.Proxy)
		heal   func(t *testing.T, b *testkit.Backend, p *testkit.Proxy)
		keeps  bool // whether the data survives
	}{
		{
			"paused", func(b *testkit.Backend, _ *testkit.Proxy) { b.Pause() },
			func(_ *testing.T, b *testkit.Backend, _ *testkit.Proxy) { b.Resume() }, true,
		},
		{
			"killed", func(b *testkit.Backend, _ *testkit.Proxy) { b.Kill() },
			func(t *testing.T, b *testkit.Backend, _ *testkit.Proxy) { b.Restart(t) }, false,
		},
		{
			"hung", func(_ *testkit.Backend, p *testkit.Proxy) { p.Hang() },
			func(_ *testing.T, _ *testkit.Backend, p *testkit.Proxy) { p.Heal() }, true,
		},
		{
			"refused", func(_ *testkit.Backend, p *testkit.Proxy) { p.Refuse(); p.Cut() },
			func(_ *testing.T, _ *testkit.Backend, p *testkit.Proxy) { p.Heal() }, true,
		},
	}
	for _, test := range tests {
		for _, bounded := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/ContextTimeoutEnabled:%v", test.name, bounded), func(t *testing.T) {
				t.Parallel()
				b := testkit.Server(t)
				p := testkit.NewProxy(t, b.Addrs()[0])
				client := p.Client(t, func(o *redis.Options) { o.ContextTimeoutEnabled = bounded })
				m := newSessions(t, client, session.WithTimeout(outageBudget))
				var acted atomic.Bool
				site := newSessionSite(t, m, handle("/page", func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Page", "secret")
					user := m.GetString(r.Context(), "user")
					acted.Store(true)
					io.WriteString(w, "secret "+user)
				}))
				var token string
				testkit.Eventually(t, "a login", func() bool { // the budget is short
					token = site.visit("/login?user=alice", "").token
					return token != ""
				})

				test.strike(b, p)
				late := make(map[string]int)
				for range 8 { // past the breaker's threshold
					for _, path := range []string{"/page", "/put?key=a&value=b", "/login?user=eve", "/logout"} {
						a := site.visit(path, token)
						a.isRefusal(t, 503, "secret", "alice", token, p.Addr(), "dial", "timeout")
						if a.took > outageBudget+outageSlack {
							late[path]++
						}
						if late[path] > 1 || a.took > outageBudget+outageBusySlack {
							t.Errorf("%s: took %v; want at most %v", path, a.took, outageBudget+outageSlack)
						}
					}
					site.visit("/put?key=a&value=b", "").isRefusal(t, 503)
					site.visit("/read", "").is(t, 200, "user=")
					for _, token := range []string{"", token} {
						a := site.visit("/untouched", token)
						a.is(t, 200, "hello")
						if len(a.Header.Values("Vary"))+len(a.Header.Values("Set-Cookie")) > 0 {
							t.Errorf("untouched: got %v", a.Header)
						}
					}
				}

				if acted.Load() { // red without the panic in Visit.look
					t.Error("a handler acted on a session that could not be read")
				}

				test.heal(t, b, p)
				testkit.Eventually(t, "recovery", func() bool { return site.visit("/put?key=n&value=1", token).StatusCode == 200 })
				if !test.keeps {
					token = ""
					testkit.Eventually(t, "a login", func() bool {
						token = site.visit("/login?user=alice", "").token
						return token != ""
					})
				}
				testkit.Eventually(t, "alice", func() bool { return site.visit("/read", token).body == "user=alice" })
			})
		}
	}
}

// unsavedPage is a page that fails to be saved: between its look and its end, strike.
func unsavedPage(m *session.Manager, strike func()) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m.Get(r.Context(), "user")
		strike()
		const body = "the handler's secret body"
		h := w.Header()
		h.Set("Content-Type", "text/html")
		h.Set("Content-Length", strconv.Itoa(len(body)))
		h.Set("Etag", `"secret"`)
		h.Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		h.Set("Cache-Control", "public, max-age=3600")
		h.Set("Location", "/secret")
		h.Set("Clear-Site-Data", `"cookies"`)
		h.Set("X-Secret", "secret")
		h.Set("Trailer", "X-Sum")
		http.SetCookie(w, &http.Cookie{Name: "secret", Value: "x"})
		m.Put(r.Context(), "key", "unsaved")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, body)
		w.(http.Flusher).Flush()
		h.Set("X-Sum", "secret")
		h.Set(http.TrailerPrefix+"X-More", "secret")
		io.WriteString(w, body)
	}
}

// A change that cannot be saved after the handler ran is one clean 503: nothing
// of the handler's. Red when BeforeHeader lets the response pass, and, for the
// fields, without the clear in refuse.
func TestSession_commitFails(t *testing.T) {
	t.Parallel()
	strikes := map[string]func(*testkit.Proxy){
		"hung":                  (*testkit.Proxy).Hang,
		"gone":                  func(p *testkit.Proxy) { p.Refuse(); p.Cut() },
		"replies lost":          func(p *testkit.Proxy) { p.SwallowReply(-1, "\r\neval", testkit.ThenClose) },
		"replies lost, silence": func(p *testkit.Proxy) { p.SwallowReply(-1, "\r\neval", testkit.ThenSilence) },
	}
	for name, strike := range strikes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothProtocols(t, func(t *testing.T, http2 bool) {
				p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
				m := newSessions(t, p.Client(t), session.WithTimeout(outageBudget))
				outer := func(next http.Handler) http.Handler {
					return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
						// Set outside: stays, as it was.
						w.Header().Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT")
						next.ServeHTTP(w, r)
					})
				}
				site := serveSite(t, http2, outer(middleware.Session(m)(sessionApp(m, handle("/page", unsavedPage(m, func() { strike(p) }))))))
				var token string
				testkit.Eventually(t, "a login", func() bool {
					token = site.visit("/login?user=alice", "").token
					return token != ""
				})
				for _, token := range []string{token, ""} {
					a := site.visit("/page", token)
					a.isRefusal(t, 503, "secret", "unsaved", p.Addr())
					if a.took > 2*outageBudget+outageBusySlack { // its look may have taken one
						t.Errorf("took %v", a.took)
					}
					if got := a.Header.Get("Date"); got != "Mon, 02 Jan 2006 15:04:05 GMT" {
						t.Errorf("the field set outside: got %q", got)
					}
					p.Heal()
				}
				testkit.Eventually(t, "recovery", func() bool { return site.visit("/read", token).body == "user=alice" })
			})
		})
	}
}

// A lost reply does no harm: the write is repeated, and says the same again.
func TestSession_lostReply(t *testing.T) {
	t.Parallel()
	site, _, p := sharedSite(t)
	token := site.login("alice")
	p.SwallowReply(1, "\r\neval", testkit.ThenClose)
	site.visit("/put?key=a&value=b", token).is(t, 200, "put")
	if p.Swallowed() != 1 {
		t.Fatalf("swallowed: got %d replies; want 1", p.Swallowed())
	}
	site.visit("/get?key=a", token).is(t, 200, "b")

	// The reply to a logout, too: the second run leaves the same mark.
	p.SwallowReply(1, "\r\nset\r\n", testkit.ThenClose)
	site.visit("/logout", token).is(t, 200, "bye")
	site.visit("/read", token).is(t, 200, "user=")
}

// What gob cannot encode is a clean 500, and leaves the session as it was.
func TestSession_unencodable(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		site := pageSite(t, http2, func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Etag", `"secret"`)
				m.Put(r.Context(), "key", func() {})
				io.WriteString(w, "secret body")
			}
		})
		token := site.login("alice")
		site.visit("/page", token).isRefusal(t, 500, "secret", "gob", "func")
		site.visit("/page", "").isRefusal(t, 500, "secret", "gob", "func")
		site.visit("/read", token).is(t, 200, "user=alice")
	})
}

// A request that meets the silence late, with its header gone, is cut off,
// whether the handler recovers or not. Red without s.begun in answerFailure, and
// without v.err in Visit.lateness.
func TestSession_silenceAfterHeader(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
	m := newSessions(t, p.Client(t), session.WithTimeout(outageBudget))
	site := newSessionSite(t, m, handle("/page", func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && r.FormValue("recover") == "" {
				panic(p)
			}
		}()
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		p.Hang()
		io.WriteString(w, m.GetString(r.Context(), "user"))
	}))
	for _, path := range []string{"/page", "/page?recover=1"} {
		token := strings.Repeat("A", 43)
		if a, err := site.tryWith(t.Context(), path, sessionCookie+"="+token); err == nil {
			t.Errorf("%s: got %s %q; want a broken connection", path, a.Status, a.body)
		}
	}
}
