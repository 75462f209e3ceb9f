package session_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

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
