package bench

import (
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	tests := []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{3}, 3},
		{[]float64{4, 1}, 2.5},
		{[]float64{9, 1, 2}, 2},
		{[]float64{7, 1, 100, 3}, 5},
	}
	for _, tt := range tests {
		before := append([]float64(nil), tt.values...)
		if got := median(tt.values); got != tt.want {
			t.Errorf("median(%v) = %v; want %v", before, got, tt.want)
		}
		for i := range before {
			if tt.values[i] != before[i] {
				t.Errorf("median(%v) left %v", before, tt.values)
			}
		}
	}
}

// A machine that is three times as slow in some rounds changes no ratio, though
// it changes every median.
func TestRatio(t *testing.T) {
	t.Parallel()
	reference := []float64{10, 30, 10, 30, 30}
	twice := []float64{20, 60, 20, 60, 60}
	if middle, spread := ratio(twice, reference); middle != 2 || spread != 0 {
		t.Errorf("= %v ±%v; want 2 ±0", middle, spread)
	}
	// One round of five is disturbed: it is seen neither in the ratio nor in the
	// spread. Two are.
	if middle, spread := ratio([]float64{20, 900, 20, 60, 60}, reference); middle != 2 || spread != 0 {
		t.Errorf("= %v ±%v; want 2 ±0", middle, spread)
	}
	if middle, spread := ratio([]float64{20, 900, 80, 60, 60}, reference); middle != 2 || spread != 3 {
		t.Errorf("= %v ±%v; want 2 ±3", middle, spread)
	}
	// Rounds without a verdict say nothing.
	if middle, _ := ratio([]float64{5, 5}, []float64{0, 10}); middle != 0.5 {
		t.Errorf("= %v; want 0.5", middle)
	}
	if middle, spread := ratio([]float64{5}, nil); middle != 0 || spread != 0 {
		t.Errorf("= %v ±%v; want 0 ±0", middle, spread)
	}
}

func TestMost(t *testing.T) {
	t.Parallel()
	spans := []span{{0, 5}, {3, 9}, {8, 10}, {9, 13}, {11, 14}}
	for window, want := range map[time.Duration]int{1: 0, 2: 1, 5: 2, 10: 3, 11: 4, 14: 5, 99: 5} {
		if got := most(spans, window); got != want {
			t.Errorf("window %d: %d; want %d", window, got, want)
		}
	}
	if got := most(nil, 1); got != 0 {
		t.Errorf("of none: %d; want 0", got)
	}
	// Answers that came late may belong to the next window: they do not count.
	if got := most([]span{{0, 1}, {1, 2}, {9, 11}}, 10); got != 2 {
		t.Errorf("with a late one: %d; want 2", got)
	}
}

// What an exact limiter admits under both attacks, counted by hand.
func TestPossible(t *testing.T) {
	t.Parallel()
	const limit, window = 100, time.Second
	start := time.Unix(1_800_000_000, 0)
	// One; 99 at 0.9 s, one at 1.0 s; again at 1.9 s and 2.0 s.
	if got := possible(anchored(start, window), limit, window); got != 201 {
		t.Errorf("anchored: %d; want 201", got)
	}
	// 100 before the edge, and 100 a window later.
	if got := possible(acrossEdge(start, window), limit, window); got != 200 {
		t.Errorf("across the edge: %d; want 200", got)
	}
}

func TestAcrossEdge(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Duration{0, 1, 500 * time.Millisecond, 899 * time.Millisecond, 950 * time.Millisecond} {
		start := time.Unix(1_800_000_000, int64(at))
		p := acrossEdge(start, time.Second)[0]
		if p.From < start.UnixNano() || p.From > start.Add(time.Second).UnixNano() || (p.From+int64(100*time.Millisecond))%int64(time.Second) != 0 {
			t.Errorf("start at %v past the second: from %v later", at, time.Duration(p.From-start.UnixNano()))
		}
	}
}
