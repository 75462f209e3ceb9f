package rdb

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A call usually has a connection of the pool to itself. One for which none is
// left would wait until another call's round trip has ended, and with it all that
// come after. Instead such calls share pipelines: at a network's distance the
// pool's size then no longer bounds the rate. While the pool suffices nothing is
// shared, and one call's fate is not another's.

const (
	// laneSenders is how many pipelines of shared calls are under way at most.
	laneSenders = 10

	// laneBatch is how many calls share one at most.
	laneBatch = 128
)

// width is how many calls a server's pool takes side by side, and how many
// pipelines of shared calls beside them.
type width struct{ direct, senders int64 }

// widthOf divides a pool. pipelines is the size of the pool that go-redis keeps
// for pipelines alone, or 0.
func widthOf(pool, pipelines int) width {
	if pipelines > 0 {
		return width{int64(pool), min(laneSenders, int64(pipelines))}
	}
	senders := min(laneSenders, max(1, int64(pool)/4))
	return width{max(1, int64(pool)-senders), senders}
}

// lane is one server's calls. Its zero value is ready.
type lane struct {
	direct atomic.Int64 // calls with a connection of their own

	mu      sync.Mutex
	queue   []*passenger
	senders int64
}

// passenger is a call that shares a pipeline.
type passenger struct {
	ctx  context.Context
	cmds []once
	done chan any // gets nil, or what a hook of the user's has panicked with
}

// enter takes one of the places of its own that w has, if one is free.
func (l *lane) enter(w width) bool {
	if l.direct.Add(1) <= w.direct {
		return true
	}
	l.direct.Add(-1)
	return false
}

func (l *lane) leave() { l.direct.Add(-1) }

// ride has cmds sent along with others, and reports as [core.attempt] does.
func (c *core) ride(ctx context.Context, l *lane, cmds []once) (finished bool) {
	p := &passenger{ctx, cmds, make(chan any, 1)}
	l.mu.Lock()
	l.queue = append(l.queue, p)
	start := l.senders < c.width.senders
	if start {
		l.senders++
	}
	l.mu.Unlock()
	if start {
		go c.drive(l)
	}
	return await(ctx, p.done)
}

// drive sends what has queued up, until nothing has.
func (c *core) drive(l *lane) {
	for {
		batch := l.board()
		if batch == nil {
			return
		}
		c.carry(batch)
	}
}

// board takes those out of the queue who still wait; it ends a sender when there
// are none.
func (l *lane) board() (batch []*passenger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := 0
	for _, p := range l.queue {
		if len(batch) == laneBatch {
			break
		}
		taken++
		if p.ctx.Err() == nil {
			batch = append(batch, p)
		}
	}
	rest := copy(l.queue, l.queue[taken:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	if batch == nil {
		l.senders--
	}
	return batch
}

// carry sends a batch in one pipeline.
func (c *core) carry(batch []*passenger) {
	var (
		cmds []once
		last time.Time
	)
	for _, p := range batch {
		cmds = append(cmds, p.cmds...)
		if deadline, ok := p.ctx.Deadline(); ok && deadline.After(last) {
			last = deadline
		}
	}
	// The first one's context tells hooks where they are. Its end must not be
	// everybody's.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(batch[0].ctx), last)
	defer cancel()
	defer func() {
		panicked := recover()
		for _, p := range batch {
			p.done <- panicked
		}
	}()
	pipeline(ctx, c.client.Pipeline(), cmds)
}
