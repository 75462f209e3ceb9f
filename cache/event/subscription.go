package event

import (
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// Event is one event as a subscriber gets it.
type Event[T any] struct {
	Topic string
	// ID is that of PublishOnce, or one that Publish has made. It is empty if the
	// message is none of this package's.
	ID string
	// Time is when it was published, by Redis's clock; zero if the message is none of
	// this package's.
	Time time.Time
	// Key is that of KeyedBy.
	Key   string
	Value T
	// Raw are the bytes that Value was decoded from.
	Raw []byte
}

// Subscription is a subscriber's view of a topic or a pattern. Its methods are safe for
// concurrent use; several goroutines that call Next share the events among them.
type Subscription[T any] struct {
	bus  *Bus
	feed *feed
}

func subscribe[T any](bus *Bus, channel string, isPattern bool, options []SubscribeOption) (*Subscription[T], error) {
	cfg, mistakes := configureSubscribe(options)
	if err := rdb.Misconfigured("event.Subscribe", mistakes...); err != nil {
		return nil, err
	}
	f, err := bus.openFeed(channel, isPattern, cfg)
	if err != nil {
		return nil, fmt.Errorf("event: subscribe: %w", err)
	}
	return &Subscription[T]{bus, f}, nil
}

// Next waits for the next event. Beside an event that can be used there are these
// errors:
//
//   - ErrGap, a *[Gap]: events may have been missed in this place. Read anew from its
//     source what is kept by events, and go on.
//   - ErrCorrupt: the event is there, with its Raw bytes, but does not decode. Go on.
//   - ctx.Err(), at once, whatever is in the buffer: which stays there.
//   - ErrSlow, ErrClosed: there is no more.
//
// While Redis is silent Next waits; [Subscription.Live] tells.
func (s *Subscription[T]) Next(ctx context.Context) (Event[T], error) {
	for {
		if err := ctx.Err(); err != nil {
			return Event[T]{}, err
		}
		if m, err, ok := s.feed.take(); err != nil {
			return Event[T]{}, err
		} else if ok {
			return s.open(m)
		}
		select {
		case <-ctx.Done():
		case <-s.feed.wake:
		}
	}
}

// All is a sequence of what [Subscription.Next] returns. It ends when ctx does, and
// when the subscription is closed; after ErrSlow, which it still gives. Leaving it does
// not close the subscription.
func (s *Subscription[T]) All(ctx context.Context) iter.Seq2[Event[T], error] {
	return func(yield func(Event[T], error) bool) {
		for {
			e, err := s.Next(ctx)
			if err != nil && err == ctx.Err() || err == ErrClosed {
				return
			}
			if !yield(e, err) || err == ErrSlow {
				return
			}
		}
	}
}

// open decodes a message.
func (s *Subscription[T]) open(m message) (e Event[T], err error) {
	e.Topic = s.bus.topicOf(m.channel)
	sealed, body, err := unseal(m.payload)
	e.ID, e.Time, e.Key, e.Raw = sealed.id, sealed.time, sealed.key, []byte(body)
	if err == nil {
		err = decode(s.bus.codec, e.Raw, &e.Value)
	}
	if err != nil {
		var zero T
		e.Value = zero
		return e, fmt.Errorf("event: receive on %s: %w", e.Topic, err)
	}
	return e, nil
}

// decode makes a codec's errors, and panics, errors of kind ErrCorrupt: what somebody
// has published must not end a subscriber.
func decode(codec Codec, data []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the codec panicked: %v", ErrCorrupt, p)
		}
	}()
	if err := codec.Decode(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return nil
}

// Ready is closed when Redis has first confirmed the subscription: what is published
// from then on is heard. On a Cluster so may be what is under way at that moment.
func (s *Subscription[T]) Ready() <-chan struct{} { return s.feed.link.Ready() }

// Live reports whether the subscription is confirmed, and the link to Redis has given a
// sign of life within the last second. While it is false, events may go by unheard; a
// Gap tells when it is over.
func (s *Subscription[T]) Live() bool { return s.feed.link.Live() }

// Stats counts what the subscription has received and dropped.
func (s *Subscription[T]) Stats() Stats { return s.feed.counted() }

// Close ends the subscription and drops what is in its buffer: Next returns ErrClosed,
// also where it waits. It may be called again.
func (s *Subscription[T]) Close() { s.feed.close() }
