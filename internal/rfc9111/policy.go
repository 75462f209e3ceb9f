package rfc9111

import (
	"net/http"
	"time"
)

// Profile says how far a shared cache goes where RFC 9111 lets it choose.
type Profile uint8

const (
	// Safe is the default. It does everything RFC does, and moreover:
	//
	//   - a response to a request that carried a Cookie or an Authorization
	//     field is stored only if it says public. RFC 9111 lets a cache store
	//     the first kind unasked, and takes must-revalidate or s-maxage for
	//     consent to the second (section 3.5); an application that sets
	//     s-maxage on every page has not thought of either.
	//   - a request that carries one of them is answered from the cache only
	//     if the stored response said public: to everybody else's page the
	//     visitor who is logged in prefers their own.
	//   - request header fields named by Vary are compared with the white
	//     space around their commas only if they are known to be lists.
	//
	// An empty Cookie or Authorization field counts as one.
	Safe Profile = iota

	// RFC stores and reuses whatever RFC 9111 allows, save what this version
	// does not do (see the package comment) and Set-Cookie, which no profile
	// stores: handing one visitor's cookie to the next is the costliest
	// mistake a cache can make (section 7.3).
	RFC
)

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

	// HeuristicLimit bounds the heuristic. Zero means DefaultHeuristicLimit;
	// less than zero switches the heuristic off, so that only what the origin
	// declares is ever stored.
	HeuristicLimit time.Duration

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
}

// NewRequest returns the Request of a method and a header, parsed once. It
// keeps h and does not alter it.
func NewRequest(method string, h http.Header) Request {
	return Request{Method: method, Header: h, Directives: ParseRequestDirectives(h)}
}

// credentials reports whether the request says who is asking.
func (r *Request) credentials() bool {
	return len(r.Header["Authorization"]) > 0 || len(r.Header["Cookie"]) > 0
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
	NoCache      bool          // never reusable without validation (5.2.2.4)
	Revalidate   bool          // never reusable stale: must-revalidate, proxy-revalidate or s-maxage
	Public       bool          // said public (5.2.2.9), which the Safe profile asks about
}
