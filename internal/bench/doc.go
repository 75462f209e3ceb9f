// Package bench runs Weir's rate limiter, its sessions, its caches and its locks
// beside their peers, in one run, and prints how they compare. It is a module of its own,
// so that Weir depends on none of them.
//
// # Usage
//
//	go -C internal/bench test -run '^$' -bench .                   # all, 8 minutes
//	go -C internal/bench test -run '^$' -bench . -short            # all, a minute, noisy
//	go -C internal/bench test -run '^$' -bench 'Decision/denied'   # one part of it
//	go -C internal/bench test -run '^$' -bench Session             # sessions, 90 seconds; 20 with -short
//	go -C internal/bench test -run '^$' -bench Lock                # locks, a minute
//	go -C internal/bench test -run '^$' -bench Data                # data caches, 20 seconds
//	go -C internal/bench test -run '^$' -bench Response            # response caches, 2 minutes
//
// It needs redis-server on the PATH, starts its own on loopback, and ends it. So it does
// with nginx and Varnish, if they are installed; else it says so, and measures the others:
//
//	apt-get install -y --no-install-recommends nginx-light varnish
//
// While it runs it tells each comparison's figure; the tables come at the end, as
// Markdown.
//
// # What is measured of limiters
//
//   - Exactness: how many of 100 requests a second a contestant admits in its
//     worst window, while four processes attack. An admission counts towards a
//     window only if it was certainly inside: sent at its begin or later, and
//     answered by its end. So the figure is never too high. With it goes how many
//     were admitted in all: one that counts what it denies admits too few. Both
//     are a column of every other table, since it is cheap to be fast and wrong.
//   - Cost: Redis commands (inside of scripts too), round trips, bytes and
//     allocations of one decision.
//   - Decision: wall-clock time per decision on loopback, which is the inverse of
//     decisions per second, not the latency of one; with 1, 16 and 128
//     goroutines, on many keys and on one, allowed and denied. With it goes the
//     CPU time that Redis itself used: Redis runs on one core, so the inverse
//     bounds the decisions per second that all processes get together.
//   - Distance: decisions per second with Redis 1 ms and 10 ms away, through
//     testkit's proxy, with a connection for each caller and with go-redis's
//     default pool.
//   - Memory: MEMORY USAGE of all keys that one user's key became, used up.
//
// # What is measured of sessions
//
//   - SessionRace: how many of 20 parallel changes of different keys a session
//     keeps, and whether one that was logged out is alive again after a request
//     that was under way meanwhile. Both are a column of the other tables.
//   - SessionRequest: what a request takes whose handler leaves the session alone
//     (with a cookie and without), reads it, changes a key, sets it to what it was,
//     or logs in (a new token, and a change). A session is five keys of small
//     strings. It is wall-clock time per request on loopback, with 1 and 16
//     goroutines, through ServeHTTP and without HTTP; Redis's CPU time; Redis
//     commands, round trips, bytes and allocations. The last table has what Weir
//     means to reach.
//
// # What is measured of locks
//
//   - Lock/uncontended: what it takes to lock and unlock one of 10,000 keys that
//     nobody else wants, with 1 and 16 goroutines.
//   - Lock/handover: the time from a release until another has the lock, where 1 and
//     100 goroutines of one process have waited for 300 to 550 ms; of a hundred, the time
//     until all have had it, by their number.
//   - With both goes the number of commands, those inside of scripts and those of the
//     wait included.
//
// # What is measured of data caches
//
//   - DataStampede: how often the source is asked for a cold key that two instances
//     ask for, with 100 goroutines each. It is a column of the other table.
//   - DataHit: a read of what is kept, through the call that would load it: time with
//     1 and 16 goroutines, Redis commands, round trips, bytes and allocations. A value
//     is a struct of four fields; each contestant encodes it as it does by default,
//     go-redis/cache as MessagePack, the others as JSON. TinyLFU keeps bytes for a
//     second and hears of no change; Weir's near tier keeps values and hears of them.
//
// # What is measured of response caches
//
//   - Response: what an answer of 1 KiB and of 64 KiB over HTTP takes of the CPU of the
//     processes that answer, user and system, by where it comes from: the near tier,
//     Redis, the handler because it may not be stored, or because it is not there yet.
//     Beside them are the same handler without a cache, nginx and Varnish. Each answers
//     from a process of its own; the client, with 32 connections, is in another one, and
//     is not counted. With it go Redis's CPU, requests per second, and for Go bytes and
//     allocations, net/http's included.
//   - ResponseInProcess: what a stored answer takes above the handler, without HTTP.
//
// # How to read it
//
// Read the ratios; absolute figures are of one machine on one day. A ratio is of
// time per decision or request, below 1 is faster. Contestants take turns in short rounds,
// each round beginning with another one, and a ratio is the median over the
// rounds of the quotient within a round. What slows the machine for a second
// slows both sides of a quotient; and the lines below a table say how far the
// rounds were apart, and DISTURBED if too far. Differences within that are none.
//
// With one caller a core falls asleep and is woken on every trip, which takes
// longer than the trip and is decided by the kernel: trust 16 and 128.
//
// At 1 ms and 64 connections the proxy, which shares the cores, bounds all
// contestants; at 10 ms nothing but trips and connections counts.
//
// Times and allocations of a request hold those of the harness: a copy of the
// request and an empty header, the first row of the table of untouched requests.
// 16 goroutines keep all cores busy, so that CPU time counts there and trips
// hardly do; with Redis on another host it is the other way round.
//
// # What is fair to limiters
//
//   - All have the same client with go-redis's default options, one of their own
//     each, on one server. The pool has room for all callers, but where the
//     default pool is the question. Two rows of Weir differ in a client option
//     or in an option of its own, and say so.
//   - All decide without HTTP and write no headers. The keys have one length.
//   - Weir's budget is 1 s in place of 50 ms, as the others have no such bound,
//     and it fails closed: a decision without Redis counts as failed. Failed
//     decisions are told, and their time is lost to whom they failed.
//     httprate-redis's fallback is off for the same reason.
//   - GCRA is asked for a burst as large as the limit, as its shorthands do. Less
//     would admit less in a window, and turn away bursts that the limit allows.
//   - The attacked window is 1 s, the shortest that all can count: some count in
//     whole seconds and, in longer windows, some round a key's life down.
//   - Weir remembers denials for a second: in the tables of denials its first row
//     hardly asks Redis, as every key comes back within the second.
//     WithDenyCache(0) is how it compares when it asks.
//
// # What is fair to sessions
//
//   - Clients are as above; the pool of redigo has the same size and timeouts.
//     Weir's budget is 1 s here too, so that nobody wins by giving up.
//   - The idle timeout is 30 min, Weir's default. Weir pushes it back when a tenth
//     of it has passed, by one more command and trip: no row of reads shows that,
//     as no run takes three minutes. scs writes the session whenever a request
//     carries its cookie. With gorilla/sessions it counts from the last change.
//     Ratios are to scs with an idle timeout, as most who use sessions need one;
//     scs as it comes has a row without.
//   - Weir and scs keep the token's hash in Redis and write the same cookie, one
//     without a date; gorilla/sessions keeps the token itself and dates the cookie.
//   - gorilla/sessions has no middleware: its untouched requests are the bare
//     handler, and its handlers save by themselves. It cannot renew a token: the
//     handler deletes the session and saves another, as Weir and scs do inside.
//   - The bare GET or SET decodes nothing, and makes one trip where others may
//     need two. It is a floor and no contestant.
//   - A race is set up to happen, each time: it tells what is possible, and not
//     how often it happens.
//
// # What is fair to locks
//
//   - Clients are as above, a ttl of 10 s for all. Weir's budget is 1 s here too.
//   - Peers ask again after a while, Weir is told: redsync after 50 to 250 ms, its
//     default, redislock after 100 ms, as its README has it. Both can be told to ask
//     more often, at the price of as many commands more for each that waits.
//   - Weir's figures hold what the peers do not have: a fencing token, a context that
//     ends with the lock, an acquire that may be repeated.
//
// # What is fair to response caches
//
//   - All answer the same bytes with the same four fields. Weir adds Age and
//     Cache-Status, nginx and Varnish fields of their own, a bare handler nothing.
//   - Requests per second are those of client and server on the same cores. CPU time is
//     what to compare; it holds what the kernel does for the process's own calls.
//   - A hit is one: a contestant whose handler or origin was asked fails.
//   - nginx has a worker for each core, keeps answers in files that the kernel has in
//     memory, and no log. Varnish is as it comes, its log in shared memory included.
//   - Weir's budget is 1 s here too.
//   - souin is not there: by itself it requires over 110 modules, twice what all peers do.
//     victorspringer/http-cache and go-chi/stampede are not to be had from the module proxy
//     that this was written with.
//
// # Adding a contestant
//
// Write a file like ulule.go: a name, and a function that opens a limiter on a
// client. Name it in the list in contestant.go. The test checks that it keeps an
// easy limit. A limiter without a go-redis client dials client.Options().Addr.
//
// What answers over HTTP is a file like response_weir.go, or response_proxy.go for what is
// no Go, named in the list in response.go. The test asks, and looks who answered.
//
// What keeps sessions is a file like session_gorilla.go, named in the list in
// session.go. The test logs in, reads back, changes and logs out.
package bench
