package ratelimit

import (
	"sync"
	"time"
)

// clock tells what Redis's clock shows at most, from the times it has told. It
// does without this machine's: a time T told in answer to a question of instant s
// (by the monotonic clock) says that Redis's clock is at most T-s ahead of it.
type clock struct {
	mu sync.Mutex
	// The least and the most that it is ahead by, in this period and the one
	// before; periods bound how far the two clocks can drift apart.
	now, before bounds
	begun       time.Duration
}

type bounds struct {
	known       bool
	least, most time.Duration
}

const clockPeriod = 10 * time.Second

func (b bounds) meet(o bounds) bounds {
	switch {
	case !b.known:
		return o
	case !o.known:
		return b
	}
	return bounds{true, max(b.least, o.least), min(b.most, o.most)}
}

// learn takes note of the time that was asked for at sent and told by received.
func (c *clock) learn(sent, received time.Duration, told time.Time) {
	t := time.Duration(told.UnixMicro()) * time.Microsecond
	b := bounds{true, t - received, t + time.Microsecond - sent}
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.now.meet(c.before)
	if all.known && (b.least > all.most || b.most < all.least) {
		// It was set, or another server has taken over.
		c.now, c.before, c.begun = b, bounds{}, received
		return
	}
	if received-c.begun >= clockPeriod {
		c.now, c.before, c.begun = bounds{}, c.now, received
	}
	c.now = c.now.meet(b)
}

// latest is what Redis's clock shows at most at an instant, in µs since 1970; ok is
// false while nothing is known of it, or only what is too old.
func (c *clock) latest(at time.Duration) (µs int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.now.meet(c.before)
	if !all.known || at-c.begun > 2*clockPeriod {
		return 0, false
	}
	return (at + all.most).Microseconds(), true
}
