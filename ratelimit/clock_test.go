package ratelimit_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/ratelimit"
)

var epoch = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)

// What is told at 20 ms, in answer to a question of 10 ms, was shown in between; each
// further answer narrows that.
//
// Red when learn takes the wider of two bounds, or swaps sent and received.
func TestClock_boundsMeet(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	var c ratelimit.Clock
	if _, _, ok := c.Span(0); ok {
		t.Error("known before anything was told")
	}
	tests := []struct {
		name             string
		sent, received   time.Duration
		told             time.Duration // since epoch
		earliest, latest time.Duration // at received, since epoch
	}{
		{"the first", 10 * ms, 20 * ms, 115 * ms, 115 * ms, 125 * ms},
		{"wider: nothing new", 20 * ms, 60 * ms, 145 * ms, 155 * ms, 165 * ms},
		{"says it is earlier", 60 * ms, 64 * ms, 166 * ms, 166 * ms, 169 * ms},
		{"says it is later", 70 * ms, 71 * ms, 176 * ms, 176 * ms, 176 * ms},
		{"set forward", 80 * ms, 90 * ms, 700 * ms, 700 * ms, 710 * ms},
		{"set back", 100 * ms, 110 * ms, 15 * ms, 15 * ms, 25 * ms},
		{"goes on from there", 110 * ms, 130 * ms, 40 * ms, 40 * ms, 45 * ms},
	}
	for _, tt := range tests {
		c.Learn(tt.sent, tt.received, epoch.Add(tt.told))
		earliest, latest, ok := c.Span(tt.received)
		// 1 ms apart for each second, and what is cut to a microsecond.
		low, high := earliest.Sub(epoch.Add(tt.earliest)), latest.Sub(epoch.Add(tt.latest))
		if !ok || low < -100*time.Microsecond || low > 0 || high < 0 || high > 100*time.Microsecond {
			t.Errorf("%s: from %v to %v, %v; want from %v to %v", tt.name, earliest.Sub(epoch), latest.Sub(epoch), ok, tt.earliest, tt.latest)
		}
	}
}

// What is too old is not known any more.
//
// Red when span does not look at its age.
func TestClock_agesOut(t *testing.T) {
	t.Parallel()
	var c ratelimit.Clock
	c.Learn(0, time.Millisecond, epoch)
	if _, _, ok := c.Span(time.Millisecond + ratelimit.ClockAges); !ok {
		t.Error("unknown before its time")
	}
	if _, _, ok := c.Span(2*time.Millisecond + ratelimit.ClockAges); ok {
		t.Error("known after its time")
	}
}

// However long answers take, in whatever order they come, and though the clocks run
// at rates that differ by what NTP may slew: what Redis's clock shows is within the
// bounds, and they are narrower than the quickest answer and what a second takes
// them apart.
//
// Red when bounds do not part with time, or learn forgets for when they held.
func TestClock_holdsTheTruth(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 1))
		rate := 1 + float64(random.IntN(1001)-500)/1e6
		shows := func(at time.Duration) time.Time { return epoch.Add(time.Duration(float64(at) * rate)) }
		var c ratelimit.Clock
		var late []func()
		for at := time.Duration(0); at < 30*time.Second; at += time.Duration(random.IntN(400)) * time.Millisecond {
			took := 200*time.Microsecond + time.Duration(random.IntN(20_000))*time.Microsecond
			sent, received := at, at+took
			told := shows(sent + time.Duration(random.Int64N(int64(took)))).Truncate(time.Microsecond)
			if late = append(late, func() { c.Learn(sent, received, told) }); random.IntN(3) > 0 {
				for _, i := range random.Perm(len(late)) {
					late[i]()
				}
				late = nil
			}
			now := received + time.Duration(random.IntN(100))*time.Millisecond
			earliest, latest, ok := c.Span(now)
			if truth := shows(now); ok && (truth.Before(earliest) || truth.After(latest)) {
				t.Fatalf("seed %d, at %v: %v is not from %v to %v", seed, now, truth, earliest, latest)
			}
			if width := latest.Sub(earliest); ok && width > 25*time.Millisecond {
				t.Fatalf("seed %d, at %v: %v apart", seed, now, width)
			}
		}
	}
}

func TestClock_concurrent(t *testing.T) {
	t.Parallel()
	var c ratelimit.Clock
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 200 {
				at := time.Duration(i) * time.Millisecond
				c.Learn(at, at+time.Millisecond, epoch.Add(at))
				if earliest, latest, ok := c.Span(at); !ok || latest.Before(earliest) {
					t.Errorf("from %v to %v, %v", earliest, latest, ok)
				}
			}
		})
	}
	wg.Wait()
}
