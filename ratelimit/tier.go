package ratelimit

import "time"

// tier is an account's standing with one limit, or those of one kind and window.
type tier struct {
	kind   Kind
	window time.Duration
	asked  time.Duration // when a limiter last had this limit
	used   time.Duration // when it was last moved on

	sent ring  // of Sliding: what this process had admitted by Redis
	own  *ring // and since the silence began, by itself or by Redis; nil if nothing
	// others is what others had used when Redis was heard last. Nobody knows when
	// it leaves the window, but at until all has left.
	others int
	until  time.Duration
	heard  int64 // when that was, by Redis's clock

	// of Smooth, in requests: this process's part of the level that Redis knows,
	// and what it has admitted by itself.
	level, unpaid float64
	requests      int

	flights map[string]flight // of InFlight, by id
	sweep   time.Duration     // when the first may have ended
}

// flight is a request in flight.
type flight struct {
	end time.Duration // of its lease
	own bool          // admitted by this process itself
}

// accountTiers is how many standings a key may have: plans with ever new windows
// do not fill the memory.
const accountTiers = 2 * maxLimits

// tierOf returns a's standing with limit, moved to now. It is valid until the next
// call.
func (a *account) tierOf(limit Limit, now time.Duration, instances int) *tier {
	for i := range a.tiers {
		if t := &a.tiers[i]; t.kind == limit.kind && (t.window == limit.window || t.kind == InFlight) {
			t.window, t.requests, t.asked = limit.window, limit.requests, now
			t.turn(now, instances)
			return t
		}
	}
	fresh := tier{kind: limit.kind, window: limit.window, requests: limit.requests, asked: now, used: now}
	if limit.kind == Sliding {
		fresh.turn(now, instances)
		a.teach(&fresh, now, instances)
	}
	if len(a.tiers) < accountTiers {
		a.tiers = append(a.tiers, fresh)
		return &a.tiers[len(a.tiers)-1]
	}
	var idle *tier
	for i := range a.tiers {
		if t := &a.tiers[i]; t.kind != InFlight && (idle == nil || t.asked < idle.asked) {
			idle = t
		}
	}
	*idle = fresh
	return idle
}

// teach counts under a window that is new to the account what is known of others:
// all limits hold for everything that was admitted before. It may count too long.
func (a *account) teach(fresh *tier, now time.Duration, instances int) {
	part := partOf(fresh.window)
	for i := range a.tiers {
		t := &a.tiers[i]
		if t.kind != Sliding {
			continue
		}
		t.turn(now, instances)
		seen := min(now, fresh.window) // of a shorter window, all there is
		from := max(0, now-seen)
		if n := t.sent.since(from, partOf(t.window)) - fresh.sent.within(now, part); n > 0 {
			fresh.sent.add(n)
		}
		if t.own != nil {
			fresh.keepOwn(now)
			if n := t.own.since(from, partOf(t.window)) - fresh.own.within(now, part); n > 0 {
				fresh.own.add(n)
			}
		}
		if t.others > fresh.others {
			fresh.others, fresh.until, fresh.heard = t.others, now+fresh.window, t.heard
		}
	}
}

// turn moves t to now.
func (t *tier) turn(now time.Duration, instances int) {
	switch part := partOf(t.window); t.kind {
	case Sliding:
		t.sent.turn(now, part)
		if t.own != nil {
			t.own.turn(now, part)
		}
		if now >= t.until {
			t.others = 0
		}
	case Smooth:
		sinks := float64(t.requests) / float64(instances) / float64(t.window) * float64(now-t.used)
		known := min(sinks, t.level)
		t.level -= known
		t.unpaid = max(0, t.unpaid-(sinks-known))
	case InFlight:
		if now >= t.sweep && len(t.flights) > 0 {
			// Not for each that ends, or many in flight would cost much; so a place
			// may come free 1/16 of a lease late.
			next := now + t.window
			for id, f := range t.flights {
				if f.end <= now {
					delete(t.flights, id)
				} else {
					next = min(next, f.end)
				}
			}
			t.sweep = max(next, now+t.window/ringParts)
		}
	}
	t.used = now
}

// hold notes a request in flight.
func (t *tier) hold(id string, now time.Duration, own bool) {
	if t.flights == nil {
		t.flights = make(map[string]flight)
	}
	if len(t.flights) == 0 {
		t.sweep = now + t.window
	}
	t.flights[id] = flight{now + t.window, own}
	t.sweep = min(t.sweep, now+t.window)
}

func (t *tier) keepOwn(now time.Duration) {
	if t.own == nil {
		t.own = new(ring)
		t.own.turn(now, partOf(t.window))
	}
}

// count counts an admission under all windows, also those of other plans.
func (a *account) count(cost int, now time.Duration, own bool) {
	for i := range a.tiers {
		t := &a.tiers[i]
		if t.kind != Sliding {
			continue
		}
		if t.used != now {
			t.turn(now, 1)
		}
		if !own {
			t.sent.add(cost)
			continue
		}
		t.keepOwn(now)
		t.own.add(cost)
	}
}

// hear takes note of what Redis said at an instant on its own clock.
func (t *tier) hear(s *Status, at int64, now time.Duration) {
	if at < t.heard && t.heard-at < int64(time.Second/time.Microsecond) {
		return // an answer that was overtaken: what is counted since is not in it
	}
	part := partOf(t.window)
	used := s.Limit.requests - s.Remaining - t.sent.within(now, part)
	if t.own != nil {
		own := t.own.within(now, part)
		if used -= own; own == 0 {
			t.own = nil
		}
	}
	t.others, t.until, t.heard = max(0, used), now+t.window, at
}

// room is how much of a window's limit this process may admit at an instant from
// now on.
func (c *local) room(limit Limit, t *tier, at, part time.Duration) int {
	own := 0
	if t.own != nil {
		own = t.own.within(at, part)
	}
	left := limit.requests - t.sent.within(at, part)
	if at < t.until {
		left -= t.others
	}
	if left <= 0 {
		return -own
	}
	return c.share(left) - own
}

func (c *local) judgeSliding(s *standing, t *tier, need, busy int, now time.Duration) {
	part := partOf(t.window)
	free := c.room(s.Limit, t, now, part) - busy
	s.Remaining = max(0, free)
	// grows is the time until room has grown so far: when a part leaves the window,
	// or the others' all.
	grows := func(to int) time.Duration {
		first := time.Duration(0)
		for p := int64(now/part) - ringParts; p <= int64(now/part); p++ {
			if at := leaves(p, part); at > now && c.room(s.Limit, t, at, part) >= to {
				first = at
				break
			}
		}
		if t.others > 0 && t.until > now && (first == 0 || t.until < first) && c.room(s.Limit, t, t.until, part) >= to {
			first = t.until
		}
		return max(0, first-now)
	}
	s.ResetAfter = grows(max(1, free+1))
	if free >= need {
		return
	}
	wait := grows(need)
	if wait == 0 {
		wait = min(t.window, time.Second) // more than this process's part: perhaps Redis is back by then
	}
	s.wait = max(1, wait)
}

func (c *local) judgeSmooth(s *standing, t *tier, need, busy int) {
	rate := float64(s.Limit.requests) / float64(c.instances) / float64(s.Limit.window)
	share := c.share(s.Limit.burst)
	level := t.level + t.unpaid
	room := float64(share) - level - float64(busy)
	s.Remaining = max(0, int(room+1e-7))
	if level > 1e-7 {
		next := float64(s.Remaining + 1)
		if s.Remaining >= share {
			next = float64(share)
		}
		s.ResetAfter = max(1, time.Duration((next-room)/rate))
	}
	switch over := float64(need) - room; {
	case over <= 1e-7:
	case need > share:
		s.wait = min(s.Limit.window, time.Second) // as above
	default:
		s.wait = time.Duration((over-1e-7)/rate) + 1
	}
}
