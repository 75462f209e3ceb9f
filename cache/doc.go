// Package cache keeps data in Redis for a while, and in the process where that is
// safe.
//
// A [Store] is the place; a [Cache] is a typed view of it, for values of one type
// under a name of their own. A view reads through ([Cache.Load]: the cache, else the
// source, which is asked once however many wait), writes through ([Cache.Store]: the
// source first, then the cache), or is told what to keep ([Cache.Set]).
//
// A Store also keeps the HTTP responses of middleware.Cache, as [Resource]s with
// variants, for when one URL means different bytes to different callers.
//
// # Usage
//
//	store, err := cache.New(rdb, cache.WithTTL(5*time.Minute))
//	users, err := cache.For[User](store, "user")
//	...
//	user, err := users.Load(ctx, id, func(ctx context.Context) (User, error) {
//	    cache.Tag(ctx, "team:7")           // dies with the team
//	    return db.User(ctx, id)            // ErrNotFound is kept, too: see WithNegativeTTL
//	})
//	...
//	err = users.Store(ctx, id, user, db.SaveUser)
//	err = users.Delete(ctx, id)
//	err = store.DeleteTags(ctx, "team:7")
//	err = users.DeletePattern(ctx, "guest-*")
//
// One option sets the same thing at three places: given to [New] it holds for all
// views, given to [For] for one, given to a call for that call.
//
// # Guarantees
//
//   - A read is one round trip, a batch of reads is one, and so is each kind of
//     invalidation but that by pattern.
//   - One load at a time: of all processes that ask for a missing key one calls the
//     source, and the others are woken when it has stored the value, or else has
//     failed. It holds a lease in Redis meanwhile; when it dies the lease ends within
//     [WithLease] (3 s) and another one loads.
//   - What was loaded before an invalidation is not read after it: a load that was
//     under way is not stored, and is returned only to callers who asked before it
//     began. Which of them was first Redis decides; no clock is compared with
//     another's.
//   - A waiter leaves when its context ends. The load goes on while anybody waits, and
//     its context ends when the last has left. A panic or runtime.Goexit in it reaches
//     each waiter as a [PanicError]; an error as it is. No lease stays behind.
//   - A stale value ([WithStale]) stands in for a source that fails or is slow. What
//     was deleted, by whatever means, does not.
//   - Every key expires, data as well as tags. Lifetimes are shortened by up to a tenth
//     at random ([WithJitter]), so that what was stored together does not end together.
//   - What is larger than [WithMaxBytes] is not stored, nor a response that is longer
//     than [WithMaxBody].
//   - What holds for a load and its invalidation holds for a response that is being made.
//
// Redis gives these guarantees as long as it keeps what it has acknowledged. After a
// failover to a replica that lagged, or a restart from an old snapshot, an
// invalidation of the last moments may be undone until its entries' lifetimes end.
//
// # Near tier
//
// With [WithNear] a Store keeps decoded values in the process as well; a hit there
// takes some 100 ns and no allocation. All instances tell each other of writes by a
// message that is published inside the writing script. Each carries a number, so that a
// lost one shows; and four times a second the tier compares numbers with Redis.
//
//   - No read is older than an acknowledged write by more than 1 s, whatever breaks:
//     a hung or killed connection, a failover, a black hole. Past that the tier is
//     bypassed until it is known to be current again.
//   - Without faults the message arrives within the time of one trip.
//   - A process sees its own writes and deletions at once; a request under
//     middleware.OneTrip those from before it came, or of its own context.
//
// The bound holds from the acknowledgement on; a response that was read before a write
// may be sent after it, as with any read. Values are shared: a slice, map or pointer
// in a value that was read or stored must not be changed, unless the view copies it
// ([WithClone]).
// A Store with a near tier has goroutines while it is in use: [Store.Close] ends them.
//
// # Bodies
//
// A [Variant] is its Data, which for a response is status and header, and a body of any
// length that stands apart, so that a new header does not send it again:
// [Variant.SameBody].
//
//   - One of up to 256 KiB is a field beside its entry: it is written with it, and a
//     Find that brings it is one round trip. The near tier keeps it.
//   - A longer one is in chunks of 256 KiB, each a key of its own in the entry's shard. A
//     [BodyWriter] sends them while they come, one under way while the next is
//     filled: two are in memory. They last for a minute, renewed each 20 s, until Keep has
//     seen that all are there and has them last a minute longer than the entry, which is
//     written last. What comes to nothing is removed at once if Redis answers.
//   - Find brings the first chunk, if it is asked to and all are there; a [Part]
//     reads each of the others while the one before it is written. The near tier keeps the
//     entry alone: a body may take up to the minute that its reader is given for each
//     chunk, and a few would drive all else out.
//   - Each chunk begins with a CRC-32C of the body's id, the chunk's number and its octets, and
//     its length is known. What is missing or does not fit is ErrCorrupt.
//   - The entry is the truth: an invalidation costs as many commands as without
//     chunks, and these end by themselves. Who reads them when they are replaced or
//     invalidated reads on: they last for a minute from then, and as long as they are read.
//
// Chunks of 256 KiB were measured beside one value on a loopback (2 busy cores, Redis 7.0):
// 1 MiB is served in 1.5 ms where one value takes 3.6 ms, and 16 MiB at 1.2 GB/s.
//
// # When Redis is silent
//
// Each call waits for at most the budget (50 ms, [WithTimeout]), and not at all once
// the breaker is open.
//
//	Get            ErrUnavailable
//	Load           the source, once per process; with a near tier the value serves for
//	               up to 1 s
//	Store          the source; then ErrNotInvalidated, as the cache may be behind
//	Set, Delete…   ErrUnavailable: it may have happened or not
//	middleware     the handler answers, for all who ask a process at the same time
//
// # Keys in Redis
//
//	key                              type    lifetime
//	weir:data:{shard}:e:view:key     string  the entry's lifetime, and WithStale
//	weir:data:{shard}:l:view:key     string  a lease; WithLease, renewed while loading
//	weir:data:{shard}:t:tag          string  that of the longest entry with the tag
//	weir:data:{shard}:m              hash    400 days from the last write
//	weir:data:{shard}:r:sha256       hash    a resource; that of its longest-lived
//	                                         variant, at least 15 minutes after a purge
//	weir:data:{shard}:c:id:n         string  a chunk of a body; a minute more than its
//	                                         entry, at most a minute without one
//	weir:data:{shard}:l:~sha256:v    string  a claim to make a variant; WithLease, renewed;
//	                                         or that nobody is to wait for it, 10 s
//
// There are 16 shards, spread evenly over a Cluster's slots; which one a key is in its
// text decides. The hash m holds the shard's epoch and the number of its last write.
// Keys and views stand there as they are, so that patterns can match them; what must
// not be read in Redis is to be digested by the caller. Messages go over the channels
// weir:data:news and weir:data:wake:view:key.
//
// The digest of a resource is of the caller's key. Field "by" names what tells its
// variants apart; "v:" with the digest of a variant's name holds it, "b:" a body of up to
// 256 KiB; "d" and "s" are the numbers of the last time that it was removed, and made stale.
//
// One prefix is one namespace: services that mean different things by the same key, or
// answer differently for the same URL, need a [WithPrefix] of their own on a shared
// Redis.
//
// # Order among middlewares
//
// See middleware's page.
package cache
