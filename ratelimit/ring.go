package ratelimit

import (
	"math"
	"time"
)

// ringParts is into how many parts a process divides a window in which it counts
// by itself. It counts a part until all of it has left the window, so it never
// forgets too early, and at most 1/ringParts of a window late.
const ringParts = 16

// ring counts a window's requests by parts; part p is at p % len.
type ring struct {
	newest int64 // the latest part looked at
	counts [ringParts + 1]uint32
}

// partOf is the length of a window's parts, rounded up.
func partOf(window time.Duration) time.Duration { return (window + ringParts - 1) / ringParts }

// turn moves r to now, and forgets what has left the window.
func (r *ring) turn(now, part time.Duration) {
	size, current := int64(len(r.counts)), int64(now/part)
	r.newest = max(r.newest, current-size) // what is older counts nothing
	for r.newest < current {
		r.newest++
		r.counts[r.newest%size] = 0
	}
}

// add counts n at now; turn has been called.
func (r *ring) add(n int) {
	c := &r.counts[r.newest%int64(len(r.counts))]
	*c = uint32(min(uint64(*c)+uint64(n), math.MaxUint32))
}

// take takes n of those back that were counted at an instant.
func (r *ring) take(n int, at, part time.Duration) {
	p, size := int64(at/part), int64(len(r.counts))
	if p <= r.newest && p > r.newest-size {
		c := &r.counts[p%size]
		*c -= min(*c, uint32(n))
	}
}

// within is how many are in the window that ends at an instant, which is not
// before the latest turn.
func (r *ring) within(at, part time.Duration) (n int) {
	size := int64(len(r.counts))
	for p := max(0, r.newest-size+1, int64(at/part)-ringParts); p <= r.newest; p++ {
		n += int(r.counts[p%size])
	}
	return n
}

// leaves is when all of part p has left the window.
func leaves(p int64, part time.Duration) time.Duration {
	return time.Duration(p+1+ringParts) * part
}

// since is how many were counted at an instant or later, or not long before.
func (r *ring) since(from, part time.Duration) (n int) {
	size := int64(len(r.counts))
	for p := max(0, r.newest-size+1, int64(from/part)); p <= r.newest; p++ {
		n += int(r.counts[p%size])
	}
	return n
}
