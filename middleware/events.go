package middleware

import (
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/go-weir/weir/cache/event"
)

// EventsHandler is the handler that [Events] makes. It is safe for concurrent use. It
// starts two timers for each open stream, which end with it, and no goroutine.
type EventsHandler struct {
	feed EventFeed
	cfg  *eventsConfig
	log  *reporter

	mu       sync.Mutex
	draining bool
	open     map[*eventClient]struct{}
	idle     chan struct{} // closed when draining and none is open
}

// Events streams what happens to browsers, as server-sent events (WHATWG HTML, section
// 9.2): each request to it stays open, and is given every event of feed.
//
//	updates := middleware.Events(middleware.FromStream(orders))
//	mux.Handle("/orders/events", updates)
//	server.RegisterOnShutdown(func() { _ = updates.Shutdown(ctx) })
//
// and in the page:
//
//	const updates = new EventSource("/orders/events")
//	updates.onmessage = e => show(JSON.parse(e.data))
//	updates.addEventListener("resync", load)
//
// # What a client is given
//
// From a stream ([FromStream]) all of it, once, in its order, across any number of
// disconnects: the id of an event is that of its entry, a browser that comes back says
// it as Last-Event-ID, and is first given what it has missed. A client has an id before
// its first event, and events that [WithFilter] keeps from it move it on, too. Where
// the entry of that id is kept no longer, or never was, one
//
//	event: resync
//
// tells the page to load anew what it shows, and the live stream follows: never is
// something missing in silence. So it is if a slow client falls behind what the stream
// keeps; and, as there is no entry to remember, if the stream was empty when the client
// was there. Without a Last-Event-ID the stream begins with the next event; a page that
// knows up to which entry its content reaches says that in a parameter, see
// [WithPositionParameter].
//
// From a topic or a pattern ([FromTopic], [FromPattern]) what is published while it is
// connected; what was before that, its page loads in onopen. A client that comes back is
// given a resync first, and one in the place of each event.Gap; what waits for a client
// that is slow is limited by [WithBuffer].
//
// An event that does not decode or encode is logged, and a resync takes its place.
//
// # What a client is not spared
//
// After a status other than 200 an EventSource does not come back, ever. So one that is
// to come back later, because Redis is silent, this handler is being shut down or
// [WithMaxStreams] are open, is given a stream that says when (retry:) and ends; it
// is known by its Accept, which names text/event-stream. Others are answered 503 with
// Retry-After, as problem+json, and so are all with [WithPlainRefusals]. A RateLimit
// outside of Events that answers 429 turns a browser's EventSource away for good: give
// it room, or have the page open another one.
//
// Methods but GET are answered 405; an Accept without text/event-stream, 406. A server
// of HTTP/1.1 has the browser's limit of six connections per origin; one of HTTP/2 has
// not.
//
// # Streams that last
//
// A stream begins at once, with its header and the time to wait before coming back. A
// comment goes to one that is quiet for 15 s ([WithHeartbeat]). A client that does not
// take what is written within 10 s is disconnected ([WithWriteTimeout]); that, and a
// server with a WriteTimeout, need what wraps the ResponseWriter to have an Unwrap.
//
// After an hour ([WithLifetime]) a stream ends and the browser comes back, so that
// whether it may listen is decided anew: neither a session that was ended, nor a user
// who was shut out, is noticed meanwhile, unless by WithFilter. Nothing is missed in
// that.
//
// http.Server.Shutdown waits for streams and does not end them:
// [EventsHandler.Shutdown] does. Clients come back after a random time, 2 s to 8 s
// ([WithRetry]), and so not all at once.
//
// # When Redis is silent
//
// What is open stays open, with heartbeats, and goes on when Redis is back: a stream
// misses nothing in that, a topic may, and says so by a resync. What would be opened is
// told to come back, within the Bus's budget (50 ms) for a stream, and within 1 s for a
// topic ([WithOpenTimeout]).
//
// It panics if feed or an option can never work, and tells all of it at once.
func Events(feed EventFeed, options ...EventsOption) *EventsHandler {
	cfg, mistakes := configureEvents(options)
	mistakes = append(feed.mistakes(), mistakes...)
	if len(mistakes) > 0 {
		panic("middleware.Events: " + strings.Join(mistakes, "\nmiddleware.Events: "))
	}
	return &EventsHandler{
		feed: feed,
		cfg:  cfg,
		log:  &reporter{name: "events"},
		open: make(map[*eventClient]struct{}),
		idle: make(chan struct{}),
	}
}

// ServeHTTP serves one stream, until it ends.
func (h *EventsHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		refusalMethod.answer(w, r, 0)
		return
	}
	accepted, named := acceptsEvents(r.Header)
	if !accepted {
		refusalAccept.answer(w, r, 0)
		return
	}
	if !canFlush(w) {
		h.log.report(r.Context(), "cannot stream", errors.New("a wrapper of the http.ResponseWriter has neither Flush nor Unwrap: mount Events outside of it"))
		refusalInternal.answer(w, r, 0)
		return
	}
	c := newEventClient(w, r, h)
	var err error
	if h.enter(c) {
		// Deferred: the encoder and the filter are the user's, and may panic.
		defer h.leave(c)
		err = h.feed.impl.serve(c, h.position(r))
	} else {
		err = errLater
	}
	if c.begun {
		h.finish(c, err)
	} else {
		h.refuse(c, named, err)
	}
}

var (
	refusalMethod = encode(Problem{Status: http.StatusMethodNotAllowed})
	refusalAccept = encode(Problem{Status: http.StatusNotAcceptable, Detail: "There is nothing here but text/event-stream."})
	refusalNoFeed = encode(Problem{Status: http.StatusNotFound})
)

// Why a stream ended, or did not begin, beside the errors of its feed.
var (
	errLater    = errors.New("no place for now")
	errNoFeed   = errors.New("no feed for this request")
	errLifetime = errors.New("the stream has reached its lifetime")
	errDrained  = errors.New("the handler is shut down")
)

// position is the id of the last event that the client was given; empty if it is new.
func (h *EventsHandler) position(r *http.Request) string {
	if id := r.Header.Get("Last-Event-ID"); id != "" || h.cfg.parameter == "" {
		return id
	}
	return r.URL.Query().Get(h.cfg.parameter)
}

// finish ends a stream that had begun.
func (h *EventsHandler) finish(c *eventClient, err error) {
	switch {
	case c.failed.Load(), c.r.Context().Err() != nil:
		return // nobody is there to be told
	case c.ctx.Err() != nil, errors.Is(err, event.ErrSlow), errors.Is(err, event.ErrClosed):
	default:
		h.log.report(c.r.Context(), "a stream breaks off", err)
	}
	c.farewell()
}

// refuse answers a request whose stream has not begun. named says that its Accept
// names text/event-stream, as that of an EventSource does.
func (h *EventsHandler) refuse(c *eventClient, named bool, err error) {
	switch {
	case c.r.Context().Err() != nil:
		refusalGone.answer(c.w, c.r, h.cfg.wait()) // for the access log
		return
	case errors.Is(err, errNoFeed):
		refusalNoFeed.answer(c.w, c.r, 0)
		return
	case err == errLater, c.ctx.Err() != nil, errors.Is(err, event.ErrClosed):
	default:
		h.log.report(c.r.Context(), "no stream", err)
		if !errors.Is(err, event.ErrUnavailable) {
			refusalInternal.answer(c.w, c.r, 0)
			return
		}
	}
	if !named || h.cfg.plain {
		refusalUnavailable.answer(c.w, c.r, h.cfg.wait())
		return
	}
	c.header()
	_, _ = c.w.Write(appendRetry(nil, h.cfg.wait())) // the client may be gone
}

// acceptsEvents reports whether a request's Accept has room for text/event-stream (RFC
// 9110 section 12.5.1), and whether it names it.
func acceptsEvents(h http.Header) (accepted, named bool) {
	var events welcome
	understood := false
	for _, line := range h["Accept"] {
		for line != "" {
			var member string
			member, line = cutUnquoted(line, ',')
			r, ok := parseMediaRange(member)
			if !ok {
				continue // malformed; the others may tell
			}
			understood = true
			switch {
			case r.media("*", "*"):
				events.note(1, r)
			case r.media("text", "*"):
				events.note(2, r)
			case r.media("text", "event-stream"):
				events.note(4, r)
			}
		}
	}
	return !understood || events.weight > 0, events.specific >= 4 && events.weight > 0
}

// canFlush reports whether http.ResponseController finds a way to flush w.
func canFlush(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case interface{ FlushError() error }, http.Flusher:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}
