package middleware

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/ratelimit"
)

// RateLimit turns a request away once its key has spent its limit, and says
// when to come back.
//
// Every answer it has decided on carries
//
//	X-RateLimit-Limit      the limit's number of requests
//	X-RateLimit-Remaining  how many are left, never below 0
//	X-RateLimit-Reset      the instant at which Remaining grows, in seconds since
//	                       1970, rounded up
//
// and a refusal is 429 Too Many Requests (RFC 6585 section 4) with Retry-After,
// at least 1 and never too early, and a body of application/problem+json. The
// writer is not wrapped.
//
// When Redis is silent the limiter's stand-in decides: by default it counts
// locally; under ratelimit.WithFailOpen nothing is counted, and the fields are left
// out; under ratelimit.WithFailClosed the answer is 503 with Retry-After. A
// request without a key is answered 400; a KeyFunc's other errors, and a server
// that refuses the script, 500. What clients are not told is logged to
// slog.Default, at most a line a second.
//
// It panics if limiter or key is nil. The handler is safe for concurrent use.
func RateLimit(limiter *ratelimit.Limiter, key KeyFunc) Middleware {
	if limiter == nil {
		panic("middleware.RateLimit: the limiter is nil: check the error of ratelimit.New")
	}
	if key == nil {
		panic("middleware.RateLimit: the key function is nil: say whom to count, such as middleware.KeyByIP")
	}
	log := &reporter{name: "rate limit"}
	refusals := make(map[ratelimit.Limit]refusal)
	for _, limit := range limiter.Limits() {
		refusals[limit] = refusalOf(limit)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			k, err := key(r)
			if err != nil || k == "" {
				refuseKey(w, r, log, err)
				return
			}
			result, err := limiter.Allow(r.Context(), k)
			if err != nil {
				refuseUndecided(w, r, log, err)
				return
			}
			announce(w.Header(), result)
			if result.Standin != nil {
				log.report(r.Context(), "decided without Redis", result.Standin)
				// What comes next need not wait for the same silence again.
				r = r.WithContext(rdb.Remember(r.Context(), result.Standin))
			}
			if !result.Allowed {
				refusals[result.Limit].write(w, result.RetryAfter)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// announce says a verdict's numbers, if it has any.
func announce(h http.Header, result ratelimit.Result) {
	if result.Standin != nil && result.ResetAfter == 0 {
		return // admitted without counting
	}
	reset := result.At.Add(result.ResetAfter)
	seconds := reset.Unix()
	if reset.Nanosecond() > 0 {
		seconds++ // rounded down, it would send clients too early
	}
	// The canonical forms of X-RateLimit-…, set without canonicalizing again. The
	// three lists have one allocation but share nothing: none has room to grow.
	v := []string{
		strconv.Itoa(result.Limit.Requests()),
		strconv.Itoa(result.Remaining),
		strconv.FormatInt(seconds, 10),
	}
	h["X-Ratelimit-Limit"], h["X-Ratelimit-Remaining"], h["X-Ratelimit-Reset"] = v[0:1:1], v[1:2:2], v[2:3:3]
}

// refusalOf is the answer to a request that limit keeps out.
func refusalOf(limit ratelimit.Limit) refusal {
	return encode(Problem{
		Type:     problemQuotaExceeded,
		Title:    "Too many requests",
		Status:   http.StatusTooManyRequests,
		Detail:   "The limit of " + limit.String() + " is reached.",
		Policies: []string{limit.String()},
	})
}

// refuseKey answers a request that cannot be counted.
func refuseKey(w http.ResponseWriter, r *http.Request, log *reporter, err error) {
	switch {
	case err == nil:
		err = ErrNoKey
		fallthrough
	case errors.Is(err, ErrNoKey):
		log.report(r.Context(), "no key", err)
		WriteProblem(w, Problem{
			Status: http.StatusBadRequest,
			Detail: "The request does not say whom it is from.",
		}, 0)
	default:
		refuseUndecided(w, r, log, err)
	}
}

// refuseUndecided answers a request about which there is no verdict.
func refuseUndecided(w http.ResponseWriter, r *http.Request, log *reporter, err error) {
	if r.Context().Err() != nil {
		// The client is gone, or its time is up. The status is for the access log.
		WriteProblem(w, Problem{Status: http.StatusServiceUnavailable}, time.Second)
		return
	}
	log.report(r.Context(), "no verdict", err)
	if errors.Is(err, ratelimit.ErrUnavailable) {
		unavailable(w)
		return
	}
	WriteProblem(w, Problem{Status: http.StatusInternalServerError}, 0)
}
