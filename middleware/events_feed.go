package middleware

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
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

// mistakes are what can never work.
func (f EventFeed) mistakes() []string {
	if f.impl == nil {
		return []string{"the feed is empty: make one, such as middleware.FromStream(orders)"}
	}
	return f.impl.mistakes()
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

// chosen is a feed that each request chooses.
type chosen struct {
	choose func(*http.Request) (EventFeed, error)
}

// FromRequest lets each request choose its feed, such as that of a room by its path.
// An empty EventFeed with no error is answered 404, which ends an EventSource for good;
// an error of kind event.ErrUnavailable, as if Redis were silent; another is logged and
// answered 500. Who may listen to what is best decided by a handler outside of Events.
//
// Events that clients share are encoded once for all of them if they have the same
// EventFeed: where many choose the same, keep it.
func FromRequest(choose func(*http.Request) (EventFeed, error)) EventFeed {
	return EventFeed{chosen{choose}}
}

func (f chosen) mistakes() []string {
	if f.choose == nil {
		return []string{"FromRequest(nil): pass a function that returns a feed"}
	}
	return nil
}

func (f chosen) serve(c *eventClient, last string) error {
	feed, err := f.choose(c.r)
	switch {
	case err != nil:
		return fmt.Errorf("FromRequest: %w", err)
	case feed.impl == nil:
		return errNoFeed
	}
	if mistakes := feed.mistakes(); len(mistakes) > 0 {
		return errors.New(strings.Join(mistakes, "; "))
	}
	return feed.impl.serve(c, last)
}
