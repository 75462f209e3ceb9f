package rfc9111

import (
	"net/http"
	"time"
)

// Decision is the answer of [Policy.Reuse].
type Decision struct {
	Verdict Verdict
	Age     time.Duration // current_age of the stored response, for SetAge
	TTL     time.Duration // what is left of its lifetime, negative if it is stale
}

// OK reports whether the stored response may answer.
func (d Decision) OK() bool { return d.Verdict.OK() }

// Reuse says whether a stored response may answer a request without asking the
// origin (RFC 9111 4). That it is the right one, by its key and its [Vary], is
// the caller's part; so is the request that no stored response answers and that
// says only-if-cached, which gets a 504 (5.2.1.7).
//
// now must be by the clock that Stored.ResponseTime is by.
//
// no-store in the request does not forbid to reuse, only to store (5.2.1.5).
// max-stale never overrides anything but staleness: not no-cache,
// must-revalidate, proxy-revalidate or s-maxage (4.2.4), and no rule of a
// profile.
func (p Policy) Reuse(req Request, stored Stored, now time.Time) Decision {
	age := CurrentAge(stored.InitialAge, stored.ResponseTime, now)
	return Decision{
		Verdict: p.reuse(&req, &stored, age),
		Age:     age,
		TTL:     stored.Lifetime - age,
	}
}

func (p Policy) reuse(req *Request, stored *Stored, age time.Duration) Verdict {
	switch {
	case req.Method != "GET" && req.Method != "HEAD":
		return MethodNotCached
	case p.Profile != RFC && !stored.Public && req.credentials():
		return Credentials
	case stored.NoCache:
		return ResponseNoCache
	}
	v := Fresh
	ttl := stored.Lifetime - age
	if ttl <= 0 { // response_is_fresh = (freshness_lifetime > current_age)
		if p.IgnoreRequest || stored.Revalidate || !acceptsStale(&req.Directives, -ttl) {
			return Stale
		}
		v = StaleAllowed
	}
	if p.IgnoreRequest {
		return v
	}
	// After the staleness, so that these say what Cache-Status means by
	// fwd=request: there was a usable response, and the client declined it.
	switch d := &req.Directives; {
	case d.NoCache:
		return RequestNoCache
	case d.MaxAge.Valid && age > d.MaxAge.Value:
		return RequestMaxAge
	case d.MinFresh.Valid && ttl < d.MinFresh.Value:
		return RequestMinFresh
	}
	return v
}

// acceptsStale is max-stale (5.2.1.2). A request that also asks for min-fresh
// contradicts itself; the more restrictive of the two is heard (4.2.1).
func acceptsStale(d *RequestDirectives, by time.Duration) bool {
	if d.MinFresh.Valid {
		return false
	}
	return d.AnyStale || d.MaxStale.Valid && by <= d.MaxStale.Value
}

// Bypass says whether a request is none of a cache's business in this version,
// which then passes it on and stores nothing, and why. If bypass is false the
// verdict is zero.
func Bypass(r *http.Request) (v Verdict, bypass bool) {
	h := r.Header
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return MethodNotCached, true
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return RequestBody, true
	case len(h["Upgrade"]) > 0:
		return RequestUpgrade, true
	case len(h["Range"]) > 0:
		return RequestRange, true
	case len(h["If-Match"]) > 0, len(h["If-Unmodified-Since"]) > 0, len(h["If-Range"]) > 0:
		return RequestPrecondition, true
	}
	return 0, false
}
