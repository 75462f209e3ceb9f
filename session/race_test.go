package session_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// 200 requests that change one session side by side, each another key: all changes
// are kept. Red without the comparison in swap.lua.
func TestVisit_parallelPuts(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ms := three(t, b)
		token := login(t, ms[0], "alice")
		const n = 200
		var loaded, done sync.WaitGroup
		loaded.Add(n)
		for i := range n {
			done.Go(func() {
				m := ms[i%3]
				v := visit(m, token)
				m.Get(v, "user")
				loaded.Done()
				loaded.Wait() // all have the same before the first one writes
				m.Put(v, fmt.Sprint("key", i), i)
				commit(t, v)
			})
		}
		done.Wait()
		m := ms[0]
		v := visit(m, token)
		for i := range n {
			if got, ok := m.Get(v, fmt.Sprint("key", i)).(int); !ok || got != i {
				t.Errorf("key%d: got %v, %v", i, got, ok)
			}
		}
		if got := m.GetString(v, "user"); got != "alice" {
			t.Errorf("user: got %q", got)
		}
	})
}

// What one request removes and another changes is removed and changed. The same key
// is the later one's.
func TestVisit_merge(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	token := login(t, m, "alice")
	v := visit(m, token)
	m.Put(v, "a", 1)
	m.Put(v, "b", 1)
	m.Put(v, "list", []string{"x"})
	commit(t, v)

	first, second := visit(m, token), visit(m, token)
	m.Get(first, "a")
	m.Get(second, "a")
	m.Remove(first, "a")
	m.Put(first, "both", "first")
	m.Put(first, "c", 1)
	m.Put(second, "both", "second")
	m.Put(second, "b", 2)
	m.Get(second, "list").([]string)[0] = "y" // changed in place, as pointers are
	deadline := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	m.SetDeadline(first, deadline)
	commit(t, first)
	commit(t, second)

	v = visit(m, token)
	got := fmt.Sprintf("%v %v %v %v %v %v", m.Exists(v, "a"), m.Get(v, "b"), m.Get(v, "c"), m.Get(v, "both"), m.Get(v, "list"), m.Get(v, "user"))
	if want := "false 2 1 second [y] alice"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}
	if !m.Deadline(v).Equal(deadline) {
		t.Errorf("deadline: got %v; want %v", m.Deadline(v), deadline)
	}
}

// The change of a request that commits several times is its own each time: what
// others wrote in between is neither undone nor claimed.
func TestVisit_commitsTwice(t *testing.T) {
	t.Parallel()
	for _, raw := range []bool{false, true} { // by scs's own Commit
		t.Run(fmt.Sprint("raw:", raw), func(t *testing.T) {
			t.Parallel()
			m := newManager(t, testkit.Mini(t).Client(t))
			token := login(t, m, "alice")
			v := visit(m, token)
			m.Put(v, "mine", 1)
			other := visit(m, token)
			m.Put(other, "theirs", 1)
			commit(t, other)
			save := m.Commit
			if raw {
				save = m.SessionManager.Commit
			}
			if got, _, err := save(v); err != nil || got != token {
				t.Fatalf("got %q, %v", got, err)
			}
			other = visit(m, token)
			m.Put(other, "theirs", 2)
			m.Remove(other, "mine")
			commit(t, other)
			m.Put(v, "more", 1)
			commit(t, v)
			v = visit(m, token)
			if got, want := m.Keys(v), []string{"more", "theirs", "user"}; !slices.Equal(got, want) || m.GetInt(v, "theirs") != 2 {
				t.Errorf("got keys %v, theirs %v; want %v, 2", got, m.Get(v, "theirs"), want)
			}
		})
	}
}

// A change of nothing is not written.
func TestVisit_unchanged(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	m := newManager(t, p.Client(t))
	token := login(t, m, "alice")
	v := visit(m, token)
	now := time.Now()
	m.Put(v, "n", 1)
	m.Put(v, "t", now)
	m.Put(v, "f", 1.5)
	commit(t, v)
	v = visit(m, token)
	m.Put(v, "n", 1)
	m.Put(v, "t", now)
	m.Put(v, "gone", true)
	m.Remove(v, "gone")
	m.SetDeadline(v, m.Deadline(v))
	p.Reset()
	commit(t, v)
	if got := p.RoundTrips(); got != 0 {
		t.Errorf("round trips: got %d; want 0", got)
	}
	m.Put(v, "n", "1") // another type of the same length
	commit(t, v)
	if got := m.GetString(visit(m, token), "n"); got != "1" {
		t.Errorf("n: got %q; want 1", got)
	}
}

// A login or renewal beside a request under way: whichever way they interleave, the
// old token opens nothing, and the new session has what both wrote, or nobody's.
func TestVisit_rotationBesideWrites(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ms := three(t, b)
		for round := range 20 {
			token := login(t, ms[0], "anonymous")
			var fresh string
			var wrote atomic.Int32
			var done sync.WaitGroup
			begun := visit(ms[1], token)
			ms[1].Get(begun, "user")
			done.Go(func() {
				v := visit(ms[0], token)
				if err := ms[0].RenewToken(v); err != nil {
					t.Error(err)
				}
				ms[0].Put(v, "user", "alice")
				c, err := v.Commit()
				if err != nil || c == nil {
					t.Errorf("round %d: login: got %v, %v", round, c, err)
					return
				}
				fresh = c.Value
			})
			done.Go(func() {
				ms[1].Put(begun, "cart", round)
				c, err := begun.Commit()
				if c != nil || err != nil {
					t.Errorf("round %d: the other: got %v, %v; want neither", round, c, err)
				}
				if begun.Warning() == nil {
					wrote.Add(1)
				}
			})
			done.Wait()
			v := visit(ms[2], fresh)
			if got := ms[2].GetString(v, "user"); got != "alice" {
				t.Fatalf("round %d: got %q; want alice", round, got)
			}
			if got := ms[2].Exists(v, "cart"); got != (wrote.Load() == 1) {
				t.Errorf("round %d: cart: got %v; was kept: %v", round, got, !got)
			}
			if got := ms[2].GetString(visit(ms[2], token), "user"); got != "" {
				t.Errorf("round %d: the old token is %q", round, got)
			}
		}
	})
}

// A session that was ended while its token was being renewed does not live on under
// the new one. Red when rotate does not heed claim's error.
func TestVisit_renewalBesideLogout(t *testing.T) {
	t.Parallel()
	for _, raw := range []bool{false, true} {
		for _, silent := range []bool{false, true} { // ended by a DEL, which leaves no mark
			t.Run(fmt.Sprintf("raw:%v/silent:%v", raw, silent), func(t *testing.T) {
				t.Parallel()
				rdb := testkit.Mini(t).Client(t)
				m := newManager(t, rdb)
				token := login(t, m, "alice")
				v := visit(m, token)
				renew := m.RenewToken
				if raw {
					renew = m.SessionManager.RenewToken
				}
				if err := renew(v); err != nil {
					t.Fatal(err)
				}
				m.Put(v, "more", 1)
				if silent {
					rdb.Del(t.Context(), keyOf(token))
				} else {
					other := visit(m, token)
					if err := m.Destroy(other); err != nil {
						t.Fatal(err)
					}
				}
				c, err := v.Commit()
				if c != nil || err != nil || !errors.Is(v.Warning(), session.ErrEnded) {
					t.Errorf("got %v, %v, warning %v; want no cookie and ErrEnded", c, err, v.Warning())
				}
				for _, key := range testkit.Keys(t, rdb, "scs:session:") {
					if isStored(t, rdb, key) {
						t.Errorf("%s is a session", key)
					}
				}
			})
		}
	}
}

// Who comes with the token of before a login is anonymous, keeps nothing and gets no
// cookie, which would take the place of the login's. RenewToken says that a new
// session is meant. Red without v.over.
func TestVisit_grace(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	old := login(t, m, "anonymous")
	v := visit(m, old)
	if err := m.RenewToken(v); err != nil {
		t.Fatal(err)
	}
	commit(t, v)

	v = visit(m, old)
	if got := m.Keys(v); len(got) != 0 {
		t.Errorf("got keys %v; want none", got)
	}
	m.Put(v, "cart", 1)
	if c, err := v.Commit(); c != nil || err != nil || !errors.Is(v.Warning(), session.ErrEnded) {
		t.Errorf("got %v, %v, warning %v; want no cookie and ErrEnded", c, err, v.Warning())
	}
	if err := m.Update(v, "cart", func(any) any { return 1 }); !errors.Is(err, session.ErrEnded) {
		t.Errorf("update: got %v; want ErrEnded", err)
	}

	v = visit(m, old)
	if err := m.RenewToken(v); err != nil {
		t.Fatal(err)
	}
	m.Put(v, "user", "bob")
	c, err := v.Commit()
	if err != nil || c == nil || c.Value == old {
		t.Fatalf("a login: got %v, %v; want a cookie", c, err)
	}
	if got := m.GetString(visit(m, c.Value), "user"); got != "bob" {
		t.Errorf("got %q; want bob", got)
	}
}
