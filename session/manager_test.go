package session_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// three are managers of one Redis, as three processes have them.
func three(t *testing.T, b *testkit.Backend, options ...session.Option) [3]*session.Manager {
	t.Helper()
	var ms [3]*session.Manager
	for i := range ms {
		// go-redis's own 3 s are not enough on a busy machine.
		client := b.Client(t, func(o *redis.UniversalOptions) { o.ReadTimeout = 30 * time.Second })
		ms[i] = newManager(t, client, options...)
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
