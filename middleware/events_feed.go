package middleware

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/cache/event"
)

// EventFeed is where [Events] takes events from: [FromStream], [FromTopic],
// [FromPattern], or [FromRequest]. The zero value is none.
type EventFeed struct{ impl eventFeed }

type eventFeed interface {
	// serve gives a client the events behind the one with the id last, "" for a new
	// client, until its context ends or there are no more; it returns why. It begins
	// the stream when it can.
	serve(c *eventClient, last string) error
	mistakes() []string
}

// FeedOption configures a feed of events of type T.
type FeedOption[T any] func(*feedConfig[T])

// WithFilter keeps events from a client: it is given those for which show returns true.
//
//	middleware.WithFilter(func(r *http.Request, o Order) bool { return o.Owner == user(r) })
//
// r is the request that opened the stream, perhaps an hour ago. show is called for each
// event and client, by several goroutines, and should ask nobody.
func WithFilter[T any](show func(*http.Request, T) bool) FeedOption[T] {
	return func(c *feedConfig[T]) { c.show, c.showSet = show, true }
}

// WithEncoder sets how an event is told: by a name, which pages listen to by
// addEventListener, and by data. An empty name is that of a message, and for onmessage.
// Data may have lines; other than that they end with LF when they come, nothing happens
// to them. The default is no name, or for a pattern the topic's, and the value as JSON.
//
// A name with CR, LF or NUL is an error, and so is what encode returns: it is logged,
// and a resync takes the event's place. encode is called once for many clients, by
// several goroutines: data must not be changed afterwards.
func WithEncoder[T any](encode func(T) (name string, data []byte, err error)) FeedOption[T] {
	return func(c *feedConfig[T]) { c.encode, c.encodeSet = encode, true }
}

type feedConfig[T any] struct {
	show      func(*http.Request, T) bool
	encode    func(T) (name string, data []byte, err error)
	showSet   bool
	encodeSet bool
	wrong     []string
}

func configureFeed[T any](missing string, options []FeedOption[T]) *feedConfig[T] {
	c := &feedConfig[T]{}
	if missing != "" {
		c.wrong = append(c.wrong, missing)
	}
	for i, o := range options {
		if o == nil {
			c.wrong = append(c.wrong, fmt.Sprintf("the feed's option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	if c.showSet && c.show == nil {
		c.wrong = append(c.wrong, "WithFilter(nil): leave it out to show every event to every client")
	}
	if c.encodeSet && c.encode == nil {
		c.wrong = append(c.wrong, "WithEncoder(nil): leave it out for JSON")
	}
	return c
}

func (c *feedConfig[T]) mistakes() []string { return c.wrong }

// sharer makes frames, and keeps the last one: an event goes to thousands of clients
// at the same time.
type sharer[T any] struct {
	*feedConfig[T]
	last atomic.Pointer[frame]
}

// frame is an event ready to be sent.
type frame struct {
	of   occasion
	data []byte
	err  error
}

// occasion tells events apart.
type occasion struct {
	topic, id string
	at        time.Time
}

// frame returns v as it is sent, with that id; name is the default one.
func (s *sharer[T]) frame(of occasion, id, name string, v T) ([]byte, error) {
	if f := s.last.Load(); f != nil && f.of == of && of.id != "" {
		return f.data, f.err
	}
	f := &frame{of: of}
	var data []byte
	if s.encode != nil {
		name, data, f.err = s.encode(v)
	} else {
		data, f.err = json.Marshal(v)
	}
	if f.err == nil {
		f.data, f.err = appendEvent(make([]byte, 0, len(data)+64), id, name, data)
	}
	s.last.Store(f)
	return f.data, f.err
}

// give queues an event for a client, or what takes its place. err says that it did not
// decode.
func (s *sharer[T]) give(c *eventClient, of occasion, id, name string, v T, err error) error {
	if err == nil {
		if s.show != nil && !s.show(c.r, v) {
			c.skip(id)
			return nil
		}
		var data []byte
		if data, err = s.frame(of, id, name, v); err == nil {
			return c.pass(data, id)
		}
	}
	c.log.report(c.ctx, "an event cannot be told", err)
	c.resync(id)
	return nil
}

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
	if !sub.Live() {
		return errSilent
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
