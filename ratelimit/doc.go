// Package ratelimit answers one question: may this happen now?
//
// A [Limiter] keeps limits such as "10 in any second and 1,000 in any hour" for
// each key, exactly, over all processes that share a Redis: an admission is one
// member of a sorted set, the decision one script, the clock Redis's own.
//
// # Usage
//
//	limiter, err := ratelimit.New(rdb, ratelimit.PerSecond(10), ratelimit.PerHour(1000))
//	...
//	result, err := limiter.Allow(ctx, userID)
//	if err != nil {
//	    return err // no verdict
//	}
//	if !result.Allowed {
//	    return fmt.Errorf("come back in %v", result.RetryAfter)
//	}
//
// In an HTTP service mount middleware.RateLimit, which also says the verdict in
// headers.
//
// # Guarantees
//
//   - At most L admissions in any window of length W, wherever it begins, over
//     all processes. There is no edge at which 2L pass.
//   - One round trip a decision, whatever the number of limits.
//   - With several limits a request is admitted by all or counted by none.
//   - A denied request changes nothing. Asking again does not push the next
//     admission away.
//   - RetryAfter is the instant at which the request would be admitted if
//     nobody else came, not the end of some window.
//   - Counted once: a decision whose reply was lost is asked for again under
//     the same id, and answers as it did.
//   - The clocks of the processes do not matter.
//   - Every key expires, and one that lost its expiry or holds another type is
//     healed by the next decision.
//
// Not guaranteed: Redis replicates asynchronously, so a failover may forget the
// last admissions before it.
//
// # When Redis is silent
//
// Allow waits for at most the budget (50 ms, [WithTimeout]). After five
// silences in a row a breaker opens: then it does not wait at all, and one call
// in 250 ms asks whether Redis is back. Meanwhile
//
//   - by default each process counts by itself, from an empty start, and admits
//     the limit divided by [WithInstances], and at least 1. It never admits more than that in
//     any window, and forgets an admission at most 1/16 of a window late; it
//     knows at least 32,768 keys, then forgets those asked about longest ago;
//   - under [WithFailOpen] everything is admitted;
//   - under [WithFailClosed] Allow returns ErrUnavailable.
//
// Result.Standin tells such verdicts from Redis's.
//
// # Keys in Redis
//
//	key                     type        lifetime
//	weir:limit:{digest}     sorted set  the longest window + 1 ms
//
// The digest is 128 bits of the SHA-256 of the limiter's name, its longest window
// and the key; addresses and user names do not reach Redis in the clear. A member
// is an admission's id, its score the instant in µs. It takes 28 bytes up to
// 128 of them, 134 beyond: a key at a limit of 1,000 that is used up takes
// 114 KB.
//
// Redis 6.2 or later is needed, and the right to run EVALSHA and EVAL.
//
// # Order among middlewares
//
// First of Weir's: a request that is refused costs nothing else. See middleware's
// page.
package ratelimit
