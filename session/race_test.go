package session_test

import (
	"context"
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

// three are managers of one Redis, as three processes have them.
func three(t *testing.T, b *testkit.Backend, options ...session.Option) [3]*session.Manager {
	t.Helper()
	var ms [3]*session.Manager
	for i := range ms {
		ms[i] = newManager(t, b.Client(t), options...)
	}
	return ms
}

// commit ends a visit.
func commit(t *testing.T, v *session.Visit) {
	t.Helper()
	if _, err := v.Commit(); err != nil {
		t.Error(err)
	}
}

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

// 200 updates of one counter side by side count 200, over three managers, and in one
// request's goroutines.
func TestManager_Update_counts(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ms := three(t, b)
		token := login(t, ms[0], "alice")
		count := func(old any) any {
			n, _ := old.(int)
			return n + 1
		}
		const n = 200
		var done sync.WaitGroup
		for i := range n {
			done.Go(func() {
				m := ms[i%3]
				v := visit(m, token)
				if err := m.Update(v, "n", count); err != nil {
					t.Error(err)
				}
				commit(t, v)
			})
		}
		one := visit(ms[0], token)
		for range n {
			done.Go(func() {
				if err := ms[0].Update(one, "m", count); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		commit(t, one)
		v := visit(ms[1], token)
		if got := fmt.Sprintf("%v %v %v", ms[1].Get(v, "n"), ms[1].Get(v, "m"), ms[1].Get(v, "user")); got != "200 200 alice" {
			t.Errorf("got %s; want 200 200 alice", got)
		}
	})
}

// An update between a request's other changes takes nothing from them, nor from
// others', and its own outcome is not written twice.
func TestManager_Update_amongPuts(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	token := login(t, m, "alice")
	v := visit(m, token)
	m.Put(v, "before", 1)
	other := visit(m, token)
	m.Put(other, "theirs", 1)
	m.Put(other, "n", 10)
	commit(t, other)
	add := func(old any) any { n, _ := old.(int); return n + 1 }
	if err := m.Update(v, "n", add); err != nil {
		t.Fatal(err)
	}
	if got := m.GetInt(v, "n"); got != 11 {
		t.Errorf("n: got %d; want 11", got)
	}
	other = visit(m, token)
	if got := m.GetInt(other, "n"); got != 11 {
		t.Errorf("n, at once: got %d; want 11", got)
	}
	m.Put(other, "n", 20)
	commit(t, other)
	m.Put(v, "after", 1)
	commit(t, v)
	v = visit(m, token)
	got := fmt.Sprint(m.Keys(v), m.Get(v, "n"))
	if want := "[after before n theirs user] 20"; got != want {
		t.Errorf("got %s; want %s", got, want)
	}

	// What the request has put and not saved is what its update sees.
	m.Put(v, "n", 1)
	if err := m.Update(v, "n", add); err != nil || m.GetInt(v, "n") != 2 {
		t.Errorf("own: got %d, %v; want 2", m.GetInt(v, "n"), err)
	}
	if err := m.Update(v, "n", func(any) any { return nil }); err != nil || m.Exists(v, "n") {
		t.Errorf("removed: got %v, %v", m.Get(v, "n"), err)
	}
	commit(t, v)
	if v = visit(m, token); m.Exists(v, "n") {
		t.Error("removed: it is back")
	}
}

func TestManager_Update_errors(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	m := newManager(t, rdb, session.WithMaxSize(1000))
	add := func(old any) any { n, _ := old.(int); return n + 1 }
	if err := m.Update(t.Context(), "n", add); !errors.Is(err, session.ErrNoVisit) {
		t.Errorf("outside: got %v; want ErrNoVisit", err)
	}
	v := visit(m, "")
	if err := m.Update(v, "n", add); err != nil || m.GetInt(v, "n") != 1 {
		t.Errorf("a new session: got %d, %v", m.GetInt(v, "n"), err)
	}
	c, err := v.Commit()
	if err != nil || c == nil {
		t.Fatalf("commit: got %v, %v", c, err)
	}
	v = visit(m, c.Value)
	if err := m.Update(v, "big", func(any) any { return string(make([]byte, 1000)) }); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("too large: got %v; want ErrTooLarge", err)
	}
	if m.Exists(v, "big") {
		t.Error("too large: it is there")
	}
	rdb.Del(t.Context(), keyOf(c.Value))
	if err := m.Update(v, "n", add); !errors.Is(err, session.ErrEnded) || m.GetInt(v, "n") != 1 {
		t.Errorf("ended: got %d, %v; want 1, ErrEnded", m.GetInt(v, "n"), err)
	}
	if rdb.Exists(t.Context(), keyOf(c.Value)).Val() != 0 {
		t.Error("ended: it is back")
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

// After a logout the visit may begin a session anew, and it is a new one.
func TestManager_Destroy_thenPut(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	token := login(t, m, "alice")
	for _, renew := range []bool{false, true} {
		v := visit(m, token)
		if renew {
			if err := m.RenewToken(v); err != nil { // not stored yet
				t.Fatal(err)
			}
		}
		if err := m.Destroy(v); err != nil {
			t.Fatal(err)
		}
		if got := m.GetString(visit(m, token), "user"); got != "" {
			t.Errorf("destroyed: got %q", got)
		}
		m.Put(v, "flash", "bye")
		c, err := v.Commit()
		if err != nil || c == nil || c.Value == "" || c.Value == token {
			t.Fatalf("got %v, %v; want a new token", c, err)
		}
		if got := m.Keys(visit(m, c.Value)); len(got) != 1 {
			t.Errorf("got keys %v; want flash", got)
		}
		token = login(t, m, "alice")
	}
}

// scs's own manager, used without middleware.Session, does not bring back the dead.
// Red without the look at the mark in put.lua.
func TestManager_raw(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		m := newManager(t, b.Client(t))
		raw := m.SessionManager
		token := login(t, m, "alice")
		ctx, err := raw.Load(t.Context(), token)
		if err != nil || raw.GetString(ctx, "user") != "alice" {
			t.Fatalf("got %q, %v; want alice", raw.GetString(ctx, "user"), err)
		}
		raw.Put(ctx, "n", 1)
		if _, _, err := raw.Commit(ctx); err != nil {
			t.Fatal(err)
		}
		v := visit(m, token)
		if got := m.GetInt(v, "n"); got != 1 {
			t.Errorf("n: got %d; want 1", got)
		}
		if err := m.Destroy(v); err != nil {
			t.Fatal(err)
		}
		raw.Put(ctx, "n", 2)
		if _, _, err := raw.Commit(ctx); !errors.Is(err, session.ErrEnded) {
			t.Errorf("after a logout: got %v; want ErrEnded", err)
		}
		if got := m.GetString(visit(m, token), "user"); got != "" {
			t.Errorf("after a logout: %q is back", got)
		}
	})
}

// Load and Commit work outside of a request as scs's do, with the same guarantees.
func TestManager_Load(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	ctx, err := m.Load(t.Context(), "no token")
	if err != nil {
		t.Fatal(err)
	}
	m.Put(ctx, "user", "job")
	token, deadline, err := m.Commit(ctx)
	if err != nil || token == "" || token != m.Token(ctx) || !deadline.Equal(m.Deadline(ctx)) {
		t.Fatalf("got %q, %v, %v; want %q, %v", token, deadline, err, m.Token(ctx), m.Deadline(ctx))
	}
	first, err := m.Load(t.Context(), token)
	if err != nil || m.GetString(first, "user") != "job" {
		t.Fatalf("got %q, %v", m.GetString(first, "user"), err)
	}
	if again, err := m.Load(context.WithoutCancel(first), token); err != nil || m.GetString(again, "user") != "job" {
		t.Errorf("within: got %v", err)
	}
	if err := m.Destroy(ctx); err != nil {
		t.Fatal(err)
	}
	m.Put(first, "user", "zombie")
	if _, _, err := m.Commit(first); !errors.Is(err, session.ErrEnded) {
		t.Errorf("after a logout: got %v; want ErrEnded", err)
	}
}

// A stream finds out that its visitor has left.
func TestManager_Alive(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	if _, err := m.Alive(t.Context()); !errors.Is(err, session.ErrNoVisit) {
		t.Errorf("outside: got %v; want ErrNoVisit", err)
	}
	v := visit(m, "")
	m.Put(v, "n", 1)
	if ok, err := m.Alive(v); ok || err != nil {
		t.Errorf("not stored: got %v, %v; want false", ok, err)
	}
	for name, end := range map[string]func(token string) error{
		"logout":  func(token string) error { return m.Destroy(visit(m, token)) },
		"end all": func(string) error { return m.EndAll(t.Context(), "alice") },
	} {
		token := loginAs(t, m, "", "alice")
		v := visit(m, token)
		if ok, err := m.Alive(v); !ok || err != nil {
			t.Errorf("%s: before: got %v, %v; want true", name, ok, err)
		}
		if err := end(token); err != nil {
			t.Fatal(err)
		}
		if ok, err := m.Alive(v); ok || err != nil {
			t.Errorf("%s: got %v, %v; want false", name, ok, err)
		}
	}
}

// A visitor of whom nothing is kept is not stored.
func TestVisit_nothingToKeep(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	m := newManager(t, rdb, session.WithRenewal(time.Minute))
	v := visit(m, "")
	m.Put(v, "flash", 1)
	m.Pop(v, "flash")
	if c, err := v.Commit(); c != nil || err != nil || len(testkit.Keys(t, rdb, "")) != 0 {
		t.Errorf("got %v, %v, keys %v; want nothing", c, err, testkit.Keys(t, rdb, ""))
	}
}

// An observer may look at the context that it is given, as loggers do.
func TestWithObserver_looks(t *testing.T) {
	t.Parallel()
	var m *session.Manager
	told := 0
	m = newManager(t, testkit.Mini(t).Client(t), session.WithObserver(func(ctx context.Context, _ session.Event) {
		told++
		defer func() { _ = recover() }() // scs's, of a context without a session
		m.GetString(ctx, "user")
	}))
	token := loginAs(t, m, login(t, m, "x"), "alice")
	if err := m.Destroy(visit(m, token)); err != nil || told != 3 {
		t.Errorf("told %d times, %v; want 3", told, err)
	}
}
