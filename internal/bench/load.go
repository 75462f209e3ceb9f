package bench

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// tally is what came of asking for a while.
type tally struct {
	verdicts int // of them wrong were not as expected
	wrong    int
	failures int
	first    error // of the failures
	took     time.Duration
}

// each is the wall-clock time per verdict. Failures are none: their time is lost.
func (t tally) each() float64 {
	if t.verdicts == 0 {
		return 0
	}
	return float64(t.took.Nanoseconds()) / float64(t.verdicts)
}

func (t *tally) add(other tally) {
	t.verdicts += other.verdicts
	t.wrong += other.wrong
	t.failures += other.failures
	if t.first == nil {
		t.first = other.first
	}
	t.took += other.took
}

// ask has callers goroutines ask without a pause for about d, each going through
// keys by a way of its own; want is the verdict that is expected. It returns when
// all have the answer to their last question, and counts until then.
func ask[Key any](d time.Duration, callers int, keys []Key, want bool, allow func(context.Context, Key) (bool, error)) tally {
	runtime.GC() // nobody pays for another's garbage
	var stop atomic.Bool
	parts := make([]tally, callers)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for caller := range callers {
		wg.Go(func() {
			var part tally
			<-begin
			// A stride that shares no factor with the number of keys visits all.
			for at := caller * len(keys) / callers; !stop.Load(); at = (at + 7919) % len(keys) {
				allowed, err := allow(context.Background(), keys[at])
				switch {
				case err != nil:
					part.failures++
					if part.first == nil {
						part.first = err
					}
				default:
					part.verdicts++
					if allowed != want {
						part.wrong++
					}
				}
			}
			parts[caller] = part
		})
	}
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	start := time.Now()
	close(begin)
	wg.Wait()
	total := tally{took: time.Since(start)}
	for _, part := range parts {
		total.add(part)
	}
	return total
}

// visit asks once about each key, from several goroutines, and tells how often
// there was no verdict.
func visit(callers int, keys []string, allow func(context.Context, string) (bool, error)) (failures int) {
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(keys)); i = next.Add(1) - 1 {
				if _, err := allow(context.Background(), keys[i]); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return int(failed.Load())
}
