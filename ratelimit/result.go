package ratelimit

import (
	"iter"
	"time"
)

// Source says who decided.
type Source uint8

const (
	// FromRedis is a verdict of Redis.
	FromRedis Source = iota
	// FromMemory is a denial that this process remembers from Redis, until the
	// instant it named: see [WithDenyCache].
	FromMemory
	// FromStandin is a verdict without Redis: see [Result].Standin.
	FromStandin
)

// Result is a verdict. Its numbers speak of one limit: on a denial the one that
// keeps the request out longest, else the one with the least room. [Result.All]
// tells of each.
type Result struct {
	// Allowed says that the request may happen; it has then been counted, but
	// not if its cost is 0, it was denied in shadow, or nothing counted it under
	// WithFailOpen.
	Allowed bool
	// Never says that the request costs more than a limit admits at all: it is
	// denied, and coming back does not help.
	Never bool
	// Banned says that the key is banned: see [WithBan]. RetryAfter tells for how
	// long.
	Banned bool
	// Shadowed says that the request would have been denied, but for WithShadow.
	Shadowed bool
	// Source says who decided.
	Source Source
	// Limit is the limit the other numbers are about.
	Limit Limit
	// Remaining is how many more requests of cost 1 the limit admits now, never
	// below 0. When Standin is set it speaks of this process's part of the limit;
	// under WithFailOpen it is the whole limit, and ResetAfter 0.
	Remaining int
	// ResetAfter is the time until Remaining grows: the oldest counted request
	// leaves the window. It is 0 when none is counted. Of AtOnce it is the time
	// until the first lease ends, if nobody renews or releases it.
	ResetAfter time.Duration
	// RetryAfter is the time until a denied request would be admitted if nobody
	// else came. It is 0 when Allowed or Never, and when a limit of AtOnce alone
	// denies: nobody knows when a holder is done.
	RetryAfter time.Duration
	// At is the instant of the decision by Redis's clock, or by this process's
	// when Standin is set.
	At time.Time
	// Standin is nil when Redis decided. Otherwise it is the error that kept it
	// from doing so, of kind ErrUnavailable, and the verdict is the stand-in's:
	// see "When Redis is silent" in the package's page.
	Standin error

	tiers  []Status      // nil if there is one limit, or Source is FromMemory
	denies bool          // the one limit is full
	asked  time.Duration // when, on the stopwatch
	// What Ticket is made of.
	id   string
	cost int
}

// Status is how a key stands with one of its limits.
type Status struct {
	Limit Limit
	// Remaining and ResetAfter are as in [Result].
	Remaining  int
	ResetAfter time.Duration
	// Full says that this limit denied the request.
	Full bool
}

// All yields how the key stands with each limit, in the order of
// [Limiter.Limits]; of a denial that is remembered, with the one it is about.
func (r Result) All() iter.Seq[Status] {
	return func(yield func(Status) bool) {
		if r.tiers == nil {
			if r.Limit.requests > 0 { // else there is no verdict
				yield(Status{r.Limit, r.Remaining, r.ResetAfter, r.denies})
			}
			return
		}
		for _, s := range r.tiers {
			if !yield(s) {
				return
			}
		}
	}
}

// Ticket stands for what the request was counted as, for [Limiter.Refund],
// [Limiter.Release] and [Limiter.Renew]. It is empty when nothing was counted.
func (r Result) Ticket() Ticket {
	if r.id == "" || r.cost == 0 {
		return ""
	}
	return newTicket(r.id, r.At, r.cost, r.Source)
}
