package rdb

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// foresightFor is for how long a foreseen reply may be used: whoever comes for it
// later asks anew.
const foresightFor = 50 * time.Millisecond

// foresight is what a request is going to read, told before it begins: the first call
// under its context takes those reads along, and who then asks for one has the reply
// already. See "One trip" on the package's page.
type foresight struct {
	mu    sync.Mutex
	reads []*foreseen
}

// foreseen are commands that one call will be made of.
type foreseen struct {
	conn *Conn
	cmds []*Cmd
	sent int64         // when they were, by now; 0: they were not
	done chan struct{} // closed when each has its reply or error
}

type foresightKey struct{}

// WithForesight returns a context under which [Conn.Foresee] tells of reads. It has a
// [Memory], so that a silence which one of them has met is not waited for again.
func WithForesight(ctx context.Context) context.Context {
	if ctx.Value(memoryKey{}) == nil {
		ctx = context.WithValue(ctx, memoryKey{}, new(Memory))
	}
	return context.WithValue(ctx, foresightKey{}, new(foresight))
}

// Foresees reports whether ctx is one of [WithForesight].
func Foresees(ctx context.Context) bool { return foresightOf(ctx) != nil }

func foresightOf(ctx context.Context) *foresight {
	f, _ := ctx.Value(foresightKey{}).(*foresight)
	return f
}

// Foresee tells that an Exec of cmds, with the same arguments, is likely to come under
// ctx: the next Exec under ctx on the same client takes them along, and theirs is then
// no round trip. They must be reads, whose arguments are texts and ints. Without
// [WithForesight] it does nothing.
func (c *Conn) Foresee(ctx context.Context, cmds ...*Cmd) {
	f := foresightOf(ctx)
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads = append(f.reads, &foreseen{conn: c, cmds: cmds})
}

// Recall gives cmds the replies that were foreseen for them, and reports whether there
// are any to be used. It does no I/O, but may wait for a call that is under way.
func (c *Conn) Recall(ctx context.Context, cmds ...*Cmd) bool {
	f := foresightOf(ctx)
	return f != nil && f.recall(ctx, c, cmds)
}

// exec is [Conn.Exec] under a context that has a foresight.
func (f *foresight) exec(ctx context.Context, c *Conn, cmds []*Cmd) {
	if f.recall(ctx, c, cmds) {
		return
	}
	along := f.board(c)
	if len(along) == 0 {
		c.execute(ctx, cmds)
		return
	}
	all := cmds[:len(cmds):len(cmds)]
	b := c.sameServer(ctx, cmds)
	for _, r := range along {
		if b == nil || r.conn.sameServer(ctx, r.cmds) != b || r.conn.budget > c.budget {
			go r.exec(ctx)
			continue
		}
		all = append(all, r.cmds...)
		defer close(r.done)
	}
	c.execute(ctx, all)
}

// exec sends what the call that takes it along must not wait for: what goes to another
// master, or may take longer.
func (r *foreseen) exec(ctx context.Context) {
	defer close(r.done)
	// Should a hook of the user's panic, it does so again where somebody can recover it:
	// in the call that comes for the reply.
	defer func() { _ = recover() }()
	r.conn.execute(ctx, r.cmds)
}

var errForesight = errors.New("not read ahead")

// recall answers cmds by what was foreseen, if it was, has come, and is young enough.
// Any other call of the same engine drops what was foreseen for it: it may write what
// that has read.
func (f *foresight) recall(ctx context.Context, c *Conn, cmds []*Cmd) bool {
	r := f.take(c, cmds)
	if r == nil {
		return false
	}
	if !r.wait(ctx, c.budget) {
		if ctx.Err() == nil { // a budget has been waited in vain
			Remember(ctx, &unavailable{breaker: c.core.breakerOf(ctx, cmds[0].key), cause: context.DeadlineExceeded, took: c.budget})
		}
		return false
	}
	if err := firstError(r.cmds); err != nil {
		Remember(ctx, err)
		return false
	}
	if now()-r.sent > int64(foresightFor) {
		return false
	}
	for i, cmd := range cmds {
		cmd.val, cmd.err, cmd.asked = r.cmds[i].val, nil, r.sent
	}
	return true
}

// wait reports whether the replies have come, or come within the budget of who wants them.
func (r *foreseen) wait(ctx context.Context, budget time.Duration) bool {
	select {
	case <-r.done:
		return true
	default:
	}
	timer := time.NewTimer(budget)
	defer timer.Stop()
	select {
	case <-r.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// take returns what was foreseen and sent for cmds, and forgets whatever was foreseen
// for c.
func (f *foresight) take(c *Conn, cmds []*Cmd) (match *foreseen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.reads[:0]
	for _, r := range f.reads {
		switch {
		case r.conn != c:
			kept = append(kept, r)
		case r.sent != 0 && match == nil && sameCommands(r.cmds, cmds):
			match = r
		}
	}
	clear(f.reads[len(kept):])
	f.reads = kept
	return match
}

// board returns what is to go along with a call of c's.
func (f *foresight) board(c *Conn) (along []*foreseen) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.reads {
		if r.sent == 0 && r.conn.core == c.core {
			r.sent, r.done = now(), make(chan struct{})
			_ = fail(r.cmds, errForesight) // until it is known better, should a hook panic
			along = append(along, r)
		}
	}
	return along
}

// sameServer is the breaker of all cmds, or nil if they have several servers, or may have:
// a Ring does not tell.
func (c *Conn) sameServer(ctx context.Context, cmds []*Cmd) *breaker {
	if _, ring := c.core.client.(*redis.Ring); ring {
		return nil
	}
	b := c.core.breakerOf(ctx, cmds[0].key)
	for _, cmd := range cmds[1:] {
		if c.core.cluster != nil && c.core.breakerOf(ctx, cmd.key) != b {
			return nil
		}
	}
	return b
}

func sameCommands(a, b []*Cmd) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].same(b[i]) {
			return false
		}
	}
	return true
}

func (c *Cmd) same(other *Cmd) bool {
	if len(c.args) != len(other.args) {
		return false
	}
	for i, arg := range c.args {
		switch arg.(type) {
		case string, int, int64:
			if arg != other.args[i] {
				return false
			}
		default:
			return false
		}
	}
	return true
}
