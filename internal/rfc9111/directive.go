package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// MaxDelta is the greatest delta-seconds value, "infinity (over 68 years)":
// what is greater, or overflows in a later sum, is this (RFC 9111 1.2.2).
const MaxDelta = (1 << 31) * time.Second

// Seconds is the argument of a directive that takes delta-seconds.
type Seconds struct {
	Value   time.Duration // meaningful only if Valid; 0 to MaxDelta
	Present bool          // the directive occurs
	Valid   bool          // and all its occurrences say the same, well-formed number
}

// Scope is the argument of no-cache and private, which may name header fields.
type Scope struct {
	Present bool     // the directive occurs
	Fields  []string // canonical field names; nil means the whole response
	whole   bool     // an unqualified form occurred, which no other narrows
}

// ResponseDirectives are the Cache-Control directives of a response (RFC 9111
// 5.2.2) that bear on a shared cache.
type ResponseDirectives struct {
	MaxAge, SMaxage  Seconds
	NoCache, Private Scope

	StaleWhileRevalidate, StaleIfError Seconds // RFC 5861 3 and 4

	NoStore         bool
	Public          bool
	MustRevalidate  bool
	ProxyRevalidate bool
	MustUnderstand  bool
	Immutable       bool // RFC 8246

	// Targeted says that these are of a targeted field, which takes the place of
	// Cache-Control and of Expires (RFC 9213 2.2).
	Targeted bool

	// Malformed says that some member broke the grammar, or that a directive
	// had an argument it does not take. What was forbidden still is, but nothing
	// is permitted: Public, MustUnderstand and Immutable are false, the windows of
	// RFC 5861 are not Valid, and what else is read as consent (3.5) should not be.
	Malformed bool
}

// RequestDirectives are the Cache-Control directives of a request (RFC 9111
// 5.2.1). They are advisory, so one that cannot be read is ignored.
type RequestDirectives struct {
	MaxAge, MinFresh, MaxStale Seconds
	StaleIfError               Seconds // RFC 5861 4

	AnyStale     bool // max-stale without an argument: however stale
	NoCache      bool // also Pragma: no-cache without a Cache-Control field
	NoStore      bool
	OnlyIfCached bool
}

// ParseResponseDirectives reads the Cache-Control lines of a response's header
// as one list (RFC 9110 5.3). It does not fail: RFC 9111 says of each mistake
// what it amounts to.
//
//   - Names are case-insensitive; unknown ones are ignored (5.2.3).
//   - Arguments may be tokens or quoted strings, whichever the directive's
//     definition prefers (5.2). Single quotes quote nothing.
//   - A delta-seconds argument that is missing, negative, fractional or
//     anything else but digits makes the directive present and not Valid, and
//     the response stale (4.2.1).
//   - Of a directive that occurs twice, 4.2.1 lets a cache use the first or
//     call the response stale. Two equal values are one; two that differ are
//     not Valid: whichever was meant, stale is not wrong.
//   - A member that is not in the grammar, as "private; max-age=5" or
//     "max-age =5", can only forbid; see [ResponseDirectives.Malformed]. With a
//     quoted string that has no end nothing is fresh: it may have swallowed
//     anything.
func ParseResponseDirectives(h http.Header) ResponseDirectives {
	var d ResponseDirectives
	for _, line := range h["Cache-Control"] {
		for s := (scanner{rest: line}); s.next(); {
			d.add(&s)
			if s.unterminated {
				// spoilt stays spoilt whatever follows.
				d.MaxAge, d.SMaxage = d.MaxAge.spoilt(), d.SMaxage.spoilt()
			}
		}
	}
	d.settle()
	return d
}

// settle takes back what a field with a mistake in it has permitted.
func (d *ResponseDirectives) settle() {
	if d.Malformed {
		d.Public, d.MustUnderstand, d.Immutable = false, false, false
		d.StaleWhileRevalidate, d.StaleIfError = Seconds{}, Seconds{}
	}
}

func (d *ResponseDirectives) add(s *scanner) {
	d.Malformed = d.Malformed || s.malformed
	flag := func() bool {
		d.Malformed = d.Malformed || s.hasArg
		return true
	}
	switch name := s.name; {
	case fold(name, "max-age"):
		d.MaxAge = d.MaxAge.and(s)
	case fold(name, "s-maxage"):
		d.SMaxage = d.SMaxage.and(s)
	case fold(name, "no-store"):
		d.NoStore = flag()
	case fold(name, "no-cache"):
		d.NoCache = d.NoCache.and(s)
	case fold(name, "private"):
		d.Private = d.Private.and(s)
	case fold(name, "must-revalidate"):
		d.MustRevalidate = flag()
	case fold(name, "proxy-revalidate"):
		d.ProxyRevalidate = flag()
	case fold(name, "public"):
		d.Public = flag()
	case fold(name, "must-understand"):
		d.MustUnderstand = flag()
	case fold(name, "immutable"):
		d.Immutable = flag()
	case fold(name, "stale-while-revalidate"):
		d.StaleWhileRevalidate = d.StaleWhileRevalidate.and(s)
	case fold(name, "stale-if-error"):
		d.StaleIfError = d.StaleIfError.and(s)
	}
}

// ParseRequestDirectives reads the Cache-Control lines of a request's header
// as one list.
//
// Without any such line, Pragma: no-cache means no-cache; RFC 9111 5.4
// deprecates the field, RFC 7234 5.4 says what HTTP/1.0 clients mean by it.
// Where a directive occurs twice the more demanding value counts (4.2.1:
// "the most restrictive directive should be honored").
func ParseRequestDirectives(h http.Header) RequestDirectives {
	var d RequestDirectives
	lines := h["Cache-Control"]
	for _, line := range lines {
		for s := (scanner{rest: line}); s.next(); {
			d.add(&s)
		}
	}
	if len(lines) == 0 {
		for _, line := range h["Pragma"] {
			for s := (scanner{rest: line}); s.next(); {
				d.NoCache = d.NoCache || fold(s.name, "no-cache")
			}
		}
	}
	if d.MaxStale.Valid {
		d.AnyStale = false
	}
	return d
}

func (d *RequestDirectives) add(s *scanner) {
	switch name := s.name; {
	case fold(name, "max-age"):
		d.MaxAge = d.MaxAge.least(s)
	case fold(name, "min-fresh"):
		if v, ok := s.seconds(); ok && (!d.MinFresh.Valid || v > d.MinFresh.Value) {
			d.MinFresh = Seconds{Value: v, Present: true, Valid: true}
		}
	case fold(name, "max-stale"):
		// A permission: one that cannot be read is none.
		if !s.hasArg && !s.malformed {
			d.AnyStale = true
			return
		}
		d.MaxStale = d.MaxStale.least(s)
	case fold(name, "stale-if-error"):
		d.StaleIfError = d.StaleIfError.least(s)
	case fold(name, "no-cache"):
		d.NoCache = true
	case fold(name, "no-store"):
		d.NoStore = true
	case fold(name, "only-if-cached"):
		d.OnlyIfCached = true
	}
}

// and adds one more occurrence of a response directive.
func (x Seconds) and(s *scanner) Seconds {
	v, ok := s.seconds()
	switch {
	case !ok, x.Present && (!x.Valid || x.Value != v):
		return x.spoilt()
	}
	return Seconds{Value: v, Present: true, Valid: true}
}

// spoilt is a directive that is there and says nothing usable.
func (Seconds) spoilt() Seconds { return Seconds{Present: true} }

// least adds one more occurrence of a request directive that is an upper bound.
func (x Seconds) least(s *scanner) Seconds {
	v, ok := s.seconds()
	if !ok || x.Valid && x.Value <= v {
		return x
	}
	return Seconds{Value: v, Present: true, Valid: true}
}

// and adds one more occurrence. Only a well-formed list of field names narrows
// the directive; any other argument leaves it covering the whole response.
func (c Scope) and(s *scanner) Scope {
	c.Present = true
	names := s.fieldNames()
	if c.whole = c.whole || len(names) == 0; c.whole {
		c.Fields = nil
		return c
	}
	c.Fields = append(c.Fields, names...)
	return c
}

// seconds reads the argument as delta-seconds = 1*DIGIT, saturating at
// MaxDelta. A quoted pair stands for its second octet (RFC 9110 5.6.4).
func (s *scanner) seconds() (time.Duration, bool) {
	if s.malformed || !s.hasArg {
		return 0, false
	}
	return parseDelta(s.arg, s.quoted)
}

func parseDelta(arg string, quoted bool) (time.Duration, bool) {
	const limit = int64(MaxDelta / time.Second)
	var n int64
	digits := 0
	for i := 0; i < len(arg); i++ {
		c := arg[i]
		if quoted && c == '\\' {
			continue // the scanner made sure that an octet follows
		}
		if c < '0' || c > '9' {
			return 0, false
		}
		// Saturating each step keeps n far from overflow however many digits.
		n = min(n*10+int64(c-'0'), limit)
		digits++
	}
	return time.Duration(n) * time.Second, digits > 0
}

// fieldNames reads the argument as a list of field names, nil if it is not one.
// The token form is a list of one (5.2: recipients ought to accept both forms).
func (s *scanner) fieldNames() []string {
	if s.malformed || !s.hasArg {
		return nil
	}
	arg := s.arg
	if s.quoted && strings.IndexByte(arg, '\\') >= 0 {
		arg = unescape(arg)
	}
	var names []string
	for member := range strings.SplitSeq(arg, ",") {
		member = trimOWS(member)
		switch {
		case member == "": // empty members are to be ignored (RFC 9110 5.6.1.2)
		case !isToken(member):
			return nil
		default:
			names = append(names, http.CanonicalHeaderKey(member))
		}
	}
	return names
}
