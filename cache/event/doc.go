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
//     Stream.
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
