package rdb

import "time"

// What the tests see of the package's inside.

const (
	TripAfter  = tripAfter
	ProbeEvery = probeEvery
)

// Breaker is a breaker on a clock of the test's.
type Breaker struct{ breaker }

// Pass is the leave to make one call.
type Pass struct{ pass }

func (b *Breaker) Admit(at time.Duration) (Pass, bool) {
	p, ok := b.admit(int64(at), DefaultBudget)
	return Pass{p}, ok
}
func (b *Breaker) Answered(at time.Duration, p Pass)  { b.report(int64(at), p.pass, answered) }
func (b *Breaker) Silent(at time.Duration, p Pass)    { b.report(int64(at), p.pass, silent) }
func (b *Breaker) Abandoned(at time.Duration, p Pass) { b.report(int64(at), p.pass, abandoned) }

// SharesCore reports whether two Conns share breakers.
func SharesCore(a, b *Conn) bool { return a.core == b.core }

// Cores is how many clients are in the table.
func Cores() int {
	cores.Lock()
	defer cores.Unlock()
	return len(cores.m)
}
