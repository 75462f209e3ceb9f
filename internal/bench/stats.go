package bench

import (
	"slices"
	"time"
)

// median is the middle of values, which it leaves as they are; 0 if there are
// none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// ratio compares two contestants that took turns: it is the median of the
// quotients of each round. The machine's mood changes from round to round, and
// falls out of the quotient as both had the same. spread is how far from it the
// middle half of the rounds is, at most, as a part of it.
func ratio(values, reference []float64) (middle, spread float64) {
	var quotients []float64
	for round := range min(len(values), len(reference)) {
		if reference[round] > 0 {
			quotients = append(quotients, values[round]/reference[round])
		}
	}
	middle = median(quotients)
	if middle == 0 {
		return 0, 0
	}
	slices.Sort(quotients)
	outer := len(quotients) / 4
	low, high := quotients[outer], quotients[len(quotients)-1-outer]
	return middle, max(middle-low, high-middle) / middle
}

// span is an admission as its client saw it, in ns on a clock that all processes
// of the host share: the decision fell between the two.
type span struct{ Sent, Received int64 }

// most is the largest number of admissions that were certainly made within one
// window, wherever it begins: sent at its begin or later, and received by its
// end. It may miss some, but never says more than there were.
func most(admissions []span, window time.Duration) (most int) {
	for _, first := range admissions {
		n := 0
		for _, a := range admissions {
			if a.Sent >= first.Sent && a.Received <= first.Sent+int64(window) {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// phase lasts from From to To, in ns since 1970. Once is a single request.
type phase struct {
	From, To int64
	Once     bool
}

// anchored makes one request, and a burst around the instant at which a window
// that began with it would end: what begins a window at the first request admits
// almost twice the limit.
func anchored(start time.Time, window time.Duration) []phase {
	return []phase{
		{From: start.UnixNano(), To: start.Add(window / 2).UnixNano(), Once: true},
		{From: start.Add(window * 9 / 10).UnixNano(), To: start.Add(window * 24 / 10).UnixNano()},
	}
}

// acrossEdge begins shortly before the end of a window that is counted from 1970,
// and goes on: what has such windows admits almost twice the limit, and what
// refills all the time does so wherever a burst begins.
func acrossEdge(start time.Time, window time.Duration) []phase {
	edge := start.Add(window / 10).Truncate(window).Add(window)
	return []phase{{From: edge.Add(-window / 10).UnixNano(), To: edge.Add(window * 14 / 10).UnixNano()}}
}

// possible is how many admissions an exact limiter has for such phases, if it is
// asked all the time and admits as soon as it may.
func possible(phases []phase, limit int, window time.Duration) int {
	var admitted []int64 // instants, oldest first
	for _, p := range phases {
		for at := p.From; at < p.To; {
			if n := len(admitted); n >= limit && admitted[n-limit]+int64(window) > at {
				at = admitted[n-limit] + int64(window)
				continue
			}
			admitted = append(admitted, at)
			if p.Once {
				break
			}
		}
	}
	return len(admitted)
}
