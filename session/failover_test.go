package session_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// A master dies under a Sentinel, and its replica takes over: who was logged in goes on,
// who was logged out stays out, and what was under way across the failover is decided by
// what the new master holds. Nothing is restarted.
func TestManager_failover(t *testing.T) {
	t.Parallel()
	b := testkit.Sentinel(t)
	rdb := b.Client(t, func(o *redis.UniversalOptions) { o.MaxRetries = -1 })
	m := newManager(t, rdb, session.WithMaxSessions(3, session.EvictOldest))

	stays := loginAs(t, m, login(t, m, "x"), "alice")
	anonymous := login(t, m, "nobody")
	gone := loginAs(t, m, "", "alice")
	slow := visit(m, gone) // under way
	m.Put(slow, "zombie", 1)
	writer := visit(m, stays)
	m.Put(writer, "n", 1)
	if err := m.Destroy(visit(m, gone)); err != nil {
		t.Fatal(err)
	}
	if n, err := rdb.Do(t.Context(), "wait", 1, 10_000).Int(); n != 1 || err != nil {
		t.Fatalf("replicas: got %d, %v; want 1", n, err)
	}
	b.Nodes()[0].Kill()

	testkit.Eventually(t, "the replica to take over", func() bool {
		v := visit(m, stays)
		m.Put(v, "probe", 1) // an old master would refuse it
		if v.Ready() != nil {
			return false
		}
		_, err := v.Commit()
		if err != nil && !errors.Is(err, session.ErrUnavailable) {
			t.Errorf("during the failover: got %v; want ErrUnavailable", err)
		}
		return err == nil
	})
	if got := userOf(m, stays); got != "alice" {
		t.Errorf("got %q; want alice, as before", got)
	}
	if v := visit(m, anonymous); m.GetString(v, "user") != "nobody" {
		t.Errorf("got %q; want nobody, as before", m.GetString(v, "user"))
	}
	commit(t, writer)
	if c, err := slow.Commit(); c != nil || err != nil || !errors.Is(slow.Warning(), session.ErrEnded) {
		t.Errorf("a write into what has ended: got %v, %v, warning %v; want ErrEnded", c, err, slow.Warning())
	}
	if got := userOf(m, gone); got != "" {
		t.Errorf("logged out before: got %q", got)
	}
	if got := m.GetInt(visit(m, stays), "n"); got != 1 {
		t.Errorf("a write across the failover: got %d; want 1", got)
	}
	if infos := list(t, m, stays, "alice"); len(infos) != 1 || !infos[0].Current {
		t.Errorf("listed: got %+v; want the one", infos)
	}
	late := loginAs(t, m, "", "alice")
	if err := m.EndAll(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{stays, late} {
		if got := userOf(m, token); got != "" {
			t.Errorf("logged out everywhere: got %q", got)
		}
	}
}
