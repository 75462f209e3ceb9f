package middleware

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// eventClient is one open stream, towards its client. One goroutine, the handler's,
// passes events on; the timer of heartbeats and Shutdown come in beside it.
type eventClient struct {
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context // ends with the request, the stream's lifetime, a failed write or Shutdown
	cancel  context.CancelCauseFunc
	expire  context.CancelFunc
	control *http.ResponseController
	cfg     *eventsConfig
	log     *reporter

	// The handler's goroutine has these to itself.
	begun bool
	buf   []byte // events not yet written
	at    string // the id that the client has when buf is written

	mu    sync.Mutex // held while something is written
	ended bool
	id    string // up to where the client was given all that it may see
	told  string // the id that it knows
	beat  *time.Timer

	failed atomic.Bool // a write did

	limit sync.Mutex // for the deadline alone: mu is held for as long as a write takes
	over  bool       // none is to be set any more
}

// fullBuffer is from how many bytes on events are written before there are more.
const fullBuffer = 32 << 10

func newEventClient(w http.ResponseWriter, r *http.Request, h *EventsHandler) *eventClient {
	c := &eventClient{w: w, r: r, control: http.NewResponseController(w), cfg: h.cfg, log: h.log}
	lifetime := h.cfg.lifetime - rand.N(h.cfg.lifetime/10+1)
	timed, expire := context.WithTimeoutCause(r.Context(), lifetime, errLifetime)
	c.expire = expire
	c.ctx, c.cancel = context.WithCancelCause(timed)
	return c
}

// header sets that of a stream.
func (c *eventClient) header() {
	h := c.w.Header()
	for _, name := range entityFields {
		delete(h, name)
	}
	h.Set("Content-Type", "text/event-stream")
	// no-transform: what compresses would hold events back.
	h.Set("Cache-Control", "no-cache, no-store, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx
	h.Set("X-Content-Type-Options", "nosniff")
}

// begin sends the header, when to come back, and the client's id; or, if it may have
// missed something, a resync.
func (c *eventClient) begin(id string, resync bool) error {
	c.header()
	c.begun = true
	c.mu.Lock()
	c.beat = time.AfterFunc(c.cfg.heartbeat, c.heartbeat)
	c.mu.Unlock()
	c.buf = appendRetry(c.buf, c.cfg.wait())
	if resync {
		c.resync(id)
	} else {
		c.buf = appendID(c.buf, id)
		c.at = id
	}
	return c.flush()
}

// resync queues the event that says that others may be missing. Its data is that of
// an empty object, for pages that parse what they get.
func (c *eventClient) resync(id string) {
	c.buf, _ = appendEvent(c.buf, id, resyncEvent, []byte("{}")) // both fit
	c.at = id
}

// pass queues an event, which has that id.
func (c *eventClient) pass(frame []byte, id string) error {
	c.buf = append(c.buf, frame...)
	c.at = id
	if len(c.buf) < fullBuffer {
		return nil
	}
	return c.flush()
}

// skip moves the client past an event that it may not see.
func (c *eventClient) skip(id string) { c.at = id }

// flush writes what is queued.
func (c *eventClient) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.buf) > 0 {
		if err := c.write(c.buf); err != nil {
			return err
		}
		if c.buf = c.buf[:0]; cap(c.buf) > 2*fullBuffer {
			c.buf = nil // one large event must not occupy its room for hours
		}
		c.told = c.at
	}
	// Not before: a heartbeat tells the client this id.
	c.id = c.at
	return nil
}

// write sends p. The caller holds mu.
func (c *eventClient) write(p []byte) error {
	if c.failed.Load() {
		return context.Cause(c.ctx)
	}
	c.deadline(time.Now().Add(c.cfg.writeTimeout))
	_, err := c.w.Write(p)
	if err == nil {
		err = c.control.Flush()
	}
	if err != nil {
		c.fail(fmt.Errorf("write: %w", err))
		return err
	}
	// HTTP/2 takes a deadline that passes for a reason to end the stream, though
	// nothing is being written.
	c.deadline(time.Time{})
	c.beat.Reset(c.cfg.heartbeat - rand.N(c.cfg.heartbeat/5+1))
	return nil
}

// fail ends the stream: nothing more can be written.
func (c *eventClient) fail(err error) {
	c.failed.Store(true)
	c.cancel(err)
}

// heartbeat writes a comment to a quiet stream, or, if events went by that the client
// may not see, an id past them: they may be trimmed when it comes back.
func (c *eventClient) heartbeat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		if p := recover(); p != nil { // a writer's; net/http would recover it, a timer does not
			c.fail(fmt.Errorf("write: panic: %v", p))
			c.log.report(c.r.Context(), "a heartbeat fails", context.Cause(c.ctx))
		}
	}()
	if c.ended {
		return
	}
	if c.id == c.told {
		_ = c.write([]byte(":\n\n"))
	} else if c.write(appendID(nil, c.id)) == nil {
		c.told = c.id
	}
}

// farewell says when to come back, and from where.
func (c *eventClient) farewell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := appendRetry(nil, c.cfg.wait())
	if c.id != c.told {
		last = appendID(last, c.id)
	}
	_ = c.write(last)
}

// end stops what comes in beside the handler, which returns after it.
func (c *eventClient) end() {
	c.cancel(nil)
	c.expire()
	c.mu.Lock()
	c.ended = true
	if c.beat != nil {
		c.beat.Stop()
	}
	c.mu.Unlock()
	// The end itself is written when the handler has returned.
	if c.begun {
		c.deadline(time.Now().Add(c.cfg.writeTimeout))
	}
	c.limit.Lock()
	c.over = true
	c.limit.Unlock()
}

// deadline sets that of writes, unless the client was cut off.
func (c *eventClient) deadline(t time.Time) {
	c.limit.Lock()
	defer c.limit.Unlock()
	if !c.over {
		_ = c.control.SetWriteDeadline(t) // not every writer can
	}
}

// cut ends a write under way, and all later ones.
func (c *eventClient) cut() {
	c.limit.Lock()
	defer c.limit.Unlock()
	if !c.over {
		c.over = true
		_ = c.control.SetWriteDeadline(time.Unix(1, 0))
	}
}
