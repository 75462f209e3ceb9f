package session_test

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// interposer runs what comes between two commands of a step.
type interposer struct{ w **world }

func (i interposer) between() {
	w := *i.w
	if w == nil {
		return
	}
	if mid := w.next(); mid != nil {
		mid()
	}
}

// next is what comes between two commands now, if anything. A cluster's masters are
// asked side by side.
func (w *world) next() func() {
	w.between.Lock()
	defer w.between.Unlock()
	if w.mid == nil {
		return nil
	}
	if w.midIn--; w.midIn >= 0 {
		return nil
	}
	mid := w.mid
	w.mid = nil
	return mid
}

func (i interposer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (i interposer) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { i.between(); return next(ctx, cmd) }
}

func (i interposer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { i.between(); return next(ctx, cmds) }
}

// intrude arranges for a whole request of somebody else's in the midst of g's step.
func (w *world) intrude(g *guest) {
	if g.s == nil || w.rng.IntN(3) > 0 {
		return
	}
	other := w.ms[0]
	for _, m := range w.ms {
		if m != g.m {
			other = m
		}
	}
	s, op := g.s, w.rng.IntN(6)
	w.midIn = w.rng.IntN(4)
	w.mid = func() {
		w.disturb = true
		w.note("  meanwhile (%d):", op)
		in := &guest{name: "  intruder", m: other, sent: g.token, pending: map[string]int{}, began: w.now()}
		in.v = visit(other, in.sent)
		in.v.KeepToken()
		w.see(in, true)
		switch {
		case op < 2 && in.s != nil:
			w.serial++
			key := fmt.Sprint("k", w.serial)
			in.m.Put(in.v, key, w.serial)
			if _, err := in.v.Commit(); err == nil && !w.warned(in) {
				s.keys[key] = w.serial
				w.note("  %s is kept", key)
			}
		case op == 2 && in.s != nil:
			if err := in.m.Update(in.v, "n", inc); err == nil {
				s.count++
				w.note("  an update is kept")
			}
		case op == 3 && in.s != nil:
			id := in.id
			if err := in.m.Destroy(in.v); err != nil {
				w.fail("destroy: %v", err)
			}
			w.kill(s, "logout")
			if id == s.id {
				s.listed = false
			}
			w.note("  a logout")
		case op == 4 && s.id != "":
			w.end(in.m, s)
		case op == 5 && s.user != "":
			in.s = nil
			in.committed = true
			user := s.user
			if err := in.m.EndAll(context.Background(), user); err != nil {
				w.fail("end all: %v", err)
			}
			w.note("  end all of %s", user[len(user)-1:])
			w.ended[user], w.endedAt[user] = w.now(), w.begins
			w.killed[nil] = "all"
			for _, s := range w.souls {
				if s.user == user && s.id != "" {
					w.kill(s, "end all")
					s.listed = false
				}
			}
		}
	}
}
