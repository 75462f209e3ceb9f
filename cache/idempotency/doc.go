// Package idempotency has work done once for a key, however often it is asked for, and
// gives all who ask the outcome of the first.
//
// [Store.Reserve] claims a key, or says what is known of it:
//
//	free ──Reserve──▶ busy ──Finish──▶ kept, until the ttl ends
//	  ▲                │ │
//	  ├────Release─────┘ └─Interrupt, or the holder dies──▶ interrupted
//	  │                                                        │
//	  └──Forget, the ttl ends; under Retry the next Reserve────┘
//
// # Usage
//
//	once, err := idempotency.New(rdb)
//	...
//	a, err := once.Reserve(ctx, "charge "+orderID, "")
//	if err != nil {
//	    return err // no verdict: do not do the work
//	}
//	switch a.State {
//	case idempotency.Kept:
//	    return answer(a.Outcome)
//	case idempotency.Claimed:
//	    receipt, err := charge(a.Claim.Context(), order)
//	    if errors.Is(err, errDeclined) {
//	        return a.Claim.Release(ctx) // nothing was done: it may be tried again
//	    }
//	    if err != nil {
//	        return a.Claim.Interrupt(ctx) // nobody knows
//	    }
//	    return a.Claim.Finish(ctx, receipt)
//	default: // Busy, Differs, Interrupted
//	    return fmt.Errorf("order %s: %s", orderID, a.State)
//	}
//
// In an HTTP service mount middleware.Idempotency, which does so for requests with an
// Idempotency-Key.
//
// # Guarantees
//
//   - Of all who reserve a key, in any number of processes, one at a time has it. Under
//     Block nobody has it a second time before it was let go by Release or Forget, or
//     its ttl has ended, whatever dies, stands still or gets lost in between.
//   - One round trip to reserve, one to finish. A holder that works for longer than a
//     third of its lease (10 s, [WithLease]) renews it at each third, however long the
//     work takes; renewals end before Finish, Release and Interrupt have returned.
//   - Fenced: what a holder has to say counts only while the key is its own. If it stood
//     still for so long that another has claimed the key, or the key was forgotten, its
//     Finish, Release and Interrupt change nothing and return ErrLost.
//   - A holder whose lease has ended while nobody else got the key may still finish:
//     under Block an outage of Redis that is longer than the lease, but shorter than the
//     work, leaves nothing interrupted.
//   - Time is that of Redis; the clocks of the processes do not matter.
//   - Calls are counted once: what is sent for one Reserve carries one id, so a lost
//     reply never makes our own claim look like somebody else's.
//   - A key of another type, or a record that does not decode, is ErrCorrupt and is not
//     overwritten. A record that lost its lifetime gets it back when it is asked for.
//
// Not guaranteed: Redis replicates asynchronously, so a failover may lose a claim or an
// outcome, and a server without persistence forgets all. An evicted key is a free one:
// use maxmemory-policy noeviction. Work that must never be done twice has its own trace
// where it is done, such as a unique key in the database.
//
// # When the holder dies
//
// A holder that died, by kill -9 for example, has left a key whose lease ends, and a
// question that Redis cannot answer: was the work done?
//
//   - Block, the default: the key is Interrupted until its ttl ends, by default 24 hours
//     after the last sign of life. Nobody does the work again. Whoever can find out what
//     has happened calls [Store.Forget] if nothing did.
//   - Retry: the next to reserve the key does the work again. What was done may be done
//     twice.
//
// The context of a claim under Retry ends when its lease could not be renewed in time,
// as another may claim the key from then on.
//
// # When Redis is silent
//
// Reserve, Wait, Look and Forget return ErrUnavailable within the budget (50 ms,
// [WithTimeout]), and at once when that repeats. A Reserve that gave up gives the claim
// back in case it was made, which may take another budget. A server that merely stood
// still claims nothing for callers who have left, once the Store has had an answer of it
// and so knows its clock. What remains is a claim that was made, whose reply was lost,
// and that could not be given back either: under Block such a key is interrupted, though
// nothing was done.
//
// A claim whose renewals fail goes on, see above. Finish returns ErrUnavailable: the
// outcome may be kept or not, and if it is not, the key is interrupted.
//
// # Keys in Redis
//
//	key                                  type    lifetime
//	weir:idempotency:{digest}            hash    24 h from its outcome, or from the last
//	                                             renewal
//	weir:idempotency:{digest}:gone:<id>  string  a minute, after a claim was let go
//	weir:idempotency:{digest}:done       a channel, for the announcement of an end
//
// The digest is the SHA-256 of the key, which does not reach Redis in the clear; the
// fingerprint and the outcome do as they are. Redis 6.2 or later is needed, and the right
// to run EVALSHA and EVAL; SUBSCRIBE to be woken in Wait.
//
// # Order among middlewares
//
// See middleware.Idempotency.
package idempotency
