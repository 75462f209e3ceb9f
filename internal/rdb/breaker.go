package rdb

import (
	"sync/atomic"
	"time"
)

const (
	// tripAfter is how many silences in a row open the breaker. Fewer would let
	// one slow moment of Redis (a fork, a long command of somebody else) with a
	// handful of calls in flight cut everybody off.
	tripAfter = 5

	// probeEvery is the time from one probe to the next while open. Recovery is
	// noticed that soon after go-redis can connect again; after many refused
	// dials it waits up to a second by itself.
	probeEvery = 250 * time.Millisecond
)

// breaker stops calls to a server that has been silent.
//
//	closed ──tripAfter silences in a row──▶ open ──probeEvery──▶ one probe ──answer──▶ closed
//	                                         ▲                       │
//	                                         └───────silence─────────┘
//
// Its zero value is closed.
type breaker struct {
	silences atomic.Int32
	// retryAt is the instant of the next probe, in nanoseconds on the clock of
	// now; 0 means closed.
	retryAt atomic.Int64
	// closedAt is when an answer last closed it: what was sent before and is
	// still silent says nothing about the server that came back.
	closedAt atomic.Int64

	lane lane // the calls to the server
}

// pass is the leave to make one call.
type pass struct {
	begun int64
	// probe is the retryAt that this call, being the probe, has set; else 0.
	probe int64
}

// admit gives leave for a call that takes at most budget; ok is false while the
// breaker is open and no probe is due. A probe moves retryAt past its own end,
// so there is one at a time, and one that never reports back blocks nobody for
// long.
func (b *breaker) admit(now int64, budget time.Duration) (p pass, ok bool) {
	at := b.retryAt.Load()
	if at == 0 {
		return pass{begun: now}, true
	}
	next := now + int64(max(budget, probeEvery))
	if now < at || !b.retryAt.CompareAndSwap(at, next) {
		return pass{}, false
	}
	return pass{begun: now, probe: next}, true
}

// report tells how a call that was admitted ended.
func (b *breaker) report(now int64, p pass, o outcome) {
	switch o {
	case answered:
		// Read before write: on the healthy path all cores share these words.
		if b.silences.Load() != 0 {
			b.silences.Store(0)
		}
		if b.retryAt.Load() != 0 {
			b.closedAt.Store(now)
			b.retryAt.Store(0)
		}
	case silent:
		if p.begun < b.closedAt.Load() {
			return
		}
		if b.silences.Add(1) >= tripAfter {
			b.retryAt.Store(now + int64(probeEvery))
		}
	case abandoned:
		// If this was the probe, let the next caller probe.
		if p.probe != 0 {
			b.retryAt.CompareAndSwap(p.probe, now)
		}
	}
}
