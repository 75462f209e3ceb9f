package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

// denyCache remembers which keys Redis has denied, and until when. It takes no
// allocation to look, and at most 1<<20 entries of 56 bytes.
type denyCache struct {
	longest time.Duration
	watch   stopwatch
	seeds   [2]maphash.Seed
	shards  [denyShards]denyShard
}

const (
	denyShards = 64
	denyWays   = 8                    // places in which a key may be
	denyFirst  = 2 * denyWays         // a shard's size when it has its first entry
	denyMost   = 1 << 20 / denyShards // and its largest
)

type denyShard struct {
	sync.Mutex
	entries []denyEntry // a multiple of denyWays, a power of two of those
}

// mark stands for a key: 128 bits under seeds nobody knows, so that keys do not
// meet, not even such as were chosen to.
type mark struct{ a, b uint64 }

// denyEntry is one denied key.
type denyEntry struct {
	mark   mark
	until  time.Duration // when Redis is asked again, on the stopwatch
	free   time.Duration // when the key is free, on the same
	freeAt int64         // and by Redis's clock, in µs
	sum    uint32        // of the limits under which it was denied
	cost   uint32
	left   uint32 // what the limit shown had left
	full   uint16 // which limits, as bits
	shown  uint8
	banned bool
}

func newDenyCache(longest time.Duration, watch stopwatch) *denyCache {
	return &denyCache{longest: longest, watch: watch, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

func (c *denyCache) mark(key string) mark {
	return mark{maphash.String(c.seeds[0], key), maphash.String(c.seeds[1], key)}
}

// set is where m may be.
func (s *denyShard) set(m mark) []denyEntry {
	if len(s.entries) == 0 {
		return nil
	}
	first := int(m.b) & (len(s.entries) - 1) &^ (denyWays - 1)
	return s.entries[first : first+denyWays]
}

// find returns the denial of m that still holds for a request of cost under l's
// limits. known says that there is one, be it for another cost or other limits.
func (c *denyCache) find(m mark, l *Limiter, cost int) (r Result, holds, known bool) {
	s := &c.shards[m.a%denyShards]
	s.Lock()
	for i := range s.set(m) {
		e := &s.set(m)[i]
		if e.mark != m {
			continue
		}
		entry := *e
		s.Unlock()
		now := c.watch.now()
		if now >= entry.until || !entry.banned && (entry.sum != l.sum || uint32(cost) < entry.cost || l.never(cost)) {
			return Result{}, false, true
		}
		return entry.result(l, now), true, true
	}
	s.Unlock()
	return Result{}, false, false
}

func (e *denyEntry) result(l *Limiter, now time.Duration) Result {
	wait := e.free - now
	r := Result{
		Source: FromMemory, Banned: e.banned, ResetAfter: wait, RetryAfter: wait,
		At: time.UnixMicro(e.freeAt).Add(-wait), // Redis's clock is as far from it
	}
	if e.banned && e.sum != l.sum {
		r.Limit = l.limits[0]
		return r
	}
	r.Limit, r.Remaining, r.limits, r.full = l.limits[e.shown], int(e.left), l.limits, e.full
	return r
}

// keep remembers a denial until the instant at which anything may change.
func (c *denyCache) keep(m mark, l *Limiter, cost int, r Result) {
	wait := r.RetryAfter
	if cost > 1 && !r.Banned {
		wait = min(wait, r.ResetAfter) // Remaining grows before the request fits
	}
	if wait <= 0 || r.Never || l.ban != nil && !r.Banned {
		return
	}
	e := denyEntry{
		mark: m, freeAt: r.At.Add(wait).UnixMicro(), sum: l.sum, cost: uint32(cost), left: uint32(r.Remaining), banned: r.Banned,
		// From when it was asked, not answered: what is remembered never ends late.
		free: r.asked + wait,
	}
	i := 0
	for s := range r.All() {
		if s.Full && s.Limit.kind == InFlight && !r.Banned {
			return // a place may come free at any time
		}
		if s.Full {
			e.full |= 1 << i
		}
		if s.Limit == r.Limit {
			e.shown = uint8(i)
		}
		i++
	}
	now := c.watch.now()
	e.until = min(e.free, now+c.longest)
	if e.until <= now {
		return
	}
	s := &c.shards[m.a%denyShards]
	s.Lock()
	defer s.Unlock()
	s.put(e, now)
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

// grow doubles the table. The keys of one set go to two, so all find a place.
func (s *denyShard) grow(now time.Duration) {
	old := s.entries
	s.entries = make([]denyEntry, max(denyFirst, 2*len(old)))
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
