package middleware

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-weir/weir/ratelimit"
)

// RateLimitOption configures [RateLimit].
type RateLimitOption func(*rateLimitConfig)

type rateLimitConfig struct {
	cost    *int
	costOf  optional[func(*http.Request) int]
	plan    optional[func(*http.Request) *ratelimit.Limiter]
	skip    []func(*http.Request) bool
	allow   []netip.Prefix
	deny    []netip.Prefix
	refunds bool
	when    []func(Outcome) bool
	reset   ResetForm
	dialect Dialect
	secret  optional[[]byte]
	denied  optional[func(http.ResponseWriter, *http.Request, ratelimit.Result)]
}

// optional is what an option was given, even if that is nil.
type optional[T any] struct {
	value T
	given bool
}

// WithCost makes each request count n times; the default is 1. A request that
// costs more than is left is refused and counts nothing; one that costs more than
// the limit itself is refused without Retry-After, as waiting does not help.
//
// A request of cost 0 is told how its key stands, counts nothing and passes,
// unless the key is banned; it holds no place of ratelimit.AtOnce. It excludes
// [WithCostFunc].
func WithCost(n int) RateLimitOption {
	return func(c *rateLimitConfig) { c.cost = &n }
}

// WithCostFunc makes each request count as often as cost says: see [WithCost].
// Below 0 the request is answered 500, and logged: it must neither pass uncounted
// nor give anything back.
func WithCostFunc(cost func(*http.Request) int) RateLimitOption {
	return func(c *rateLimitConfig) { c.costOf = optional[func(*http.Request) int]{cost, true} }
}

// WithPlan lets each request have limits of its own, such as those that its
// tenant pays for: plan returns the limiter to ask, nil for the mounted one. Make
// them by the mounted limiter's With, once for each plan or, as that is cheap, for
// each request: a changed plan then holds from the next request on, and what was
// used stays used.
func WithPlan(plan func(*http.Request) *ratelimit.Limiter) RateLimitOption {
	return func(c *rateLimitConfig) { c.plan = optional[func(*http.Request) *ratelimit.Limiter]{plan, true} }
}

// WithSkip lets requests for which skip is true pass, neither counted nor told of
// the limit. Given several times, one that says so is enough.
func WithSkip(skip func(*http.Request) bool) RateLimitOption {
	return func(c *rateLimitConfig) { c.skip = append(c.skip, skip) }
}

// WithAllowList lets requests from these addresses pass, neither counted nor told
// of the limit. Addresses are found as [KeyByIP] does, and IPv4 in IPv6 is IPv4: all
// of it is 0.0.0.0/0, and no part of ::/0. A client whose address cannot be
// told is on no list. Given several times, the lists add up.
func WithAllowList(prefixes ...netip.Prefix) RateLimitOption {
	prefixes = slices.Clone(prefixes) // the caller's slice may change
	return func(c *rateLimitConfig) { c.allow = append(c.allow, prefixes...) }
}

// WithDenyList has requests from these addresses answered 403, without asking
// Redis. Otherwise it is as [WithAllowList], over which it prevails, as it does
// over [WithSkip]: in a network that is let pass, one address can be shut out, and
// where two lists contradict each other the mistake shows.
func WithDenyList(prefixes ...netip.Prefix) RateLimitOption {
	prefixes = slices.Clone(prefixes)
	return func(c *rateLimitConfig) { c.deny = append(c.deny, prefixes...) }
}

// WithRefund takes a request's count back after the handler, if one of the
// functions says so of how it went, or the handler itself by [Refund]; without
// functions it is the handler's word alone. [OnSuccess] counts only failures, such
// as failed logins; [OnFailure] only successes.
//
// Exactly what this request was counted as is taken back, once, also when the
// handler panicked. Until then it does count: at most the limit's number of
// requests are under way, however they will end. A refund is a second round trip
// behind the handler; if Redis is silent then, the request stays counted, and it
// is logged.
//
// The writer is wrapped, to see the status; streams, upgrades and
// http.ResponseController work as without.
func WithRefund(when ...func(Outcome) bool) RateLimitOption {
	when = slices.Clone(when)
	return func(c *rateLimitConfig) { c.refunds, c.when = true, append(c.when, when...) }
}

// ResetForm is how X-RateLimit-Reset tells an instant. All are rounded up to a
// second: a client that obeys does not come too early.
type ResetForm uint8

const (
	// ResetEpoch is seconds since 1970, as GitHub has it; the default.
	ResetEpoch ResetForm = iota
	// ResetDelta is seconds from now.
	ResetDelta
	// ResetISO8601 is a date of RFC 3339 in UTC: 2026-11-24T00:48:25Z.
	ResetISO8601
)

// WithReset sets how X-RateLimit-Reset tells an instant.
func WithReset(form ResetForm) RateLimitOption {
	return func(c *rateLimitConfig) { c.reset = form }
}

// Dialect is which of the drafts of the RateLimit fields is spoken: no RFC has
// settled them yet.
type Dialect uint8

const (
	// Draft11 is draft-ietf-httpapi-ratelimit-headers-11 of May 2026, the default;
	// -10 has the same syntax:
	//
	//	RateLimit-Policy: "per-minute";q=100;w=60, "at-once";q=5;qu="concurrent-requests"
	//	RateLimit: "per-minute";r=50;t=30, "at-once";r=4
	Draft11 Dialect = iota
	// Editors2026 is what the draft's editors had proposed by August 2026, and may
	// change again: names as Tokens (issue 158 of ietf-wg-httpapi/ratelimit-headers),
	// "a" for "r" and "w" for "t", and "c", what this request was counted as (pull
	// request 166):
	//
	//	RateLimit-Policy: per-minute;q=100;w=60
	//	RateLimit: per-minute;a=50;w=30;c=1
	//
	// The proposed RateLimit-Partition is left out: it names what a key is made of,
	// which a KeyFunc does not tell; so pk is that of WithPartitionKey, not the
	// proposal's list of values in the clear. The fields are on redirects too, which
	// the proposal advises against: they are set before the handler has a status.
	Editors2026
	// NoDialect sends neither RateLimit nor RateLimit-Policy.
	NoDialect
)

// WithDialect sets which draft of RateLimit and RateLimit-Policy is spoken.
func WithDialect(dialect Dialect) RateLimitOption {
	return func(c *rateLimitConfig) { c.dialect = dialect }
}

// minSecret is as long as what is made of the secret.
const minSecret = 16

// WithPartitionKey adds "pk" to RateLimit and RateLimit-Policy, by which a client
// that holds several keys tells their quotas apart: 128 bits of the key's
// HMAC-SHA256 under secret, so that nobody without it can tell, or try, what the
// key is. Give all processes the same secret, of at least 16 bytes. Without the
// option there is no pk: under a secret of each process's own it would differ
// from one answer to the next.
func WithPartitionKey(secret []byte) RateLimitOption {
	secret = slices.Clone(secret)
	return func(c *rateLimitConfig) { c.secret = optional[[]byte]{secret, true} }
}

// WithDenied has denied answer the requests that the limit refuses, in place of
// 429 and a problem. What the verdict says in header fields is set by then,
// Retry-After and Cache-Control: no-store among it (RFC 6585 section 4: a 429 must
// not be stored). Refusals for another reason stay as they are. It must write a
// status: if it writes nothing, net/http answers 200.
func WithDenied(denied func(w http.ResponseWriter, r *http.Request, result ratelimit.Result)) RateLimitOption {
	return func(c *rateLimitConfig) {
		c.denied = optional[func(http.ResponseWriter, *http.Request, ratelimit.Result)]{denied, true}
	}
}

// configure applies options to what was mounted, and reports all mistakes.
func configureRateLimit(limiter *ratelimit.Limiter, key KeyFunc, options []RateLimitOption) (*rateLimitConfig, []string) {
	var mistakes []string
	mistake := func(format string, args ...any) { mistakes = append(mistakes, fmt.Sprintf(format, args...)) }
	if limiter == nil {
		mistake("the limiter is nil: check the error of ratelimit.New")
	}
	if key == nil {
		mistake("the key function is nil: say whom to count, such as middleware.KeyByIP")
	}
	c := new(rateLimitConfig)
	for i, o := range options {
		if o == nil {
			mistake("option %d is nil: leave it out", i+1)
			continue
		}
		o(c)
	}
	if c.cost != nil && (*c.cost < 0 || *c.cost > math.MaxInt32) {
		mistake("WithCost(%d): must be from 0, which counts nothing, to %d", *c.cost, math.MaxInt32)
	}
	if c.costOf.given && c.costOf.value == nil {
		mistake("WithCostFunc: the function is nil: leave the option out for a cost of 1")
	}
	if c.cost != nil && c.costOf.given {
		mistake("WithCost and WithCostFunc exclude each other: keep one")
	}
	if c.plan.given && c.plan.value == nil {
		mistake("WithPlan: the function is nil: leave the option out for the mounted limiter")
	}
	for _, skip := range c.skip {
		if skip == nil {
			mistake("WithSkip: the function is nil: leave the option out to skip nothing")
		}
	}
	for _, when := range c.when {
		if when == nil {
			mistake("WithRefund: a function is nil: write WithRefund() for refunds by the handler's word alone")
		}
	}
	for _, list := range []struct {
		option   string
		prefixes []netip.Prefix
	}{{"WithAllowList", c.allow}, {"WithDenyList", c.deny}} {
		for _, p := range list.prefixes {
			if what := prefixMistake(p); what != "" {
				mistake("%s: %v %s", list.option, p, what)
			}
		}
	}
	if c.reset > ResetISO8601 {
		mistake("WithReset(%d): use ResetEpoch, ResetDelta or ResetISO8601", c.reset)
	}
	if c.dialect > NoDialect {
		mistake("WithDialect(%d): use Draft11, Editors2026 or NoDialect", c.dialect)
	}
	if c.secret.given && len(c.secret.value) < minSecret {
		mistake("WithPartitionKey: a secret of %d bytes could be guessed: use at least %d, the same in all processes", len(c.secret.value), minSecret)
	}
	if c.secret.given && c.dialect == NoDialect {
		mistake("WithPartitionKey and WithDialect(NoDialect) exclude each other: no field is left to carry pk")
	}
	if c.denied.given && c.denied.value == nil {
		mistake("WithDenied: the function is nil: leave the option out for 429 and a problem")
	}
	return c, mistakes
}

// panicAtMount reports all mistakes at once, as http.Handle does its one.
func panicAtMount(what string, mistakes []string) {
	switch len(mistakes) {
	case 0:
	case 1:
		panic(what + ": " + mistakes[0])
	default:
		panic(fmt.Sprintf("%s: %d mistakes:\n\t%s", what, len(mistakes), strings.Join(mistakes, "\n\t")))
	}
}
