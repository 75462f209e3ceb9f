package rdb

import "time"

// What the tests see of the package's inside.

const (
	TripAfter       = tripAfter
	ProbeEvery      = probeEvery
	SlotsPerBreaker = slotsPerBreaker
)

var Slot = slot

// Breaker is a breaker on a clock of the test's.
type Breaker struct{ breaker }

func (b *Breaker) Admit(at time.Duration) bool { return b.admit(int64(at)) }
func (b *Breaker) Answered(at time.Duration)   { b.report(int64(at), answered) }
func (b *Breaker) Silent(at time.Duration)     { b.report(int64(at), silent) }
func (b *Breaker) Abandoned(at time.Duration)  { b.report(int64(at), abandoned) }

// SharesCore reports whether two Conns share breakers.
func SharesCore(a, b *Conn) bool { return a.core == b.core }

// Cores is how many clients are in the table.
func Cores() int {
	cores.Lock()
	defer cores.Unlock()
	return len(cores.m)
}
