package ratelimit

import (
	"sync"
	"time"
)

const (
	// localParts is into how many parts the stand-in divides a window. It counts
	// a part until all of it has left the window, so it never admits more than
	// its share and forgets at most 1/localParts of a window late.
	localParts = 16

	// localKeys bounds the stand-in's memory: some 200 bytes a key and 80 more a
	// limit. Beyond, the keys asked about longest ago are forgotten.
	localKeys = 1 << 16
)

// local counts in this process while Redis is silent: each of n instances
// admits its n-th part of the limits.
type local struct {
	tiers   []tier
	started time.Time // what the parts are counted from, by the monotonic clock

	mu sync.Mutex
	// A key is looked for in young, then in old, and moves to young. When all
	// that is in old has left every window, old goes and young takes its place;
	// thus nothing is swept, and an idle key goes by itself.
	young, old map[string][]ring // a ring for each tier
	turned     time.Duration     // when young began
}

// tier is a limit as the stand-in keeps it.
type tier struct {
	limit Limit
	share uint32        // this process's part of the requests
	part  time.Duration // a localParts-th of the window, rounded up
}

// span is how long a part counts: from its begin until all of it has left the
// window.
func (t tier) span() time.Duration { return (localParts + 1) * t.part }

// ring counts a window's admissions by parts; part p is at p % len.
type ring struct {
	newest int64 // the latest part looked at
	counts [localParts + 1]uint32
}

func newLocal(limits []Limit, instances int) *local {
	l := &local{started: time.Now(), young: make(map[string][]ring)}
	for _, limit := range limits {
		l.tiers = append(l.tiers, tier{
			limit: limit,
			share: uint32(max(1, limit.requests/instances)),
			part:  (limit.window + localParts - 1) / localParts,
		})
	}
	return l
}

// admit decides as the script does: under every limit, or under none.
func (l *local) admit(key string, cause error) (Result, error) {
	result := Result{Allowed: true, Standin: cause}
	l.mu.Lock()
	defer l.mu.Unlock()
	result.At = time.Now()
	now := result.At.Sub(l.started)
	rings := l.ringsOf(key, now)
	for i, t := range l.tiers {
		room, reset := rings[i].room(now, t)
		switch {
		case room == 0 && reset > result.RetryAfter:
			result.Allowed = false
			result.Limit, result.Remaining, result.ResetAfter, result.RetryAfter = t.limit, 0, reset, reset
		case room > 0 && result.Allowed && (i == 0 || room-1 < result.Remaining):
			result.Limit, result.Remaining, result.ResetAfter = t.limit, room-1, reset
		}
	}
	if result.Allowed {
		for i := range rings {
			r := &rings[i]
			r.counts[r.newest%int64(len(r.counts))]++
		}
	}
	return result, nil
}

// ringsOf returns the counts of key.
func (l *local) ringsOf(key string, now time.Duration) []ring {
	longest := l.tiers[len(l.tiers)-1]
	if now-l.turned >= longest.span() || len(l.young) >= localKeys/2 {
		l.young, l.old, l.turned = make(map[string][]ring), l.young, now
	}
	rings, ok := l.young[key]
	if ok {
		return rings
	}
	if rings, ok = l.old[key]; !ok {
		rings = make([]ring, len(l.tiers))
	}
	l.young[key] = rings
	return rings
}

// room moves r to now and returns how many more it admits, and how long until
// that number grows, this request included.
func (r *ring) room(now time.Duration, t tier) (room int, reset time.Duration) {
	size, current := int64(len(r.counts)), int64(now/t.part)
	r.newest = max(r.newest, current-size) // what is older counts nothing
	for r.newest < current {
		r.newest++
		r.counts[r.newest%size] = 0
	}
	used, oldest := uint32(0), r.newest
	for age := size - 1; age >= 0; age-- {
		n := r.counts[(r.newest+size-age)%size]
		if n > 0 && used == 0 {
			oldest = r.newest - age
		}
		used += n
	}
	return int(t.share - used), time.Duration(oldest)*t.part + t.span() - now
}
