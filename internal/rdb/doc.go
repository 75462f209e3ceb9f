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
//   - Messages. All engines on one client hear on one connection, and know when
//     they may have missed something. See "The link" below.
//   - Scripts. EVALSHA, then EVAL when Redis says NOSCRIPT. See [Script].
//   - Replicas. A write that counts only once they have it. See [Conn.Confirm].
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
// # One trip
//
// A request that passes several engines asks Redis several times, one after the other.
// What an engine will read is often known before: under [WithForesight] it says so by
// [Conn.Foresee], and the next Exec on the same client takes those reads along. When
// their own Exec comes, it finds its replies, unless they are older than 50 ms, have
// failed, or another Exec of the same Conn was made meanwhile. Nothing else changes: an
// engine that does not find its reply asks for it. What another master is asked, or may
// take longer than the call that takes it along, goes beside it, in a goroutine of its own
// that may outlast the request by the budget, with the request's context as a call left
// behind has.
//
// # The link
//
// [Conn.Subscribe] and [Conn.SubscribePattern] share one connection a client, however
// many channels and engines there are: it is made with the first [Subscription] and
// ends with the last. Channels are subscribed to a thousand at a time. PUBLISH is the
// plain one, not the sharded: a Cluster carries it to every node. (Between channels,
// and between publishers, a Cluster keeps no order.)
//
// Pub/sub forgets: what is published while a connection is gone is lost, and go-redis
// reconnects without a word. The link tells its listeners instead, Lost and then Gap,
// once each for every interval in which something may have been missed. It is given
// up
//
//   - when the connection breaks: at once;
//   - when nothing is heard for [DeadAfter], 2 s, though it is asked by a PING each
//     [PingEvery], 500 ms. go-redis never awaits the PONG. Listeners are told Lost
//     then, and [Subscription.Live] is false from [SuspectAfter], 1 s, on;
//   - when what the link publishes to itself each [EchoEvery], 1 s, does not come back
//     within [EchoWithin], 1 s: the connection is fine, and yet on a server that no
//     longer gets what is published. On a Cluster each probe goes through another
//     master, so it may take one EchoEvery for each to find that it is one of them.
//
// After that a new connection is made, first within 20 ms, then after pauses that
// double to 1 s until a connection lasts for 20 ms, and are random by half. A handshake with a silent server ends by
// go-redis's own timeouts: who has switched those off has no bound for the link to
// come back after a black hole.
//
// The probe is a command as others are: the client's hooks see one PUBLISH a second. Its
// channel is weir:link: and a random text. A user who may not publish or
// subscribe to that (ACL: &weir:link:*) has a link without a probe: a path on which
// publishes get lost is then not noticed. One who may not subscribe to a channel of an
// engine's never gets it confirmed; it is asked for again each 10 s.
//
// A message that takes longer than DeadAfter to arrive counts as silence. So does a
// listener that does not return. A client closed by its user is a lost link, which is
// tried again until the last Subscription is closed. A Ring of several servers has no
// bus: the link is on one of its servers, what is published on the others is not heard,
// and the probe says so.
//
// # Concurrency
//
// A Conn, a Script and a Subscription are safe for concurrent use. A Cmd belongs to one
// call.
package rdb
