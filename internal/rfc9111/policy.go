package rfc9111

import (
	"net/http"
	"net/url"
	"time"
)

// Profile says how far a shared cache goes where RFC 9111 lets it choose.
type Profile uint8

const (
	// Safe is the default. It does everything RFC does, and moreover:
	//
	//   - a response that sets a cookie is not stored (section 7.3): handing one
	//     visitor's cookie to the next is the costliest mistake a cache can make.
	//   - a response to a request that carried a Cookie field is stored only if
	//     it says public, one to a request with Authorization only if it says
	//     public or s-maxage, which speaks of shared caches and nothing else.
	//     RFC 9111 lets a cache store the first kind unasked, and takes
	//     must-revalidate for consent to the second as well (section 3.5).
	//   - a request that carries Authorization is answered only by a stored
	//     response that said public or s-maxage, one with a Cookie by one that
	//     said public or declared its lifetime: where the lifetime is a guess, the visitor
	//     who is logged in prefers their own page to everybody else's.
	//   - a response to a request with a field that frameworks build URLs from
	//     (X-Forwarded-Host and its kin) is not stored unless Vary names the
	//     field: no cache key covers it, so one client could choose what all
	//     others get.
	//
	// An empty Cookie or Authorization field counts as one.
	Safe Profile = iota

	// RFC stores and reuses whatever RFC 9111 allows.
	RFC
)

// DefaultKeepStale is how much longer than its lifetime a response is kept,
// unless [Policy.KeepStale] says otherwise.
const DefaultKeepStale = 10 * time.Minute

// DefaultHeuristicLimit is how long a heuristic may keep a response fresh
// unless [Policy.HeuristicLimit] says otherwise.
const DefaultHeuristicLimit = 24 * time.Hour

// Policy is what RFC 9111 leaves to the owner of a cache. The zero value is the
// safe default. A Policy is a value and safe for concurrent use.
type Policy struct {
	// Profile is Safe unless set to RFC.
	Profile Profile

	// DefaultLifetime is how long a response stays fresh that says nothing
	// about it; it replaces the heuristic of section 4.2.2, and like it is
	// used only for the statuses listed there and for responses marked public.
	// Zero or less leaves the heuristic in place.
	DefaultLifetime time.Duration

	// StatusLifetimes takes DefaultLifetime's place, and the heuristic's, for single
	// statuses; zero or less leaves such a response without a lifetime. What is said
	// of 200 is said of 206, which is a part of one.
	StatusLifetimes map[int]time.Duration

	// HeuristicLimit bounds the heuristic. Zero means DefaultHeuristicLimit;
	// less than zero switches the heuristic off, so that only what the origin
	// declares is ever stored.
	HeuristicLimit time.Duration

	// KeepStale is how much longer than its lifetime a response is of use: to be
	// validated, or to be served while the origin fails (4.2.4). What the
	// response says in stale-while-revalidate or stale-if-error can make it
	// longer. Zero means DefaultKeepStale; less than zero means not at all.
	KeepStale time.Duration

	// Targets are the canonical names of the targeted fields that this cache
	// obeys in Cache-Control's place, the closest target first (RFC 9213 2.2).
	// Nil means CDN-Cache-Control alone.
	Targets []string

	// SetCookie and Credentials each lift one rule of the Safe profile: that of
	// Set-Cookie, and those of Cookie and Authorization in the request. Forwarded
	// lifts the rule of X-Forwarded-Host and its kin.
	SetCookie, Credentials, Forwarded bool

	// IgnoreRequest makes Reuse deaf to the request's no-cache, max-age,
	// min-fresh, max-stale and Pragma. They are advisory (section 5.2.1), and
	// any client can use them to reach the origin each time. no-store and
	// only-if-cached are heard all the same: they cost the origin nothing.
	IgnoreRequest bool
}

// Request is what the rules look at in a request.
type Request struct {
	Method     string
	Header     http.Header
	Directives RequestDirectives

	// Host is the request's Host, for what is compared with it; empty where it is
	// not known.
	Host string

	// URL is the effective request URI (RFC 9110 7.1), for what is compared with
	// it; nil where it is not known.
	URL *url.URL
}

// NewRequest returns the Request of a method and a header, parsed once. It
// keeps h and does not alter it.
func NewRequest(method string, h http.Header) Request {
	return Request{Method: method, Header: h, Directives: ParseRequestDirectives(h)}
}

// authorization and cookie report whether the request says who is asking.
func (r *Request) authorization() bool { return len(r.Header["Authorization"]) > 0 }
func (r *Request) cookie() bool        { return len(r.Header["Cookie"]) > 0 }

// cookies, credentials and forwarded say which of the Safe profile's rules are
// off.
func (p Policy) cookies() bool     { return p.Profile == RFC || p.SetCookie }
func (p Policy) credentials() bool { return p.Profile == RFC || p.Credentials }
func (p Policy) forwarded() bool   { return p.Profile == RFC || p.Forwarded }

func (p Policy) keepStale() time.Duration {
	if p.KeepStale == 0 {
		return DefaultKeepStale
	}
	return max(0, p.KeepStale)
}

// Response is what the rules look at in a response about to be stored.
type Response struct {
	Status int
	Header http.Header

	// RequestTime is when the request was passed on, ResponseTime when the
	// response's header section came back (section 4.2.3); both by the same
	// clock, and by the clock later given to [Policy.Reuse].
	RequestTime, ResponseTime time.Time
}

// Stored is what a reuse decision needs to know of a stored response. It is
// worked out once, when the response is stored, so that a hit parses none of
// the response's header again. The fields are exported to be kept by a store.
type Stored struct {
	Status       int
	ResponseTime time.Time     // response_time of section 4.2.3
	InitialAge   time.Duration // corrected_initial_age of section 4.2.3
	Lifetime     time.Duration // freshness_lifetime of section 4.2.1

	WhileRevalidate time.Duration // how long it may be served stale meanwhile (RFC 5861 3)
	IfError         time.Duration // and how long if the origin fails (RFC 5861 4)

	NoCache    bool // never reusable without validation (5.2.2.4)
	Revalidate bool // never reusable stale: must-revalidate, proxy-revalidate or s-maxage
	Public     bool // said public (5.2.2.9) or s-maxage, which the Safe profile asks about
	Declared   bool // the lifetime is the origin's own word, no heuristic or default
	Immutable  bool // will not change while it is fresh (RFC 8246)
	Validator  bool // has an ETag or a Last-Modified to be validated by

	// First and Size are of a stored 206: the position of its first octet, and
	// the size of the whole, -1 if unknown (RFC 9110 14.4). A stored 200 has 0, 0.
	First, Size int64
}

// Keep is how long a response is of use from ResponseTime on: until it is stale,
// and as long after that as it may be validated or served stale.
func (p Policy) Keep(s Stored) time.Duration {
	stale := max(s.WhileRevalidate, s.IfError)
	if s.Validator || !s.NoCache && !s.Revalidate {
		stale = max(stale, p.keepStale())
	}
	return max(0, s.Lifetime-s.InitialAge) + stale
}
