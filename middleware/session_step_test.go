package middleware_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// A stepper is a hook of go-redis that does something right before the n-th trip to
// Redis, counted from when it was armed.
type stepper struct {
	mu    sync.Mutex
	left  int
	do    func()
	trips int
}

func (s *stepper) arm(n int, do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left, s.do, s.trips = n, do, 0
}

func (s *stepper) step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trips++
	if s.left--; s.left == 0 {
		s.do()
	}
}

func (s *stepper) taken() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trips
}

func (s *stepper) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *stepper) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.step()
		return next(ctx, cmd)
	}
}

func (s *stepper) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.step()
		return next(ctx, cmds)
	}
}

// A brokenSite is a site whose Redis breaks at any step of a request.
type brokenSite struct {
	*sessionSite
	m    *session.Manager
	p    *testkit.Proxy
	rdb  redis.UniversalClient // past the proxy
	step *stepper
}

func newBrokenSite(t *testing.T, options ...session.Option) *brokenSite {
	b := testkit.Shared(t, "server")
	s := &brokenSite{p: testkit.NewProxy(t, b.Addrs()[0]), rdb: b.Client(t), step: new(stepper)}
	client := s.p.Client(t)
	client.AddHook(s.step)
	s.m = newSessions(t, client, append([]session.Option{session.WithTimeout(outageBudget)}, options...)...)
	s.sessionSite = newSessionSite(t, s.m, enterPage(s.m), handle("/bind", func(w http.ResponseWriter, r *http.Request) {
		if err := s.m.Login(r.Context(), r.FormValue("user")); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	}))
	return s
}

// ready heals, and waits until requests pass again.
func (s *brokenSite) ready() {
	s.t.Helper()
	s.step.arm(0, nil)
	s.p.Heal()
	testkit.Eventually(s.t, "recovery", func() bool {
		a := s.visit("/put?key=warm&value=up", "")
		return a.token != "" && s.visit("/put?key=warm&value=again", a.token).StatusCode == 200 &&
			s.visit("/login?user=warm", a.token).token != ""
	})
}

// enters logs in, whatever it takes.
func (s *brokenSite) enters(way, user, token string) (fresh string) {
	s.t.Helper()
	testkit.Eventually(s.t, "a login", func() bool {
		fresh = s.visit("/enter?way="+way+"&user="+user, token).token
		return fresh != ""
	})
	return fresh
}

// breaks are ways in which a trip to Redis fails, or seems to.
var breaks = map[string]func(p *testkit.Proxy){
	"hung":       (*testkit.Proxy).Hang,
	"refused":    func(p *testkit.Proxy) { p.Refuse(); p.Cut() },
	"reply lost": func(p *testkit.Proxy) { p.SwallowReply(1, "", testkit.ThenClose) },
}

// A renewing is a page that gives a visitor a new token.
type renewing struct {
	name, page string
	bound      bool // whether the visitor is logged in by Login
	old        bool // whether the token is to be renewed for its age
}

// At each step of a login or renewal Redis falls silent, refuses connections, or takes
// a command and loses its reply once. Either the new token is delivered, or the old
// session is as it was: nothing is lost. scs deletes the old one first. Red when
// Visit.rotate or Visit.login marks before it creates.
func TestOWASP_renewal_failsAtEachStep(t *testing.T) {
	t.Parallel()
	for _, c := range []renewing{
		{"a login", "/enter?way=RenewToken&user=alice", false, false},
		{"a bound login", "/bind?user=alice", false, false},
		{"a renewal", "/read", false, true},
		{"a bound renewal", "/read", true, true},
	} {
		c.failsAtEachStep(t)
	}
}

func (c renewing) failsAtEachStep(t *testing.T) {
	for name, strike := range breaks {
		t.Run(name+"/"+c.name, func(t *testing.T) {
			t.Parallel()
			s := newBrokenSite(t, session.WithRenewal(time.Minute))
			s.ready()
			visitor := func(n int) string {
				token := s.visitorWithCart(c.bound, fmt.Sprint(t.Name(), n))
				if c.old {
					ageToken(t, s.rdb, token)
				}
				return token
			}
			for n := 1; n <= s.steps(c.page, visitor(0)); n++ {
				token := visitor(n)
				s.step.arm(n, func() { strike(s.p) })
				a := s.visit(c.page, token)
				what := fmt.Sprintf("at step %d, after %s", n, a.Status)
				if a.set && a.token == "" {
					t.Errorf("%s: the cookie was cleared", what)
				}
				// 403 is the page's own, which Login has told.
				if a.StatusCode >= 400 && a.StatusCode != 503 && a.StatusCode != 403 {
					t.Errorf("%s: got another refusal", what)
				}
				s.ready()
				now := token
				if a.token != "" {
					now = a.token
				}
				if got := s.visit("/get?key=cart", now).body; got != "3" {
					t.Errorf("%s, with a cookie %v: got the cart %q; want 3", what, a.set, got)
				}
				if now == token {
					continue
				}
				// The old one is dead, or leads to the new one.
				want := map[bool]string{true: "3"}[c.old]
				if got := s.visit("/get?key=cart", token).body; got != want {
					t.Errorf("%s: the old token beside the new one: got the cart %q; want %q", what, got, want)
				}
			}
		})
	}
}

// steps is how many trips to Redis a page takes when nothing breaks. It is to be asked
// for a token that is then done with.
func (s *brokenSite) steps(page, token string) int {
	s.t.Helper()
	s.step.arm(0, nil)
	if a := s.visit(page, token); a.StatusCode >= 400 {
		s.t.Fatalf("%s, with nothing broken: got %s %q", page, a.Status, a.body)
	}
	n := s.step.taken()
	if n == 0 {
		s.t.Fatalf("%s: got no trip to Redis", page)
	}
	return n
}

// visitorWithCart is a visitor's token, bound to a user or not.
func (s *brokenSite) visitorWithCart(bound bool, user string) (token string) {
	s.t.Helper()
	path := "/put?key=cart&value=3"
	if bound {
		token = s.enters(weirLogin, user, "")
	}
	testkit.Eventually(s.t, "a cart", func() bool {
		a := s.visit(path, token)
		if a.token != "" {
			token = a.token
		}
		return a.StatusCode == 200 && token != ""
	})
	return token
}

// A logout that cannot be confirmed is no logout: 503, the cookie stays, and the
// visitor can try again. One whose reply was lost is one.
func TestOWASP_logout_failsAtEachStep(t *testing.T) {
	t.Parallel()
	for _, way := range []string{scsLogin, weirLogin} {
		for name, strike := range breaks {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				s := newBrokenSite(t)
				s.ready()
				for n := 1; n <= s.steps("/logout", s.enters(way, t.Name(), "")); n++ {
					token := s.enters(way, fmt.Sprint(t.Name(), n), "")
					s.step.arm(n, func() { strike(s.p) })
					a := s.visit("/logout", token)
					switch {
					case a.StatusCode == 200 && a.set && a.token == "":
						s.ready()
						s.visit("/read", token).is(t, 200, "user=")
					case a.StatusCode >= 500 && !a.set: // 500 is the page's own, which Destroy has told
						s.ready()
						testkit.Eventually(t, "a second try", func() bool { return s.visit("/logout", token).StatusCode == 200 })
						s.visit("/read", token).is(t, 200, "user=")
					default:
						t.Errorf("at step %d: got %s, cookies %q; want a logout, or neither", n, a.Status, a.Header.Values("Set-Cookie"))
						s.ready()
					}
				}
			})
		}
	}
}

// "Log out everywhere" is done once the index is told, whatever then fails: from that
// step on all of the user's sessions are dead, and before it all are alive; never some.
// Red when Manager.find does not ask the index.
func TestASVS7_4_3_endAllFailsAtEachStep(t *testing.T) {
	t.Parallel()
	for name, strike := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newBrokenSite(t)
			s.ready()
			for n := 1; n <= 3; n++ {
				user := fmt.Sprint(t.Name(), n)
				tokens := []string{s.enters(weirLogin, user, ""), s.enters(weirLogin, user, ""), s.enters(weirLogin, user, "")}
				s.step.arm(n, func() { strike(s.p) })
				err := s.m.EndAll(t.Context(), user)
				s.ready()
				var alive int
				for _, token := range tokens {
					if s.visit("/read", token).body == "user="+user {
						alive++
					}
				}
				if want := map[bool]int{true: 3}[n == 1 && err != nil]; alive != want {
					t.Errorf("at step %d, after %v: got %d alive; want %d", n, err, alive, want)
				}
				testkit.Eventually(t, "a second try", func() bool { return s.m.EndAll(t.Context(), user) == nil })
				s.alive("after a second try", user, tokens, false, false, false)
			}
		})
	}
}

// A write lost on the way is told, and one that was made is not told as lost: at each
// step of a change the answer is either the handler's, and the change is there, or a
// 503 with nothing of the handler's.
func TestSession_changeFailsAtEachStep(t *testing.T) {
	t.Parallel()
	for name, strike := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newBrokenSite(t)
			s.ready()
			for n := 1; n <= s.steps("/put?key=a&value=b", s.enters(scsLogin, "alice", "")); n++ {
				token := s.enters(scsLogin, "alice", "")
				s.step.arm(n, func() { strike(s.p) })
				a := s.visit("/put?key=a&value=b", token)
				if a.StatusCode == 200 {
					a.is(t, 200, "put")
					s.ready()
					s.visit("/get?key=a", token).is(t, 200, "b")
				} else {
					a.isRefusal(t, 503, "put")
					s.ready()
				}
				testkit.Eventually(t, "alice", func() bool { return s.visit("/read", token).body == "user=alice" })
			}
		})
	}
}

// The client closes the connection while the handler runs: what the handler has then
// changed is there, by a connection that is really closed. Red without
// context.WithoutCancel in Visit.lasting.
func TestSession_clientClosesConnection(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		m := newSessions(t, testkit.Shared(t, "server").Client(t))
		looked := make(chan string, 1)
		done := make(chan error, 1)
		site := newSessionSite(t, m, enterPage(m), handle("/slow", func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			m.Get(ctx, "user")
			looked <- ""
			<-ctx.Done()
			var err error
			switch r.FormValue("do") {
			case "put":
				m.Put(ctx, "paid", "yes")
			case "renew":
				err = m.RenewToken(ctx)
				m.Put(ctx, "paid", "yes")
			case "commit":
				m.Put(ctx, "paid", "yes")
				_, _, err = m.Commit(ctx)
			case "update":
				err = m.Update(ctx, "paid", func(any) any { return "yes" })
			case "login":
				err = m.Login(ctx, "alice")
			case "logout":
				err = m.Destroy(ctx)
			}
			io.WriteString(w, "nobody reads this")
			done <- err
		}))
		for do, paid := range map[string]string{"put": "yes", "commit": "yes", "update": "yes", "renew": "", "login": "", "logout": ""} {
			token := site.enter(way, "bob", "")
			conn := site.dial()
			if _, err := fmt.Fprintf(conn, "GET /slow?do=%s HTTP/1.1\r\nHost: x\r\nCookie: %s=%s\r\n\r\n", do, sessionCookie, token); err != nil {
				t.Fatal(err)
			}
			<-looked
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			if err := <-done; err != nil {
				t.Errorf("%s: %v", do, err)
			}
			if paid == "yes" {
				testkit.Eventually(t, do, func() bool { return site.visit("/get?key=paid", token).body == paid })
				continue
			}
			// The old token is dead though the new one was never delivered: who renews
			// asks for just that.
			testkit.Eventually(t, do, func() bool { return site.visit("/read", token).body == "user=" })
		}
	})
}
