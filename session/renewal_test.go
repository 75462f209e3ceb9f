package session_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// A token older than WithRenewal is replaced when the session is looked at. Parallel
// requests see one new token, and nobody is logged out; one whose answer was lost gets
// it again; after the grace period the old one opens nothing.
func TestWithRenewal(t *testing.T) {
	t.Parallel()
	for _, bound := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := testkit.Memory(t)
			m := newManager(t, b.Client(t), session.WithRenewal(10*time.Minute))
			var old string
			if bound {
				old = loginAs(t, m, "", "alice")
				v := visit(m, old)
				m.Put(v, "user", "alice")
				commit(t, v)
			} else {
				old = login(t, m, "alice")
			}
			id := m.ID(visit(m, old))
			read := func(token string) string {
				t.Helper()
				v := visit(m, token)
				if got := m.GetString(v, "user"); got != "alice" {
					t.Errorf("got %q; want alice", got)
				}
				c, err := v.Commit()
				if err != nil {
					t.Fatal(err)
				}
				if c == nil {
					return ""
				}
				return c.Value
			}
			time.Sleep(9 * time.Minute)
			if got := read(old); got != "" {
				t.Error("renewed before its time")
			}
			time.Sleep(2 * time.Minute)

			// 20 at once, of which each changes something.
			var loaded, done sync.WaitGroup
			loaded.Add(20)
			var mu sync.Mutex
			tokens := make(map[string]int)
			for i := range 20 {
				done.Go(func() {
					v := visit(m, old)
					m.Put(v, string(rune('a'+i)), i)
					loaded.Done()
					loaded.Wait()
					c, err := v.Commit()
					if err != nil || v.Warning() != nil {
						t.Errorf("got %v, warning %v", err, v.Warning())
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if c != nil {
						tokens[c.Value]++
					}
				})
			}
			done.Wait()
			if len(tokens) != 1 || tokens[old] != 0 {
				t.Fatalf("got %d tokens; want one new one: %v", len(tokens), tokens)
			}
			var next string
			for next = range tokens {
			}
			if tokens[next] != 20 {
				t.Errorf("told %d of 20 requests", tokens[next])
			}
			v := visit(m, next)
			for i := range 20 {
				if got := m.GetInt(v, string(rune('a'+i))); got != i {
					t.Errorf("key %c: got %d; want %d", 'a'+i, got, i)
				}
			}
			if got := m.ID(v); got != id {
				t.Errorf("id: got %q; want %q", got, id)
			}
			if got := read(old); got != next {
				t.Errorf("the answer was lost: got %q; want the same new token", got)
			}
			if got := read(next); got != "" {
				t.Error("the new token is renewed at once")
			}
			time.Sleep(31 * time.Second)
			if got := m.GetString(visit(m, old), "user"); got != "" {
				t.Errorf("after the grace period: got %q", got)
			}
			if got := read(next); got != "" {
				t.Error("the new token is renewed at once")
			}
			if bound {
				if infos := list(t, m, next, "alice"); len(infos) != 1 || infos[0].ID != id || !infos[0].Current {
					t.Errorf("listed: got %+v", infos)
				}
				if _, err := m.End(t.Context(), "alice", id); err != nil || userOf(m, next) != "" {
					t.Errorf("ended: got %q, %v", userOf(m, next), err)
				}
			}
		})
	}
}

// A logout during the grace period holds for the old token, too.
func TestWithRenewal_logout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testkit.Memory(t).Client(t), session.WithRenewal(10*time.Minute))
		old := login(t, m, "alice")
		time.Sleep(11 * time.Minute)
		slow := visit(m, old) // under way all the time
		m.Put(slow, "slow", 1)
		v := visit(m, old)
		m.Get(v, "user")
		c, err := v.Commit()
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		out := visit(m, old) // with the old token
		if err := m.Destroy(out); err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{old, c.Value} {
			if got := m.GetString(visit(m, token), "user"); got != "" {
				t.Errorf("got %q", got)
			}
		}
		if c, err := slow.Commit(); c != nil || err != nil || !errors.Is(slow.Warning(), session.ErrEnded) {
			t.Errorf("got %v, %v, warning %v; want no cookie and ErrEnded", c, err, slow.Warning())
		}
	})
}

// What is touched by a reader that began before the renewal keeps the mark's own time.
// Red when touch.lua does not look at the mark.
func TestWithRenewal_touchKeepsGrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testkit.Memory(t).Client(t), session.WithRenewal(10*time.Minute))
		old := login(t, m, "alice")
		time.Sleep(11 * time.Minute)
		reader := visit(m, old)
		m.Get(reader, "user")
		reader.KeepToken() // as an upgraded connection does
		v := visit(m, old)
		m.Get(v, "user")
		if c, err := v.Commit(); err != nil || c == nil {
			t.Fatal(c, err)
		}
		if c, err := reader.Commit(); err != nil || c != nil {
			t.Errorf("got %v, %v; want neither", c, err)
		}
		time.Sleep(31 * time.Second)
		if got := m.GetString(visit(m, old), "user"); got != "" {
			t.Errorf("got %q; want nobody", got)
		}
	})
}

// renewed has another request renew a session's token, and returns the new one.
func renewed(t *testing.T, m *session.Manager, token string) string {
	t.Helper()
	v := visit(m, token)
	m.Get(v, "user")
	c, err := v.Commit()
	if err != nil || c == nil || c.Value == token {
		t.Fatalf("renewal: got %v, %v; want a new token", c, err)
	}
	return c.Value
}

// A logout in a request that outlasts a renewal beside it is not answered as one when
// nothing leads to the session's new token any more, and the cookie stays. A user's
// session ends all the same, whatever its token. Red without Visit.hidden.
func TestWithRenewal_logoutAfterGrace(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		bound        bool
		before, past time.Duration // between the look, the renewal and the logout
		renewals     int
		lives        bool
	}{
		{"within the grace period", false, 2 * time.Minute, 29 * time.Second, 1, false},
		{"after it", false, 2 * time.Minute, 31 * time.Second, 1, true},
		{"renewed twice", false, 2 * time.Minute, 2 * time.Minute, 2, true},
		{"of a user, after it", true, 2 * time.Minute, 31 * time.Second, 1, false},
		{"of a user, renewed twice", true, 2 * time.Minute, 2 * time.Minute, 2, false},
		{"not renewed", false, 2 * time.Minute, 31 * time.Second, 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m := newManager(t, testkit.Memory(t).Client(t), session.WithRenewal(time.Minute))
				token := login(t, m, "alice")
				if test.bound {
					token = loginAs(t, m, token, "alice")
				}
				slow := visit(m, token)
				m.Get(slow, "user")
				for range test.renewals {
					time.Sleep(test.before)
					token = renewed(t, m, token)
				}
				time.Sleep(test.past)
				err := m.Destroy(slow)
				if test.lives != errors.Is(err, session.ErrUnavailable) || !test.lives && err != nil {
					t.Errorf("logout: got %v; want ErrUnavailable: %v", err, test.lives)
				}
				c, err := slow.Commit()
				if err != nil || test.lives != (c == nil) {
					t.Errorf("commit: got %v, %v; want a cookie: %v", c, err, !test.lives)
				}
				if got := m.GetString(visit(m, token), "user") != ""; got != test.lives {
					t.Errorf("the new token opens the session: got %v; want %v", got, test.lives)
				}
			})
		})
	}
}

// A request follows its session over two renewals: budgets of more than 15 s make the
// grace period longer than the shortest time between them. Red when Visit.meet follows
// one only.
func TestWithRenewal_twiceWithinGrace(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t), session.WithRenewal(time.Minute))
	token := login(t, m, "alice")
	writer, out := visit(m, token), visit(m, token)
	m.Put(writer, "n", 1)
	m.Get(out, "user")
	for range 2 {
		ageing(t, m, token)
		token = renewed(t, m, token)
	}
	c, err := writer.Commit()
	if err != nil || writer.Warning() != nil || c == nil || c.Value != token {
		t.Errorf("a write: got %v, %v, warning %v; want the newest token", c, err, writer.Warning())
	}
	if got := m.GetInt(visit(m, token), "n"); got != 1 {
		t.Errorf("n: got %d; want 1", got)
	}
	if err := m.Destroy(out); err != nil {
		t.Fatal(err)
	}
	if got := m.GetString(visit(m, token), "user"); got != "" {
		t.Errorf("after the logout: got %q", got)
	}
}

// Who walks the sessions and ends them is told of one that was renewed meanwhile: it
// knows no tokens, and cannot follow. Red without Visit.hidden.
func TestWithRenewal_iterateAndDestroy(t *testing.T) {
	t.Parallel()
	for _, bound := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, testkit.Memory(t).Client(t), session.WithRenewal(time.Minute))
			token := login(t, m, "alice")
			if bound {
				token = loginAs(t, m, token, "alice")
			}
			time.Sleep(2 * time.Minute)
			err := m.Iterate(t.Context(), func(ctx context.Context) error {
				token = renewed(t, m, token)
				return m.Destroy(ctx)
			})
			if bound && err != nil || !bound && !errors.Is(err, session.ErrUnavailable) {
				t.Errorf("of a user %v: got %v", bound, err)
			}
			if got := m.GetString(visit(m, token), "user") == ""; got != bound {
				t.Errorf("of a user %v: ended: got %v", bound, got)
			}
		})
	}
}

// A stream stays alive over renewals, and ends with the session. Red without the loop
// in Manager.Alive.
func TestWithRenewal_alive(t *testing.T) {
	t.Parallel()
	for _, bound := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			m := newManager(t, testkit.Memory(t).Client(t), session.WithRenewal(time.Minute))
			token := login(t, m, "alice")
			if bound {
				token = loginAs(t, m, token, "alice")
			}
			stream := visit(m, token)
			alive := func(when string, want bool) {
				t.Helper()
				if ok, err := m.Alive(stream); ok != want || err != nil {
					t.Errorf("of a user %v, %s: got %v, %v; want %v", bound, when, ok, err, want)
				}
			}
			alive("at first", true)
			for range 3 {
				time.Sleep(2 * time.Minute)
				token = renewed(t, m, token)
				time.Sleep(20 * time.Second)
				alive("renewed", true)
			}
			time.Sleep(2 * time.Minute)
			token = renewed(t, m, token)
			time.Sleep(40 * time.Second)
			alive("asked too late", bound)
			if bound {
				if err := m.Destroy(visit(m, token)); err != nil {
					t.Fatal(err)
				}
				alive("logged out", false)
			}
		})
	}
}

func TestWithRememberMe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testkit.Memory(t).Client(t), session.WithRememberMe(10*24*time.Hour, 30*24*time.Hour))
		v := visit(m, "")
		m.Put(v, "user", "alice")
		m.RememberMe(v, true)
		c, err := v.Commit()
		if err != nil || c == nil {
			t.Fatal(c, err)
		}
		if want := int(30 * 24 * time.Hour / time.Second); c.MaxAge < want || c.MaxAge > want+1 {
			t.Errorf("Max-Age: got %d; want %d", c.MaxAge, want)
		}
		for range 3 { // 27 days
			time.Sleep(9 * 24 * time.Hour)
			v = visit(m, c.Value)
			if got := m.GetString(v, "user"); got != "alice" {
				t.Fatalf("got %q; want alice", got)
			}
			commit(t, v)
		}
		// A login keeps it remembered, and begins the time anew.
		v = visit(m, c.Value)
		if err := m.Login(v, "alice"); err != nil {
			t.Fatal(err)
		}
		if c, err = v.Commit(); err != nil || c == nil || c.MaxAge < int(29*24*time.Hour/time.Second) {
			t.Fatalf("login: got %v, %v", c, err)
		}
		time.Sleep(9 * 24 * time.Hour)
		if got := userOf(m, c.Value); got != "alice" {
			t.Errorf("got %q; want alice", got)
		}
		// Forgotten, it is a session like others.
		v = visit(m, c.Value)
		m.RememberMe(v, false)
		if c, err = v.Commit(); err != nil || c == nil || c.MaxAge != 0 {
			t.Fatalf("forgotten: got %v, %v; want a session cookie", c, err)
		}
		time.Sleep(31 * time.Minute)
		if got := userOf(m, c.Value); got != "" {
			t.Errorf("forgotten: got %q", got)
		}
	})
}
