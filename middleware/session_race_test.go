package middleware_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// slowPoints are where a slow request may stand while its session is ended.
var slowPoints = []string{"before it looks", "after it looked", "after it changed", "after the header"}

// slowDeeds are what a slow request does.
var slowDeeds = map[string]func(m *session.Manager, r *http.Request){
	"reads":       func(m *session.Manager, r *http.Request) { m.Get(r.Context(), "user") },
	"writes":      func(m *session.Manager, r *http.Request) { m.Put(r.Context(), "slow", "x") },
	"removes":     func(m *session.Manager, r *http.Request) { m.Remove(r.Context(), "cart") },
	"remembers":   func(m *session.Manager, r *http.Request) { m.RememberMe(r.Context(), true) },
	"saves early": func(m *session.Manager, r *http.Request) { m.Put(r.Context(), "slow", 1); m.Commit(r.Context()) },
	"lives longer": func(m *session.Manager, r *http.Request) {
		m.SetDeadline(r.Context(), time.Now().Add(48*time.Hour))
	},
	"writes twice": func(m *session.Manager, r *http.Request) {
		m.Put(r.Context(), "slow", "x")
		m.Get(r.Context(), "user")
		m.Put(r.Context(), "slow", "y")
	},
	"renews": func(m *session.Manager, r *http.Request) { m.RenewToken(r.Context()) },
}

// A slowRequest is one on its way, halted at a point until it is released.
type slowRequest struct {
	point, deed string
	reached     chan struct{}
	release     chan struct{}
	answer      chan sessionAnswer
}

// A slowSite is a site whose page /slow halts where it is told to.
type slowSite struct {
	*sessionSite
	mu   sync.Mutex
	slow map[string]*slowRequest
}

func newSlowSite(t *testing.T, m *session.Manager) *slowSite {
	s := &slowSite{slow: make(map[string]*slowRequest)}
	s.sessionSite = serveSite(t, false, middleware.Session(m)(sessionApp(m, handle("/slow", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		q := s.slow[r.FormValue("id")]
		s.mu.Unlock()
		halt := func(point string) {
			if q.point == point {
				close(q.reached)
				<-q.release
			}
		}
		deed := slowDeeds[q.deed]
		halt("before it looks")
		m.Get(r.Context(), "user")
		halt("after it looked")
		if q.point != "after the header" {
			deed(m, r)
		}
		halt("after it changed")
		io.WriteString(w, "begun")
		w.(http.Flusher).Flush()
		halt("after the header")
		if q.point == "after the header" {
			deed(m, r)
		}
	}))))
	return s
}

// start sends a slow request and returns when it stands at its point.
func (s *slowSite) start(token, point, deed string) *slowRequest {
	q := &slowRequest{
		point: point, deed: deed,
		reached: make(chan struct{}), release: make(chan struct{}), answer: make(chan sessionAnswer, 1),
	}
	s.mu.Lock()
	id := fmt.Sprint(len(s.slow))
	s.slow[id] = q
	s.mu.Unlock()
	go func() {
		// An error is an answer that was cut off: a renewal after the header.
		a, _ := s.tryWith(s.t.Context(), "/slow?id="+id, sessionCookie+"="+token)
		q.answer <- a
	}()
	<-q.reached
	return q
}

// stays checks that a token is dead for good.
func (s *slowSite) staysDead(what, token string) {
	s.t.Helper()
	if a := s.visit("/read", token); a.body != "user=" || a.StatusCode != http.StatusOK {
		s.t.Errorf("%s: the old cookie got %d %q; want an anonymous visitor", what, a.StatusCode, a.body)
	}
	if a := s.visit("/put?key=a&value=b", token); a.token == token {
		s.t.Errorf("%s: the old token was adopted", what)
	}
}

// A session that was ended while a request was under way stays dead, wherever
// that request stood and whatever it did. scs writes it back. Red without "xx"
// in Store.CommitCtx.
func TestSession_endedStaysEnded(t *testing.T) {
	t.Parallel()
	rdb := testkit.Shared(t, "server").Client(t)
	site := newSlowSite(t, newSessions(t, rdb))
	ends := map[string]func(token string){
		"logout": func(token string) { site.visit("/logout", token).is(t, 200, "bye") },
		"login":  func(token string) { site.visit("/login?user=bob", token) }, // renews the token
		"revoke": func(token string) { rdb.Del(t.Context(), sessionKey(token)) },
	}
	for endName, end := range ends {
		for _, point := range slowPoints {
			for deed := range slowDeeds {
				what := fmt.Sprintf("%s while one that %s stood %s", endName, deed, point)
				token := site.login("alice")
				q := site.start(token, point, deed)
				end(token)
				close(q.release)
				a := <-q.answer
				if point != "after the header" && (a.StatusCode != 200 || a.body != "begun") {
					t.Errorf("%s: got %d %q; want the handler's answer", what, a.StatusCode, a.body)
				}
				if point != "after the header" && a.token == token && deed != "saves early" {
					t.Errorf("%s: it has set the cookie again", what)
				}
				site.staysDead(what, token)
				if isStored(t, rdb, token) {
					t.Errorf("%s: the key is there", what)
				}
			}
		}
	}
}

// The same at random: several slow requests on one session, which a logout runs
// through the middle of, while others go on.
func TestSession_endedStaysEnded_random(t *testing.T) {
	t.Parallel()
	rdb := testkit.Shared(t, "server").Client(t)
	site := newSlowSite(t, newSessions(t, rdb))
	deeds := make([]string, 0, len(slowDeeds))
	for d := range slowDeeds {
		if d != "renews" { // would end the session itself
			deeds = append(deeds, d)
		}
	}
	for range 60 {
		token := site.login("alice")
		var slow []*slowRequest
		var log []string
		for range 5 {
			q := site.start(token, slowPoints[rand.IntN(len(slowPoints))], deeds[rand.IntN(len(deeds))])
			slow = append(slow, q)
			log = append(log, q.deed+" "+q.point)
		}
		// Some end before the logout, some while it runs, some after it.
		cut := rand.IntN(len(slow) + 1)
		for _, q := range slow[:cut] {
			if rand.IntN(2) == 0 {
				close(q.release)
				<-q.answer
				q.answer <- sessionAnswer{}
				q.release = nil
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if a, err := site.tryWith(t.Context(), "/logout", sessionCookie+"="+token); err != nil || a.StatusCode != 200 {
				t.Errorf("logout: got %v, %v", a.Response, err)
			}
		})
		for _, q := range slow[:cut] {
			if q.release != nil {
				close(q.release)
			}
		}
		wg.Wait()
		for _, q := range slow[cut:] {
			close(q.release)
		}
		for _, q := range slow {
			<-q.answer
		}
		site.staysDead(strings.Join(log, ", "), token)
		if isStored(t, rdb, token) {
			t.Errorf("%s: the key is there", strings.Join(log, ", "))
		}
	}
}

// Requests side by side on one session: no error, no lost login, and whole
// records.
func TestSession_parallelRequests(t *testing.T) {
	t.Parallel()
	site := newSessionSite(t, newSessions(t, testkit.Shared(t, "server").Client(t)))
	token := site.login("alice")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 10 {
				path := fmt.Sprintf("/put?key=k%d&value=%d", i, n)
				if n%3 == 0 {
					path = "/read"
				}
				a, err := site.tryWith(t.Context(), path, sessionCookie+"="+token)
				if err != nil || a.StatusCode != 200 || a.set && a.token != token {
					t.Errorf("%s: got %v, %v", path, a.Response, err)
				}
			}
		})
	}
	wg.Wait()
	site.visit("/read", token).is(t, 200, "user=alice")
}
