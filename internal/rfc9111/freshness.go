package rfc9111

import (
	"net/http"
	"time"
)

// Basis says what a freshness lifetime was taken from.
type Basis uint8

const (
	BasisNone      Basis = iota // nothing: the response has no lifetime
	BasisSMaxage                // the s-maxage directive (5.2.2.10)
	BasisMaxAge                 // the max-age directive (5.2.2.1)
	BasisExpires                // the Expires field (5.3)
	BasisHeuristic              // the age of Last-Modified (4.2.2)
	BasisDefault                // Policy.DefaultLifetime or StatusLifetimes in the heuristic's place
)

var basisNames = [...]string{
	BasisNone:      "none",
	BasisSMaxage:   "s-maxage",
	BasisMaxAge:    "max-age",
	BasisExpires:   "expires",
	BasisHeuristic: "heuristic",
	BasisDefault:   "default",
}

// String returns the basis's name.
func (b Basis) String() string {
	if int(b) < len(basisNames) {
		return basisNames[b]
	}
	return "unknown"
}

// Lifetime is freshness_lifetime for a shared cache (RFC 9111 4.2.1): s-maxage,
// else max-age, else Expires minus Date, else [Policy.StatusLifetimes],
// [Policy.DefaultLifetime] or the heuristic. The first that is present decides, even if it cannot be read: then
// the lifetime is 0 and the response stale, since a lifetime that was declared
// must not be guessed (4.2.2). An Expires that is not one HTTP-date is in the
// past (5.3). A Date that is missing or unreadable is responseTime (RFC 9110
// 6.6.1).
func (p Policy) Lifetime(status int, h http.Header, d ResponseDirectives, responseTime time.Time) (time.Duration, Basis) {
	switch {
	case d.SMaxage.Present:
		return d.SMaxage.Value, BasisSMaxage
	case d.MaxAge.Present:
		return d.MaxAge.Value, BasisMaxAge
	}
	date, _, ok := dateField(h, "Date", responseTime)
	if !ok {
		date = responseTime
	}
	// Where Expires cannot be read the time is the zero one, long past (5.3).
	// A targeted field stands in the place of Expires as well (RFC 9213 2.2).
	if expires, present, _ := dateField(h, "Expires", responseTime); present && !d.Targeted {
		return delta(expires.Sub(date)), BasisExpires
	}
	return p.heuristic(status, h, d, date)
}

// heuristic is section 4.2.2. It is for the statuses defined as heuristically
// cacheable, and for whatever else the origin marked as cacheable with public.
func (p Policy) heuristic(status int, h http.Header, d ResponseDirectives, date time.Time) (time.Duration, Basis) {
	if !heuristicallyCacheable(status) && !d.Public {
		return 0, BasisNone
	}
	if lifetime, ok := p.statusLifetime(status); ok {
		if lifetime <= 0 {
			return 0, BasisNone
		}
		return delta(lifetime), BasisDefault
	}
	if p.DefaultLifetime > 0 {
		return delta(p.DefaultLifetime), BasisDefault
	}
	limit := p.HeuristicLimit
	switch {
	case limit < 0:
		return 0, BasisNone
	case limit == 0:
		limit = DefaultHeuristicLimit
	}
	modified, _, ok := dateField(h, "Last-Modified", date)
	if !ok {
		return 0, BasisNone
	}
	// The fraction section 4.2.2 calls typical.
	lifetime := delta(date.Sub(modified)) / 10
	if lifetime == 0 {
		return 0, BasisNone
	}
	return min(lifetime, limit), BasisHeuristic
}

// statusLifetime is what StatusLifetimes says of a status.
func (p Policy) statusLifetime(status int) (lifetime time.Duration, ok bool) {
	if status == http.StatusPartialContent {
		status = http.StatusOK
	}
	lifetime, ok = p.StatusLifetimes[status]
	return lifetime, ok
}

// NeverStored reports whether no response with the status is stored, whatever it
// says: it is none of HTTP's final ones, or 304, 428, 429, 431 or 511.
func NeverStored(status int) bool { return statusVerdict(status) != Store }

// heuristicallyCacheable reports whether RFC 9110 15.1 defines the status so.
func heuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}
