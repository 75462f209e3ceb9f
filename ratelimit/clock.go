package ratelimit

import (
	"sync"
	"time"
)

// clock tells between which bounds Redis's clock is, from the times it has told. It
// does without this machine's: a time T told in answer to a question of instant s
// (by the monotonic clock), and heard at instant r, says that Redis's clock is at
// least T-r and at most T-s ahead of it.
type clock struct {
	mu    sync.Mutex
	known bool
	// By how much it was ahead at the instant at. From then on the bounds part, as
	// the two clocks may.
	at, least, most time.Duration
}

const (
	// clockParts is the rate at which the bounds part: 1 ms in a second. NTP slews
	// a clock by at most half of that.
	clockParts = 1000

	// clockAges is when the bounds are too old to be of use: 20 ms apart.
	clockAges = 20 * time.Second
)

// bounds are what the clock is ahead by at an instant; the caller holds the lock.
func (c *clock) bounds(at time.Duration) (least, most time.Duration) {
	parted := (at - c.at).Abs() / clockParts
	return c.least - parted, c.most + parted
}

// learn takes note of the time that was asked for at sent and told by received.
// What contradicts all that was told before is believed: the clock was set, or
// another server has taken over.
func (c *clock) learn(sent, received time.Duration, told time.Time) {
	t := time.Duration(told.UnixMicro()) * time.Microsecond
	least, most := t-received, t+time.Microsecond-sent // it was cut to a microsecond
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known {
		if l, m := c.bounds(received); least <= m && most >= l {
			least, most = max(least, l), min(most, m)
		}
	}
	c.known, c.at, c.least, c.most = true, received, least, most
}

// span is what Redis's clock shows at an instant, in µs since 1970: not before
// earliest, nor after latest. ok is false while nothing is known of it, or only
// what is too old.
func (c *clock) span(at time.Duration) (earliest, latest int64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known || at-c.at > clockAges {
		return 0, 0, false
	}
	least, most := c.bounds(at)
	return (at + least).Microseconds(), (at + most).Microseconds() + 1, true
}
