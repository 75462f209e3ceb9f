package ratelimit

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// localKeys bounds the stand-in's memory: some 300 bytes a key. Beyond, the
	// keys asked about longest ago are forgotten.
	localKeys = 1 << 16

	// outageAfter is how many silences in a row are an outage, and not a moment.
	outageAfter = 5

	// settling is for how long after an outage a process holds back: until the
	// others have written to Redis what they admitted by themselves. They notice
	// its return within 250 ms, or a second if go-redis was refused many times.
	settling = 2 * time.Second
)

// local decides in this process while Redis is silent. Meanwhile each of n
// instances admits its part of what was left of the limits when Redis was heard
// last; until then it notes what Redis says. What it admits is a debt: it is
// written to Redis on its return.
type local struct {
	instances int
	watch     stopwatch
	debts     debts

	mu sync.Mutex
	// A key is looked for in young, then in old, and moves to young. When all that
	// is in old has left every window, old goes and young takes its place; thus
	// nothing is swept, and an idle key goes by itself.
	young, old map[string]*account // by base
	turned     time.Duration       // when young began

	silences  int           // in a row
	recovered time.Duration // when the latest outage ended
	// settled is when this process need not hold back any more; in the usual case
	// that is all that a decision looks at.
	settled atomic.Int64
	cause   error // of the latest silence
}

// account is what is known of a key.
type account struct {
	tiers []tier
	alone time.Duration // when this process last decided by itself
}

// tier is an account's standing with one limit, or those of one kind and window.
type tier struct {
	kind   Kind
	window time.Duration

	sent ring  // of Sliding: what this process had admitted by Redis
	own  *ring // and by itself; nil if nothing
	// others is what others had used when Redis was heard last. Nobody knows when
	// it leaves the window, but at until all has left.
	others int
	until  time.Duration

	level float64       // of Smooth: this process's part of the level, in requests
	at    time.Duration // at this instant

	flights map[string]time.Duration // of InFlight: ids and ends of leases
}

func newLocal(instances int, watch stopwatch) *local {
	return &local{instances: instances, watch: watch, young: make(map[string]*account)}
}

// share is this process's part of n.
func (c *local) share(n int) int { return max(1, n/c.instances) }

// accountOf returns the account of base.
func (c *local) accountOf(l *Limiter, base string, now time.Duration) *account {
	if now-c.turned >= l.retention+l.retention/ringParts+settling || len(c.young) >= localKeys/2 {
		c.young, c.old, c.turned = make(map[string]*account), c.young, now
	}
	a := c.young[base]
	if a == nil {
		if a = c.old[base]; a == nil {
			a = new(account)
		}
		c.young[base] = a
	}
	return a
}

// tierOf returns a's standing with limit, moved to now.
func (a *account) tierOf(limit Limit, now time.Duration) *tier {
	for i := range a.tiers {
		if t := &a.tiers[i]; t.kind == limit.kind && (t.window == limit.window || t.kind == InFlight) {
			t.turn(limit, now)
			return t
		}
	}
	a.tiers = append(a.tiers, tier{kind: limit.kind, window: limit.window, at: now})
	t := &a.tiers[len(a.tiers)-1]
	t.turn(limit, now)
	return t
}

func (t *tier) turn(limit Limit, now time.Duration) {
	switch part := partOf(t.window); t.kind {
	case Sliding:
		t.sent.turn(now, part)
		if t.own != nil {
			t.own.turn(now, part)
		}
		if now >= t.until {
			t.others = 0
		}
	case InFlight:
		for id, end := range t.flights {
			if end <= now {
				delete(t.flights, id)
			}
		}
	}
}

// saw notes what Redis has decided.
func (c *local) saw(l *Limiter, base string, r Result) {
	now := c.watch.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silences >= outageAfter {
		c.recovered = now
		c.settled.Store(int64(now + settling))
	}
	c.silences = 0
	a := c.accountOf(l, base, now)
	for s := range r.All() {
		t := a.tierOf(s.Limit, now)
		switch t.kind {
		case Sliding:
			if r.Allowed {
				t.sent.add(r.cost)
			}
			used := s.Limit.requests - s.Remaining
			t.others = max(0, used-t.sent.since(0, now, partOf(t.window)))
			if t.own != nil {
				t.others = max(0, t.others-t.own.since(0, now, partOf(t.window)))
			}
			t.until = now + t.window
		case Smooth:
			t.level, t.at = float64(s.Limit.burst-s.Remaining)/float64(c.instances), now
		case InFlight:
			if r.Allowed && r.cost > 0 {
				t.hold(r.id, now+t.window)
			}
		}
	}
}

func (t *tier) hold(id string, end time.Duration) {
	if t.flights == nil {
		t.flights = make(map[string]time.Duration)
	}
	t.flights[id] = end
}

// hold denies by itself what this process must not admit even if Redis would: it
// has only just returned, and does not know yet what each process admitted alone.
func (c *local) hold(l *Limiter, base string, cost int) (Result, bool) {
	now := c.watch.now()
	if int64(now) >= c.settled.Load() || cost == 0 {
		return Result{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silences > 0 {
		return Result{}, false // it is gone again: admit decides
	}
	r := c.judge(l, c.accountOf(l, base, now), cost, now, true)
	r.Standin = c.cause
	return r, !r.Allowed
}

// admit decides as the script does: under every limit, or under none.
func (c *local) admit(l *Limiter, base, id string, cost int, cause error) Result {
	now := c.watch.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silences++
	c.cause = cause
	c.settled.Store(int64(now + settling))
	a := c.accountOf(l, base, now)
	r := c.judge(l, a, cost, now, false)
	r.Standin = cause
	if !r.Allowed || cost == 0 {
		return r
	}
	r.id, r.cost = id, cost
	a.alone = now
	for _, limit := range l.limits {
		t := a.tierOf(limit, now)
		switch t.kind {
		case Sliding:
			if t.own == nil {
				t.own = new(ring)
				t.own.turn(now, partOf(t.window))
			}
			t.own.add(cost)
		case Smooth:
			t.level += float64(cost)
		case InFlight:
			t.hold(id, now+t.window)
		}
	}
	c.debts.add(l, base, loan{id, cost, now})
	return r
}

// judge is the verdict of what this process knows. settling says that Redis
// counts again, and that only what it may not know yet is to be kept within this
// process's part.
func (c *local) judge(l *Limiter, a *account, cost int, now time.Duration, settling bool) Result {
	r := Result{Allowed: true, Source: FromStandin, At: time.Now()}
	need := max(1, cost)
	var buf [maxLimits]standing
	for i, limit := range l.limits {
		s := standing{Status: Status{Limit: limit}}
		switch t := a.tierOf(limit, now); t.kind {
		case Sliding:
			c.judgeSliding(&s, t, need, now, settling)
		case Smooth:
			if !settling {
				c.judgeSmooth(&s, t, need, now)
			}
		case InFlight:
			if !settling {
				s.Remaining = max(0, c.share(limit.requests)-len(t.flights))
				if s.Remaining == 0 {
					s.wait = waitUnknown
				}
			}
		}
		if need > limit.Burst() && limit.kind != InFlight {
			s.wait = waitNever
		}
		s.Full = s.wait != 0
		if s.Full {
			r.Allowed = false
		} else if cost > 0 {
			s.count(cost)
		}
		buf[i] = s
	}
	if !r.Allowed { // then none of them was counted
		for i := range l.limits {
			if s := &buf[i]; !s.Full && cost > 0 {
				s.Remaining += cost
			}
		}
	}
	r.tell(buf[:len(l.limits)])
	return r
}

// count takes a request of cost into account that is about to be admitted.
func (s *standing) count(cost int) {
	if s.Limit.kind == InFlight {
		cost = 1
	}
	s.Remaining -= cost
	if s.ResetAfter == 0 {
		s.ResetAfter = s.Limit.window
		if s.Limit.kind == Smooth {
			s.ResetAfter /= time.Duration(s.Limit.requests)
		}
	}
}

func (c *local) judgeSliding(s *standing, t *tier, need int, now time.Duration, settling bool) {
	part := partOf(t.window)
	// How much room there is at an instant from now on.
	room := func(at time.Duration) int {
		own := 0
		if t.own != nil {
			own = t.own.since(0, at, part)
		}
		if settling {
			// Of one instance all is known, even should Redis have lost it.
			since := c.recovered
			if c.instances == 1 {
				since = 0
			}
			return c.share(s.Limit.requests) - own - t.sent.since(since, at, part)
		}
		left := s.Limit.requests - t.sent.since(0, at, part)
		if at < t.until {
			left -= t.others
		}
		if left <= 0 {
			return -own
		}
		return c.share(left) - own
	}
	free := room(now)
	s.Remaining = max(0, free)
	// Room grows when a part leaves the window, or the others' all.
	grows := func(to int) time.Duration {
		first := time.Duration(0)
		for p := int64(now/part) - ringParts; p <= int64(now/part); p++ {
			if at := leaves(p, part); at > now && room(at) >= to {
				first = at
				break
			}
		}
		if t.others > 0 && t.until > now && (first == 0 || t.until < first) && room(t.until) >= to {
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

func (c *local) judgeSmooth(s *standing, t *tier, need int, now time.Duration) {
	rate := float64(s.Limit.requests) / float64(c.instances) / float64(s.Limit.window)
	burst := float64(c.share(s.Limit.burst))
	t.level = max(0, t.level-rate*float64(now-t.at))
	t.at = now
	room := burst - t.level
	s.Remaining = max(0, int(room+1e-7))
	if t.level > 1e-7 {
		s.ResetAfter = max(0, time.Duration((float64(s.Remaining+1)-room)/rate))
	}
	if over := float64(need) - room; over > 1e-7 {
		s.wait = time.Duration(over/rate) + 1
	}
}

// refund takes back what this process admitted by itself, unless it has been
// written to Redis.
func (c *local) refund(base string, t ticket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	loan, ok := c.debts.cancel(base, t.id)
	if !ok {
		return false
	}
	a := c.young[base]
	if a == nil {
		a = c.old[base]
	}
	if a == nil {
		return true
	}
	for i := range a.tiers {
		switch tier := &a.tiers[i]; tier.kind {
		case Sliding:
			if tier.own != nil {
				tier.own.take(loan.cost, loan.at, partOf(tier.window))
			}
		case Smooth:
			tier.level = max(0, tier.level-float64(loan.cost))
		case InFlight:
			delete(tier.flights, t.id)
		}
	}
	return true
}

// release ends a request in flight.
func (c *local) release(base, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range []*account{c.young[base], c.old[base]} {
		if a == nil {
			continue
		}
		for i := range a.tiers {
			delete(a.tiers[i].flights, id)
		}
	}
}

// forget drops what is known of base.
func (c *local) forget(base string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, base)
	delete(c.old, base)
	c.debts.drop(base)
}
