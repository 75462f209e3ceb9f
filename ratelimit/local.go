package ratelimit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// localKeys bounds the stand-in's memory: some 300 bytes a key. Beyond, the keys
// asked about longest ago are forgotten.
const localKeys = 1 << 16

// local decides in this process while Redis is silent. Meanwhile each of n
// instances admits its part of what was left of the limits when Redis was heard
// last; until then it notes what Redis says. What it admits is a debt: it is
// written to Redis on its return.
type local struct {
	instances int
	watch     stopwatch
	debts     debts
	troubles  atomic.Int32 // len(outages), for who only wants to know that it is 0

	mu sync.Mutex
	// A key is looked for in young, then in old, and moves to young. When all that
	// is in old has left every window, old goes and young takes its place; thus
	// nothing is swept, and an idle key goes by itself.
	young, old map[string]*account // by base
	turned     time.Duration       // when young began
	keep       time.Duration       // how long what was admitted may count
	latest     *Limiter            // for which keep was looked at

	outages map[any]*outage // by server
	cause   error           // of the latest silence
	carried time.Duration   // when others' debts went along with a decision
}

// account is what is known of a key.
type account struct {
	tiers   []tier
	pending []pending // decisions of Redis under way
}

// pending is a decision of Redis under way, while it has to keep to this process's
// part: it counts until its outcome is known, or surely is.
type pending struct {
	cost  int
	until time.Duration
}

// pendingFor is how long a decision counts of which no outcome is told: it was
// denied, or its caller has left.
const pendingFor = 250 * time.Millisecond

func newLocal(instances int, watch stopwatch) *local {
	return &local{instances: instances, watch: watch, young: make(map[string]*account), outages: make(map[any]*outage)}
}

// share is this process's part of n.
func (c *local) share(n int) int { return max(1, n/c.instances) }

// accountOf returns the account of base; the caller holds the lock.
func (c *local) accountOf(l *Limiter, base string, now time.Duration) *account {
	if c.latest != l {
		c.latest = l
		for _, limit := range l.limits {
			c.keep = max(c.keep, c.lifetime(limit)+settling)
		}
	}
	a := c.young[base]
	if a != nil && now-c.turned < c.keep {
		return a
	}
	if now-c.turned >= c.keep || len(c.young) >= localKeys/2 {
		c.young, c.old, c.turned = make(map[string]*account), c.young, now
	}
	if a == nil {
		if a = c.old[base]; a == nil {
			a = new(account)
		}
	}
	c.young[base] = a
	return a
}

// lifetime is how long an admission can count under limit.
func (c *local) lifetime(limit Limit) time.Duration {
	switch limit.kind {
	case Sliding:
		return (ringParts + 1) * partOf(limit.window)
	case Smooth:
		d := float64(limit.window) / float64(limit.requests) * float64(max(limit.burst, c.instances))
		return time.Duration(min(d, float64(2*maxWindow))) + 1
	}
	return limit.window + limit.window/ringParts
}

// saw notes what Redis has decided.
func (c *local) saw(l *Limiter, base string, r Result) {
	var from any
	troubled := c.troubles.Load() != 0
	if troubled {
		from = server(l, base)
	}
	now := c.watch.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	settles := troubled && c.answer(from, now)
	a := c.accountOf(l, base, now)
	if r.tiers == nil {
		s := Status{Limit: r.Limit, Remaining: r.Remaining}
		a.saw(c, []Status{s}, &r, now, settles)
		return
	}
	a.saw(c, r.tiers, &r, now, settles)
}

func (a *account) saw(c *local, tiers []Status, r *Result, now time.Duration, settles bool) {
	cost := 0
	if r.Allowed {
		cost = r.cost
	}
	for i := range tiers { // make them all, before each gets what is new
		a.tierOf(tiers[i].Limit, now, c.instances)
	}
	if cost > 0 {
		a.count(cost, now, settles)
		if len(a.pending) > 0 {
			a.settle(cost, now)
		}
	}
	for i := range tiers {
		s := &tiers[i]
		switch t := a.tierOf(s.Limit, now, c.instances); t.kind {
		case Sliding:
			if !settles {
				t.hear(s, r.At.UnixMicro(), now)
			}
		case Smooth:
			if settles {
				t.level += float64(cost)
			} else {
				t.level = float64(s.Limit.burst-s.Remaining) / float64(c.instances)
			}
		case InFlight:
			if cost > 0 {
				t.hold(r.id, now, false)
			}
		}
	}
}

// hold denies by itself what this process must not admit even if Redis would: its
// server has not settled yet.
func (c *local) hold(l *Limiter, base string, cost int) (Result, bool) {
	if c.troubles.Load() == 0 || cost == 0 {
		return Result{}, false
	}
	r, held, ask := c.holds(l, base, cost)
	if ask {
		c.call(context.Background(), l, base)
	}
	return r, held
}

// holds is the decision of hold; ask says that Redis is to be called none the less.
func (c *local) holds(l *Limiter, base string, cost int) (r Result, held, ask bool) {
	from, now := server(l, base), c.watch.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.outages[from]
	if o == nil || o.isOut(now) || now >= o.settled {
		return r, false, false // either Redis decides, or this process
	}
	a := c.accountOf(l, base, now)
	r = c.judge(l, a, cost, now)
	if r.Allowed {
		a.pending = append(a.pending, pending{cost, now + pendingFor})
		return r, false, false
	}
	if r.RetryAfter > 0 {
		r.RetryAfter = min(r.RetryAfter, o.settled-now)
	}
	r.Standin = c.cause
	if ask = c.debts.has(base) || now-o.asked >= outageSpan; ask {
		o.asked = now
	}
	return r, true, ask
}

// settle takes one decision of a cost off those under way.
func (a *account) settle(cost int, now time.Duration) {
	for i, p := range a.pending {
		if p.cost == cost {
			a.pending = append(a.pending[:i], a.pending[i+1:]...)
			break
		}
	}
	a.underWay(now)
}

// underWay is the cost and number of the decisions under way.
func (a *account) underWay(now time.Duration) (cost, n int) {
	for len(a.pending) > 0 && a.pending[0].until <= now {
		a.pending = a.pending[1:]
	}
	if len(a.pending) == 0 {
		a.pending = nil
	}
	for _, p := range a.pending {
		cost += p.cost
	}
	return cost, len(a.pending)
}

// admit decides as the script does: under every limit, or under none.
func (c *local) admit(l *Limiter, base, id string, cost int, cause error) Result {
	from, now := server(l, base), c.watch.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !errors.Is(cause, errBack) {
		c.silence(from, now)
	}
	c.cause = cause
	a := c.accountOf(l, base, now)
	r := c.judge(l, a, cost, now)
	r.Standin = cause
	if !r.Allowed || cost == 0 {
		return r
	}
	r.id, r.cost = id, cost
	a.count(cost, now, true)
	for _, limit := range l.limits {
		switch t := a.tierOf(limit, now, c.instances); t.kind {
		case Smooth:
			t.unpaid += float64(cost)
		case InFlight:
			t.hold(id, now, true)
		}
	}
	o := c.outages[from]
	c.debts.add(l, base, loan{id: id, cost: cost, at: now, limit: l}, c.keep, o != nil && o.isOut(now))
	return r
}

// judge is the verdict of what this process knows.
func (c *local) judge(l *Limiter, a *account, cost int, now time.Duration) Result {
	r := Result{Allowed: true, Source: FromStandin, At: time.Now()}
	need := max(1, cost)
	busy, calls := 0, 0
	if len(a.pending) > 0 {
		busy, calls = a.underWay(now)
	}
	var buf [maxLimits]standing
	for i, limit := range l.limits {
		s := standing{Status: Status{Limit: limit}}
		switch t := a.tierOf(limit, now, c.instances); t.kind {
		case Sliding:
			c.judgeSliding(&s, t, need, busy, now)
		case Smooth:
			c.judgeSmooth(&s, t, need, busy)
		case InFlight:
			s.Remaining = max(0, c.share(limit.requests)-len(t.flights)-calls)
			if s.Remaining == 0 {
				s.wait = waitUnknown
			}
			if len(t.flights) > 0 {
				s.ResetAfter = max(1, t.sweep-now)
			}
		}
		if need > limit.Burst() && limit.kind != InFlight {
			s.wait = waitNever
		}
		if s.Full = s.wait != 0; s.Full {
			r.Allowed = false
		}
		buf[i] = s
	}
	if r.Allowed && cost > 0 {
		for i := range l.limits {
			buf[i].count(cost)
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

// refund takes back what this process admitted by itself, unless it has been
// written to Redis, or may have been.
func (c *local) refund(base string, t ticket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	loan, ok := c.debts.cancel(base, t.id)
	if !ok {
		return false
	}
	a := c.known(base)
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
			for _, limit := range loan.limit.limits {
				if limit.kind == Smooth && limit.window == tier.window {
					tier.unpaid = max(0, tier.unpaid-float64(loan.cost))
				}
			}
		case InFlight:
			delete(tier.flights, t.id)
		}
	}
	return true
}

// known returns base's account, or nil; the caller holds the lock.
func (c *local) known(base string) *account {
	if a := c.young[base]; a != nil {
		return a
	}
	return c.old[base]
}

// release ends a request in flight.
func (c *local) release(base, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.known(base); a != nil {
		for i := range a.tiers {
			delete(a.tiers[i].flights, id)
		}
	}
}

// renew begins the lease of a request in flight anew.
func (c *local) renew(base, id string, lease time.Duration) {
	now := c.watch.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.known(base); a != nil {
		for i := range a.tiers {
			if f, ok := a.tiers[i].flights[id]; ok {
				a.tiers[i].flights[id] = flight{now + lease, f.own}
			}
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

// isSilence reports whether err is no answer, be it that the caller left first.
func isSilence(err error) bool {
	return errors.Is(err, ErrUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
