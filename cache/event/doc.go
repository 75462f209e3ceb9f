// Package event carries events between processes: something has happened, and whoever
// is concerned is to hear of it.
//
// There are two ways, and the question is what becomes of an event that nobody hears:
//
//   - A [Topic] is heard by those who listen at that moment, within about a round trip.
//     What is published while nobody listens is gone; who may have missed something is
//     told so, and reads anew what the events were about. It is for caches, live pages,
//     wake-up calls. This page is about topics.
//   - A Stream keeps what is published, and gives it at least once to each group of
//     consumers, however long those were down. It is for work that must be done. See
//     "Durable streams" below.
//
// # Usage
//
//	bus, err := event.New(rdb)
//	...
//	created, err := event.NewTopic[Order](bus, "order.created")
//	...
//	err = created.Publish(ctx, order)
//
// In this process or any other:
//
//	sub, err := created.Subscribe()
//	...
//	defer sub.Close()
//	for e, err := range sub.All(ctx) {
//	    switch {
//	    case errors.Is(err, event.ErrGap):
//	        reload() // something may have been missed
//	    case err != nil:
//	        log.Print(err, e.Raw) // somebody published what is no Order
//	    default:
//	        show(e.Value)
//	    }
//	}
//
// A [Pattern] hears several topics at once:
//
//	all, err := event.NewPattern[Order](bus, "order.*")
//
// An event that is true only together with a change in Redis is published in the same
// transaction: [Topic.PublishIn]. One that may be published twice, because the request
// that leads to it is repeated, carries an id: [Topic.PublishOnce].
//
// # Guarantees
//
//   - Nothing is missed in silence. Whenever events may have been missed, the
//     subscriber is given a [Gap], in its place, once, before the next event: when the
//     link to Redis was lost, and when the subscription's buffer was full. 10,000 random
//     kills of the connection left no hole without one (TestGap_everyLoss).
//   - A dead link is found. A connection that breaks, at once; one that is silent, after
//     2 s; one on which published events no longer arrive, 2 s after the first of them,
//     on a Cluster at most 1 s later for each further master. [Subscription.Live] is
//     false 1 s after the last sign of life.
//   - An event is sent at most once, and in the order of the publisher's calls on one
//     topic. A Cluster keeps no order between topics.
//   - All subscriptions of all Buses on one client share one connection, and those to
//     one topic share Redis's sending of it: 10,000 topics are one connection.
//   - A slow subscriber delays no other, and takes no more room than its buffer:
//     256 events, [WithBuffer]. What happens to one more is its choice, an [Overflow].
//   - What does not decode is given to the subscriber as an error, ErrCorrupt, with all
//     its bytes. What others PUBLISH on the channel without this package's header is
//     decoded as it is, and has no ID and no Time.
//   - [Subscription.Next] returns at once when its context ends.
//   - [Bus.Shutdown] drains: subscribers are given what has been received.
//
// What is not guaranteed: that anybody hears an event. Redis forgets a message that
// nobody is subscribed to, and one that was on its way when a connection broke; the
// latter the subscriber learns as a Gap.
//
// # Durable streams
//
// A [Stream] keeps what is published, in a Redis stream, read or not: 7 days
// ([WithRetention]), and the last 100,000 at most ([WithMaxLen]).
//
//	orders, err := event.NewStream[Order](bus, "orders")
//	...
//	_, _, err = orders.PublishOnce(ctx, "created 17", order)
//
// In this process or any other, and in as many as there is work for:
//
//	err := orders.Consume(ctx, "confirmation", func(ctx context.Context, e event.Entry[Order]) error {
//	    return sendMail(ctx, e.Value) // nil: done; an error: again, later
//	})
//
// An entry's way through a group:
//
//	published ──▶ delivered ── nil ──▶ done
//	               │  ▲   │
//	    the process│  │   └─ error, panic ──▶ waits, 1 s to 1 min ──┐
//	      is gone  │  │                                             │
//	          30 s ▼  └───────────── once more, 5 times in all ◀────┘
//	        another consumer          after that, or ErrReject, or it
//	                                  does not decode ──▶ dead letter
//
// What is guaranteed of it:
//
//   - At least once: an entry is done when its handler has returned nil and Redis has
//     taken note. A process may be killed at any point, a reply lost at any point: the
//     entry is delivered again, and twice only where the work was done and the note was
//     not (TestConsume_killedAnywhere). Handlers make a repetition harmless, by Entry.ID
//     or an id in the event.
//   - One publication is one entry, though its reply is lost and Weir sends it again:
//     each carries a request id. With PublishOnce that holds for the caller's own
//     repetitions, too.
//   - Order: a consumer with one worker, the default, handles its entries in the order
//     of the stream, and one that fails holds up those behind it. Several consumers, or
//     workers, keep no order among them, and what is taken over from a dead consumer
//     comes when it is found.
//   - Deliveries are counted in Redis before the handler runs. What kills the process
//     that touches it is a dead letter after 5 deliveries like what fails, with its
//     neighbours unharmed: a consumer takes no more entries than it has workers for.
//   - A handler may take as long as it likes: its consumer gives a sign of life for it.
//     One whose process was paused for longer has its context ended with ErrClaimed when
//     it comes back, and its failure counts for nothing.
//   - No loss in silence. What was trimmed before the group has read it is announced
//     with its exact count, what was trimmed while a dead consumer had it in hand by its
//     id, what Redis itself has lost (FLUSHALL, a restart without persistence) as soon
//     as a consumer sees it: as a [Notice], which goes to slog if nobody asks for it,
//     and to readers as a [Missed]. It is announced once, also when the reply that
//     tells it is lost; twice if a process dies just then.
//   - No connection is held while a consumer or reader waits, and none is blocked: they
//     are woken by the link, and look once a second besides.
//   - In the end nothing is torn off: when the context of Consume ends, or the Bus is
//     shut down, handlers that run have 10 s ([WithGrace]) to finish, and the rest is
//     handed to others. Bus.Shutdown does not wait for that; the return of Consume tells.
//
// Readers without a group, such as server-sent events, have all of a stream from any
// entry on: [Stream.Read] for a page, [Stream.Follow] for what comes. The id of an entry
// is good as Last-Event-ID.
//
// Not guaranteed: Redis replicates asynchronously, so a failover may lose the last
// entries, and a server without persistence loses all. Nothing remembers a group if all
// of Redis is lost while no consumer of it runs, or none has run and nothing was
// published for twice the retention: it begins as a new one does. What others XADD is
// handled (its payload is the field v), but not counted: if it is trimmed unread,
// nobody is told.
//
// When Redis is silent, Publish fails as that of a topic does. Consume and Follow go on
// by themselves when it is back; handlers that run are not disturbed, and are told to
// Redis as done when it is back. After an outage longer than 30 s ([WithClaimAfter])
// another consumer may have been quicker: then an entry is handled twice.
//
//	key                                type         lifetime
//	weir:stream:{name}                 stream       14 days, twice WithRetention, after the
//	                                                last publication or sign of a consumer
//	weir:stream:{name}:meta            hash         the same
//	weir:stream:{name}:dead            stream       30 days after the last letter
//	weir:stream:{name}:id:{digest}     string       10 minutes, WithOnceWindow; of
//	                                                PublishOnce and PublishIn alone
//
// weir:stream:{name} is also the channel on which those who wait are woken. An entry has
// the fields n, its number in the stream; r, the request that made it; v, what the codec
// has made of the event; and g, if it is a requeued dead letter, the group that it is
// for. The meta has n, the number of the last entry; for each group g:{group}, that of
// the last one read; and m:{group}:{consumer}, a loss until the consumer has told it.
//
// Needed, too, are the rights to run the commands X*, H*, TYPE, EXISTS, PTTL and PEXPIRE
// on ~weir:stream:*, and to PUBLISH and SUBSCRIBE on &weir:stream:*.
//
// # When Redis is silent
//
// Publish returns ErrUnavailable within the budget (50 ms, [WithTimeout]), and at once
// when that has repeated itself, until Redis is back. If the error is ErrMaybeSent too,
// the event may have been sent, or may be yet; else it was not. PublishOnce can be
// called again, with the same id.
//
// Subscriptions wait. They can be made while Redis is down, and begin when it is there:
// [Subscription.Ready]. One that had begun is not Live meanwhile, and is given a Gap
// when Redis is back.
//
// # Keys in Redis
//
//	key                                type    lifetime
//	weir:event:{topic}:id:{digest}     string  10 minutes, WithOnceWindow; of PublishOnce
//	                                           and PublishIn alone
//
//	channel                            who publishes there
//	weir:event:{topic}                 Publish, PublishOnce, PublishIn
//	weir:link:text                     each client that is subscribed, to itself: 1 a second
//
// The digest is the SHA-256 of the id. A message is a line of header and what the codec
// has made of the event:
//
//	weir1 id time key\n
//	{"the":"event"}
//
// id and key are escaped as in a URL's query; time is in µs since 1970, by Redis's
// clock.
//
// Needed are Redis 6.2 or later, and the rights to run EVALSHA, EVAL, GET, SET and TIME
// on ~weir:event:*, to PUBLISH, SUBSCRIBE and PSUBSCRIBE on &weir:event:*, and to PING. The
// link's probe needs &weir:link:*; without that right a path on which events get lost,
// while the connection is fine, is not noticed. A *redis.Ring cannot carry events: its
// servers know nothing of each other.
//
// # Order among middlewares
//
// The package has none. An HTTP handler that passes events on, such as server-sent ones,
// subscribes for each request, and closes the subscription when the request ends.
package event
