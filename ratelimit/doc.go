// Package ratelimit answers one question: may this happen now?
//
// A [Limiter] keeps limits such as "10 in any second and 1,000 in any hour" for
// each key, exactly, over all processes that share a Redis: an admission is a
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
// Limits are of three kinds, in any mixture:
//
//	ratelimit.PerMinute(100)                  // in any minute, wherever it begins
//	ratelimit.PerMinute(100).Smooth(10)       // at an even rate, ten at once (GCRA)
//	ratelimit.AtOnce(5, 30*time.Second)       // in flight, until Release
//
// A request may cost more than others (AllowN), cost nothing (Peek), be taken back
// (Refund), and be held to limits of its tenant's own (With).
//
// # Guarantees
//
//   - At most L admissions in any window of length W, wherever it begins, over
//     all processes; with costs, their sum. There is no edge at which 2L pass.
//   - One round trip a decision, whatever the number of limits; none for a key
//     that this process knows to be denied.
//   - With several limits a request is admitted by all or counted by none.
//   - A denied request changes nothing. Asking again does not push the next
//     admission away. (Under WithBan denials are counted, as that is its point.)
//   - RetryAfter is the instant at which the request would be admitted if
//     nobody else came, not the end of some window.
//   - Counted once: a decision whose reply was lost is asked for again under
//     the same id, and answers as it did, unless 1,024 other admissions of the same
//     key came between (32 of one kept in batches, or of a Smooth limit alone):
//     then it counts twice, never not at all.
//   - Up to a limit of 128 ([WithExact]) nobody is admitted too late. Higher
//     limits are kept in batches: never too many, at most 1.8 % too few.
//   - The clocks of the processes do not matter. Redis's, set back, makes nobody
//     wait for longer than the window; set forward, it ends windows early.
//   - Every key expires. One that lost its expiry is healed by the next decision;
//     one that holds another type, too, and counts as full until the window has
//     passed, as nobody knows what was admitted.
//
// Not guaranteed: Redis replicates asynchronously, so a failover may forget the
// last admissions before it; and keys that are deleted or evicted are forgotten.
//
// # When Redis is silent
//
// Allow waits for at most the budget (50 ms, [WithTimeout]). After five
// silences in a row a breaker opens: then it does not wait at all, and one call
// in 250 ms asks whether Redis is back. Meanwhile
//
//   - by default each process counts by itself. From the first silence until two
//     seconds after Redis is back, what it admits of a key, by itself or by Redis,
//     is within its part of what was left of the limit when it heard of Redis
//     last: that divided by [WithInstances], and at least 1. So n processes that
//     all knew the key admit at most L + n in any window, over beginning and end
//     as well. What a process admits by itself is written back before Redis
//     decides on the key again, once;
//   - under [WithFailOpen] everything is admitted;
//   - under [WithFailClosed] Allow returns ErrUnavailable.
//
// Result.Standin tells such verdicts from Redis's.
//
// Not promised: a process that never asked about a key does not know what others
// used of it, and admits its part of the whole limit; one that alone is cut off goes
// on admitting its part beside the others; and where Redis loses its data, what others
// admitted before is lost with it. A process knows at least 32,768 keys, at some 300
// bytes each, then forgets those asked about longest ago.
//
// # Keys in Redis
//
//	key                             type        lifetime
//	weir:limit:{digest}             sorted set  the longest window + 1 ms
//	weir:limit:{digest}:smooth      hash        until the level is back at 0
//	weir:limit:{digest}:flight      sorted set  the lease + 1 ms
//	weir:limit:{digest}:strikes     sorted set  WithBan's window + 1 ms
//	weir:limit:{digest}:ban         string      the ban's rest + 1 ms
//	weir:limit:{digest}:multi       sorted set  the longest window + 100 ms; WithoutScripts
//
// The digest is 128 bits of the SHA-256 of the limiter's name, its longest window
// and the key; addresses and user names do not reach Redis in the clear. A member
// is "sum:cost:id": the costs up to and with it, its own, and the admission's id;
// its score is the instant in µs. A used-up key takes 3 to 4 KB at any limit from
// 100 on; see [WithExact] for more exactness and its price.
//
// Redis 6.2 or later is needed, and the right to run EVALSHA and EVAL; without
// it see [WithoutScripts].
//
// # Order among middlewares
//
// First of Weir's: a request that is refused costs nothing else. See middleware's
// page.
package ratelimit
