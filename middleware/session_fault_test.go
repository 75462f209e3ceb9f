package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// WithRenewal must not push back the absolute timeout of who is remembered. Red:
// Visit.remember(true) of Visit.renew sets the deadline anew each time.
func TestSession_renewalOfTheRemembered(t *testing.T) {
	t.Parallel()
	options := []session.Option{session.WithRememberMe(2*time.Hour, 10*time.Hour), session.WithRenewal(time.Hour)}
	clocked(t, options, func(s *clockedSite) {
		s.get("/login?user=alice&remember=1")
		for began := time.Now(); time.Since(began) < 10*time.Hour; time.Sleep(30 * time.Minute) {
			s.is("in time", "/read", "user=alice")
		}
		s.is("after 10 h", "/read", "user=")
	})
}

// A route of AnonymousFallback whose handler uses methods that return errors
// (Key.Get, Update, Login, Flash.Take) is answered, not cut off, and with no-store.
// Red: Visit.lateness returns v.err when v.blind is nil; Visit.Blind is false.
func TestSession_fallbackWithErrorReturningMethods(t *testing.T) {
	t.Parallel()
	site, p, token := silentSite(t, func(m *session.Manager, app *http.ServeMux) http.Handler {
		theme := session.NewKey[string](m, "theme")
		app.HandleFunc("/theme", func(w http.ResponseWriter, r *http.Request) {
			_, _, err := theme.Get(r.Context())
			fmt.Fprint(w, errors.Is(err, session.ErrUnavailable))
		})
		return middleware.Session(m, middleware.WithAnonymousFallback())(app)
	})
	p.Hang()
	a, err := site.tryWith(t.Context(), "/theme", sessionCookie+"="+token)
	if err != nil {
		t.Fatal(err)
	}
	a.is(t, 200, "true")
	if got := a.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control: got %q; want no-store", got)
	}
}

// The reply to the mark in the old session's place is lost for good: the session
// must be under the old token or the new one. Red: 503 without cookie, and the old
// token leads to nothing; with Login as well.
func TestSession_replyToMarkLost(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		s := newBrokenSite(t)
		s.ready()
		token := s.visitorWithCart(false, "")
		s.p.SwallowReply(2, "\x17r", testkit.ThenClose) // the first try and the second
		a := s.visit("/enter?way="+way+"&user=alice", token)
		if s.p.Swallowed() == 0 {
			t.Fatal("nothing swallowed")
		}
		s.ready()
		if a.token != "" {
			token = a.token
		}
		s.visit("/get?key=cart", token).is(t, 200, "3")
	})
}

// A late change of an existing session is saved also if the browser's token was
// renewed a moment ago, in a parallel request. Red: ErrTooLate, as v.sent is the old
// token; Visit.lateness should ask whether the visit itself renewed it.
func TestSession_lateChangeInGrace(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	m := newSessions(t, rdb, session.WithRenewal(time.Minute))
	site := newSessionSite(t, m, handle("/late", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		m.Put(r.Context(), "late", "x")
	}))
	token := site.login("alice")
	ageToken(t, rdb, token)
	next := site.visit("/read", token).token
	if a, err := site.tryWith(t.Context(), "/late", sessionCookie+"="+token); err != nil {
		t.Errorf("got %q, %v; want the whole answer", a.body, err)
	}
	site.visit("/get?key=late", next).is(t, 200, "x")
}

// A handler that looks for the first time after the visitor has left finds the
// session, and its change is saved. Red: Visit.load uses the request's context, and
// the handler is left by a panic. With scs's LoadAndSave this works.
func TestSession_firstLookAfterDisconnect(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	began, done := make(chan struct{}, 1), make(chan any, 1)
	site := newSessionSite(t, m, handle("/pay", func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			p := recover()
			done <- p
			if p != nil {
				panic(p)
			}
		}()
		began <- struct{}{}
		<-r.Context().Done() // such as a payment, which takes its time
		m.Put(r.Context(), "paid", "yes")
	}))
	token := site.login("alice")
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	_, _ = site.tryWith(ctx, "/pay", sessionCookie+"="+token)
	if p := <-done; p != nil {
		t.Fatalf("the handler was left by: %v", p)
	}
	testkit.Eventually(t, "the change", func() bool { return site.visit("/get?key=paid", token).body == "yes" })
}

// Login returns an error though the visitor is logged in: of the session that it
// evicts the data could not be removed. Either no error, or no cookie. Red: the last
// line of Visit.login.
func TestSession_loginFailsAndLogsIn(t *testing.T) {
	t.Parallel()
	s := newBrokenSite(t, session.WithMaxSessions(1, session.EvictOldest))
	s.ready()
	for n := 1; n <= 5; n++ {
		user := fmt.Sprint(t.Name(), n)
		s.enters(weirLogin, user, "")
		s.step.arm(n, s.p.Hang)
		a := s.visit("/enter?way=Login&user="+user, "")
		if a.StatusCode == 403 && a.set {
			t.Errorf("at step %d: got %s %q, and the cookie of a login", n, a.Status, a.body)
		}
		s.ready()
	}
}

// A login whose reply was lost must not count as one of the user's sessions until
// it expires: with RefuseNew they cannot log in any more. Red: what Login undoes after
// ErrUnavailable is refused at once by the request's memory of the silence.
func TestSession_lostLoginLocksOut(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 4; n++ {
		s := newBrokenSite(t, session.WithMaxSessions(1, session.RefuseNew))
		s.ready()
		user := testkit.Shared(t, "server").Prefix(t)
		token := s.visitorWithCart(false, "")
		s.step.arm(n, func() { s.p.SwallowReply(2, "", testkit.ThenClose) })
		a := s.visit("/enter?way=Login&user="+user, token)
		s.ready()
		if a.token != "" { // it took effect, and the visitor knows
			continue
		}
		again := s.visit("/enter?way=Login&user="+user, "")
		if again.StatusCode != 200 {
			infos, _ := s.m.Sessions(t.Context(), user)
			t.Errorf("reply lost at step %d: then got %s %q, listed %d; want a login", n, again.Status, again.body, len(infos))
		}
	}
}

// A login that is refused leaves the timeouts as they were. Red: Visit.login calls
// Visit.remember before it is clear that it succeeds, and the deadline is saved.
func TestSession_refusedLoginLengthens(t *testing.T) {
	t.Parallel()
	options := []session.Option{
		session.WithMaxSessions(1, session.RefuseNew), session.WithRememberMe(time.Hour, 3*time.Hour),
	}
	clocked(t, options, func(s *clockedSite) {
		s.get("/enter?way=Login&user=alice")
		s.get("/remember?on=1")
		alices := s.token
		s.token = ""
		s.get("/put?key=cart&value=3")
		s.get("/remember?on=1")
		guests, began := s.token, time.Now()
		for time.Since(began) < 3*time.Hour-20*time.Minute {
			time.Sleep(15 * time.Minute)
			s.token = alices
			s.is("alice", "/read", "user=alice")
			s.token = guests
			if got := s.get("/enter?way=Login&user=alice"); !strings.Contains(got, session.ErrTooMany.Error()) {
				s.t.Fatalf("login: got %q; want ErrTooMany", got)
			}
		}
		time.Sleep(time.Until(began.Add(3*time.Hour + time.Second)))
		s.token = guests
		s.is("behind the absolute timeout", "/get?key=cart", "")
	})
}

// A logout ends a session that does not decode here, as in a deployment in which
// older processes still read it: the token must not be good there afterwards. Red:
// Visit.load forgets the token of a damaged record, and Destroy ends nothing.
func TestSession_logoutOfUndecodable(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	older := newSessionSite(t, newSessions(t, rdb))
	newer := newSessionSite(t, newSessions(t, rdb, session.WithCodec(noCodec{})))
	token := older.login("alice")
	newer.visit("/logout", token).is(t, 200, "bye")
	older.visit("/read", token).is(t, 200, "user=")
}

type noCodec struct{ scs.GobCodec }

func (noCodec) Decode([]byte) (time.Time, map[string]any, error) {
	return time.Time{}, nil, errors.New("another format")
}

// A password is reset: all sessions of the user are ended and the user logged in,
// in one request. Red: ErrEnded, as the request began before its own EndAll.
func TestSession_endAllThenLogin(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	site := newSessionSite(t, m, enterPage(m), handle("/reset", func(w http.ResponseWriter, r *http.Request) {
		if err := m.EndAll(r.Context(), "alice"); err != nil {
			t.Error(err)
		}
		if err := m.Login(r.Context(), "alice"); err != nil {
			t.Errorf("login: %v", err)
		}
	}))
	old := site.enter(weirLogin, "alice", "")
	if a := site.visit("/reset", ""); a.token == "" {
		t.Error("got no cookie")
	}
	site.visit("/read", old).is(t, 200, "user=")
}

// RememberMe after the header has left changes the cookie, which cannot be sent:
// that must be ErrTooLate, or be sent with the next answer. Red: it is lost for good,
// as the next visit takes the browser's cookie for a persistent one.
func TestSession_lateRememberMe(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	site := newSessionSite(t, m, handle("/late", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		m.RememberMe(r.Context(), true)
	}))
	token := site.login("alice")
	_, err := site.tryWith(t.Context(), "/late", sessionCookie+"="+token)
	c := site.visit("/read", token).Cookies()
	if err == nil && (len(c) == 0 || c[0].MaxAge == 0) {
		t.Errorf("got no error and the cookies %v; want either", c)
	}
}

// As TestOWASP_renewal_failsAtEachStep. Red: RenewToken of a bound session has
// marked the old one when Visit.rebind fails, and discards the new one; after Login has
// taken effect a commit of what follows fails, and the 503 is sent without the new
// token's cookie. Either way the visitor is logged out, and the cart is lost.
func TestSession_failsAtEachStep(t *testing.T) {
	t.Parallel()
	renewing{"a change of privilege", "/login?user=alice", true, false}.failsAtEachStep(t)
	renewing{"a bound login, and a change", "/enter?way=Login&user=alice", false, false}.failsAtEachStep(t)
}
