// Package rdb is the one way from Weir to Redis.
//
// Every engine opens a [Conn] on the client its user injected and sends [Cmd]s
// through it. The package holds what must be true of each of those calls:
//
//   - Deadline. A call returns within its budget with any client: default
//     options, Sentinel, Cluster, Ring, an *AutoPipeliner. See [Conn.Exec].
//   - Counted once. go-redis sends a command again when its reply is lost; what
//     changes state must not run twice. See "Counted once" below.
//   - Breaker. A client that stays silent is not asked again but by one probe
//     at a time; all others fail at once. There is one breaker per client,
//     shared by all engines on it, and on a Cluster one per master, so that a
//     dead one does not silence the rest. (An *AutoPipeliner or Ring over several
//     servers has one for all.)
//   - Once per request. What a request has waited for a silent Redis it does not
//     wait again, however many engines it passes. See [Remember].
//   - Key names. All are built by [Key]; text from users never reaches a key
//     unescaped, and every key of one script shares its hash tag.
//   - Scripts. EVALSHA, then EVAL when Redis says NOSCRIPT. See [Script].
//   - Errors. [ErrUnavailable], [ErrCorrupt], [ErrConfig]; the caller's own
//     cancellation passes untouched.
//
// # Usage
//
//	conn, err := rdb.Open(client, 50*time.Millisecond)
//	...
//	hit := find.Cmd(key, now)            // a plan: no I/O
//	if err := conn.Exec(ctx, hit); err != nil {
//	    return err                       // no verdict
//	}
//	reply := hit.Slice()                 // the verdict's raw material
//
// # How a deadline is made to hold
//
// go-redis ignores a context's deadline on its sockets unless the client was
// built with ContextTimeoutEnabled, which is off by default; a 50 ms budget
// then takes the 5 s of the read timeout, times four attempts. With it on, Exec
// calls the client as it is. Otherwise Exec runs the call in a goroutine of its
// own and leaves it behind when the budget ends; the breaker bounds how many can
// be left, and go-redis's own timeouts end them. So it does, too, where go-redis
// would run code of the user's that knows no deadline: a CredentialsProvider, a
// Limiter.
//
// A call left behind still holds its context: a go-redis hook must not read from
// it what the request's end recycles, such as chi's RouteContext.
//
// The goroutine costs 1–3 µs a call under load and some 15 µs with a single
// caller, where a round trip on loopback takes 11 and 60 µs (2 cores, 128 and 1
// callers): services that count those set ContextTimeoutEnabled. The one other
// way go-redis offers, a view by WithTimeout, was measured and left: it drops the
// user's hooks, so that tracing would not see our commands, and it takes socket
// deadlines from a clock up to 50 ms old, so that a budget of 50 ms can end
// before the command is written (go-redis 9.23.0).
//
// # Counted once
//
// Every command is sent with NoRetry, so go-redis never repeats it. Exec itself
// sends again, once and within the same budget, only what it may: a command
// marked [Cmd.Replayable] whose connection broke. A script is replayable when
// it carries a request id that makes its second run answer as its first did; a
// read is replayable by nature. NoRetry also makes go-redis bypass its
// client-side cache, so a read is never older than the call.
//
// # Concurrency
//
// A Conn and a Script are safe for concurrent use. A Cmd belongs to one call.
package rdb
