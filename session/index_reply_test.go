package session_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// lost is a hook that loses the reply of the next script after it ran, and then
// does what somebody else does meanwhile.
type lost struct{ meanwhile func() }

func (l *lost) DialHook(next redis.DialHook) redis.DialHook { return next }

func (l *lost) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (l *lost) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if meanwhile := l.meanwhile; meanwhile != nil && cmd.Name() == "evalsha" && err == nil {
			l.meanwhile = nil
			meanwhile()
			cmd.SetErr(io.EOF)
			return io.EOF
		}
		return err
	}
}

// warm has u's server know all scripts.
func (u user) warm() {
	u.tb.Helper()
	ctx := u.tb.Context()
	u.add("warm", 0)
	_, err1 := u.Renew(ctx, u.tag, sid("warm"), "", time.Hour)
	_, _, err2 := u.Remove(ctx, u.tag, sid("warm"))
	batch, err3 := u.RemoveAll(ctx, u.tag, "")
	if err := errors.Join(err1, err2, err3); err != nil || batch != "" {
		u.tb.Fatalf("got batch %q, %v; want nothing to end", batch, err)
	}
	u.listed()
}

// When a reply is lost the call runs again, finds that it ran, and answers as it
// did then, whatever was done in between.
func TestIndex_lostReply(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ctx, l, client := t.Context(), new(lost), b.Client(t)
		hooked := b.Client(t)
		hooked.AddHook(l)
		// loses has u's next script lose its reply and calls it; other is someone
		// else on the same user.
		users := func(limit int) (u, other user, loses func(meanwhile func())) {
			name := b.Prefix(t)
			u, other = userOn(t, hooked, name, limit, false), userOn(t, client, name, limit, false)
			u.warm()
			return u, other, func(meanwhile func()) { l.meanwhile = meanwhile }
		}
		nothing := func() {}
		u, other, loses := users(2)
		u.add("a", 0)
		u.add("b", 0)
		oldest := func() string { return u.listed()[1] }
		first := oldest()
		loses(nothing)
		evicted, err := u.Add(ctx, u.tag, sid("c"), "c", time.Hour, 0)
		if err != nil || len(evicted) != 1 || evicted[0].Blob != "blob of "+first {
			t.Errorf("add: got %v, %v; want %s evicted", evicted, err, first)
		}
		if n := len(u.alive()); n != 2 {
			t.Errorf("add: got %d alive; want 2", n)
		}
		u.check()

		u, other, loses = users(0)
		loses(func() {
			if e, ok, err := other.Remove(ctx, u.tag, sid("a")); !ok || err != nil {
				t.Errorf("remove: got %v, %v, %v", e, ok, err)
			}
		})
		same(t, "add, removed meanwhile: evicted", u.add("a", 0))
		same(t, "add, removed meanwhile: alive", u.alive())
		loses(func() { _, _ = other.RemoveAll(ctx, u.tag, "") })
		if _, err := u.Add(ctx, u.tag, sid("b"), "", time.Hour, time.Minute); err != session.ErrIndexBeaten {
			t.Errorf("add, all ended meanwhile: got %v; want errBeaten", err)
		}
		same(t, "add, all ended meanwhile: alive", u.alive())
		loses(func() { _, _ = other.RemoveAll(ctx, u.tag, sid("c")) })
		u.add("c", 0)
		same(t, "add, all others ended meanwhile: alive", u.alive(), "c")

		loses(nothing)
		if ok, err := u.Renew(ctx, u.tag, sid("c"), "new", time.Hour); !ok || err != nil {
			t.Errorf("renew: got %v, %v; want true", ok, err)
		}
		loses(func() { _, _, _ = other.Remove(ctx, u.tag, sid("c")) })
		if ok, err := u.Renew(ctx, u.tag, sid("c"), "new", time.Hour); ok || err != nil {
			t.Errorf("renew, removed meanwhile: got %v, %v; want false", ok, err)
		}
		same(t, "renew, removed meanwhile: alive", u.alive())

		u.add("d", 0)
		loses(nothing)
		if e, ok, err := u.Remove(ctx, u.tag, sid("d")); !ok || err != nil || e.ID != sid("d") || e.Blob != "blob of d" {
			t.Errorf("remove: got %v, %v, %v; want d", e, ok, err)
		}
		loses(nothing)
		if _, ok, err := u.Remove(ctx, u.tag, sid("nobody")); ok || err != nil {
			t.Errorf("remove of none: got %v, %v; want false", ok, err)
		}
		u.check()

		u.add("e", 0)
		u.add("f", 0)
		loses(func() { other.add("later", 0) })
		batch, err := u.RemoveAll(ctx, u.tag, sid("f"))
		if err != nil {
			t.Fatal(err)
		}
		same(t, "removeAll, a login meanwhile: alive", u.alive(), "f", "later")
		same(t, "removeAll: drained", u.drained(batch), "e")
		// Both first runs had something to end, and neither is drained twice.
		u.add("g", 0)
		loses(func() {
			theirs, _ := other.RemoveAll(ctx, u.tag, "")
			same(t, "the other's", other.drained(theirs))
			other.add("later", 0)
		})
		if batch, err = u.RemoveAll(ctx, u.tag, ""); err != nil {
			t.Fatal(err)
		}
		same(t, "removeAll beside another: drained", u.drained(batch), "f", "g", "later")
		same(t, "removeAll beside another: alive", u.alive(), "later")
		_, _ = other.RemoveAll(ctx, u.tag, "")
		loses(func() { other.add("later", 0) })
		if batch, err = u.RemoveAll(ctx, u.tag, ""); err != nil || batch != "" {
			t.Errorf("removeAll of none: got %q, %v", batch, err)
		}
		same(t, "removeAll of none, a login meanwhile: alive", u.alive(), "later")
		u.check()

		loses(nothing)
		same(t, "list", u.listed(), "later")
	})
}

// The same over the wire: one connection breaks, and one command more is sent.
func TestIndex_lostReplyOnTheWire(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	b := testkit.Shared(t, "server")
	p, ctx := testkit.NewProxy(t, b.Addrs()[0]), t.Context()
	u := userOn(t, p.Client(t), b.Prefix(t), 2, false)
	u.check()
	var batch string
	calls := []struct {
		name, match string
		call        func() error
		commands    int
	}{
		{"add", "evalsha", func() error { u.add("a", 0); return nil }, 2},
		{"touch", "evalsha", func() error { _, err := u.Touch(ctx, u.tag, sid("a"), "", time.Hour, b.Prefix(t)); return err }, 4},
		{"renew", "evalsha", func() error { _, err := u.Renew(ctx, u.tag, sid("a"), "", time.Hour); return err }, 2},
		{"list", "evalsha", func() error { _, err := u.List(ctx, u.tag); return err }, 2},
		{"alive", "zscore", func() error { _, err := u.Alive(ctx, u.tag, sid("a")); return err }, 2},
		{"remove", "evalsha", func() error { _, _, err := u.Remove(ctx, u.tag, sid("a")); return err }, 2},
		{"removeAll", "evalsha", func() (err error) { batch, err = u.RemoveAll(ctx, u.tag, ""); return err }, 2},
		{"drain", "hscan", func() error { u.drained(batch); return nil }, 3},
		{"drain's end", "unlink", func() error { u.drained("other"); return nil }, 3},
	}
	for _, swallow := range []bool{false, true} { // the first time the server learns the scripts
		for _, c := range calls {
			if c.name == "removeAll" {
				u.add("b", 0)
			}
			if swallow {
				p.Reset()
				p.SwallowReply(1, c.match, testkit.ThenClose)
			}
			if err := c.call(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if swallow {
				if got := [2]int{p.Swallowed(), p.Commands()}; got != [2]int{1, c.commands} {
					t.Errorf("%s: replies lost and commands: got %v; want [1 %d]", c.name, got, c.commands)
				}
				p.SwallowReply(0, "", testkit.ThenClose)
			}
		}
		u.check()
		same(t, "alive", u.alive())
		if keys := testkit.Keys(t, u.client, u.Key(u.tag, "gone", batch)); len(keys) > 0 {
			t.Errorf("left: %q", keys)
		}
	}
}
