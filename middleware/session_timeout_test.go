package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// A clockedSite is a site without a network in a bubble of synctest.
type clockedSite struct {
	t       *testing.T
	m       *session.Manager
	rdb     redis.UniversalClient
	handler http.Handler
	token   string // the browser's cookie
}

func newClockedSite(t *testing.T, options ...session.Option) *clockedSite {
	rdb := testkit.Memory(t).Client(t)
	m := newSessions(t, rdb, options...)
	app := sessionApp(m, enterPage(m),
		handle("/remember", func(w http.ResponseWriter, r *http.Request) { m.RememberMe(r.Context(), r.FormValue("on") != "") }),
		handle("/late", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "begun ")
			w.(http.Flusher).Flush()
			m.Put(r.Context(), "late", "yes")
		}),
		handle("/stream", func(w http.ResponseWriter, r *http.Request) {
			m.Get(r.Context(), "user")
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Minute) // the bubble's clock
			m.Put(r.Context(), "streamed", "yes")
		}),
		handle("/upgrade", func(w http.ResponseWriter, r *http.Request) {
			m.Put(r.Context(), "upgraded", "yes")
			w.WriteHeader(http.StatusSwitchingProtocols)
		}),
	)
	return &clockedSite{t: t, m: m, rdb: rdb, handler: middleware.Session(m)(app)}
}

// get visits a page as a browser does, keeping the cookie it is given.
func (s *clockedSite) get(path string) string {
	a := pass(s.handler, path, s.token)
	for _, c := range a.Cookies() {
		if c.Name == sessionCookie {
			s.token = c.Value
		}
	}
	return bodyOf(a)
}

// is visits a page and checks its body.
func (s *clockedSite) is(what, path, want string) {
	s.t.Helper()
	if got := s.get(path); got != want {
		s.t.Errorf("%s: got %q; want %q", what, got, want)
	}
}

// clocked runs a test in a bubble.
func clocked(t *testing.T, options []session.Option, run func(s *clockedSite)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { run(newClockedSite(t, options...)) })
}

// Without options: 30 min unused, and 24 h however much it is used. Red without either
// in Visit.life.
func TestOWASP_idleTimeout_ASVS7_3_1(t *testing.T) {
	t.Parallel()
	for _, way := range []string{scsLogin, weirLogin} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			clocked(t, nil, func(s *clockedSite) {
				s.get("/enter?user=alice&way=" + way)
				for _, unused := range []time.Duration{29 * time.Minute, 27*time.Minute + time.Second, 29 * time.Minute} {
					time.Sleep(unused)
					s.is("in time", "/read", "user=alice")
				}
				// A request that does not look is no use of the session.
				time.Sleep(20 * time.Minute)
				s.is("untouched", "/untouched", "hello")
				time.Sleep(10 * time.Minute)
				s.is("unused for 30 min", "/read", "user=")
				s.is("what was in it", "/get?key=user", "")
			})
		})
	}
}

func TestOWASP_absoluteTimeout_ASVS7_3_2(t *testing.T) {
	t.Parallel()
	for _, way := range []string{scsLogin, weirLogin} {
		for name, options := range map[string][]session.Option{
			"default":     nil,
			"WithRenewal": {session.WithRenewal(time.Hour)},
		} {
			t.Run(way+"/"+name, func(t *testing.T) {
				t.Parallel()
				clocked(t, options, func(s *clockedSite) {
					s.get("/enter?user=alice&way=" + way)
					began := time.Now()
					for time.Since(began) < 24*time.Hour-20*time.Minute {
						time.Sleep(10 * time.Minute)
						s.is(fmt.Sprint("after ", time.Since(began)), "/read", "user=alice")
						s.is("a change", "/put?key=n&value="+fmt.Sprint(time.Since(began).Minutes()), "put")
					}
					time.Sleep(time.Until(began.Add(24*time.Hour - time.Millisecond)))
					s.is("at the last moment", "/read", "user=alice")
					time.Sleep(2 * time.Millisecond)
					s.is("after 24 h", "/read", "user=")
					if keys := s.rdb.Keys(s.t.Context(), "scs:session:*").Val(); len(keys) > 0 {
						s.t.Errorf("keys: got %q; want none", keys)
					}
				})
			})
		}
	}
}

// What the client sends does not lengthen a session: not more cookies, not other
// pages, not the old token. The absolute deadline holds also if Redis has lost the
// key's expiry. Red without the check of the deadline in Visit.enter.
func TestOWASP_timeouts_notExtendableByTheClient(t *testing.T) {
	t.Parallel()
	clocked(t, []session.Option{session.WithLifetime(time.Hour)}, func(s *clockedSite) {
		s.get("/enter?user=alice&way=" + scsLogin)
		token := s.token
		s.rdb.Persist(s.t.Context(), sessionKey(token))
		for range 6 {
			time.Sleep(9 * time.Minute)
			s.is("in time", "/read", "user=alice")
			if left := s.rdb.PTTL(s.t.Context(), sessionKey(token)).Val(); left <= 0 || left > 30*time.Minute {
				s.t.Errorf("time left: got %v; want the idle timeout", left)
			}
			s.rdb.Persist(s.t.Context(), sessionKey(token))
		}
		time.Sleep(6 * time.Minute)
		s.is("after 1 h", "/read", "user=")
		for range 3 { // the browser has kept the cookie
			s.token = token
			s.is("again", "/read", "user=")
			if got := s.get("/put?key=a&value=b"); got != "put" || s.token == token {
				s.t.Errorf("put: got %q and the token %q; want another token", got, s.token)
			}
		}
	})
}

// WithRememberMe: those who asked have timeouts of their own, from then on, and until
// they ask no longer. A browser's cookie ends with the session.
func TestOWASP_rememberMe_timeouts(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	options := []session.Option{session.WithRememberMe(10*day, 30*day)}
	clocked(t, options, func(s *clockedSite) {
		s.get("/enter?user=alice&way=" + scsLogin)
		time.Sleep(31 * time.Minute)
		s.is("not asked", "/read", "user=")

		s.get("/enter?user=alice&way=" + scsLogin)
		a := pass(s.handler, "/remember?on=1", s.token)
		if c := a.Cookies(); len(c) != 1 || c[0].MaxAge < int(30*day/time.Second)-1 || c[0].MaxAge > int(30*day/time.Second)+1 {
			s.t.Errorf("asked: got %v; want the cookie for 30 days", c)
		}
		began := time.Now()
		for range 3 {
			time.Sleep(9 * day)
			s.is("asked, unused for 9 days", "/read", "user=alice")
		}
		time.Sleep(time.Until(began.Add(30*day + time.Second)))
		s.is("asked, 30 days later", "/read", "user=")

		s.get("/enter?user=alice&way=" + scsLogin)
		s.get("/remember?on=1")
		time.Sleep(10*day + time.Second)
		s.is("asked, unused for 10 days", "/read", "user=")

		s.get("/enter?user=alice&way=" + scsLogin)
		s.get("/remember?on=1")
		time.Sleep(2 * day)
		s.get("/remember")
		time.Sleep(29 * time.Minute)
		s.is("asked no longer", "/read", "user=alice")
		time.Sleep(31 * time.Minute)
		s.is("asked no longer, unused", "/read", "user=")
	})
}

// A token that is old enough is renewed at the next look: the new one leads to the same
// session, and the old one, for 30 s, to the same new one; then it is dead. Red
// without the case of moved in Visit.enter.
func TestOWASP_renewalTimeout(t *testing.T) {
	t.Parallel()
	for _, way := range []string{scsLogin, weirLogin} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			clocked(t, []session.Option{session.WithRenewal(15 * time.Minute)}, func(s *clockedSite) {
				s.get("/enter?user=alice&way=" + way)
				s.get("/put?key=cart&value=3")
				first := s.token
				time.Sleep(14 * time.Minute)
				s.is("too early", "/read", "user=alice")
				if s.token != first {
					s.t.Error("too early: got another token")
				}
				time.Sleep(time.Minute)
				s.is("untouched", "/untouched", "hello")
				if s.token != first {
					s.t.Error("untouched: got another token")
				}
				s.is("in time", "/read", "user=alice")
				second := s.token
				if second == first {
					s.t.Fatal("in time: got the same token; want another")
				}
				// The answer was lost: the browser keeps the old cookie.
				for range 3 {
					time.Sleep(9 * time.Second)
					s.token = first
					s.is("lost answer", "/get?key=cart", "3")
					if s.token != second {
						s.t.Errorf("lost answer: got the token %q; want the second again", s.token)
					}
					s.token = first
					s.is("lost answer", "/put?key=cart&value=3", "put")
					if s.token != second {
						s.t.Errorf("lost answer, a change: got the token %q; want the second again", s.token)
					}
				}
				time.Sleep(4 * time.Second)
				s.token = first
				s.is("after the grace period", "/read", "user=")
				s.token = second
				s.is("the new one", "/read", "user=alice")
				if s.token != second {
					s.t.Error("the new one: got a third; want it when it is old")
				}
				time.Sleep(16 * time.Minute)
				s.is("the next time", "/read", "user=alice")
				if s.token == second {
					s.t.Error("the next time: got the same token; want a third")
				}
				// A logout by the old token in its grace period ends the session.
				third := s.token
				s.token = second
				s.is("logout by the old one", "/logout", "bye")
				s.token = third
				s.is("after it", "/read", "user=")
			})
		})
	}
}

// While an old token is renewed, 20 requests come with it at once: all see the session,
// and are given one new token. Red when derive takes something of its own.
func TestOWASP_renewalTimeout_parallel(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		bothProtocols(t, func(t *testing.T, http2 bool) {
			rdb := testkit.Shared(t, "server").Client(t)
			m := newSessions(t, rdb, session.WithRenewal(time.Minute))
			site := serveSite(t, http2, middleware.Session(m)(sessionApp(m, enterPage(m))))
			user := fmt.Sprint("alice", http2)
			old := site.enter(way, user, "")
			ageToken(t, rdb, old)
			var mu sync.Mutex
			given := make(map[string]int)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					path, want := "/read", "user="+user
					if i%2 == 1 {
						path, want = fmt.Sprintf("/put?key=k%d&value=v", i), "put"
					}
					a, err := site.tryWith(t.Context(), path, sessionCookie+"="+old)
					if err != nil || a.StatusCode != 200 || a.body != want {
						t.Errorf("%s: got %v %q, %v; want %q", path, a.Response, a.body, err, want)
					}
					mu.Lock()
					given[a.token]++
					mu.Unlock()
				})
			}
			wg.Wait()
			if len(given) != 1 || given[""] > 0 || given[old] > 0 {
				t.Fatalf("tokens: got %v; want one new one, 20 times", given)
			}
			for token := range given {
				site.visit("/read", token).is(t, 200, "user="+user)
				for i := 1; i < 20; i += 2 {
					site.visit(fmt.Sprintf("/get?key=k%d", i), token).is(t, 200, "v")
				}
			}
			if isStored(t, rdb, old) {
				t.Error("the session is stored under the old token, too")
			}
		})
	})
}

// A renewal's cookie must arrive: nothing is renewed when the header has left, or by a
// 101, after which nobody reads cookies for sure. Red without KeepToken.
func TestOWASP_renewalTimeout_streamsAndUpgrades(t *testing.T) {
	t.Parallel()
	clocked(t, []session.Option{session.WithRenewal(15 * time.Minute)}, func(s *clockedSite) {
		s.get("/enter?user=alice&way=" + scsLogin)
		first := s.token
		time.Sleep(20 * time.Minute)
		s.get("/upgrade")
		s.is("late", "/late", "begun ")
		if s.token != first {
			s.t.Error("got another token")
		}
		time.Sleep(time.Minute) // longer than a grace period
		s.token = first
		s.is("the upgrade's change", "/get?key=upgraded", "yes")
		s.is("the late change", "/get?key=late", "yes")
		second := s.token
		if second == first {
			s.t.Error("the next look renewed nothing")
		}
		// A stream that looks first is renewed by its header, and not once more at its
		// end, long after the token is due again.
		time.Sleep(20 * time.Minute)
		s.get("/stream")
		third := s.token
		if third == second {
			s.t.Error("the stream: got the same token; want another in its header")
		}
		a := pass(s.handler, "/get?key=streamed", third)
		if got := bodyOf(a); got != "yes" {
			s.t.Errorf("the stream's late change: got %q; want it saved", got)
		}
	})
}

// No key is without expiry, whatever a request does that begins before a session's end
// and commits behind it; goredisstore's are, for ever. Red when ms lets 0 through, and
// without the checks of life.
func TestASVS7_3_2_noImmortalSessions(t *testing.T) {
	t.Parallel()
	deeds := map[string]func(m *session.Manager, r *http.Request){
		"puts":      func(m *session.Manager, r *http.Request) { m.Put(r.Context(), "late", true) },
		"reads":     func(m *session.Manager, r *http.Request) { m.GetString(r.Context(), "user") },
		"renews":    func(m *session.Manager, r *http.Request) { m.RenewToken(r.Context()) },
		"remembers": func(m *session.Manager, r *http.Request) { m.RememberMe(r.Context(), true) },
		"updates": func(m *session.Manager, r *http.Request) {
			m.Update(r.Context(), "late", func(any) any { return true })
		},
		"commits": func(m *session.Manager, r *http.Request) {
			m.Put(r.Context(), "late", true)
			m.Commit(r.Context())
		},
		"commits by scs": func(m *session.Manager, r *http.Request) {
			m.Put(r.Context(), "late", true)
			m.SessionManager.Commit(r.Context())
		},
		"sets the deadline back": func(m *session.Manager, r *http.Request) { m.SetDeadline(r.Context(), time.Now().Add(-time.Hour)) },
		"sets it to nothing":     func(m *session.Manager, r *http.Request) { m.SetDeadline(r.Context(), time.Time{}) },
		"sets it to now":         func(m *session.Manager, r *http.Request) { m.SetDeadline(r.Context(), time.Now()) },
		"logs in":                func(m *session.Manager, r *http.Request) { m.Login(r.Context(), "alice") },
	}
	const life = 10 * time.Minute
	for deed, do := range deeds {
		for _, straddle := range []time.Duration{life - time.Millisecond, life - 500*time.Microsecond, life, life + time.Hour} {
			for _, persisted := range []bool{false, true} {
				clocked(t, []session.Option{session.WithLifetime(life)}, func(s *clockedSite) {
					handler := middleware.Session(s.m)(sessionApp(s.m, enterPage(s.m), handle("/slow", func(w http.ResponseWriter, r *http.Request) {
						s.m.GetString(r.Context(), "user")
						time.Sleep(straddle)
						do(s.m, r)
					})))
					s.get("/enter?user=alice&way=" + scsLogin)
					if persisted {
						s.rdb.Persist(s.t.Context(), sessionKey(s.token))
					}
					a := pass(handler, "/slow", s.token)
					what := fmt.Sprintf("one that %s after %v, expiry lost: %v", deed, straddle, persisted)
					if a.StatusCode != 200 {
						s.t.Errorf("%s: got %s", what, a.Status)
					}
					for _, key := range s.rdb.Keys(s.t.Context(), "*").Val() {
						if ttl := s.rdb.PTTL(s.t.Context(), key).Val(); ttl < 0 && key != sessionKey(s.token) {
							s.t.Errorf("%s: %s: got no expiry", what, key)
						}
					}
					renews := slices.Contains([]string{"renews", "logs in"}, deed)
					if renews { // meant to begin anew, before the end at least
						return
					}
					time.Sleep(life + time.Second)
					if got := bodyOf(pass(handler, "/read", s.token)); got != "user=" {
						s.t.Errorf("%s: got %q; want a dead session", what, got)
					}
				})
			}
		}
	}
}

// An extended deadline is kept, and by nobody but the handler.
func TestASVS7_3_2_setDeadline(t *testing.T) {
	t.Parallel()
	clocked(t, []session.Option{session.WithLifetime(time.Hour)}, func(s *clockedSite) {
		handler := middleware.Session(s.m)(sessionApp(s.m, enterPage(s.m), handle("/until", func(w http.ResponseWriter, r *http.Request) {
			d, _ := time.ParseDuration(r.FormValue("d"))
			s.m.SetDeadline(r.Context(), time.Now().Add(d))
		})))
		s.handler = handler
		s.get("/enter?user=alice&way=" + scsLogin)
		s.get("/until?d=3h")
		for range 7 {
			time.Sleep(25 * time.Minute)
			s.is("before it", "/read", "user=alice")
		}
		time.Sleep(6 * time.Minute)
		s.is("behind it", "/read", "user=")
		s.get("/enter?user=alice&way=" + scsLogin)
		s.get("/until?d=5m")
		time.Sleep(5*time.Minute + time.Millisecond)
		s.is("a shorter one", "/read", "user=")
	})
}
