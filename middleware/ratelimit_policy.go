package middleware

import (
	"hash/maphash"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/ratelimit"
)

// policy is what can be said of a limiter before anybody asks: it makes verdicts
// cheap to tell.
type policy struct {
	limiter *ratelimit.Limiter
	tiers   []tier // in the order of Limiter.Limits
	field   string // RateLimit-Policy, without pk
	lease   time.Duration
}

// tier is what can be said of one limit.
type tier struct {
	limit    ratelimit.Limit
	requests string
	name     string                  // as a member of RateLimit begins
	policy   string                  // its member of RateLimit-Policy, without pk
	refusal  atomic.Pointer[refusal] // when it alone is full; made by the first
}

func newPolicy(limiter *ratelimit.Limiter, dialect Dialect) *policy {
	limits := limiter.Limits()
	p := &policy{limiter: limiter, tiers: make([]tier, len(limits))}
	members := make([]string, len(limits))
	for i, limit := range limits {
		t := &p.tiers[i]
		t.limit, t.requests = limit, strconv.Itoa(quotaOf(limit))
		t.name = limit.Name() // valid as a Token and, in quotes, as a String
		if dialect != Editors2026 {
			t.name = `"` + t.name + `"`
		}
		t.policy = t.name + ";q=" + t.requests + policyParameters(limit)
		members[i] = t.policy
		if limit.Kind() == ratelimit.InFlight {
			p.lease = limit.Window()
		}
	}
	p.field = strings.Join(members, ", ")
	return p
}

// quotaOf is what clients are told a limit admits: of Smooth its burst, if that is
// more than a window's rate, so that no more remain than there are.
func quotaOf(limit ratelimit.Limit) int { return max(limit.Requests(), limit.Burst()) }

// tier is what can be said of limit, nil if it is none of p's.
func (p *policy) tier(limit ratelimit.Limit) *tier {
	for i := range p.tiers {
		if p.tiers[i].limit == limit {
			return &p.tiers[i]
		}
	}
	return nil
}

// policyParameters are those behind q.
func policyParameters(limit ratelimit.Limit) (s string) {
	if limit.Kind() == ratelimit.InFlight {
		return `;qu="concurrent-requests"` // at any time: there is no window
	}
	if limit.Window() >= time.Second { // the field has no fractions, nor a 0
		s = ";w=" + strconv.FormatInt(ceilSeconds(limit.Window()), 10)
	}
	if limit.Kind() == ratelimit.Smooth {
		// q in w is the rate; how much of it may come at once is a parameter of
		// our own, under our own name as the draft asks.
		s += ";weir-burst=" + strconv.Itoa(limit.Burst())
	}
	return s
}

// refusal is the answer to a request that result denies.
func (p *policy) refusal(result ratelimit.Result) *refusal {
	if result.Banned {
		return &refusalBanned
	}
	var full *tier
	fulls := 0
	for s := range result.All() {
		if s.Full {
			full = p.tier(s.Limit)
			fulls++
		}
	}
	if result.Never || fulls != 1 || full == nil {
		made := encode(quotaExceeded(result))
		return &made
	}
	// What a flood meets is made once.
	if made := full.refusal.Load(); made != nil {
		return made
	}
	made := encode(quotaExceeded(result))
	full.refusal.Store(&made)
	return &made
}

// quotaExceeded tells which limits deny a request.
func quotaExceeded(result ratelimit.Result) Problem {
	p := Problem{Type: problemQuotaExceeded, Title: "Too many requests", Status: http.StatusTooManyRequests}
	var limits []string
	for s := range result.All() {
		if s.Full {
			p.Policies = append(p.Policies, s.Limit.Name())
			limits = append(limits, s.Limit.String())
		}
	}
	if len(limits) == 0 {
		p.Policies, limits = []string{result.Limit.Name()}, []string{result.Limit.String()}
	}
	switch {
	case result.Never:
		p.Detail = "The request costs more than is ever admitted: " + strings.Join(limits, ", ") + "."
	case len(limits) == 1:
		p.Detail = "The limit of " + limits[0] + " is reached."
	default:
		p.Detail = "The limits of " + strings.Join(limits, ", ") + " are reached."
	}
	return p
}

var refusalBanned = encode(Problem{
	Type:   problemAbnormalUsage,
	Title:  "Abnormal usage",
	Status: http.StatusTooManyRequests,
	Detail: "Too many requests were made beyond the limits: for a while none is admitted.",
})

// policies keeps the policies of the limiters that WithPlan names, by limiter: so
// many, however many there are. One that has lost its slot to another is made
// anew.
type policies struct {
	dialect Dialect
	seed    maphash.Seed
	slots   [1024]atomic.Pointer[policy]
}

func (p *policies) of(limiter *ratelimit.Limiter) *policy {
	slot := &p.slots[maphash.Comparable(p.seed, limiter)%uint64(len(p.slots))]
	if kept := slot.Load(); kept != nil && kept.limiter == limiter {
		return kept
	}
	made := newPolicy(limiter, p.dialect)
	slot.Store(made)
	return made
}
