package middleware

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"net/http"
	"time"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/ratelimit"
)

// RateLimit turns a request away once its key has spent its limit, and says
// when to come back.
//
// Every answer it has decided on carries, on refusals as on others,
//
//	X-RateLimit-Limit      the limit's number of requests
//	X-RateLimit-Remaining  how many are left, never below 0
//	X-RateLimit-Reset      the instant at which Remaining grows, in seconds since
//	                       1970, rounded up; see WithReset
//	RateLimit-Policy       all limits, as draft-ietf-httpapi-ratelimit-headers-11
//	RateLimit              and how the key stands with each; see WithDialect
//
// The first three are about one limit: the one that refuses, else the one with
// the least room; X-RateLimit-Reset is left out if that is ratelimit.AtOnce. Of
// several RateLimits the tighter one's are sent, and the lists of all: give their
// limits names by Limit.Named. They are set before the handler runs, so a refund
// (see [WithRefund]) shows from the next answer on; browsers' scripts see what
// Access-Control-Expose-Headers names.
//
// A refusal is 429 Too Many Requests (RFC 6585 section 4) with Retry-After, at
// least 1 and never too early, and Cache-Control: no-store. It is without Retry-After
// if the request costs more than is ever admitted, and a mere 1 if nobody knows: of
// ratelimit.AtOnce alone, and of a cost that is above this process's part of the
// limit while Redis is silent. Its body is
// application/problem+json that names the limits which refuse, or text/plain if
// the request's Accept prefers that. It is never 406.
//
// The place of ratelimit.AtOnce is given back when the handler returns or
// panics, one round trip later, and kept while it runs, however long. A handler
// that has taken over the connection (Hijack) holds it until it returns as well.
//
// When Redis is silent the limiter's stand-in decides: by default it counts
// locally; under ratelimit.WithFailOpen nothing is counted, and the fields are left
// out, as they are under ratelimit.WithShadow; under ratelimit.WithFailClosed the
// answer is 503 with Retry-After. A request
// without a key is answered 400; a KeyFunc's other errors, and a server that
// refuses the script, 500. What clients are not told is logged to slog.Default,
// at most a line a second.
//
// Without [WithRefund] the writer is not wrapped.
//
// It panics, naming all mistakes, if limiter, key, an option or what it was given
// is nil or out of bounds. The handler is safe for concurrent use.
func RateLimit(limiter *ratelimit.Limiter, key KeyFunc, options ...RateLimitOption) Middleware {
	c, mistakes := configureRateLimit(limiter, key, options)
	panicAtMount("middleware.RateLimit", mistakes)
	m := &rateLimit{
		rateLimitConfig: c,
		key:             key,
		mounted:         newPolicy(limiter, c.dialect),
		fields:          fields{reset: c.reset, dialect: c.dialect},
		log:             &reporter{name: "rate limit"},
	}
	if c.plan.given {
		m.planned = &policies{dialect: c.dialect, seed: maphash.MakeSeed()}
	}
	if len(c.allow)+len(c.deny) > 0 {
		m.allowed, m.shutOut = newAddressList(c.allow), newAddressList(c.deny)
	}
	if c.secret.given {
		m.fields.pk = newPartitions(c.secret.value)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.serve(w, r, next) })
	}
}

// rateLimit is what one RateLimit was given, ready for use.
type rateLimit struct {
	*rateLimitConfig
	key              KeyFunc
	mounted          *policy
	planned          *policies    // nil without WithPlan
	allowed, shutOut *addressList // nil without lists
	fields           fields
	log              *reporter
}

func (m *rateLimit) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	listed := m.listed(r)
	if listed == deniedAddress {
		refusalForbidden.answer(w, r, 0)
		return
	}
	if listed == allowedAddress || m.skips(r) {
		next.ServeHTTP(w, r)
		return
	}
	key, err := m.key(r)
	if err != nil || key == "" {
		refuseKey(w, r, m.log, err)
		return
	}
	p := m.policyFor(r)
	cost, err := m.costOfRequest(r)
	if err != nil {
		refuseUndecided(w, r, m.log, err)
		return
	}
	ctx := r.Context()
	if p.lease > 0 {
		// A client who leaves now must not leave a place behind that nobody gives
		// back: the limiter's own budget bounds the wait.
		ctx = context.WithoutCancel(ctx)
	}
	result, err := p.limiter.AllowN(ctx, key, cost)
	switch {
	case err != nil && !result.Shadowed:
		refuseUndecided(w, r, m.log, err)
		return
	case err != nil:
		m.log.report(r.Context(), "no verdict, passed in shadow", err)
		r = r.WithContext(rdb.Remember(r.Context(), err))
	}
	// A request of cost 0 only asks how its key stands; but who is banned is out.
	v := verdict{Result: result, key: key, cost: cost, denied: !result.Allowed && (cost > 0 || result.Banned)}
	if v.counted() && !p.limiter.Shadow() {
		m.fields.announce(w.Header(), p, &v)
	}
	if result.Standin != nil {
		m.log.report(r.Context(), "decided without Redis", result.Standin)
		// What comes next need not wait for the same silence again.
		r = r.WithContext(rdb.Remember(r.Context(), result.Standin))
	}
	switch {
	case v.denied:
		m.refuse(w, r, p, result)
	case m.refunds || p.lease > 0:
		m.admit(r, p, key, result).serve(w, r, next)
	default:
		next.ServeHTTP(w, r)
	}
}

// admit is the admission of a request after which something may be due.
func (m *rateLimit) admit(r *http.Request, p *policy, key string, result ratelimit.Result) *admission {
	a := &admission{Context: r.Context(), limit: m, limiter: p.limiter, key: key, ticket: result.Ticket()}
	if a.ticket != "" {
		a.lease = p.lease
	}
	return a
}

func (m *rateLimit) wantsBack(o Outcome) bool {
	for _, when := range m.when {
		if when(o) {
			return true
		}
	}
	return false
}

func (m *rateLimit) skips(r *http.Request) bool {
	for _, skip := range m.skip {
		if skip(r) {
			return true
		}
	}
	return false
}

// policyFor is that of the limiter to ask.
func (m *rateLimit) policyFor(r *http.Request) *policy {
	if m.planned == nil {
		return m.mounted
	}
	limiter := m.plan.value(r)
	if limiter == nil || limiter == m.mounted.limiter {
		return m.mounted
	}
	return m.planned.of(limiter)
}

func (m *rateLimit) costOfRequest(r *http.Request) (int, error) {
	switch {
	case m.cost != nil:
		return *m.cost, nil
	case !m.costOf.given:
		return 1, nil
	}
	cost := m.costOf.value(r)
	if cost < 0 {
		return 0, fmt.Errorf("middleware: WithCostFunc returned %d: a cost must be at least 0", cost)
	}
	return min(cost, math.MaxInt32), nil // more than any limit admits
}

// listing is what the lists of addresses say of a request.
type listing uint8

const (
	notListed listing = iota
	allowedAddress
	deniedAddress
)

func (m *rateLimit) listed(r *http.Request) listing {
	if m.allowed == nil {
		return notListed
	}
	addr, err := addressOf(r)
	switch {
	case err != nil:
		return notListed // nobody knows
	case m.shutOut.contains(addr):
		return deniedAddress
	case m.allowed.contains(addr):
		return allowedAddress
	}
	return notListed
}

// refuse answers a request that the limit keeps out; its fields are set.
func (m *rateLimit) refuse(w http.ResponseWriter, r *http.Request, p *policy, result ratelimit.Result) {
	if m.denied.given {
		w.Header().Set("Cache-Control", "no-store")
		m.denied.value(w, r, result)
		return
	}
	p.refusal(result).answer(w, r, 0)
}

// refuseKey answers a request that cannot be counted.
func refuseKey(w http.ResponseWriter, r *http.Request, log *reporter, err error) {
	switch {
	case err == nil:
		err = ErrNoKey
		fallthrough
	case errors.Is(err, ErrNoKey):
		log.report(r.Context(), "no key", err)
		refusalNoKey.answer(w, r, 0)
	default:
		refuseUndecided(w, r, log, err)
	}
}

// refuseUndecided answers a request about which there is no verdict.
func refuseUndecided(w http.ResponseWriter, r *http.Request, log *reporter, err error) {
	if r.Context().Err() != nil {
		// The client is gone, or its time is up. The status is for the access log.
		refusalGone.answer(w, r, time.Second)
		return
	}
	log.report(r.Context(), "no verdict", err)
	if errors.Is(err, rdb.ErrUnavailable) {
		refusalUnavailable.answer(w, r, time.Second)
		return
	}
	refusalInternal.answer(w, r, 0)
}

var (
	refusalNoKey     = encode(Problem{Status: http.StatusBadRequest, Detail: "The request does not say whom it is from."})
	refusalForbidden = encode(Problem{Status: http.StatusForbidden, Detail: "The request comes from an address that is shut out."})
	refusalGone      = encode(Problem{Status: http.StatusServiceUnavailable})
	refusalInternal  = encode(Problem{Status: http.StatusInternalServerError})
)
