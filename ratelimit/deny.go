package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

// denyCache remembers which keys Redis has denied, and until when. It takes no
// allocation to look, and at most 917,504 entries of 64 bytes.
type denyCache struct {
	longest time.Duration
	watch   stopwatch
	seeds   [2]maphash.Seed
	shards  [denyShards]denyShard
}

const (
	denyShards = 64
	denyWays   = 8               // places in which a key may be
	denyFirst  = 2 * denyWays    // a shard's size when it has its first entry
	denyMost   = 1792 * denyWays // and its largest
)

type denyShard struct {
	sync.Mutex
	entries []denyEntry // a multiple of denyWays
	changes uint32      // how often something was forgotten
}

// mark stands for a key: 96 bits under seeds nobody knows, so that keys do not
// meet, not even such as were chosen to.
type mark struct {
	a uint64
	b uint32
}

// denyEntry is one denied key.
type denyEntry struct {
	until  time.Duration // when Redis is asked again, on the stopwatch
	free   time.Duration // when the request would be admitted, on the same
	reset  time.Duration // and when Remaining grows
	freeAt int64         // when the request would be admitted, by Redis's clock, in µs
	mark   mark
	sum    uint32 // of the limits under which it was denied
	cost   uint32
	left   uint32 // what the limit shown had left
	shown  uint8
	banned bool
}

func newDenyCache(longest time.Duration, watch stopwatch) *denyCache {
	return &denyCache{longest: longest, watch: watch, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (c *denyCache) mark(key string) mark {
	return mark{maphash.String(c.seeds[0], key), uint32(maphash.String(c.seeds[1], key))}
}

// set is where m may be.
func (s *denyShard) set(m mark) []denyEntry {
	if len(s.entries) == 0 {
		return nil
	}
	first := int(m.b) % (len(s.entries) / denyWays) * denyWays
	return s.entries[first : first+denyWays]
}

// find returns the denial of m that still holds for a request of cost under l's
// limits. known says that there is one, be it for another cost or other limits, and
// changes is what keep wants to know.
func (c *denyCache) find(m mark, l *Limiter, cost int) (r Result, holds, known bool, changes uint32) {
	s := &c.shards[m.a%denyShards]
	s.Lock()
	changes = s.changes
	var entry denyEntry
	for i := range s.set(m) {
		if e := &s.set(m)[i]; e.mark == m {
			entry, known = *e, true
			break
		}
	}
	s.Unlock()
	if !known {
		return Result{}, false, false, changes
	}
	now := c.watch.now()
	if now >= entry.until || !entry.banned && (entry.sum != l.sum || uint32(cost) != entry.cost) {
		return Result{}, false, true, changes
	}
	return entry.result(l, now), true, true, changes
}

func (e *denyEntry) result(l *Limiter, now time.Duration) Result {
	wait := e.free - now
	r := Result{
		Source: FromMemory, Banned: e.banned, denies: !e.banned,
		Limit: l.limits[0], Remaining: int(e.left), ResetAfter: e.reset - now, RetryAfter: wait,
		At: time.UnixMicro(e.freeAt).Add(-wait), // Redis's clock is as far from it
	}
	if e.sum == l.sum {
		r.Limit = l.limits[e.shown]
	}
	return r
}

// keep remembers a denial until the instant at which anything may change, unless
// something was forgotten since changes: this process may just have freed the key.
func (c *denyCache) keep(m mark, l *Limiter, cost int, r Result, changes uint32) {
	if r.RetryAfter <= 0 || r.Never || l.ban != nil && !r.Banned {
		return
	}
	e := denyEntry{
		mark: m, freeAt: r.At.Add(r.RetryAfter).UnixMicro(), sum: l.sum, cost: uint32(cost), banned: r.Banned,
		// From when it was asked, not answered: what is remembered never ends late.
		free: r.asked + r.RetryAfter, reset: r.asked + r.ResetAfter, left: uint32(r.Remaining),
	}
	if r.Banned {
		e.reset, e.left = e.free, 0
	}
	i, full := 0, 0
	for s := range r.All() {
		if s.Full {
			full++
		}
		if s.Full && s.Limit.kind == InFlight && !r.Banned {
			return // a place may come free at any time
		}
		if s.Limit == r.Limit {
			e.shown = uint8(i)
		}
		i++
	}
	if full > 1 {
		return // the others will have room before this one has, and are told of, too
	}
	now := c.watch.now()
	// Remaining may grow before the request fits.
	e.until = min(e.free, e.reset, now+c.longest)
	if e.until <= now {
		return
	}
	s := &c.shards[m.a%denyShards]
	s.Lock()
	defer s.Unlock()
	if s.changes == changes {
		s.put(e, now)
	}
}

// knows reports whether m was denied not long ago: its entry is still here, be it
// that it holds no more. A nil cache knows nothing.
func (c *denyCache) knows(m mark) bool {
	if c == nil {
		return false
	}
	s := &c.shards[m.a%denyShards]
	s.Lock()
	defer s.Unlock()
	for _, e := range s.set(m) {
		if e.mark == m {
			return true
		}
	}
	return false
}

// forget has Redis asked again about m.
func (c *denyCache) forget(m mark) {
	s := &c.shards[m.a%denyShards]
	s.Lock()
	defer s.Unlock()
	s.changes++
	for i := range s.set(m) {
		if e := &s.set(m)[i]; e.mark == m {
			*e = denyEntry{}
		}
	}
}

// put finds a place for e: its own, one that is free, one in a larger table, or
// that of the key about which Redis is asked again first.
func (s *denyShard) put(e denyEntry, now time.Duration) {
	for {
		var place *denyEntry
		set := s.set(e.mark)
		for i := range set {
			if p := &set[i]; p.mark == e.mark {
				place = p
				break
			} else if place == nil || p.until < place.until {
				place = p
			}
		}
		if place != nil && (place.mark == e.mark || place.until <= now || len(s.entries) >= denyMost) {
			*place = e
			return
		}
		s.grow(now)
	}
}

// grow doubles the table, up to its largest. A key that finds no place in it is
// asked about again.
func (s *denyShard) grow(now time.Duration) {
	old := s.entries
	s.entries = make([]denyEntry, min(denyMost, max(denyFirst, 2*len(old))))
	for _, e := range old {
		if e.until <= now {
			continue
		}
		set := s.set(e.mark)
		for i := range set {
			if set[i].until == 0 {
				set[i] = e
				break
			}
		}
	}
}
