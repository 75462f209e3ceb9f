package middleware

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-weir/weir/cache/event"
)

// EventsOption configures [Events].
type EventsOption func(*eventsConfig)

type eventsConfig struct {
	heartbeat    time.Duration
	writeTimeout time.Duration
	openTimeout  time.Duration
	lifetime     time.Duration
	least        time.Duration
	spread       time.Duration
	most         int
	parameter    string
	plain        bool

	buffer int
	policy event.Overflow
}

// The defaults of Events, and the bounds of what may be set.
const (
	defaultHeartbeat    = 15 * time.Second
	defaultWriteTimeout = 10 * time.Second
	defaultOpenTimeout  = time.Second
	defaultLifetime     = time.Hour
	defaultRetryLeast   = 2 * time.Second
	defaultRetryMost    = 8 * time.Second
	defaultEventsBuffer = 256

	minEventsTime    = 10 * time.Millisecond
	maxHeartbeat     = time.Hour
	maxWriteTimeout  = 10 * time.Minute
	maxLifetime      = 30 * 24 * time.Hour
	maxRetry         = time.Hour
	mostEventsBuffer = 1_000_000
)

// WithHeartbeat sets after how long a quiet stream is sent a comment, so that no proxy
// takes it for dead, and a client that is gone is found. Each time is up to a fifth
// shorter, so that streams that were opened together are not written to together. The
// default is 15 s; from 10 ms to 1 hour.
func WithHeartbeat(d time.Duration) EventsOption {
	return func(c *eventsConfig) { c.heartbeat = d }
}

// WithWriteTimeout sets how long a client may take for what it is sent at once, which
// is mostly one event, before it is disconnected. The default is 10 s; from 10 ms to 10
// minutes.
func WithWriteTimeout(d time.Duration) EventsOption {
	return func(c *eventsConfig) { c.writeTimeout = d }
}

// WithOpenTimeout sets how long a client of a topic or a pattern waits until Redis has
// confirmed the subscription; after that it is told to come back. The default is 1 s;
// from 10 ms to 10 minutes. It does not affect streams, which have the Bus's budget.
func WithOpenTimeout(d time.Duration) EventsOption {
	return func(c *eventsConfig) { c.openTimeout = d }
}

// WithLifetime sets for how long a stream stays open, up to a tenth less: then the
// client comes back, and whether it may listen is decided anew. The default is 1 hour;
// from 10 ms to 30 days.
func WithLifetime(d time.Duration) EventsOption {
	return func(c *eventsConfig) { c.lifetime = d }
}

// WithRetry sets the bounds of the time after which a client whose stream has ended
// comes back: each is told a random one between them, when its stream begins, and
// another when this end ends it. The wider they are apart, the less of a crowd comes
// back after a restart: 5,000 clients within 6 s are 830 a second. The defaults are 2 s
// and 8 s; from 10 ms to 1 hour.
func WithRetry(least, most time.Duration) EventsOption {
	return func(c *eventsConfig) { c.least, c.spread = least, most-least }
}

// WithMaxStreams sets how many streams are open at once in this process; one more is
// told to come back. The default is no limit; from 1.
func WithMaxStreams(n int) EventsOption { return func(c *eventsConfig) { c.most = n } }

// WithBuffer sets how many events of a topic or a pattern wait for a client that is
// busy, and what happens to one more: what is dropped is told as a resync, and
// event.Disconnect ends the stream. The defaults are 256 and event.DropOldest; from 1
// to 1,000,000. It does not affect streams, whose buffer is Redis.
func WithBuffer(n int, policy event.Overflow) EventsOption {
	return func(c *eventsConfig) { c.buffer, c.policy = n, policy }
}

// WithPositionParameter names a parameter of the URL's query that says the id of the
// last event that a client knows, for one without a Last-Event-ID field:
//
//	new EventSource("/orders/events?after=1700000000000-0")
//
// A page whose content was made when the stream was at that entry, which
// event.Stream.Read tells, so misses nothing between the two. The field counts if there
// are both: a browser keeps the URL when it comes back. There is none by default.
func WithPositionParameter(name string) EventsOption {
	return func(c *eventsConfig) { c.parameter = name }
}

// WithPlainRefusals answers 503 and Retry-After to every client that is to come back
// later, for clients that understand it. A browser's EventSource does not, and stays
// away for good.
func WithPlainRefusals() EventsOption { return func(c *eventsConfig) { c.plain = true } }

func configureEvents(options []EventsOption) (*eventsConfig, []string) {
	c := &eventsConfig{
		heartbeat:    defaultHeartbeat,
		writeTimeout: defaultWriteTimeout,
		openTimeout:  defaultOpenTimeout,
		lifetime:     defaultLifetime,
		least:        defaultRetryLeast,
		spread:       defaultRetryMost - defaultRetryLeast,
		most:         -1,
		buffer:       defaultEventsBuffer,
	}
	var mistakes []string
	mistake := func(wrong bool, format string, values ...any) {
		if wrong {
			mistakes = append(mistakes, fmt.Sprintf(format, values...))
		}
	}
	for i, o := range options {
		mistake(o == nil, "option %d is nil: leave it out", i+1)
		if o != nil {
			o(c)
		}
	}
	for _, t := range []struct {
		name     string
		set      time.Duration
		most     time.Duration
		fallback time.Duration
	}{
		{"WithHeartbeat", c.heartbeat, maxHeartbeat, defaultHeartbeat},
		{"WithWriteTimeout", c.writeTimeout, maxWriteTimeout, defaultWriteTimeout},
		{"WithOpenTimeout", c.openTimeout, maxWriteTimeout, defaultOpenTimeout},
		{"WithLifetime", c.lifetime, maxLifetime, defaultLifetime},
	} {
		mistake(t.set < minEventsTime || t.set > t.most, "%s(%v): must be from %v to %v; leave it out for %v", t.name, t.set, minEventsTime, t.most, t.fallback)
	}
	most := c.least + c.spread
	mistake(c.least < minEventsTime || most > maxRetry || most < c.least, "WithRetry(%v, %v): must be from %v to %v, the lesser first; leave it out for %v and %v", c.least, most, minEventsTime, maxRetry, defaultRetryLeast, defaultRetryMost)
	mistake(c.most == 0 || c.most < -1, "WithMaxStreams(%d): must be from 1; leave it out for no limit", c.most)
	mistake(c.buffer < 1 || c.buffer > mostEventsBuffer, "WithBuffer(%d, …): must be from 1 to %d; leave it out for %d", c.buffer, mostEventsBuffer, defaultEventsBuffer)
	mistake(c.policy < event.DropOldest || c.policy > event.Disconnect, "WithBuffer(…, %d): must be event.DropOldest, DropNewest, Coalesce or Disconnect", c.policy)
	return c, mistakes
}

// wait is after how long a client is to come back.
func (c *eventsConfig) wait() time.Duration { return c.least + rand.N(c.spread+1) }
