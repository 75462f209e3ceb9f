package event

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrReject, wrapped in a handler's error, says that no further delivery can
	// help: the entry becomes a dead letter at once.
	ErrReject = errors.New("event rejected")

	// ErrClaimed is the cause with which a handler's context ends when another
	// consumer has taken its entry over, because this one gave no sign for too long.
	ErrClaimed = errors.New("entry claimed by another consumer")

	// ErrUnfinished says that handlers did not end within the grace period. Their
	// entries stay pending, and are delivered again.
	ErrUnfinished = errors.New("handlers unfinished")

	errEnding = errors.New("consumer is ending")
)

// Consume handles the entries of the stream for group, each at least once, until ctx
// ends or [Bus.Shutdown] is called. All consumers of one group, in whatever process,
// share its entries; each group has all of them.
//
// An entry whose handler returns nil is done. One whose handler returns an error or
// panics is delivered again after a while ([WithBackoff]), and after 5 deliveries
// ([WithMaxDeliveries]) moved to the dead letters with the last error. So is, at once,
// an entry that does not decode, and one whose handler's error wraps ErrReject. An
// entry whose consumer died is delivered to another one after 30 seconds
// ([WithClaimAfter]), and counts as delivered: one that kills each process that
// touches it becomes a dead letter too.
//
// A handler may see an entry more than once: its process may die between the work and
// the note of it, or be taken for dead. Make the work such that a repetition does
// nothing, by Entry.ID or an id in the event.
//
// In the end no further entry is taken (from a second after Shutdown on), and handlers
// that run may go on for 10 seconds ([WithGrace]). Their context, which carries ctx's
// values, does not end before. What is not handled then is handed back. Consume returns nil; ErrUnfinished,
// if a handler is still running. On a Bus that was closed before it returns ErrClosed.
//
// When Redis is silent Consume waits and goes on where it was: with handlers that run
// already, and with the rest when Redis is back. It returns before ctx ends only for
// ErrConfig, ErrCorrupt (the key holds something else, which stays as it is) and a
// refusal by the server such as NOPERM.
//
// It occupies no connection while it waits, and never blocks one.
func (s *Stream[T]) Consume(ctx context.Context, group string, handler func(context.Context, Entry[T]) error, options ...ConsumeOption) error {
	cfg, mistakes := configureConsume(group, handler != nil, options)
	if err := rdb.Misconfigured("event.Stream.Consume", mistakes...); err != nil {
		return err
	}
	if s.bus.isClosed() {
		return fmt.Errorf("event: consume: %w", ErrClosed)
	}
	c := newConsumer(ctx, s, group, handler, cfg)
	w := await(s.bus.conn, s.keys.entries)
	defer w.stop()
	err := c.run(ctx, w)
	if end := c.end(); err == nil {
		err = end
	}
	if err != nil {
		return fmt.Errorf("event: consume: %w", err)
	}
	return nil
}

// consumer is one run of Consume. One goroutine, its caller's, owns all of it and asks
// Redis; handlers have goroutines of their own, which only send to done.
type consumer[T any] struct {
	stream  *Stream[T]
	group   string
	name    string // in Redis: of this run alone
	elder   string // how the names of those begin that this one stands in for
	handler func(context.Context, Entry[T]) error
	cfg     *consumeConfig

	calls    context.Context // of calls to Redis: with ctx's values, without its end
	handlers context.Context // of handlers: ends when their grace has
	halt     context.CancelCauseFunc

	hand    map[string]*job[T] // all that is pending to this consumer, by id
	running int
	done    chan *job[T] // handlers that have ended
	due     chan *job[T] // jobs whose back-off has passed
	again   []*job[T]    // those of due that wait for a worker
	acks    []string     // handled, and Redis does not know
	graves  []*job[T]    // to be made dead letters
	mark    string       // of the last notice that entries are gone

	joined bool // the group was seen
	silent bool // Redis is
	more   bool // new entries are known to be there
	claims bool // entries in nobody's hands are
	ending bool // nothing more is taken
	// When to look for new entries, join again, give signs, and ask a silent Redis.
	pollAt, joinAt, signAt, askAt time.Time
}

// job is an entry in the consumer's hands.
type job[T any] struct {
	entry   Entry[T]
	cancel  context.CancelCauseFunc
	running bool
	err     error       // of the last run
	timer   *time.Timer // until the next one
	lost    bool        // another consumer has it
}

func newConsumer[T any](ctx context.Context, s *Stream[T], group string, handler func(context.Context, Entry[T]) error, cfg *consumeConfig) *consumer[T] {
	c := &consumer[T]{
		stream:  s,
		group:   group,
		name:    rand.Text()[:12],
		handler: handler,
		cfg:     cfg,
		calls:   context.WithoutCancel(ctx),
		hand:    make(map[string]*job[T]),
		done:    make(chan *job[T], cfg.workers),
		due:     make(chan *job[T], 2*mostInHand(cfg.workers)),
	}
	if cfg.name != nil {
		// A colon cannot stand in a name: "a" does not stand in for "a-1".
		c.elder = *cfg.name + ":"
		c.name = c.elder + c.name
	}
	c.handlers, c.halt = context.WithCancelCause(c.calls)
	return c
}

// mostInHand is how many entries a consumer has at most: one only, if the order is to
// be kept.
func mostInHand(workers int) int {
	if workers == 1 {
		return 1
	}
	return workers * (1 + waitersPerWorker)
}

// run does the consumer's work until ctx ends, which is no error.
func (c *consumer[T]) run(ctx context.Context, w *awaited) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if ctx.Err() != nil { // first: a turn may be due all the time
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.ready:
			w.ready = nil // what was published before is found now
			c.pollAt = time.Time{}
		case <-w.c:
			c.pollAt = time.Time{}
			if w.left.Swap(false) {
				c.joinAt = time.Time{} // and left work behind
			}
		case j := <-c.done:
			c.settle(j)
		case j := <-c.due:
			c.resume(j)
		case <-timer.C:
		}
		if c.stream.bus.isClosed() {
			return nil
		}
		c.collect()
		next, err := c.turn(ctx)
		if err != nil {
			return err
		}
		timer.Reset(min(next, pollEvery)) // or a closed Bus would not be noticed
	}
}

// collect takes in what else has happened meanwhile, so that one call tells it all.
func (c *consumer[T]) collect() {
	for {
		select {
		case j := <-c.done:
			c.settle(j)
		case j := <-c.due:
			c.resume(j)
		default:
			return
		}
	}
}

// turn asks Redis for what is to be asked now. It returns when the next turn is, and an
// error only if the consumer cannot go on.
func (c *consumer[T]) turn(ctx context.Context) (next time.Duration, err error) {
	now := time.Now()
	if now.Before(c.askAt) {
		return c.askAt.Sub(now), nil
	}
	for _, step := range []func(context.Context, time.Time) error{c.join, c.bury, c.retry, c.take} {
		if err := step(ctx, now); err != nil {
			return c.fall(err)
		}
	}
	c.silent = false
	if len(c.graves) > 0 || len(c.acks) > 0 || (c.more || c.claims) && c.free() > 0 || len(c.again) > 0 && c.running < c.cfg.workers {
		return 0, nil
	}
	at := c.joinAt
	if c.free() > 0 && c.pollAt.Before(at) {
		at = c.pollAt
	}
	if len(c.hand) > 0 && c.signAt.Before(at) {
		at = c.signAt
	}
	return max(0, time.Until(at)), nil
}

// fall is what follows an error: what was taken by a call whose reply was lost is
// looked for in the next turn.
func (c *consumer[T]) fall(err error) (next time.Duration, fatal error) {
	c.joinAt, c.pollAt = time.Time{}, time.Time{}
	if !errors.Is(err, ErrUnavailable) {
		return 0, err
	}
	if !c.silent {
		c.silent = true
		c.tell(Notice{Kind: NoticeUnavailable, Err: err})
	}
	wait := jitter(pollEvery / 4)
	c.askAt = time.Now().Add(wait)
	return wait, nil
}

// free is how many entries the consumer can begin to handle.
func (c *consumer[T]) free() int {
	if c.ending {
		return 0
	}
	return min(c.cfg.workers-c.running, mostInHand(c.cfg.workers)-len(c.hand))
}

// start runs the handler on an entry that was delivered, or sees that it cannot be.
func (c *consumer[T]) start(ctx context.Context, j *job[T]) {
	c.hand[j.entry.ID] = j
	switch {
	case j.entry.group != "" && j.entry.group != c.group:
		c.acknowledge(j)
		return
	case j.entry.Err != nil:
		j.err = j.entry.Err
		c.graves = append(c.graves, j)
		return
	case j.entry.Delivery > c.cfg.maxDeliveries:
		if j.err == nil {
			j.err = errors.New("no consumer has lived to tell how its handler ended")
		}
		j.entry.Delivery--
		c.graves = append(c.graves, j)
		return
	case ctx.Err() != nil:
		j.entry.Delivery-- // it was none: end hands the entry back
		return
	}
	c.running++
	j.running, j.err = true, nil
	var handling context.Context
	handling, j.cancel = context.WithCancelCause(c.handlers)
	entry := j.entry
	go func() {
		ended := false
		defer func() {
			if p := recover(); p != nil {
				j.err = fmt.Errorf("handler panicked: %v", p)
			} else if !ended {
				j.err = errors.New("handler ended its goroutine")
			}
			c.done <- j
		}()
		j.err = c.handler(handling, entry)
		ended = true
	}()
}

// settle takes note of how a handler has ended.
func (c *consumer[T]) settle(j *job[T]) {
	c.running--
	j.running = false
	j.cancel(nil)
	switch {
	case j.err == nil:
		c.acknowledge(j) // be it another's by now: the work is done
	case j.lost:
		delete(c.hand, j.entry.ID)
	case errors.Is(j.err, ErrReject) || j.entry.Delivery >= c.cfg.maxDeliveries:
		c.graves = append(c.graves, j)
	default:
		c.tell(Notice{Kind: NoticeFailed, ID: j.entry.ID, Delivery: j.entry.Delivery, Err: j.err})
		// due has room for all that can be in hand, and as many that were lost.
		j.timer = time.AfterFunc(c.backoff(j.entry.Delivery), func() { c.due <- j })
	}
}

// resume has a job begin anew once a worker is free.
func (c *consumer[T]) resume(j *job[T]) {
	if !j.lost {
		c.again = append(c.again, j)
	}
}

// acknowledge gives a job out of hand: Redis is told with the next call.
func (c *consumer[T]) acknowledge(j *job[T]) {
	delete(c.hand, j.entry.ID)
	c.acks = append(c.acks, j.entry.ID)
}

// backoff is the time from a failed delivery to the next one.
func (c *consumer[T]) backoff(delivery int) time.Duration {
	d := c.cfg.minBackoff
	for i := 1; i < delivery && d < c.cfg.maxBackoff; i++ {
		d *= 2
	}
	return halfJitter(min(d, c.cfg.maxBackoff))
}

func (c *consumer[T]) tell(n Notice) {
	n.Stream, n.Group = c.stream.name, c.group
	c.cfg.notice(n)
}
