// Package redigo gives code written for redigo (github.com/gomodule/redigo) the one
// go-redis client that a program already has: [Pool] returns a redigo pool whose
// Conns are views of that client, without sockets. alexedwards/scs/redisstore runs
// on it as it is.
//
// # Usage
//
//	sessions := scs.New()
//	sessions.Store = redisstore.New(redigo.Pool(rdb))
//
// New code does better without: package session has an scs store of its own, with
// contexts, and with one round trip where redisstore's All takes one per session.
//
// # Guarantees
//
//   - No connection beyond those of the injected client, which may be single,
//     Sentinel, Cluster or Ring, of RESP2 or RESP3. Closing the pool leaves it open.
//   - Each round trip takes at most the budget (50 ms, [WithTimeout]) with any
//     client; a Flush or Do that takes several ends with the first that has no answer.
//   - No command is sent a second time because its reply was lost; only the steps of
//     a SCAN are.
//   - Replies are redigo's, in type and bytes: a status is a string, text a []byte, a
//     missing value nil (so that helpers return redigo.ErrNil), an error reply a
//     redigo.Error. See below for the exceptions.
//   - Send … Flush … Receive is one pipeline, MULTI … EXEC one transaction, by Send or
//     by Do. KEYS is a SCAN of every master, in steps of a thousand keys, each key
//     once; unlike KEYS it is no snapshot.
//
// # What differs from a connection
//
//   - Flush waits for the replies; Receive without any to come is an error at once.
//   - A silent server breaks no Conn: its Err is nil until it is closed.
//   - Commands of a transaction stay here until EXEC; what the server refuses is known
//     then. An error reply to the only command of a transaction, or to all of them,
//     is taken for such a refusal if it reads like one.
//   - Refused, with an error that says what to use instead: WATCH, subscriptions,
//     MONITOR; commands that block (BLPOP, WAIT, XREAD BLOCK); commands that change the
//     connection (SELECT, AUTH, CLIENT REPLY). The connections behind are shared.
//   - Where keys lie on several servers: commands of one pipeline keep their order
//     per server only; a transaction's keys need one {hash tag}; SCAN is refused, as
//     its cursor means something to one server; commands without a key go to any
//     master, after a look at the topology, but DBSIZE, FLUSHDB, FLUSHALL, SCRIPT
//     LOAD and FLUSH, FUNCTION and CONFIG SET to every one. An *AutoPipeliner hides
//     whether they do: inject the ClusterClient, not its pipeliner.
//   - go-redis does not tell a status from text. Known commands are right; a status
//     that a script returns, that stands inside an array, or that a module's command
//     replies, is a []byte. redigo.String takes either.
//   - From a RESP3 client, maps (HGETALL) are ordered by their keys' bytes, and
//     doubles have as many digits as they need, as from Redis 7.2 on in RESP2. Set
//     Protocol: 2 to have both as the server sends them.
//
// # When Redis is silent
//
// The error is [ErrUnavailable] within the budget, and at once when the breaker is
// open, which the pool shares with all of Weir on the client. An error reply that says
// "not now" (LOADING, OOM, READONLY) is ErrUnavailable and a redigo.Error at once,
// WRONGTYPE [ErrCorrupt] and a redigo.Error; all others are a redigo.Error.
// There is no context in redigo's calls, so no caller can cancel one.
//
// # Keys in Redis
//
// None of its own; scs/redisstore's are
//
//	key                   type    lifetime
//	scs:session:{token}   string  the session's
//
// (The braces are not part of the key.)
package redigo
