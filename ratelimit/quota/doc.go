// Package quota keeps prepaid balances: an account is topped up, and spends no more
// than it has.
//
// A [Ledger] is a set of accounts in Redis, shared by all processes. An account has
// a balance, which can be spent, and holds, which keep a part of it back until the
// work that they are for is done or given up:
//
//	TopUp ──▶ balance ── Deduct ──▶ spent
//	           │   ▲
//	   Reserve │   │ Cancel, the hold's end, what Commit leaves
//	           ▼   │
//	            hold ─── Commit ──▶ spent
//
// Amounts are integers from 1 to 2^53 in a unit of the caller's choice: cents,
// tokens, messages. There are no fractions and no rounding.
//
// # Usage
//
//	credits, err := quota.New(rdb)
//	...
//	r, err := credits.TopUp(ctx, "alice", 500, paymentID)
//	...
//	r, err = credits.Deduct(ctx, "alice", 20, orderID)
//	if err != nil {
//	    return err // no verdict: see "When Redis is silent"
//	}
//	if !r.OK {
//	    return fmt.Errorf("%d credits left: %s", r.Balance, r.Outcome)
//	}
//
// Where the price is known only after the work, hold the most it may be:
//
//	hold, err := credits.Reserve(ctx, "alice", 100, jobID)
//	...
//	used, err := work()
//	if err != nil {
//	    credits.Cancel(ctx, "alice", hold.ID)
//	    return err
//	}
//	r, err := credits.Commit(ctx, "alice", hold.ID, used)
//
// In an HTTP service mount middleware.Quota, which does so for each request.
//
// # Guarantees
//
//   - No balance is ever below 0, over any number of processes, and no unit is made
//     or lost: what was topped up is what was deducted, what was committed, and what
//     the account has.
//   - One round trip a call: one script on one key.
//   - A refused request changes nothing, and says why as a value, an [Outcome]. An
//     error means that there is no verdict.
//   - A hold ends at the instant its receipt tells, by Redis's clock, whether or not
//     the process that made it still runs. From then on its amount is in the balance,
//     whichever call looks first. The clocks of the processes do not matter.
//   - Every digit counts up to 2^53 = 9,007,199,254,740,992. An account that would
//     have more, holds included, is not topped up.
//   - What this package did not write is refused with ErrCorrupt and never
//     overwritten: money is not healed by guessing.
//
// # Exactly once
//
// TopUp, Deduct and Reserve take the id of a request, such as that of a payment or
// an order. The first call with it is carried out, and its answer is remembered for
// 24 hours ([WithIDLifetime]), for Reserve from the hold's end on. A later call with
// it, by any process, changes nothing and gets the same [Receipt], marked Repeated.
// That holds for refusals, too: to try again after Insufficient is a new request,
// with a new id. An id used for another operation or amount is refused with
// ErrReused. Ids belong to their account.
//
// Commit and Cancel need no id. A hold is closed once, and goes by the id that
// made it: the same Commit again gets the same receipt, any other call is told how
// the hold has ended.
//
// An id left empty is generated; the Receipt tells it. It is remembered for a
// minute, so that a request whose reply was lost on the way, and which Weir
// therefore sends again within its budget, is still carried out once. It does not
// make two calls of the caller's one. Refusals under it are not remembered, so a
// flood of requests without cover leaves no trace in Redis.
//
// An account remembers at most 100,000 ids ([WithMaxIDs]). It forgets none before
// its time: one more request is refused with ErrFull, and changes nothing.
//
// Not guaranteed: Redis replicates asynchronously, so a failover may lose the last
// changes before it, and a server without persistence forgets all. Keep the books
// that must outlive Redis elsewhere, by the receipts. Money needs a Redis with
// appendonly yes, and appendfsync always if a server that is killed is to come back with
// all it has acknowledged; and maxmemory-policy noeviction, as an evicted account is an
// empty one.
//
// # When Redis is silent
//
// A call returns ErrUnavailable within the budget (50 ms, [WithTimeout]); when that
// repeats, at once, until Redis is back. Nothing is decided in its place: money is
// never guessed.
//
// Such a request may or may not have been carried out, or may be yet. The same goes
// for one whose context ended. Ask again with the receipt's ID while it is
// remembered, a generated one within its minute: whatever became of the first call,
// the request is carried out once.
//
//	r, err := credits.Deduct(ctx, "alice", 20, orderID)
//	for errors.Is(err, quota.ErrUnavailable) {
//	    time.Sleep(time.Second) // or later, from a queue, in another process
//	    r, err = credits.Deduct(ctx, "alice", 20, r.ID)
//	}
//
// A hold whose Reserve or Commit stayed open ends by itself at the latest.
//
// # Keys in Redis
//
//	key                     type        lifetime
//	weir:quota:{digest}     sorted set  none while the account has anything;
//	                                    else until its last id is forgotten
//
// This is the one exception to Weir's rule that every key expires: money has no
// lifetime. An account that has nothing, and remembers nothing, has no key. An EXPIRE
// set by somebody else is taken off by the next change.
//
// The digest is 128 bits of the SHA-256 of the ledger's name and the account, which
// do not reach Redis in the clear, nor do ids. Members are balance and held, which
// are what they score; an open hold, scored by its end; and two for each remembered
// id, of 300 bytes together. The form is told in lua/account.lua.
//
// Redis 6.2 or later is needed, and the right to run EVALSHA and EVAL.
//
// # Order among middlewares
//
// Inside RateLimit and whatever finds out who is asking, outside of what costs. See
// middleware.Quota.
package quota
