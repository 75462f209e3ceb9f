package ratelimit

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Kind is how a [Limit] counts.
type Kind uint8

const (
	// Sliding is at most n requests in any window of a length, wherever it begins.
	Sliding Kind = iota
	// Smooth is n requests a window at an even rate, with bursts (GCRA).
	Smooth
	// InFlight is at most n requests at a time.
	InFlight
)

// Limit is what a key may use: so many requests in any window of a length (not
// per calendar minute, but in every minute wherever it begins), so many at an
// even rate, or so many at a time.
//
// Make one with [PerSecond], [PerMinute], [PerHour], [Every] or [AtOnce]. A Limit
// is also an [Option]: given to [New] behind the first, it is one more tier, and
// a request is admitted when all tiers have room.
type Limit struct {
	kind     Kind
	requests int
	window   time.Duration // of AtOnce: the lease
	burst    int           // of Smooth
	name     string        // as set by Named
}

// PerSecond is at most n requests in any second.
func PerSecond(n int) Limit { return Every(n, time.Second) }

// PerMinute is at most n requests in any minute.
func PerMinute(n int) Limit { return Every(n, time.Minute) }

// PerHour is at most n requests in any hour.
func PerHour(n int) Limit { return Every(n, time.Hour) }

// Every is at most n requests in any window of the given length, from 1 ms to
// 366 days. Fractions of a microsecond are dropped.
func Every(n int, window time.Duration) Limit {
	return Limit{requests: n, window: window.Truncate(time.Microsecond)}
}

// Smooth is the limit at an even rate: after a burst of at most the given number,
// one request each window/n. PerMinute(60).Smooth(10) admits 10 at once, then one
// a second. It is the generic cell rate algorithm (GCRA, a token bucket): some
// window of its length may see burst + n − 1 requests; a key takes some 250 bytes
// whatever n is.
func (l Limit) Smooth(burst int) Limit {
	if l.burst = burst; l.kind == Sliding { // New tells of the others
		l.kind = Smooth
	}
	return l
}

// AtOnce is at most n requests in flight, however long each takes. An admitted
// request holds its place until [Limiter.Release]; a holder that crashed loses
// it when the lease ends, from 1 ms to 366 days after it was taken or last
// renewed ([Limiter.Renew]). middleware.RateLimit releases and renews by itself.
//
// Whatever its cost, a request holds one place.
func AtOnce(n int, lease time.Duration) Limit {
	return Limit{kind: InFlight, requests: n, window: lease.Truncate(time.Microsecond)}
}

// Named gives the limit the name by which clients are told of it, in the
// RateLimit-Policy field and in problem details. It begins with a letter, and
// holds letters, digits and "-_.:/"; case does not tell names apart.
//
// The default is made of the window: "per-second", "per-minute", "per-hour",
// "per-day", "per-30s"; behind "smooth-" for [Limit.Smooth]; "at-once" for
// [AtOnce].
func (l Limit) Named(name string) Limit {
	l.name = name
	if name == "" {
		l.name = "\x00" // not "unset": a mistake, which New reports
	}
	return l
}

// Kind is how the limit counts.
func (l Limit) Kind() Kind { return l.kind }

// Requests is how many requests the limit admits in a window, or at a time.
func (l Limit) Requests() int { return l.requests }

// Window is the window's length; for AtOnce, the lease's.
func (l Limit) Window() time.Duration { return l.window }

// Burst is how many requests can be admitted at one instant.
func (l Limit) Burst() int {
	if l.kind == Smooth {
		return l.burst
	}
	return l.requests
}

// Name is the limit's name: see [Limit.Named].
func (l Limit) Name() string {
	if l.name != "" {
		return l.name
	}
	var name string
	switch l.window {
	case time.Second:
		name = "per-second"
	case time.Minute:
		name = "per-minute"
	case time.Hour:
		name = "per-hour"
	case 24 * time.Hour:
		name = "per-day"
	default:
		name = "per-" + strings.ReplaceAll(l.window.String(), "µ", "u")
	}
	switch l.kind {
	case Smooth:
		name = "smooth-" + name
	case InFlight:
		name = "at-once"
	}
	return name
}

// String is the limit as people write it: "100 per 2s", "60 per 1m0s smooth,
// burst 10", "5 at once".
func (l Limit) String() string {
	switch l.kind {
	case Smooth:
		return fmt.Sprintf("%d per %v smooth, burst %d", l.requests, l.window, l.burst)
	case InFlight:
		return fmt.Sprintf("%d at once", l.requests)
	}
	return fmt.Sprintf("%d per %v", l.requests, l.window)
}

func (l Limit) apply(c *config) { c.limits = append(c.limits, l) }

const (
	minWindow = time.Millisecond
	maxWindow = 366 * 24 * time.Hour
	// maxRequests keeps every count exact in Lua and in a 32-bit counter.
	maxRequests = math.MaxInt32
	// maxLimits is how many limits a limiter keeps: each is work for Redis.
	maxLimits = 8
)

func (l Limit) mistakes() error {
	var all []error
	if l.requests < 1 {
		all = append(all, fmt.Errorf("limit %v: the number of requests must be at least 1; to refuse everybody, do not mount the route", l))
	}
	if l.requests > maxRequests {
		all = append(all, fmt.Errorf("limit %v: the number of requests must be at most %d", l, maxRequests))
	}
	if l.window < minWindow || l.window > maxWindow {
		what := "window"
		if l.kind == InFlight {
			what = "lease"
		}
		all = append(all, fmt.Errorf("limit %v: the %s of %v must be from %v to %v", l, what, l.window, minWindow, maxWindow))
	}
	if l.kind == Smooth && (l.burst < 1 || l.burst > maxRequests) {
		all = append(all, fmt.Errorf("limit %v: the burst must be from 1 to %d: with a burst of 1 requests are admitted one by one", l, maxRequests))
	}
	if l.kind == InFlight && l.burst != 0 {
		all = append(all, fmt.Errorf("limit %v: AtOnce has no rate to be Smooth: make two limits of it", l))
	}
	if !validName(l.Name()) {
		all = append(all, fmt.Errorf("limit %v: Named(%q): begin with a letter and use letters, digits and \"-_.:/\"", l, strings.Trim(l.name, "\x00")))
	}
	return errors.Join(all...)
}

// validName reports whether name is a Token of RFC 9651 and, in quotes, a
// String: drafts of the RateLimit fields differ in which they take.
func validName(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || strings.IndexByte("-_.:/", c) >= 0):
		default:
			return false
		}
	}
	return name != "" && len(name) <= 64
}
