package middleware

import (
	"net/http"

	"github.com/go-weir/weir/ratelimit"
)

// PrefersText says which media type a refusal has.
var PrefersText = prefersText

// Announcer is what tells verdicts of limiter in header fields.
func Announcer(limiter *ratelimit.Limiter, dialect Dialect) func(http.Header, ratelimit.Result) {
	f, p := fields{dialect: dialect}, newPolicy(limiter, dialect)
	return func(h http.Header, result ratelimit.Result) {
		f.announce(h, p, &verdict{Result: result, cost: 1, denied: !result.Allowed})
	}
}

// KeptPolicies is how many limiters of WithPlan are kept at most.
const KeptPolicies = len(policies{}.slots)
