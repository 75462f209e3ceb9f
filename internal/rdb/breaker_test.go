package rdb_test

import (
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// admit is a call that the breaker must let through.
func admit(t *testing.T, b *rdb.Breaker, at time.Duration) rdb.Pass {
	t.Helper()
	p, ok := b.Admit(at)
	if !ok {
		t.Fatalf("at %v: not admitted", at)
	}
	return p
}

// cutOff asserts that a call is not let through.
func cutOff(t *testing.T, b *rdb.Breaker, at time.Duration) {
	t.Helper()
	if _, ok := b.Admit(at); ok {
		t.Errorf("at %v: admitted; want it cut off", at)
	}
}

// tripped is a breaker that opened at 0, with a call still out from before.
func tripped(t *testing.T) (b *rdb.Breaker, old rdb.Pass) {
	t.Helper()
	b = new(rdb.Breaker)
	old = admit(t, b, 0)
	for range rdb.TripAfter {
		b.Silent(0, admit(t, b, 0))
	}
	return b, old
}

func TestBreaker_opensAfterSilencesInARow(t *testing.T) {
	t.Parallel()
	var b rdb.Breaker
	for range rdb.TripAfter - 1 {
		b.Silent(0, admit(t, &b, 0))
	}
	b.Answered(0, admit(t, &b, 0))
	for range rdb.TripAfter {
		b.Silent(0, admit(t, &b, 0))
	}
	cutOff(t, &b, 0)
}

func TestBreaker_admitsOneProbeAtATime(t *testing.T) {
	t.Parallel()
	b, _ := tripped(t)
	cutOff(t, b, rdb.ProbeEvery-1)
	admit(t, b, rdb.ProbeEvery)
	cutOff(t, b, rdb.ProbeEvery)
	cutOff(t, b, 2*rdb.ProbeEvery-1)
	admit(t, b, 2*rdb.ProbeEvery) // the first never reported
}

func TestBreaker_probeDecides(t *testing.T) {
	t.Parallel()
	const at = rdb.ProbeEvery
	t.Run("answer closes", func(t *testing.T) {
		t.Parallel()
		b, _ := tripped(t)
		b.Answered(at, admit(t, b, at))
		for range 2 { // a probe would be admitted once
			admit(t, b, at)
		}
		b.Silent(at, admit(t, b, at))
		admit(t, b, at)
	})
	t.Run("silence keeps open", func(t *testing.T) {
		t.Parallel()
		b, _ := tripped(t)
		b.Silent(at+50*time.Millisecond, admit(t, b, at))
		cutOff(t, b, at+50*time.Millisecond+rdb.ProbeEvery-1)
		admit(t, b, at+50*time.Millisecond+rdb.ProbeEvery)
	})
	t.Run("a probe whose caller left passes it on", func(t *testing.T) {
		t.Parallel()
		b, _ := tripped(t)
		b.Abandoned(at+1, admit(t, b, at))
		admit(t, b, at+1)
		cutOff(t, b, at+1)
	})
}

// What was sent before the breaker opened, or before it closed again, decides
// nothing when it ends late.
func TestBreaker_lateEnds(t *testing.T) {
	t.Parallel()
	b, old := tripped(t)
	b.Abandoned(1, old)
	cutOff(t, b, 2)

	b.Answered(rdb.ProbeEvery, admit(t, b, rdb.ProbeEvery))
	for range rdb.TripAfter {
		b.Silent(rdb.ProbeEvery+1, old)
	}
	admit(t, b, rdb.ProbeEvery+1)
}
