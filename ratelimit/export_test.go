package ratelimit

import (
	"context"
	"time"
)

// Clock is a clock, for tests.
type Clock struct{ clock clock }

// ClockAges is when what a Clock knows is too old.
const ClockAges = clockAges

func (c *Clock) Learn(sent, received time.Duration, told time.Time) {
	c.clock.learn(sent, received, told)
}

func (c *Clock) Span(at time.Duration) (earliest, latest time.Time, ok bool) {
	e, l, ok := c.clock.span(at)
	return time.UnixMicro(e), time.UnixMicro(l), ok
}

// Mislead has l take the clock of key's server to be that much further ahead.
func (l *Limiter) Mislead(ctx context.Context, key string, by time.Duration) {
	c := l.clockOf(ctx, l.base(key)+":multi")
	c.mu.Lock()
	defer c.mu.Unlock()
	c.least += by
	c.most += by
}
