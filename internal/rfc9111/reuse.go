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
	case !p.mayKnow(req, stored):
		return Credentials
	case stored.NoCache:
		return ResponseNoCache
	}
	v := Fresh
	ttl := stored.Lifetime - age
	if ttl <= 0 { // response_is_fresh = (freshness_lifetime > current_age)
		if v = p.stale(req, stored, -ttl); v == Stale {
			return Stale
		}
	}
	if p.IgnoreRequest {
		return v
	}
	// After the staleness, so that these say what Cache-Status means by
	// fwd=request: there was a usable response, and the client declined it.
	switch d := &req.Directives; {
	case d.NoCache:
		return RequestNoCache
	// A reload says max-age=0 of what its response said will not change (RFC 8246 2).
	case d.MaxAge.Valid && age > d.MaxAge.Value && !(stored.Immutable && v == Fresh):
		return RequestMaxAge
	case d.MinFresh.Valid && ttl < d.MinFresh.Value:
		return RequestMinFresh
	}
	return v
}

// mayKnow is the Safe profile's rule on who is answered from the cache.
func (p Policy) mayKnow(req *Request, stored *Stored) bool {
	if p.credentials() || stored.Public {
		return true
	}
	return !req.authorization() && (stored.Declared || !req.cookie())
}

// stale says whether a response that is stale by so much may be used so.
func (p Policy) stale(req *Request, stored *Stored, by time.Duration) Verdict {
	switch {
	case stored.Revalidate:
		return Stale
	case !p.IgnoreRequest && acceptsStale(&req.Directives, by):
		return StaleAllowed
	case by < stored.WhileRevalidate:
		return StaleRefreshing
	}
	return Stale
}

// OnError says whether a stored response that may not answer may do so after all
// since the origin failed: it gave no answer, or one with the status of an error.
// RFC 5861 4 is about 500, 502, 503 and 504, for as long as stale-if-error says,
// in the response or the request. Without it, a 5xx to a request that was to
// validate the response may be taken for no answer (4.3.3), and the cache for
// disconnected (4.2.4): for as long as KeepStale says.
//
// must-revalidate, proxy-revalidate, s-maxage and no-cache forbid all of it.
func (p Policy) OnError(req Request, stored Stored, status int, now time.Time) Decision {
	age := CurrentAge(stored.InitialAge, stored.ResponseTime, now)
	d := Decision{Verdict: Stale, Age: age, TTL: stored.Lifetime - age}
	window := max(stored.IfError, p.keepStale())
	if e := req.Directives.StaleIfError; !p.IgnoreRequest && e.Valid {
		window = max(window, e.Value)
	}
	switch status {
	case 500, 502, 503, 504:
	default:
		return d
	}
	switch {
	case req.Method != "GET" && req.Method != "HEAD":
		d.Verdict = MethodNotCached
	case !p.mayKnow(&req, &stored):
		d.Verdict = Credentials
	case stored.NoCache || stored.Revalidate && d.TTL <= 0:
	case d.TTL > -window:
		d.Verdict = StaleOnError
	}
	return d
}

// acceptsStale is max-stale (5.2.1.2). A request that also asks for min-fresh
// contradicts itself; the more restrictive of the two is heard (4.2.1).
func acceptsStale(d *RequestDirectives, by time.Duration) bool {
	if d.MinFresh.Valid {
		return false
	}
	return d.AnyStale || d.MaxStale.Valid && by <= d.MaxStale.Value
}

// Bypass says whether a request is none of a cache's business, which then passes
// it on and stores nothing, and why. If bypass is false the verdict is zero.
func Bypass(r *http.Request) (v Verdict, bypass bool) {
	h := r.Header
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		return MethodNotCached, true
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return RequestBody, true
	case len(h["Upgrade"]) > 0:
		return RequestUpgrade, true
	case len(h["If-Match"]) > 0, len(h["If-Unmodified-Since"]) > 0:
		return RequestPrecondition, true
	}
	return 0, false
}
