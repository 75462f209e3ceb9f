package lock

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Lease is a lock that is held, until a time.
//
// It is safe for concurrent use.
type Lease struct {
	locker *Locker
	key    string
	claim  *claim
	ctx    leaseContext
	end    context.CancelCauseFunc

	until  atomic.Int64 // when it is over, in ns since started
	latest int64        // beyond which it is not extended, by WithAutoExtend

	mu       sync.Mutex
	state    state
	expiry   *time.Timer // at until
	renewal  *time.Timer // nil without WithAutoExtend
	renewals sync.WaitGroup

	release sync.Once
	outcome error
}

// state is what has become of a lease.
type state int

const (
	held state = iota
	lost
	released
)

// started anchors the clock of leases, which is monotonic.
var started = time.Now()

func since(t time.Time) int64 { return int64(t.Sub(started)) }
func now() int64              { return int64(time.Since(started)) }

// lease makes the lease of a claim that was granted by a request sent at begun.
func (l *Locker) lease(ctx context.Context, key string, c *claim, begun time.Time) *Lease {
	lease := &Lease{locker: l, key: key, claim: c, latest: math.MaxInt64}
	lease.until.Store(math.MinInt64)
	if l.maxHold > 0 {
		lease.latest = since(begun.Add(l.maxHold))
	}
	lease.ctx.lease = lease
	lease.ctx.Context, lease.end = context.WithCancelCause(ctx)
	lease.mu.Lock() // the timers may fire before they are known
	defer lease.mu.Unlock()
	lease.holds(begun, c.ttl)
	lease.expiry = time.AfterFunc(time.Duration(lease.until.Load()-now()), lease.expire)
	if l.maxHold > 0 {
		lease.renewal = time.AfterFunc(c.ttl/3, lease.renew)
	}
	return lease
}

// holds notes that the lock lasts for ttl from a request sent at begun.
func (l *Lease) holds(begun time.Time, ttl time.Duration) {
	until := min(since(begun.Add(ttl-margin(ttl))), l.latest)
	if until > l.until.Load() {
		l.until.Store(until)
	}
}

// Key is what the lock is of.
func (l *Lease) Key() string { return l.key }

// Token is the lease's fencing token: higher than those of all leases of the key
// before. It is at most 2^53. See the package's page on what it is good for.
func (l *Lease) Token() int64 { return l.claim.token }

// Since is when the lock was taken, by Redis's clock.
func (l *Lease) Since() time.Time { return l.claim.since }

// Until is when the lease will be over if it is not extended, by this process's
// monotonic clock.
func (l *Lease) Until() time.Time { return started.Add(time.Duration(l.until.Load())) }

// Context is the context to work under. It is the one that Acquire was given, and
// ends when the lease does: with the cause ErrLost if the lock was lost, with
// context.Canceled after Release. Its Err looks at the clock, so it is right also in
// the moment when a process that was stopped runs again and its timers do not yet.
// [FromContext] finds the lease in it.
func (l *Lease) Context() context.Context { return &l.ctx }

// Extend makes the lease last for ttl from now on, or as long as it did if that is
// longer; under WithAutoExtend not beyond the maximum hold. ttl is from MinTTL to
// MaxTTL.
//
// Errors: ErrLost if the lease has ended, which Extend does not change; ErrTTL;
// ErrUnavailable, and then the lease lasts as long as it did: Extend may be tried
// again; ErrCorrupt; ctx.Err() when ctx ends first.
func (l *Lease) Extend(ctx context.Context, ttl time.Duration) error {
	if err := check(ctx, l.key, ttl); err != nil {
		return edge("extend", err)
	}
	return edge("extend", l.extend(ctx, ttl))
}

func (l *Lease) extend(ctx context.Context, ttl time.Duration) error {
	if l.ctx.Err() != nil {
		return l.over()
	}
	g, err := l.locker.store.extend(ctx, l.claim, ttl)
	switch {
	case err != nil:
		return err
	case !g.held:
		l.lose()
		return ErrLost
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// The answer may have come when the lease was over: then it stays so.
	if l.state != held || l.until.Load() <= now() {
		return ErrLost
	}
	l.holds(g.begun, ttl)
	l.expiry.Reset(time.Duration(l.until.Load() - now()))
	return nil
}

// over is why the lease has ended: the caller's context tells, or it was lost, or
// released, which is the same to whoever would go on.
func (l *Lease) over() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == held {
		return l.ctx.Context.Err()
	}
	return ErrLost
}

// renew extends the lease, and sees to it that this is done again.
func (l *Lease) renew() {
	l.mu.Lock()
	if l.state != held {
		l.mu.Unlock()
		return
	}
	// Release waits for it: it cannot have begun to, as state says.
	l.renewals.Add(1)
	l.mu.Unlock()
	defer l.renewals.Done()
	// Not cut short by the lease's end: a command that was left behind would be sent
	// when Release has returned.
	err := l.extend(detached(&l.ctx), l.claim.ttl)
	l.mu.Lock()
	defer l.mu.Unlock()
	pause := l.claim.ttl / 3
	if err != nil {
		pause = l.claim.ttl / 10
	}
	if l.state == held && l.ctx.Context.Err() == nil && l.until.Load() < l.latest {
		l.renewal.Reset(pause)
	}
}

// expire is called when the lease's time may have passed.
func (l *Lease) expire() {
	l.mu.Lock()
	if d := time.Duration(l.until.Load() - now()); l.state == held && d > 0 {
		l.expiry.Reset(d) // it was extended
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.lose()
}

// lose ends the lease because the lock is lost, or about to be.
func (l *Lease) lose() {
	if l.stop(lost) == held {
		l.end(ErrLost)
	}
}

// stop ends the lease and its timers. It returns what the lease was before.
func (l *Lease) stop(next state) (before state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before = l.state
	if before != held {
		return before
	}
	l.state = next
	l.expiry.Stop()
	if l.renewal != nil {
		l.renewal.Stop()
	}
	return before
}

// Release gives the lock back, and ends the lease's context. It works when ctx has
// ended, and takes at most the budget, or two if a renewal is under way. It is to be called once the work is done,
// whatever has become of it; again it returns what it did.
//
// Errors: ErrLost if the lock had been lost before: others may have held it while
// the work went on, unless the work ended with the context; ErrUnavailable if Redis
// could not be told: the lock then ends with its ttl; ErrCorrupt.
func (l *Lease) Release(ctx context.Context) error {
	l.release.Do(func() { l.outcome = edge("release", l.giveBack(ctx)) })
	return l.outcome
}

func (l *Lease) giveBack(ctx context.Context) error {
	if l.until.Load() <= now() {
		l.lose()
	}
	before := l.stop(released)
	l.end(nil)
	l.renewals.Wait() // for a budget at most
	freed, err := l.locker.store.release(detached(ctx), l.claim)
	switch {
	case before == lost:
		return ErrLost
	case err == nil && !freed:
		return ErrLost
	}
	return err
}
