package rdb_test

import (
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

func trip(b *rdb.Breaker, at time.Duration) {
	for range rdb.TripAfter {
		b.Silent(at)
	}
}

func TestBreaker_opensAfterSilencesInARow(t *testing.T) {
	t.Parallel()
	var b rdb.Breaker
	for i := range rdb.TripAfter - 1 {
		b.Silent(0)
		if !b.Admit(0) {
			t.Fatalf("open after %d silences; want closed until %d", i+1, rdb.TripAfter)
		}
	}
	b.Answered(0)
	for range rdb.TripAfter - 1 {
		b.Silent(0)
	}
	if !b.Admit(0) {
		t.Fatal("open although an answer came in between")
	}
	b.Silent(0)
	if b.Admit(0) {
		t.Fatalf("closed after %d silences in a row", rdb.TripAfter)
	}
}

func TestBreaker_admitsOneProbeAtATime(t *testing.T) {
	t.Parallel()
	var b rdb.Breaker
	trip(&b, 0)
	if b.Admit(rdb.ProbeEvery - 1) {
		t.Error("a call was admitted before the probe was due")
	}
	if !b.Admit(rdb.ProbeEvery) {
		t.Fatal("the probe was not admitted")
	}
	if b.Admit(rdb.ProbeEvery) || b.Admit(2*rdb.ProbeEvery-1) {
		t.Error("a second probe was admitted while the first was out")
	}
	if !b.Admit(2 * rdb.ProbeEvery) {
		t.Error("a probe that never reported blocks the next one")
	}
}

func TestBreaker_probeDecides(t *testing.T) {
	t.Parallel()
	t.Run("answer closes", func(t *testing.T) {
		t.Parallel()
		var b rdb.Breaker
		trip(&b, 0)
		b.Admit(rdb.ProbeEvery)
		b.Answered(rdb.ProbeEvery)
		for range 2 { // a probe would be admitted once
			if !b.Admit(rdb.ProbeEvery) {
				t.Error("still open")
			}
		}
		b.Silent(rdb.ProbeEvery)
		if !b.Admit(rdb.ProbeEvery) {
			t.Error("the first silence after the recovery opened it again")
		}
	})
	t.Run("silence keeps open", func(t *testing.T) {
		t.Parallel()
		var b rdb.Breaker
		trip(&b, 0)
		b.Admit(rdb.ProbeEvery)
		b.Silent(rdb.ProbeEvery + 50*time.Millisecond)
		if b.Admit(2*rdb.ProbeEvery + 49*time.Millisecond) {
			t.Error("admitted before the next probe was due")
		}
	})
	t.Run("a caller who left passes the probe on", func(t *testing.T) {
		t.Parallel()
		var b rdb.Breaker
		trip(&b, 0)
		b.Admit(rdb.ProbeEvery)
		b.Abandoned(rdb.ProbeEvery + 1)
		if !b.Admit(rdb.ProbeEvery + 1) {
			t.Error("the next caller may not probe")
		}
	})
}
