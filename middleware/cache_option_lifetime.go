package middleware

import (
	"fmt"
	"net/http"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

// maxTTL bounds the lifetimes that options give.
const maxTTL = 366 * 24 * time.Hour

// WithDefaultTTL sets for how long an answer is fresh that says nothing about it: no
// s-maxage, max-age or Expires, nor a targeted field in their place. It stands where the
// heuristic of RFC 9111 section 4.2.2 would, so it is for the statuses that section 15.1
// of RFC 9110 defines as cacheable (200, 203, 204, 300, 301, 308, 404, 405, 410, 414 and
// 501) and for any other that says public. A lifetime that is declared, be it 0 or
// unreadable, stays what it is, and what may not be stored is not stored.
//
// The default is the store's cache.WithTTL, and without that a tenth of the age of
// Last-Modified, at most a day; 0 has the heuristic decide though the store has a TTL. It
// panics unless ttl is 0 or from 1 ms to 366 days.
func WithDefaultTTL(ttl time.Duration) CacheOption {
	checkTTL("WithDefaultTTL", ttl, "0 for the heuristic of RFC 9111")
	return func(c *responseCache) { c.policy.DefaultLifetime = ttl }
}

// WithStatusTTL is WithDefaultTTL for answers with one status, in the place of both that
// and the heuristic: such as 10 s for 404. With 0 no answer with that status is stored
// which does not declare its lifetime. It may be given once for each status; what is said
// of 200 counts for parts, 206, as well.
//
// RFC 9111 section 3 forbids to store an answer with a status that is not cacheable by
// itself, such as 302 or 500, unless it says public or declares a lifetime: for those
// statuses the option is about answers that say public. It panics for statuses that are
// never stored (304, 428, 429, 431, 511, and what is no final status), for 206, and
// unless ttl is 0 or from 1 ms to 366 days.
func WithStatusTTL(status int, ttl time.Duration) CacheOption {
	switch {
	case status == http.StatusPartialContent:
		panic("middleware.WithStatusTTL(206): a part is fresh as long as the whole: write 200")
	case rfc9111.NeverStored(status):
		panic(fmt.Sprintf("middleware.WithStatusTTL(%d): no answer with this status may be stored: leave it out", status))
	}
	checkTTL(fmt.Sprintf("WithStatusTTL(%d)", status), ttl, "0 to store none")
	return func(c *responseCache) {
		if c.policy.StatusLifetimes == nil {
			c.policy.StatusLifetimes = make(map[int]time.Duration)
		}
		c.policy.StatusLifetimes[status] = ttl
	}
}

func checkTTL(option string, ttl time.Duration, zero string) {
	if ttl != 0 && (ttl < time.Millisecond || ttl > maxTTL) {
		panic(fmt.Sprintf("middleware.%s: %v is no lifetime: write one from 1ms to %v, or %s", option, ttl, maxTTL, zero))
	}
}

// WithTTLJitter shortens lifetimes that the cache has chosen itself, by [WithDefaultTTL],
// [WithStatusTTL], cache.WithTTL or the heuristic, by up to this part of what is left of
// them, at random, so that answers which were stored together do not end together. What
// an answer declares is left as it is: clients count by it. The default is 0, none, as
// clients never see these lifetimes; it panics unless part is from 0 to 0.5.
func WithTTLJitter(part float64) CacheOption {
	if !(part >= 0 && part <= 0.5) { // NaN is neither
		panic(fmt.Sprintf("middleware.WithTTLJitter(%v): must be from 0 to 0.5: write 0.1 for up to a tenth", part))
	}
	return func(c *responseCache) { c.jitter = part }
}

// storable is the policy's Storable, with the jitter of lifetimes that are no one's word.
func (c *responseCache) storable(query rfc9111.Request, response rfc9111.Response) (rfc9111.Stored, rfc9111.Verdict) {
	rules, verdict := c.policy.Storable(query, response)
	if left := rules.Lifetime - rules.InitialAge; c.jitter > 0 && verdict.OK() && !rules.Declared && left > 0 {
		rules.Lifetime -= time.Duration(c.random() * c.jitter * float64(left))
	}
	return rules, verdict
}

// WithEarlyRefresh has a stored answer refreshed before its lifetime ends, by one of the
// requests that are answered with it, over all instances: at random, the likelier the
// nearer the end and the longer the handler took to begin its answer (XFetch: see
// cache.WithEarlyRefresh, whose beta it is). All are answered from the store meanwhile. A
// handler that takes less than 1 ms is not asked early. A refresh that fails leaves what is
// stored, and is not repeated by this process for 1 s. By default nothing is refreshed
// early.
//
// The refresh goes the way of stale-while-revalidate: see [WithRefresher], without which
// the client's connection ends with that answer over HTTP/1.1. It panics unless beta is
// from 0.1 to 100; 1 is the usual value.
func WithEarlyRefresh(beta float64) CacheOption {
	if !(beta >= 0.1 && beta <= 100) {
		panic(fmt.Sprintf("middleware.WithEarlyRefresh(%v): must be from 0.1 to 100: write 1, the usual value", beta))
	}
	return func(c *responseCache) { c.early = beta }
}
