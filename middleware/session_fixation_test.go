package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// An attacker begins a session, has the victim use its token, and waits. After the
// victim's login the old token is an anonymous visitor's: not elevated, unable to
// write, without a cookie; and what was in the cart is in the victim's. Red when
// Visit.rotate leaves no mark, and when v.over does not count in Visit.save.
func TestOWASP_sessionFixation_attackersOwnSession_ASVS7_2_4(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		bothProtocols(t, func(t *testing.T, http2 bool) {
			rdb := testkit.Mini(t).Client(t)
			m := newSessions(t, rdb)
			site := serveSite(t, http2, middleware.Session(m)(sessionApp(m, enterPage(m),
				handle("/saves", func(w http.ResponseWriter, r *http.Request) {
					m.Put(r.Context(), "cart", "stolen")
					_, _, err := m.Commit(r.Context())
					fmt.Fprint(w, err == nil)
				}),
				handle("/updates", func(w http.ResponseWriter, r *http.Request) {
					fmt.Fprint(w, m.Update(r.Context(), "cart", func(any) any { return "stolen" }) == nil)
				}),
				handle("/remembers", func(w http.ResponseWriter, r *http.Request) {
					m.RememberMe(r.Context(), true)
					m.SetDeadline(r.Context(), time.Now().Add(48*time.Hour))
				}),
			)))
			attackers := site.visit("/put?key=cart&value=3", "").token
			victims := site.enter(way, "alice", attackers)
			if got := commonTail(attackers, victims); got > 8 {
				t.Errorf("tokens %q and %q have %d characters in common", attackers, victims, got)
			}
			for _, path := range []string{
				"/read", "/get?key=cart", "/put?key=cart&value=stolen", "/put?key=user&value=alice",
				"/saves", "/updates", "/remembers", "/read", "/get?key=cart",
			} {
				a := site.visit(path, attackers)
				if a.StatusCode != 200 || a.set || !slices.Contains([]string{"user=", "", "put", "false"}, a.body) {
					t.Errorf("%s by the old token: got %s %q, cookies %q; want an anonymous visitor who gets none",
						path, a.Status, a.body, a.Header.Values("Set-Cookie"))
				}
			}
			if isStored(t, rdb, attackers) {
				t.Error("the old token's session is there")
			}
			site.visit("/read", victims).is(t, 200, "user=alice")
			site.visit("/get?key=cart", victims).is(t, 200, "3")

			// The attacker logs in as themselves with it: to a session of their own.
			own := site.enter(way, "mallory", attackers)
			site.visit("/read", own).is(t, 200, "user=mallory")
			site.visit("/get?key=cart", own).is(t, 200, "")
			site.visit("/read", victims).is(t, 200, "user=alice")
			site.visit("/read", attackers).is(t, 200, "user=")
		})
	})
}

// commonTail is how many of the last characters two tokens share.
func commonTail(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// The same with the attacker's request under way during the login: it has loaded the
// session before and acts on it afterwards, in whatever way. Red without the version
// in swap.lua.
func TestOWASP_sessionFixation_requestUnderWay_ASVS7_2_4(t *testing.T) {
	t.Parallel()
	deeds := map[string]func(m *session.Manager, r *http.Request) error{
		"puts":  func(m *session.Manager, r *http.Request) error { m.Put(r.Context(), "cart", "stolen"); return nil },
		"reads": func(m *session.Manager, r *http.Request) error { m.Get(r.Context(), "cart"); return nil },
		"updates": func(m *session.Manager, r *http.Request) error {
			return m.Update(r.Context(), "cart", func(any) any { return "stolen" })
		},
		"saves": func(m *session.Manager, r *http.Request) error {
			m.Put(r.Context(), "cart", "stolen")
			_, _, err := m.Commit(r.Context())
			return err
		},
		"renews": func(m *session.Manager, r *http.Request) error { return m.RenewToken(r.Context()) },
		"renews twice": func(m *session.Manager, r *http.Request) error {
			m.RenewToken(r.Context())
			return m.RenewToken(r.Context())
		},
		"logs in": func(m *session.Manager, r *http.Request) error { return m.Login(r.Context(), "alice") },
		"lengthens": func(m *session.Manager, r *http.Request) error {
			m.SetDeadline(r.Context(), time.Now().Add(48*time.Hour))
			return nil
		},
	}
	bothLogins(t, func(t *testing.T, way string) {
		rdb := testkit.Mini(t).Client(t)
		m := newSessions(t, rdb)
		looked, release := make(chan struct{}), make(chan struct{})
		site := newSessionSite(t, m, enterPage(m), handle("/slow", func(w http.ResponseWriter, r *http.Request) {
			m.Get(r.Context(), "cart")
			looked <- struct{}{}
			<-release
			err := deeds[r.FormValue("deed")](m, r)
			fmt.Fprint(w, m.User(r.Context()), err != nil)
		}))
		for deed := range deeds {
			attackers := site.visit("/put?key=cart&value=3", "").token
			done := make(chan sessionAnswer)
			go func() {
				a, err := site.tryWith(t.Context(), "/slow?deed="+urlEscape(deed), sessionCookie+"="+attackers)
				if err != nil {
					t.Errorf("%s: %v", deed, err)
				}
				done <- a
			}()
			<-looked
			victims := site.enter(way, "alice", attackers)
			release <- struct{}{}
			a := <-done
			if a.set || a.body != "true" && a.body != "false" {
				t.Errorf("one that %s: got %q, cookies %q; want no user and no cookie", deed, a.body, a.Header.Values("Set-Cookie"))
			}
			site.visit("/read", attackers).is(t, 200, "user=")
			site.visit("/get?key=cart", attackers).is(t, 200, "")
			site.visit("/read", victims).is(t, 200, "user=alice")
			site.visit("/get?key=cart", victims).is(t, 200, "3")
			if isStored(t, rdb, attackers) {
				t.Errorf("one that %s: the old token's session is there", deed)
			}
		}
	})
}

func urlEscape(s string) string {
	b := []byte(s)
	for i := range b {
		if b[i] == ' ' {
			b[i] = '+'
		}
	}
	return string(b)
}

// The grace period is 30 s: in it a visitor who comes with the old token can store
// nothing, behind it they begin a session as anybody, under a token of their own. The
// old one is dead in either case. It also ends for a mark: Redis keeps none for ever.
func TestOWASP_sessionFixation_gracePeriod(t *testing.T) {
	t.Parallel()
	for _, way := range []string{scsLogin, weirLogin} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rdb := testkit.Memory(t).Client(t)
				m := newSessions(t, rdb)
				site := middleware.Session(m)(sessionApp(m, enterPage(m)))
				old := pass(site, "/put?key=cart&value=3", "").Cookies()[0].Value
				pass(site, "/enter?user=alice&way="+way, old)
				ttl := rdb.PTTL(t.Context(), sessionKey(old)).Val()
				if ttl < 29*time.Second || ttl > time.Minute {
					t.Errorf("the mark: got %v to live; want 30 s", ttl)
				}
				time.Sleep(ttl - time.Millisecond) // the bubble's clock
				if a := pass(site, "/put?key=a&value=b", old); len(a.Cookies()) != 0 {
					t.Errorf("in the grace period: got %v; want no cookie", a.Cookies())
				}
				time.Sleep(2 * time.Millisecond)
				if rdb.Exists(t.Context(), sessionKey(old)).Val() != 0 {
					t.Error("the mark is still there")
				}
				if got := bodyOf(pass(site, "/read", old)); got != "user=" {
					t.Errorf("behind it: got %q; want nobody", got)
				}
				a := pass(site, "/put?key=a&value=b", old)
				if len(a.Cookies()) != 1 || a.Cookies()[0].Value == old {
					t.Errorf("behind it: got %v; want a token of their own", a.Cookies())
				}
			})
		})
	}
}

// A change of privilege of who is logged in: another token, bound as before, listed
// once, under the same id; the old one is dead. Red without rebind in Visit.rotate.
func TestOWASP_renewalAfterPrivilegeChange_ASVS7_2_4(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rdb := testkit.Mini(t).Client(t)
	m := newSessions(t, rdb)
	site := newSessionSite(t, m, enterPage(m),
		handle("/sudo", func(w http.ResponseWriter, r *http.Request) {
			if err := m.RenewToken(r.Context()); err != nil {
				t.Error(err)
			}
			m.Put(r.Context(), "sudo", "yes")
			fmt.Fprint(w, m.User(r.Context()), " ", m.ID(r.Context()))
		}),
		handle("/who", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, m.User(r.Context()), " ", m.ID(r.Context()))
		}),
	)
	first := site.enter(weirLogin, "alice", "")
	other := site.enter(weirLogin, "alice", "")
	who := site.visit("/who", first).body
	a := site.visit("/sudo", first)
	a.is(t, 200, who)
	second := a.token
	if second == "" || second == first || second[:43] == first[:43] {
		t.Fatalf("got the token %q after %q; want another", second, first)
	}
	site.visit("/who", second).is(t, 200, who)
	site.visit("/get?key=sudo", second).is(t, 200, "yes")
	for _, path := range []string{"/get?key=sudo", "/get?key=user"} {
		a := site.visit(path, first)
		a.is(t, 200, "")
		a.isSilent(t, path)
	}
	site.visit("/who", first).is(t, 200, " ")
	site.visit("/who", other).is(t, 200, "alice "+site.visit("/who", other).body[len("alice "):])

	infos, err := m.Sessions(ctx, "alice")
	if err != nil || len(infos) != 2 {
		t.Fatalf("sessions: got %v, %v; want two", infos, err)
	}
	id := who[len("alice "):]
	if n := countID(infos, id); n != 1 {
		t.Errorf("sessions: got the renewed one %d times; want once", n)
	}
	// It ends by the id that it had before.
	if ok, err := m.End(ctx, "alice", id); !ok || err != nil {
		t.Errorf("end: got %v, %v; want true", ok, err)
	}
	site.visit("/who", second).is(t, 200, " ")
	if isStored(t, rdb, second) {
		t.Error("the data of the ended session is there")
	}
	site.visit("/read", other).is(t, 200, "user=alice")
}

func countID(infos []session.Info, id string) (n int) {
	for _, i := range infos {
		if i.ID == id {
			n++
		}
	}
	return n
}

// Who logs in a second time, as the same or as another user, is not two: the old
// session ends, and is listed no more.
func TestOWASP_reauthentication_ASVS7_2_4(t *testing.T) {
	t.Parallel()
	for _, next := range []string{"alice", "bob"} {
		m := newSessions(t, testkit.Mini(t).Client(t))
		site := newSessionSite(t, m, enterPage(m), handle("/clean", func(w http.ResponseWriter, r *http.Request) {
			if err := m.Clear(r.Context()); err != nil {
				t.Error(err)
			}
			if err := m.Login(r.Context(), r.FormValue("user")); err != nil {
				t.Error(err)
			}
			m.Put(r.Context(), "user", r.FormValue("user"))
			io.WriteString(w, m.User(r.Context()))
		}))
		first := site.enter(weirLogin, "alice", "")
		site.visit("/put?key=secret&value=alices", first)
		a := site.visit("/clean?user="+next, first)
		a.is(t, 200, next)
		site.visit("/read", first).is(t, 200, "user=")
		site.visit("/read", a.token).is(t, 200, "user="+next)
		site.visit("/get?key=secret", a.token).is(t, 200, "") // Clear was called
		for _, user := range []string{"alice", "bob"} {
			infos, err := m.Sessions(t.Context(), user)
			if want := map[bool]int{true: 1}[user == next]; err != nil || len(infos) != want {
				t.Errorf("%s after %s: sessions of %s: got %v, %v; want %d", next, "alice", user, infos, err, want)
			}
		}
	}
}
