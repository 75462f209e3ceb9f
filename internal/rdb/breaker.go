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

	// probeEvery is the time from one probe to the next while open: recovery is
	// noticed that soon, and one call in that time may wait for its budget.
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
}

// admit reports whether a call may be sent at now. While open it admits one
// caller per probeEvery: taking the probe moves retryAt, so a probe that never
// reports back blocks nobody.
func (b *breaker) admit(now int64) bool {
	at := b.retryAt.Load()
	if at == 0 {
		return true
	}
	return now >= at && b.retryAt.CompareAndSwap(at, now+int64(probeEvery))
}

// report tells how a call that was admitted ended.
func (b *breaker) report(now int64, o outcome) {
	switch o {
	case answered:
		// Read before write: on the healthy path all cores share these words.
		if b.silences.Load() != 0 {
			b.silences.Store(0)
		}
		if b.retryAt.Load() != 0 {
			b.retryAt.Store(0)
		}
	case silent:
		if b.silences.Add(1) >= tripAfter {
			b.retryAt.Store(now + int64(probeEvery))
		}
	case abandoned:
		// If this was the probe, let the next caller probe.
		if at := b.retryAt.Load(); at > now {
			b.retryAt.CompareAndSwap(at, now)
		}
	}
}
