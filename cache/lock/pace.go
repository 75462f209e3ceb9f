package lock

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// leastPause and mostPause are the bounds between which the head's pauses double
	// while announcements are not heard.
	leastPause = 5 * time.Millisecond
	mostPause  = 250 * time.Millisecond

	// lookEvery is how often the head asks though it would hear.
	lookEvery = 5 * time.Second

	// stagger spreads those who ask when a ttl has ended.
	stagger = 4 * time.Millisecond
)

// pace is how often one head asks. Its zero value is ready.
type pace struct {
	last  time.Duration
	ready bool // the watch was seen to be ready
}

// pause waits until it is worthwhile to ask again: the lock is announced to be free,
// its time ends, or, unless announcements are heard, a while has passed. It returns
// ErrTaken at timeout, and ctx.Err() when ctx ends.
func (p *pace) pause(ctx context.Context, g *gate, heard bool, left time.Duration, timeout <-chan time.Time) error {
	d := lookEvery
	if !heard {
		p.last = min(max(2*p.last, leastPause), mostPause)
		d = p.last/2 + rand.N(p.last/2)
	}
	if left > 0 {
		d = min(d, left+time.Millisecond+rand.N(stagger))
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	var ready <-chan struct{}
	if !heard && !p.ready {
		ready = g.watch.ready()
	}
	select {
	case <-timer.C:
	case <-g.woken:
		p.last = 0
	case <-ready:
		p.ready = true
	case <-timeout:
		return ErrTaken
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
