package ratelimit

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// places are those in flight that Redis may have given without anybody knowing: the
// decision was given up before the answer came. Nobody will release them, so this
// process does, along with later decisions; else they were taken until their leases
// end.
type places struct {
	mu    sync.Mutex
	lost  []place // oldest first
	count atomic.Int64
}

type place struct {
	base, id string
	due      time.Duration // on the stopwatch
}

const (
	// placesLost bounds the memory; beyond, leases end by themselves.
	placesLost = 1 << 14

	// placesAtOnce is how many are released along with one decision.
	placesAtOnce = 16

	// placeLate is for how long a decision may still be carried out that was given
	// up: until then it would take its place after the release.
	placeLate = time.Second
)

// lose notes that a place may be taken.
func (p *places) lose(base, id string, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.lost) < placesLost {
		p.lost = append(p.lost, place{base, id, now + placeLate})
		p.count.Store(int64(len(p.lost)))
	}
}

// due takes out some that are to be released.
func (p *places) due(now time.Duration) (due []place) {
	if p.count.Load() == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < min(len(p.lost), placesAtOnce) && p.lost[n].due <= now {
		n++
	}
	if n == 0 {
		return nil
	}
	due = append(due, p.lost[:n]...)
	p.lost = append(p.lost[:0], p.lost[n:]...)
	p.count.Store(int64(len(p.lost)))
	return due
}

// release is the command that gives p free.
func (p place) release() *rdb.Cmd {
	flight := hasFlight.keys(p.base)[0]
	return rdb.NewCmd(flight, "zrem", flight, p.id).Replayable()
}
