package middleware

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

// CacheOption configures [Cache].
type CacheOption func(*responseCache)

// WithRFCProfile makes the cache store and serve all that RFC 9111 allows a
// shared cache, answers that set a cookie included: for origins whose answers
// were made with shared caches in mind. The default, safe profile
//
//   - never stores an answer that sets a cookie;
//   - stores the answer to a request with a Cookie field only if it says public,
//     one to a request with Authorization only if it says public or s-maxage;
//   - answers a request with Authorization only from what said public or s-maxage,
//     one with a Cookie only from what said public or declared its lifetime;
//   - does not store answers to requests with X-Forwarded-Host and its kin, which
//     applications build links from and no key covers.
func WithRFCProfile() CacheOption {
	return func(c *responseCache) { c.policy.Profile = rfc9111.RFC }
}

// WithInsecureSetCookie lifts one rule of the safe profile: answers that set a
// cookie are stored, cookie and all, if RFC 9111 allows it. Whoever is answered
// from the cache gets the cookie made for somebody else.
func WithInsecureSetCookie() CacheOption {
	return func(c *responseCache) { c.policy.SetCookie = true }
}

// WithInsecureCredentials lifts the rules of the safe profile on requests with a
// Cookie or an Authorization field; those of RFC 9111 section 3.5 stay. The handler
// must say private, or Vary: Cookie, of every answer that depends on who asks.
func WithInsecureCredentials() CacheOption {
	return func(c *responseCache) { c.policy.Credentials = true }
}

// WithInsecureForwardedHeaders lifts the rule of the safe profile on requests with
// X-Forwarded-Host and its kin: for when a proxy in front sets these fields, or
// takes them off, in every request. Otherwise one client can choose what all others
// are sent to.
func WithInsecureForwardedHeaders() CacheOption {
	return func(c *responseCache) { c.policy.Forwarded = true }
}

// WithKeepStale keeps answers for d after they have become stale: to be validated,
// which costs the handler a 304, and to be served while the handler fails with 500,
// 502, 503 or 504 (RFC 9111 sections 4.2.4 and 4.3.3). An answer that says
// must-revalidate, proxy-revalidate, s-maxage or no-cache is never served stale;
// one that says stale-if-error is for at least as long as it says. The default is 10
// minutes; 0 or less keeps nothing on this account.
func WithKeepStale(d time.Duration) CacheOption {
	return func(c *responseCache) {
		if c.policy.KeepStale = d; d <= 0 {
			c.policy.KeepStale = -1
		}
	}
}

// WithTargets names the targeted fields that the cache obeys in the place of
// Cache-Control and Expires, its own first (RFC 9213): such as "Shop-Cache-Control",
// "CDN-Cache-Control". The default is CDN-Cache-Control; no names is none. It panics
// if one is no field name.
func WithTargets(names ...string) CacheOption {
	targets := make([]string, 0, len(names))
	for _, name := range names {
		if !isToken(name) {
			panic(fmt.Sprintf("middleware.WithTargets: %q is no field name: write one such as CDN-Cache-Control", name))
		}
		targets = append(targets, http.CanonicalHeaderKey(name))
	}
	return func(c *responseCache) { c.policy.Targets = targets }
}

// WithoutRequestDirectives makes the cache deaf to no-cache, max-age, min-fresh and
// max-stale in requests, which RFC 9111 section 5.2.1 calls advisory: with them any
// client can have the handler asked each time. no-store and only-if-cached are heard
// all the same.
func WithoutRequestDirectives() CacheOption {
	return func(c *responseCache) { c.policy.IgnoreRequest = true }
}

// defaultCollapseWait is for how long a request waits for another one's answer.
const defaultCollapseWait = 5 * time.Second

// WithCollapseWait sets for how long a request waits when another one, here or in
// another process, is making the answer: what that brings is for all, if it may be
// stored and fits them; if not, all go to the handler at once, and for 10 s nobody waits
// for that answer. Whoever has waited so long goes to the handler as well. The default is
// 5 s; 0 or less has nobody wait.
func WithCollapseWait(d time.Duration) CacheOption {
	return func(c *responseCache) { c.wait = d }
}

// WithTagFields names the fields of a response that hold tags for a [Purger], separated
// by spaces or commas, such as "Surrogate-Key" or "Cache-Tag"; the default is none.
// Handlers of this program say [cache.Tag]. Of an answer 128 tags count, its groups
// included, of at most 256 bytes each. It panics if one is no field name.
func WithTagFields(names ...string) CacheOption {
	fields := make([]string, 0, len(names))
	for _, name := range names {
		if !isToken(name) {
			panic(fmt.Sprintf("middleware.WithTagFields: %q is no field name: write one such as Surrogate-Key", name))
		}
		fields = append(fields, http.CanonicalHeaderKey(name))
	}
	return func(c *responseCache) { c.tagFields = fields }
}

// WithRefresher runs the refreshes of stale-while-revalidate and [WithEarlyRefresh] in r, outside of the
// request that they are due to; several caches may share one. Without it, the
// request's own goroutine refreshes after its answer has left, over HTTP/1.1 with
// Connection: close so that no other request waits behind it; over HTTP/2 the end of
// that one answer waits for it. The handler must not use what belongs to a request
// that has ended; chi's route context is copied.
func WithRefresher(r *Refresher) CacheOption {
	if r == nil {
		panic("middleware.WithRefresher: the refresher is nil: write NewRefresher()")
	}
	return func(c *responseCache) { c.refresher = r }
}
