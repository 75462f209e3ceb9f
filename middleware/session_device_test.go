package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// accountPages are those by which a user sees and ends sessions.
func accountPages(m *session.Manager) func(*http.ServeMux) {
	return func(mux *http.ServeMux) {
		enterPage(m)(mux)
		mux.HandleFunc("/list", func(w http.ResponseWriter, r *http.Request) {
			infos, err := m.Sessions(r.Context(), m.User(r.Context()))
			if err != nil {
				http.Error(w, err.Error(), 500)
				return
			}
			for _, i := range infos {
				fmt.Fprintln(w, i.ID, i.Current)
			}
		})
		mux.HandleFunc("/id", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, m.ID(r.Context())) })
		mux.HandleFunc("/end", func(w http.ResponseWriter, r *http.Request) {
			ok, err := m.End(r.Context(), m.User(r.Context()), r.FormValue("id"))
			fmt.Fprint(w, ok, err)
		})
		mux.HandleFunc("/others", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, m.EndOthers(r.Context())) })
		mux.HandleFunc("/all", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, m.EndAll(r.Context(), m.User(r.Context())))
		})
	}
}

// alive checks which of a user's tokens are logged in.
func (s *sessionSite) alive(what, user string, tokens []string, want ...bool) {
	s.t.Helper()
	for i, token := range tokens {
		if got := s.visit("/read", token).body == "user="+user; got != want[i] {
			s.t.Errorf("%s: session %d: got alive %v; want %v", what, i, got, want[i])
		}
	}
}

// enterAgain logs a user in whose sessions have all been ended just now: for as long as
// the budget lasts it is taken for a login that was under way then.
func (s *sessionSite) enterAgain(user string) (token string) {
	s.t.Helper()
	testkit.Eventually(s.t, "a login", func() bool {
		token = s.visit("/enter?way=Login&user="+user, "").token
		return token != ""
	})
	return token
}

// Users see their sessions, and end one of them, the others, or all; from the answer on
// the tokens are dead, and nobody else's are. Red without index.present in Manager.find.
func TestOWASP_simultaneousSessions_ASVS7_5_2_ASVS7_4_3(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		rdb := testkit.Mini(t).Client(t)
		m := newSessions(t, rdb, session.WithTimeout(outageBudget))
		app := sessionApp(m, accountPages(m))
		site := serveSite(t, http2, middleware.Session(m)(app))
		var tokens, ids []string
		for range 4 {
			token := site.enter(weirLogin, "alice", "")
			tokens, ids = append(tokens, token), append(ids, site.visit("/id", token).body)
		}
		bobs := site.enter(weirLogin, "bob", "")
		bobsID := site.visit("/id", bobs).body

		listed := func(token string) (all, current []string) {
			for line := range strings.Lines(site.visit("/list", token).body) {
				id, isCurrent, _ := strings.Cut(strings.TrimSpace(line), " ")
				all = append(all, id)
				if isCurrent == "true" {
					current = append(current, id)
				}
			}
			return all, current
		}
		for i, token := range tokens {
			all, current := listed(token)
			if !slices.Equal(slices.Sorted(slices.Values(all)), slices.Sorted(slices.Values(ids))) || !slices.Equal(current, ids[i:i+1]) {
				t.Errorf("list of %d: got %q, current %q; want %q, %q", i, all, current, ids, ids[i])
			}
		}
		for _, id := range ids {
			for _, token := range tokens {
				if id == "" || strings.Contains(site.visit("/list", tokens[0]).body, token[:43]) {
					t.Fatal("the list tells a token, or no id")
				}
			}
			if a := site.visit("/read", id); a.body != "user=" {
				t.Errorf("the id %q as a token: got %q; want nobody", id, a.body)
			}
		}

		// One.
		site.visit("/end?id="+ids[1], tokens[0]).is(t, 200, "true <nil>")
		site.alive("one ended", "alice", tokens, true, false, true, true)
		site.visit("/end?id="+ids[1], tokens[0]).is(t, 200, "false <nil>")
		// Nobody else's, by whatever id.
		for _, id := range []string{bobsID, "", "*", ids[0] + " ", bobsID[:15], strings.Repeat("A", 16), "../" + bobsID, "bob:" + bobsID} {
			site.visit("/end?id="+strings.ReplaceAll(strings.ReplaceAll(id, " ", "+"), "*", "%2A"), tokens[0]).is(t, 200, "false <nil>")
		}
		site.alive("bob", "bob", []string{bobs}, true)
		// The others.
		a := site.visit("/others", tokens[2])
		a.is(t, 200, "<nil>")
		a.isSilent(t, "/others")
		site.alive("others ended", "alice", tokens, false, false, true, false)
		if all, _ := listed(tokens[2]); !slices.Equal(all, ids[2:3]) {
			t.Errorf("others ended: got %q; want %q", all, ids[2])
		}
		// One's own, by End.
		again := site.enterAgain("alice")
		a = site.visit("/end?id="+ids[2], tokens[2])
		a.is(t, 200, "true <nil>")
		if !a.set || a.token != "" {
			t.Errorf("one's own: got %q; want the cookie cleared", a.Header.Values("Set-Cookie"))
		}
		site.alive("own ended", "alice", append(tokens, again), false, false, false, false, true)
		// All.
		other := site.enterAgain("alice")
		a = site.visit("/all", again)
		a.is(t, 200, "<nil>")
		if !a.set || a.token != "" {
			t.Errorf("all: got %q; want the cookie cleared", a.Header.Values("Set-Cookie"))
		}
		site.alive("all ended", "alice", append(tokens, again, other), false, false, false, false, false, false)
		site.alive("bob", "bob", []string{bobs}, true)
		for _, token := range append(tokens, again, other) {
			if isStored(t, rdb, token) {
				t.Error("an ended session's data is in Redis")
			}
		}
		// Without a login there is nothing to end.
		site.visit("/others", "").is(t, 200, session.ErrNoUser.Error())
		site.visit("/others", site.login("alice")).is(t, 200, session.ErrNoUser.Error())
	})
}

// An administrator ends a user's sessions, or everybody's, and those of an account that
// is closed, from no session of their own.
func TestASVS7_4_2_ASVS7_4_5_administrators(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t), session.WithTimeout(outageBudget))
	site := newSessionSite(t, m, accountPages(m))
	ctx := t.Context()
	tokens := []string{site.enter(weirLogin, "alice", ""), site.enter(weirLogin, "alice", ""), site.enter(weirLogin, "alice", "")}
	bobs := site.enter(weirLogin, "bob", "")
	infos, err := m.Sessions(ctx, "alice")
	if err != nil || len(infos) != 3 {
		t.Fatalf("sessions: got %v, %v; want three", infos, err)
	}
	for _, info := range infos {
		if info.Current || info.IP != "127.0.0.1" || !strings.HasPrefix(info.Device, "Go-http-client") {
			t.Errorf("got %+v; want none current, by Go from here", info)
		}
		if since := time.Since(info.Created); since < -time.Minute || since > time.Minute || info.Seen.Before(info.Created) {
			t.Errorf("got created %v, seen %v; want just now", info.Created, info.Seen)
		}
	}
	if ok, err := m.End(ctx, "bob", infos[0].ID); ok || err != nil {
		t.Errorf("end under another's name: got %v, %v; want false", ok, err)
	}
	site.alive("nothing ended", "alice", tokens, true, true, true)
	if err := m.EndAll(ctx, "alice"); err != nil {
		t.Error(err)
	}
	site.alive("all ended", "alice", tokens, false, false, false)
	site.alive("bob", "bob", []string{bobs}, true)
	if infos, err := m.Sessions(ctx, "alice"); err != nil || len(infos) != 0 {
		t.Errorf("sessions: got %v, %v; want none", infos, err)
	}
	if err := m.EndAll(ctx, "nobody"); err != nil {
		t.Errorf("end all of who has none: %v", err)
	}
	if again := site.enterAgain("alice"); site.visit("/read", again).body != "user=alice" {
		t.Error("a login afterwards is dead")
	}
}

// Requests that are under way while all sessions of their user are ended: none of them
// brings one back, whatever it does, and none of them says so by a cookie.
func TestASVS7_4_3_endAllWhileRequestsAreUnderWay(t *testing.T) {
	t.Parallel()
	deeds := map[string]func(m *session.Manager, r *http.Request) error{
		"puts":   func(m *session.Manager, r *http.Request) error { m.Put(r.Context(), "a", "b"); return nil },
		"renews": func(m *session.Manager, r *http.Request) error { return m.RenewToken(r.Context()) },
		"commits": func(m *session.Manager, r *http.Request) error {
			m.Put(r.Context(), "a", "b")
			_, _, err := m.Commit(r.Context())
			return err
		},
		"updates": func(m *session.Manager, r *http.Request) error {
			return m.Update(r.Context(), "a", func(any) any { return "b" })
		},
		"logs in":     func(m *session.Manager, r *http.Request) error { return m.Login(r.Context(), "alice") },
		"remembers":   func(m *session.Manager, r *http.Request) error { m.RememberMe(r.Context(), true); return nil },
		"ends others": func(m *session.Manager, r *http.Request) error { return m.EndOthers(r.Context()) },
	}
	rdb := testkit.Mini(t).Client(t)
	m := newSessions(t, rdb, session.WithTimeout(outageBudget))
	looked, release := make(chan struct{}), make(chan struct{})
	site := newSessionSite(t, m, accountPages(m), handle("/slow", func(w http.ResponseWriter, r *http.Request) {
		m.Get(r.Context(), "user")
		looked <- struct{}{}
		<-release
		err := deeds[r.FormValue("deed")](m, r)
		fmt.Fprint(w, err != nil)
	}))
	for deed := range deeds {
		token := site.enterAgain("alice")
		done := make(chan sessionAnswer)
		go func() {
			a, err := site.tryWith(t.Context(), "/slow?deed="+urlEscape(deed), sessionCookie+"="+token)
			if err != nil {
				t.Errorf("%s: %v", deed, err)
			}
			done <- a
		}()
		<-looked
		if err := m.EndAll(t.Context(), "alice"); err != nil {
			t.Error(err)
		}
		release <- struct{}{}
		a := <-done
		if a.token != "" {
			t.Errorf("one that %s: got the token %q; want none", deed, a.token)
			site.visit("/read", a.token).is(t, 200, "user=")
		}
		site.visit("/read", token).is(t, 200, "user=")
		if infos, err := m.Sessions(t.Context(), "alice"); err != nil || len(infos) != 0 {
			t.Errorf("one that %s: sessions: got %v, %v; want none", deed, infos, err)
		}
	}
}

// A limit holds exactly under parallel logins, with either policy.
func TestOWASP_simultaneousSessions_limit(t *testing.T) {
	t.Parallel()
	for _, full := range []session.WhenFull{session.EvictOldest, session.RefuseNew} {
		t.Run(fmt.Sprint(full), func(t *testing.T) {
			t.Parallel()
			m := newSessions(t, testkit.Shared(t, "server").Client(t), session.WithMaxSessions(3, full))
			site := newSessionSite(t, m, accountPages(m))
			user := testkit.Shared(t, "server").Prefix(t)
			var mu sync.Mutex
			var tokens []string
			var refused int
			var wg sync.WaitGroup
			for range 24 {
				wg.Go(func() {
					a, err := site.tryWith(t.Context(), "/enter?way=Login&user="+user, "")
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil && a.token != "" && a.StatusCode == 200:
						tokens = append(tokens, a.token)
					case err == nil && a.StatusCode == 200 && full == session.EvictOldest:
						// Evicted before its answer had left.
					case err == nil && a.StatusCode == 403 && strings.Contains(a.body, session.ErrTooMany.Error()) && !a.set:
						refused++
					default:
						t.Errorf("login: got %v %q, %v", a.Response, a.body, err)
					}
				})
			}
			wg.Wait()
			var alive int
			for _, token := range tokens {
				if site.visit("/read", token).body == "user="+user {
					alive++
				}
			}
			infos, err := m.Sessions(t.Context(), user)
			if alive != 3 || err != nil || len(infos) != 3 {
				t.Errorf("got %d alive of %d, %d refused, listed %d, %v; want 3", alive, len(tokens), refused, len(infos), err)
			}
			if want := map[bool]int{true: 21}[full == session.RefuseNew]; refused != want {
				t.Errorf("refused: got %d; want %d", refused, want)
			}
		})
	}
}

// A login that is refused leaves the visitor who they were, with all they had, and for
// no longer.
func TestSession_refusedLogin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newClockedSite(t, session.WithMaxSessions(1, session.RefuseNew))
		s.get("/enter?way=Login&user=alice")
		alices := s.token
		s.token = ""
		s.get("/put?key=cart&value=3")
		began, guests := time.Now(), s.token
		for range 100 {
			time.Sleep(14 * time.Minute)
			s.token = alices
			if time.Since(began) < 23*time.Hour {
				s.is("alice", "/read", "user=alice")
			}
			s.token = guests
			got := s.get("/enter?way=Login&user=alice")
			if time.Since(began) >= 24*time.Hour {
				break
			}
			if time.Since(began) < 23*time.Hour && !strings.Contains(got, session.ErrTooMany.Error()) {
				t.Errorf("login: got %q; want ErrTooMany", got)
			}
			if s.token != guests {
				t.Fatalf("after %v: the visitor got another token", time.Since(began))
			}
			s.is("the cart", "/get?key=cart", "3")
		}
	})
}

// A session that has expired is listed for no longer than a tenth of the idle timeout,
// and its user's index does not stay for ever.
func TestOWASP_simultaneousSessions_expiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newClockedSite(t)
		s.get("/enter?way=Login&user=alice")
		first := s.token
		time.Sleep(20 * time.Minute)
		s.token = ""
		s.get("/enter?way=Login&user=alice")
		time.Sleep(15 * time.Minute) // the first has been unused for 35 min
		infos, err := s.m.Sessions(t.Context(), "alice")
		if err != nil || len(infos) != 1 {
			t.Errorf("sessions: got %v, %v; want the second alone", infos, err)
		}
		s.is("the second", "/read", "user=alice")
		second := s.token
		s.token = first
		s.is("the first", "/read", "user=")
		s.token = second
		for range 20 { // in use
			time.Sleep(25 * time.Minute)
			s.is("in use", "/read", "user=alice")
			if infos, err := s.m.Sessions(t.Context(), "alice"); err != nil || len(infos) != 1 || time.Since(infos[0].Seen) > 3*time.Minute+time.Second {
				t.Errorf("in use: got %+v, %v; want it seen just now", infos, err)
			}
		}
		time.Sleep(2 * time.Hour)
		if keys := s.rdb.Keys(t.Context(), "*").Val(); len(keys) > 0 {
			t.Errorf("keys: got %q; want none", keys)
		}
	})
}
