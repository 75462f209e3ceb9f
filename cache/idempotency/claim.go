package idempotency

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// goneLife is how long a claim that was let go is remembered: as long as a command of
// it may be under way in a network, twice the longest budget.
const goneLife = 2 * rdb.MaxBudget

// Claim is a key that is the caller's, until one of Finish, Release and Interrupt is
// called. Until then it is renewed at each third of its lease, by a timer.
//
// It is safe for concurrent use.
type Claim struct {
	store   *Store
	record  string
	channel string
	id      string
	keys    []string

	parent context.Context // the caller's
	ctx    context.Context
	end    context.CancelCauseFunc
	asked  time.Time // before the request that claimed the key was sent

	mu       sync.Mutex
	ended    bool
	until    time.Time // when the lease ends if it is not renewed
	timer    *time.Timer
	renewals sync.WaitGroup
}

func (s *Store) newClaim(ctx context.Context, record string) *Claim {
	c := &Claim{store: s, record: record, channel: record + ":done", id: rand.Text(), parent: ctx}
	c.keys = []string{record, record + ":gone:" + c.id}
	return c
}

// begin starts the renewals of a claim that was granted.
func (c *Claim) begin() {
	c.ctx, c.end = context.WithCancelCause(c.parent)
	c.mu.Lock() // the timer may fire before it is known
	defer c.mu.Unlock()
	c.until = c.asked.Add(c.store.lease)
	c.timer = time.AfterFunc(c.store.lease/3, c.renew)
}

// Context is the one that Reserve was given, and ends when the claim does: with
// context.Canceled after Finish, Release and Interrupt; with the cause ErrLost (see
// [context.Cause]) once the key is known to be another's or forgotten, and under Retry
// already when the lease could not be renewed in time, as another may then claim the
// key. Work that is done under it stops then.
func (c *Claim) Context() context.Context { return c.ctx }

// Finish keeps outcome under the key for the time of WithTTL, and ends the claim. It
// works when ctx has ended, and takes at most the budget, or two if a renewal is under
// way. outcome must not be changed any more, not even after Finish has returned.
//
// A claim whose lease has ended is finished all the same if nobody has claimed the key
// meanwhile: its outcome then takes the place of Interrupted.
//
// Errors: ErrLost if the key is another's or was forgotten; ErrUnavailable, and then the
// outcome may be kept or not; ErrEnded; ErrCorrupt.
func (c *Claim) Finish(ctx context.Context, outcome []byte) error {
	return edge("finish", c.close(ctx, finishScript.Cmd(c.record, c.id, outcome, c.store.ttl.Milliseconds(), c.channel)))
}

// Release ends the claim and keeps nothing: the next request with the key does the
// work. It is for work that has done nothing. It works when ctx has ended, and takes at
// most the budget, or two if a renewal is under way.
//
// Errors: ErrLost if the key is another's or was forgotten; ErrUnavailable, and then the
// key may be Interrupted; ErrEnded; ErrCorrupt.
func (c *Claim) Release(ctx context.Context) error {
	return edge("release", c.close(ctx, c.releaseCmd()))
}

func (c *Claim) releaseCmd() *rdb.Cmd {
	return releaseScript.On(c.keys, c.id, goneLife.Milliseconds(), c.channel).Again(1)
}

// Interrupt ends the claim as the holder's death would, only at once: under Block the
// key is Interrupted, under Retry the next request with it does the work. It is for work
// of which nobody knows how far it came. It works when ctx has ended, and takes at most
// the budget, or two if a renewal is under way.
//
// Errors: ErrLost if the key is another's or was forgotten; ErrUnavailable, and then the
// lease ends at its time; ErrEnded; ErrCorrupt.
func (c *Claim) Interrupt(ctx context.Context) error {
	return edge("interrupt", c.close(ctx, interruptScript.Cmd(c.record, c.id, c.store.ttl.Milliseconds(), c.channel)))
}

// close ends the renewals, and then tells Redis by cmd.
func (c *Claim) close(ctx context.Context, cmd *rdb.Cmd) error {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return ErrEnded
	}
	c.ended = true
	c.timer.Stop()
	c.mu.Unlock()
	defer c.end(nil)
	c.renewals.Wait() // for a budget at most
	held, err := c.tell(ctx, cmd)
	if err == nil && !held {
		err = ErrLost
	}
	return err
}

// tell runs a script that says whether the key is still the claim's.
func (c *Claim) tell(ctx context.Context, cmd *rdb.Cmd) (held bool, err error) {
	if err := c.store.conn.Exec(context.WithoutCancel(ctx), cmd); err != nil {
		return false, err
	}
	_, w, err := parse(cmd)
	return w == wordHeld, err
}

// giveUp lets go of what a failed Reserve may have claimed, or may claim yet. If that
// fails, too, the key may be interrupted when the lease ends.
func (c *Claim) giveUp(ctx context.Context) { _, _ = c.tell(ctx, c.releaseCmd()) }

// renew prolongs the lease, and sees to it that this is done again.
func (c *Claim) renew() {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return
	}
	// close waits for it: it cannot have begun to, as ended says.
	c.renewals.Add(1)
	c.mu.Unlock()
	defer c.renewals.Done()
	asked, lease := time.Now(), c.store.lease
	held, err := c.tell(c.parent, renewScript.Cmd(c.record, c.id, lease.Milliseconds(), c.store.ttl.Milliseconds()))
	c.mu.Lock()
	defer c.mu.Unlock()
	pause := lease / 3
	switch {
	case err == nil && !held:
		c.end(ErrLost)
		return // nothing brings it back
	case err == nil:
		c.until = asked.Add(lease)
	default:
		// Not given up when the lease has ended: nobody may have claimed the key.
		pause = lease / 10
		if left := time.Until(c.until); left <= 0 && c.store.crash == Retry {
			c.end(ErrLost)
		} else if left > 0 {
			pause = min(pause, left)
		}
	}
	if !c.ended {
		c.timer.Reset(pause)
	}
}
