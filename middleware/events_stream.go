package middleware

import (
	"context"
	"errors"
	"time"

	"github.com/go-weir/weir/cache/event"
)

// streamFeed is a feed with a memory.
type streamFeed[T any] struct {
	sharer[T]
	stream *event.Stream[T]
}

// replayPage is how many entries a client that comes back is sent at once.
const replayPage = 100

// FromStream gives each client all of a stream, from the event on that it has last
// been given, across disconnects. See [Events].
func FromStream[T any](stream *event.Stream[T], options ...FeedOption[T]) EventFeed {
	missing := ""
	if stream == nil {
		missing = "FromStream(nil): check the error of event.NewStream"
	}
	return EventFeed{&streamFeed[T]{sharer[T]{feedConfig: configureFeed(missing, options)}, stream}}
}

func (f *streamFeed[T]) serve(c *eventClient, last string) error {
	page, id, known, err := f.first(c.ctx, last)
	if err != nil {
		return err
	}
	if err := c.begin(id, last != "" && !known); err != nil {
		return err
	}
	at, err := f.replay(c, page)
	for err == nil {
		at, err = f.follow(c, at)
	}
	return err
}

// first finds where a client stands: behind the entry last, with the first page of what
// it has missed, or, if it is new or that entry is not known, behind the newest one. id
// is that entry's.
func (f *streamFeed[T]) first(ctx context.Context, last string) (page event.Page[T], id string, known bool, err error) {
	// Positions that are none of an entry would be a way to read the stream from its
	// beginning, or to skip what was missed. Oldest is also the id of who was there when
	// the stream was empty: it is not known of it what is missing.
	if last != "" && last != event.Oldest && last != event.Newest {
		page, err = f.stream.Read(ctx, last, replayPage)
		if err == nil && !page.Missed {
			return page, last, true, nil
		}
		if err != nil && !errors.Is(err, event.ErrPosition) {
			return page, "", false, err
		}
	}
	page, err = f.stream.Read(ctx, event.Newest, 1)
	return page, page.Next, false, err
}

// replay sends what was missed, page by page. It returns the position to follow from;
// what goes wrong on the way is met there again.
func (f *streamFeed[T]) replay(c *eventClient, page event.Page[T]) (at string, err error) {
	for {
		at = page.Next
		for _, e := range page.Entries {
			if err := f.entry(c, e); err != nil {
				return "", err
			}
		}
		if err := c.flush(); err != nil {
			return "", err
		}
		if len(page.Entries) < replayPage || c.ctx.Err() != nil {
			return at, nil
		}
		if page, err = f.stream.Read(c.ctx, at, replayPage); err != nil || page.Missed {
			return at, nil
		}
	}
}

// follow sends what comes after a position, until something is missing: the position
// that it then returns is behind that.
func (f *streamFeed[T]) follow(c *eventClient, at string) (next string, err error) {
	for e, err := range f.stream.Follow(c.ctx, at) {
		switch {
		case errors.Is(err, event.ErrGap):
			// Behind all there is: the page loads that, and a slow one would only fall
			// behind once more.
			page, err := f.stream.Read(c.ctx, event.Newest, 1)
			if err == nil {
				c.resync(page.Next)
				return page.Next, c.flush()
			}
			c.resync(c.at) // then what is left follows
		case err == nil || e.ID != "":
			if err := f.entry(c, e); err != nil {
				return "", err
			}
		case errors.Is(err, event.ErrUnavailable):
			c.log.report(c.ctx, "streams wait", err)
		default:
			return "", err
		}
		if err := c.flush(); err != nil {
			return "", err
		}
	}
	return "", context.Cause(c.ctx)
}

func (f *streamFeed[T]) entry(c *eventClient, e event.Entry[T]) error {
	return f.give(c, occasion{"", e.ID, time.Time{}}, e.ID, "", e.Value, e.Err)
}
