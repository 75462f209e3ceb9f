// Package lock gives one holder at a time, among all processes, the right to do
// something.
//
// [Locker.Acquire] returns a [Lease]: the lock until a time, a context that ends
// before that time does, and a token that is higher than that of every holder
// before.
//
//	free ──Acquire──▶ held ──Release──▶ free, and whoever waits is told
//	                  │  ▲
//	            Extend└──┘ or WithAutoExtend
//	                  │
//	                  └──the ttl ends──▶ Context ends (ErrLost) ──▶ free
//
// # Usage
//
//	locks, err := lock.New(rdb)
//	...
//	lease, err := locks.Acquire(ctx, "invoice-7", 10*time.Second)
//	if err != nil {
//	    return err // ErrUnavailable, ErrTaken after WithMaxWait, or ctx's own error
//	}
//	defer lease.Release(ctx)
//	return bill(lease.Context(), lease.Token())
//
// Who would rather not wait asks once. That the lock is taken is an outcome and no
// error, so it comes as a value, like that of a map:
//
//	lease, ok, err := locks.TryAcquire(ctx, "nightly-report", time.Minute)
//	if err != nil || !ok {
//	    return err
//	}
//
// Acquire is different: its caller wanted the lock, and has waited. It returns no
// lease without an error, which is ErrTaken if [WithMaxWait] has passed.
//
// # The context
//
// Do the work under [Lease.Context]. It is the caller's, and ends when the lease
// does: by Release, or with the cause ErrLost (see [context.Cause]) when the lock
// was lost. That happens by this process's monotonic clock, a tenth of the ttl and
// 2 ms before the lock can be anybody else's: the ttl is counted from the moment
// before the request was sent, and Redis counts it from a later one. The tenth is
// for two clocks that do not run at one pace, and for the time that work needs to
// stop. With a ttl of 10 s the work has 8.998 s, less the round trip.
//
// A process may be stopped at any point (SIGSTOP, a paused machine) and wake up when
// its lease is over. Err of the context then tells at once, as it looks at the
// clock; Done needs a moment more. What is asked before the pause and done after it
// no lock can prevent. That is what the token is for.
//
// # The token
//
// [Lease.Token] is higher than the token of every lease of the key before, also if
// the lock's key expired, was deleted, or was lost with all of Redis's memory.
// Whatever is protected keeps the highest token it has seen, and refuses a lower one:
//
//	UPDATE invoice SET ..., token = $1 WHERE id = $2 AND token <= $1
//
// That holds without trust in any clock of the processes. The token is the time of
// Redis in µs, or one more than the last one if that is higher. The last one is kept
// for an hour after the lock, or ten times its ttl. So a token can repeat only if
// Redis lost it and its clock was set back, or it was lost in a failover to a
// server whose clock is behind by more than the failover took.
//
// # Guarantees
//
//   - No two leases of one key are valid at the same time, as long as Redis keeps
//     what it was told. Redis replicates asynchronously: a failover may lose a lock.
//     [WithReplicaSync] has replicas confirm it first; [NewRedlock] asks several
//     independent servers. With a fenced resource not even a failover does harm.
//   - Acquire is idempotent: all that is sent for one call carries one id, so a
//     lost reply never makes our own lock look like somebody else's, and what may
//     still be under way when a call gives up or releases finds its id given up (for
//     a minute), or itself too late by Redis's clock.
//   - Only the holder releases and extends. Release works when the caller's context
//     has ended, within the budget, and tells if the lock had been lost.
//   - No renewal is sent after Release has returned, and none beyond the maximum
//     hold. A lease leaves no goroutine behind.
//   - Extend never shortens, and never brings back a lease that has ended.
//   - A key of another type, or a lock that does not decode, is ErrCorrupt and is
//     not overwritten.
//   - A lock whose lifetime was taken off (PERSIST) gets a whole ttl again from the
//     first that asks for it: it then ends at its time, and its holder's promise
//     holds.
//
// # Who is next
//
// The waiters of one process for one key queue up, first come, first served, and
// only the first asks Redis. It asks when the release is announced (PUBLISH), when
// the ttl ends, and otherwise every 5 s. A release is announced only if somebody is
// known to wait. While the announcements cannot be heard, it asks after 5 to 250 ms,
// longer each time.
//
// So a handover takes two commands: the release, and an acquire for each process
// that waits. Among processes there is no order: who asks first has it. One may go
// empty several times in a row; ctx and [WithMaxWait] bound that. TryAcquire asks
// Redis at once and passes by the queue.
//
// # When Redis is silent
//
// Acquire and TryAcquire return ErrUnavailable within the budget (50 ms,
// [WithTimeout]), and at once when that repeats; under [WithOutageWait] Acquire
// keeps trying for as long as it may wait. A call that gave up gives the lock back in
// case it got it, which may take another budget. A server that merely stood still
// takes nothing for callers who have left, once the process has had a lock of it and
// so knows its clock. What remains is a lock that was taken, whose reply was lost, and
// that could not be given back either: it is taken until its ttl ends.
//
// A lease whose renewals fail is valid to its end, and then lost. Release returns
// ErrUnavailable: the lock ends with its ttl.
//
// # Redlock
//
// [NewRedlock] keeps each lock on several independent servers, five for example, and
// has it when a majority says so: it works while fewer than half of them are down.
// All are asked side by side, twice: the second round writes the highest token of the
// majority back, or tokens would not grow from one majority to the next. Validity
// counts from before the first. Where the majority was missed, or the context ended,
// the lock is given back everywhere. Extend and renewals take the lock on servers
// that have lost it, or were not there before.
//
// It assumes that a server that lost its memory stays away for longer than the
// longest ttl; with fencing that does not matter. A single server with replicas and
// WithReplicaSync is simpler and has one round trip less.
//
// # Keys in Redis
//
//	key                          type    lifetime
//	weir:lock:{key}              hash    the ttl
//	weir:lock:{key}:token        string  an hour, or ten times the ttl if that is longer
//	weir:lock:{key}:gone:<id>    string  a minute, after a call whose outcome was open
//	weir:lock:{key}:free         a channel, for the announcement of a release
//
// A key of more than 64 characters, or with others than letters, digits and "-_.",
// stands as its SHA-256. Redis 6.2 or later is needed, and the right to run EVALSHA
// and EVAL; SUBSCRIBE to be woken.
//
// Not seen by the monotonic clock is a machine that is suspended as a whole, Redis
// excepted: after it wakes up, a lease seems valid for longer than it is. The token
// covers that, too.
//
// # Order among middlewares
//
// See middleware.Serialize.
package lock
