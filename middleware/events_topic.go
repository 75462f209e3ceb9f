package middleware

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-weir/weir/cache/event"
)

// errSilent says that a subscription is not confirmed in time.
var errSilent = fmt.Errorf("%w: the subscription is not confirmed", event.ErrUnavailable)

// topicFeed is a feed without a memory.
type topicFeed[T any] struct {
	sharer[T]
	subscribe func(...event.SubscribeOption) (*event.Subscription[T], error)
	isPattern bool
}

// topicID is the id that every client of a topic has: one that comes back says it, and
// so is known to have missed what was published meanwhile.
const topicID = "live"

// FromTopic gives each client what is published on a topic while it is connected.
func FromTopic[T any](topic *event.Topic[T], options ...FeedOption[T]) EventFeed {
	if topic == nil {
		return EventFeed{&topicFeed[T]{sharer: sharer[T]{feedConfig: configureFeed("FromTopic(nil): check the error of event.NewTopic", options)}}}
	}
	return EventFeed{&topicFeed[T]{sharer: sharer[T]{feedConfig: configureFeed("", options)}, subscribe: topic.Subscribe}}
}

// FromPattern gives each client what is published on the topics of a pattern while it
// is connected. The name of an event is its topic, unless [WithEncoder] names it.
func FromPattern[T any](pattern *event.Pattern[T], options ...FeedOption[T]) EventFeed {
	if pattern == nil {
		return EventFeed{&topicFeed[T]{sharer: sharer[T]{feedConfig: configureFeed("FromPattern(nil): check the error of event.NewPattern", options)}}}
	}
	return EventFeed{&topicFeed[T]{sharer: sharer[T]{feedConfig: configureFeed("", options)}, subscribe: pattern.Subscribe, isPattern: true}}
}

func (f *topicFeed[T]) serve(c *eventClient, last string) error {
	sub, err := f.subscribe(event.WithBuffer(c.cfg.buffer, c.cfg.policy))
	if err != nil {
		return err
	}
	defer sub.Close()
	// Not before it is confirmed: the page loads what it shows when the stream begins,
	// and what is published from then on is heard.
	if err := confirmed(c.ctx, sub.Ready(), c.cfg.openTimeout); err != nil {
		return err
	}
	if err := c.begin(topicID, last != ""); err != nil {
		return err
	}
	for {
		e, err := sub.Next(c.ctx)
		switch {
		case errors.Is(err, event.ErrGap):
			c.resync(topicID)
		case err == nil, errors.Is(err, event.ErrCorrupt):
			name := ""
			if f.isPattern {
				name = e.Topic
			}
			// The id of the event is the publisher's, and not for all to see; the client
			// has the one that it needs.
			err = f.give(c, occasion{e.Topic, e.ID, e.Time}, "", name, e.Value, err)
			c.skip(topicID)
			if err != nil {
				return err
			}
		default:
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
}

// confirmed waits for a subscription, at most d.
func confirmed(ctx context.Context, ready <-chan struct{}, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ready:
		return nil
	case <-timer.C:
		return errSilent
	case <-ctx.Done():
		return ctx.Err()
	}
}
