package middleware_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// outages are ways in which Redis is silent.
var outages = map[string]func(p *testkit.Proxy){
	"hung":    (*testkit.Proxy).Hang,
	"refused": func(p *testkit.Proxy) { p.Refuse(); p.Cut() },
}

// silentSite is a site whose Redis can be silenced, and a user who is logged in.
func silentSite(t *testing.T, wrap func(m *session.Manager, app *http.ServeMux) http.Handler) (site *sessionSite, p *testkit.Proxy, token string) {
	p = testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
	m := newSessions(t, p.Client(t), session.WithTimeout(outageBudget))
	site = serveSite(t, false, wrap(m, sessionApp(m, enterPage(m))))
	testkit.Eventually(t, "a login", func() bool {
		token = site.visit("/login?user=alice", "").token
		return token != ""
	})
	return site, p, token
}

// On routes of AnonymousFallback, and of WithAnonymousFallback for all, a visitor
// whose session cannot be read is anonymous while Redis is silent: the answer is not
// to be kept and says nothing of cookies. One that writes, logs in or out is refused
// all the same. Other routes are refused. Red without the case of v.optional in
// Visit.Commit, and without Blind in BeforeHeader.
func TestSession_anonymousFallback(t *testing.T) {
	t.Parallel()
	mounts := map[string]func(m *session.Manager, app *http.ServeMux) http.Handler{
		"per route": func(m *session.Manager, app *http.ServeMux) http.Handler {
			mux := http.NewServeMux()
			mux.Handle("/strict/", http.StripPrefix("/strict", app))
			mux.Handle("/", middleware.AnonymousFallback(app))
			return middleware.Session(m)(mux)
		},
		"for all": func(m *session.Manager, app *http.ServeMux) http.Handler {
			return middleware.Session(m, middleware.WithAnonymousFallback())(app)
		},
	}
	for mount, wrap := range mounts {
		for outage, strike := range outages {
			t.Run(mount+"/"+outage, func(t *testing.T) {
				t.Parallel()
				var m *session.Manager
				var looks http.HandlerFunc = func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Cache-Control", "public, max-age=60")
					io.WriteString(w, "user="+m.GetString(r.Context(), "user")+" "+m.User(r.Context()))
				}
				site, p, token := silentSite(t, func(manager *session.Manager, app *http.ServeMux) http.Handler {
					m = manager
					app.HandleFunc("/looks", looks)
					app.HandleFunc("/recovers", func(w http.ResponseWriter, r *http.Request) {
						defer func() { recover() }()
						m.Put(r.Context(), "a", "b")
						io.WriteString(w, "secret")
					})
					return wrap(m, app)
				})
				// While Redis answers they are routes like others.
				site.visit("/read", token).is(t, 200, "user=alice")
				if got := site.visit("/looks", token).Header.Get("Cache-Control"); got != "public, max-age=60" {
					t.Errorf("before: Cache-Control: got %q; want the handler's own", got)
				}
				strike(p)
				for range 7 { // past the breaker's threshold
					a := site.visit("/looks", token)
					a.is(t, 200, "user= ")
					a.isSilent(t, "/looks")
					if got := a.Header.Values("Cache-Control"); len(got) != 1 || got[0] != "no-store" {
						t.Errorf("/looks: Cache-Control: got %q; want no-store", got)
					}
					for _, path := range []string{
						"/put?key=a&value=b", "/login?user=eve", "/enter?way=RenewToken&user=eve", "/logout", "/recovers",
					} {
						a := site.visit(path, token)
						if a.StatusCode != 503 && !(a.StatusCode == 500 && path == "/logout") {
							t.Errorf("%s: got %s %q; want a refusal", path, a.Status, a.body)
						}
						a.isSilent(t, path)
					}
					site.visit("/untouched", token).is(t, 200, "hello")
					site.visit("/looks", "").is(t, 200, "user= ")
					if mount == "per route" {
						site.visit("/strict/read", token).isRefusal(t, 503)
					}
				}
				p.Heal()
				testkit.Eventually(t, "alice", func() bool { return site.visit("/read", token).body == "user=alice" })
				site.visit("/get?key=a", token).is(t, 200, "")
			})
		}
	}
}

// AnonymousFallback does nothing outside of Session, nor for who has a session that
// can be read.
func TestSession_anonymousFallback_outside(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	site := serveSite(t, false, middleware.AnonymousFallback(middleware.Session(m)(sessionApp(m))))
	token := site.login("alice")
	site.visit("/read", token).is(t, 200, "user=alice")
	site.visit("/put?key=a&value=b", token).is(t, 200, "put")
}

// A goroutine that the handler started is the first to look while Redis is silent: the
// process lives, the goroutine finds nobody, and the request is refused. fiber v3.1.0
// dies. Red when Visit.look does not ask guarded.
func TestSession_goroutineLooksFirst(t *testing.T) {
	t.Parallel()
	for outage, strike := range outages {
		t.Run(outage, func(t *testing.T) {
			t.Parallel()
			var found atomic.Int64
			site, p, token := silentSite(t, func(m *session.Manager, app *http.ServeMux) http.Handler {
				app.HandleFunc("/spawns", func(w http.ResponseWriter, r *http.Request) {
					var wg sync.WaitGroup
					for i := range 4 {
						wg.Go(func() {
							if m.GetString(r.Context(), "user") == "alice" {
								found.Add(1)
							}
							if i%2 == 1 {
								m.Put(r.Context(), "a", "secret")
							}
							if err := m.RenewToken(r.Context()); err == nil {
								m.Put(r.Context(), "user", "mallory")
							}
						})
					}
					wg.Wait()
					w.Header().Set("X-Secret", "secret")
					io.WriteString(w, "secret")
				})
				// A goroutine that outlives its request.
				app.HandleFunc("/leaves", func(w http.ResponseWriter, r *http.Request) {
					done := make(chan struct{})
					go func() {
						defer close(done)
						m.Get(r.Context(), "user")
					}()
					<-done
				})
				return middleware.Session(m)(app)
			})
			strike(p)
			for range 7 {
				site.visit("/spawns", token).isRefusal(t, 503, "secret", "mallory")
				site.visit("/leaves", token).isRefusal(t, 503)
			}
			if found.Load() > 0 {
				t.Error("a goroutine saw alice")
			}
			p.Heal()
			testkit.Eventually(t, "alice", func() bool { return site.visit("/read", token).body == "user=alice" })
			site.visit("/get?key=a", token).is(t, 200, "")
		})
	}
}

// http.TimeoutHandler runs the handler in a goroutine of its own: inside of Session
// the silence is a refusal as elsewhere, and without silence a change is saved, or,
// when the handler's time is up, is not.
func TestSession_timeoutHandler(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var acted atomic.Bool
	site, p, token := silentSite(t, func(m *session.Manager, app *http.ServeMux) http.Handler {
		app.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
			m.Get(r.Context(), "user")
			<-r.Context().Done()
			<-release
			m.Put(r.Context(), "slow", "yes")
		})
		app.HandleFunc("/acts", func(w http.ResponseWriter, r *http.Request) {
			m.Get(r.Context(), "user")
			acted.Store(true)
		})
		mux := http.NewServeMux()
		mux.Handle("/short/", http.StripPrefix("/short", http.TimeoutHandler(app, 20*time.Millisecond, "too slow")))
		mux.Handle("/", http.TimeoutHandler(app, time.Minute, "too slow"))
		return middleware.Session(m)(mux)
	})
	site.visit("/put?key=a&value=b", token).is(t, 200, "put")
	site.visit("/get?key=a", token).is(t, 200, "b")
	a := site.visit("/short/slow", token)
	a.is(t, 503, "too slow")
	a.isSilent(t, "/short/slow")
	close(release)
	site.visit("/get?key=slow", token).is(t, 200, "")

	p.Hang()
	for range 7 {
		site.visit("/read", token).isRefusal(t, 503)
		site.visit("/put?key=a&value=c", token).isRefusal(t, 503)
		site.visit("/acts", token).isRefusal(t, 503)
		site.visit("/untouched", token).is(t, 200, "hello")
		// Its time is up before the budget is.
		a := site.visit("/short/read", token)
		a.isSilent(t, "/short/read")
		if a.StatusCode != 503 {
			t.Errorf("short: got %s; want 503", a.Status)
		}
	}
	if acted.Load() { // red without timeoutName in guarded
		t.Error("a handler acted on a session that could not be read")
	}
	p.Heal()
	testkit.Eventually(t, "alice", func() bool { return site.visit("/read", token).body == "user=alice" })
	site.visit("/get?key=a", token).is(t, 200, "b")
}

// Methods that return an error return ErrUnavailable, and change nothing.
func TestSession_silence_errors(t *testing.T) {
	t.Parallel()
	site, p, token := silentSite(t, func(m *session.Manager, app *http.ServeMux) http.Handler {
		calls := map[string]func(ctx context.Context) error{
			"Login":     func(ctx context.Context) error { return m.Login(ctx, "eve") },
			"Update":    func(ctx context.Context) error { return m.Update(ctx, "a", func(any) any { return "b" }) },
			"EndOthers": func(ctx context.Context) error { return m.EndOthers(ctx) },
			"EndAll":    func(ctx context.Context) error { return m.EndAll(ctx, "alice") },
			"End":       func(ctx context.Context) error { _, err := m.End(ctx, "alice", "AAAAAAAAAAAAAAAA"); return err },
			"Sessions":  func(ctx context.Context) error { _, err := m.Sessions(ctx, "alice"); return err },
			"Commit":    func(ctx context.Context) error { _, _, err := m.Commit(ctx); return err },
			"Load":      func(ctx context.Context) error { _, err := m.Load(ctx, ""); return err },
			"Iterate": func(ctx context.Context) error {
				return m.Iterate(ctx, func(context.Context) error { return nil })
			},
			"Key": func(ctx context.Context) error {
				_, _, err := session.NewKey[string](m, "a").Get(ctx)
				return err
			},
			"Flash": func(ctx context.Context) error {
				_, err := session.NewFlash[string](m, "a").Take(ctx)
				return err
			},
		}
		app.HandleFunc("/calls", func(w http.ResponseWriter, r *http.Request) {
			for name, call := range calls {
				if err := call(r.Context()); !errors.Is(err, session.ErrUnavailable) {
					t.Errorf("%s: got %v; want ErrUnavailable", name, err)
				}
			}
			io.WriteString(w, "secret")
		})
		return middleware.Session(m)(app)
	})
	p.Hang()
	site.visit("/calls", token).isRefusal(t, 503, "secret")
	p.Heal()
	testkit.Eventually(t, "alice", func() bool { return site.visit("/read", token).body == "user=alice" })
}
