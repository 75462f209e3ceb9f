package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Locker gives out leases.
//
// It is safe for concurrent use, in any number of processes, and needs no Close.
// While a call of Acquire waits for a lock that is taken it hears of the release on
// the one connection for messages that all of Weir shares on a client.
type Locker struct {
	store   store
	gates   gates
	prefix  string
	label   string
	maxWait time.Duration // 0: no bound but ctx
	maxHold time.Duration // 0: no renewal
	outages bool
}

// New returns a Locker on client. It does no I/O: it works while Redis is down.
//
// Its errors are of kind ErrConfig, all mistakes joined: a nil client, a nil option,
// a number or a time out of the bounds that its option names.
func New(client redis.UniversalClient, options ...Option) (*Locker, error) {
	cfg, mistakes := configure(options)
	conn, err := rdb.Open(client, cfg.budget)
	mistakes = append(mistakes, cfg.confirmable(client), err)
	if err := rdb.Misconfigured("lock.New", mistakes...); err != nil {
		return nil, err
	}
	return cfg.locker(&single{
		conn:     conn,
		scripts:  standard,
		replicas: cfg.replicas.value,
		patience: cfg.budget + cfg.replicas.value.timeout,
	}), nil
}

func (c *config) locker(s store) *Locker {
	return &Locker{
		store:   s,
		prefix:  c.prefix,
		label:   c.label,
		maxWait: c.maxWait.value,
		maxHold: c.maxHold.value,
		outages: c.outages,
	}
}

// TryAcquire takes the lock for ttl if it is free; ok is false if it is taken. It does
// not wait. ttl is from MinTTL to MaxTTL. The lease's context is ctx until the lease
// ends.
//
// Errors: ErrUnavailable, with ErrNotReplicated under WithReplicaSync; ErrCorrupt;
// ErrEmptyKey; ErrTTL; ctx.Err() when ctx ends first.
func (l *Locker) TryAcquire(ctx context.Context, key string, ttl time.Duration) (lease *Lease, ok bool, err error) {
	if err := check(ctx, key, ttl); err != nil {
		return nil, false, edge("try to acquire", err)
	}
	c := newClaim(l.redisKey(key), l.label, ttl)
	lease, _, err = l.attempt(ctx, key, c, nobody)
	if err != nil {
		l.giveUp(ctx, c)
		return nil, false, edge("try to acquire", err)
	}
	return lease, lease != nil, nil
}

// Acquire takes the lock for ttl, and waits until it is free: until ctx ends, or for
// as long as WithMaxWait says. ttl is from MinTTL to MaxTTL. The lease's context is
// ctx until the lease ends, so a bound for the wait alone is WithMaxWait.
//
// Errors: ErrTaken if the maximum wait has passed; ErrUnavailable, with
// ErrNotReplicated under WithReplicaSync; ErrCorrupt; ErrEmptyKey; ErrTTL; ctx.Err()
// when ctx ends first. There is a lease exactly if there is no error.
func (l *Locker) Acquire(ctx context.Context, key string, ttl time.Duration) (*Lease, error) {
	if err := check(ctx, key, ttl); err != nil {
		return nil, edge("acquire", err)
	}
	lease, err := l.wait(ctx, key, newClaim(l.redisKey(key), l.label, ttl))
	return lease, edge("acquire", err)
}

func check(ctx context.Context, key string, ttl time.Duration) error {
	switch {
	case key == "":
		return ErrEmptyKey
	case ttl < MinTTL || ttl > MaxTTL:
		return fmt.Errorf("%w: %v: must be from %v to %v", ErrTTL, ttl, MinTTL, MaxTTL)
	}
	return ctx.Err()
}

func (l *Locker) redisKey(key string) string { return rdb.Key(l.prefix, "lock", key) }

// attempt asks for the lock once. Without a lease and an error it is taken, for left
// as far as is known.
func (l *Locker) attempt(ctx context.Context, key string, c *claim, who waiting) (lease *Lease, left time.Duration, err error) {
	g, err := l.store.acquire(ctx, c, who)
	if err != nil || !g.held {
		return nil, g.left, err
	}
	if !time.Now().Before(g.begun.Add(c.ttl - margin(c.ttl))) {
		c.doubtful.Store(true)
		return nil, 0, errLate
	}
	return l.lease(ctx, key, c, g.begun), 0, nil
}

// errLate says that a lease was over before it was known. The lock is given back.
var errLate = fmt.Errorf("%w: the answer took longer than the lease lasts", ErrUnavailable)

// giveUp frees what a failed acquire may have taken, or may take yet.
func (l *Locker) giveUp(ctx context.Context, c *claim) {
	if c.doubtful.Load() {
		// If that fails, too, the lock ends with its ttl.
		_, _ = l.store.release(detached(ctx), c)
	}
}

// wait queues up with the process's other waiters, and acquires when it is the first.
func (l *Locker) wait(ctx context.Context, key string, c *claim) (*Lease, error) {
	var timeout <-chan time.Time
	if l.maxWait > 0 {
		timer := time.NewTimer(l.maxWait)
		defer timer.Stop()
		timeout = timer.C
	}
	g, turn := l.gates.enter(c.lock)
	if turn != nil {
		select {
		case <-turn:
		case <-ctx.Done():
			l.gates.abandon(g, turn)
			return nil, ctx.Err()
		case <-timeout:
			l.gates.abandon(g, turn)
			return nil, ErrTaken
		}
	}
	defer l.gates.leave(g)
	lease, err := l.insist(ctx, key, c, g, timeout)
	if err != nil {
		l.giveUp(ctx, c)
	}
	return lease, err
}

// insist asks for the lock until it has it.
func (l *Locker) insist(ctx context.Context, key string, c *claim, g *gate, timeout <-chan time.Time) (*Lease, error) {
	var (
		pace   pace
		silent error // of the latest attempt
		left   = time.Until(g.taken)
		heard  = g.watch != nil && g.watch.live()
	)
	for {
		if left <= 0 || !heard {
			// Looked at before the attempt: what is announced after it is heard.
			heard = g.watch != nil && g.watch.live()
			who := l.gates.others(g)
			lease, busy, err := l.attempt(ctx, key, c, who)
			g.taken = time.Time{}
			switch {
			case lease != nil && who == others:
				g.taken = time.Now().Add(c.ttl)
				return lease, nil
			case err == nil && lease != nil:
				return lease, nil
			case err != nil && !(l.outages && errors.Is(err, ErrUnavailable)):
				return nil, err
			}
			silent, left = err, busy
		}
		if g.watch == nil {
			g.watch = l.store.watch(c.channel, g.wake)
		}
		if err := pace.pause(ctx, g, heard && silent == nil, left, timeout); err != nil {
			if err == ErrTaken && silent != nil {
				err = silent
			}
			return nil, err
		}
		left = 0
	}
}
