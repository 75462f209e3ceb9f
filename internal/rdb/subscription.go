package rdb

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
)

// Listener hears what is published on one channel or pattern. Its functions are
// called one at a time, by one goroutine, in the order of the messages; they must
// return at once and make no call to Redis. Nil ones are left out.
//
// One that panics is logged to slog.Default, with the stack, and has missed what it
// was told: so its Lost and Gap follow. The link and the other listeners go on.
type Listener struct {
	Message func(channel, payload string)
	// Lost is called when the link is lost or suspected dead: until Gap nothing may
	// be heard.
	Lost func()
	// Gap is called once the subscription stands again after Lost, before the next
	// Message: messages may have been missed in between. What is read from Redis
	// after Gap misses nothing.
	Gap func()
}

// Subscription is one listener's part in the link. Its methods are safe for
// concurrent use.
type Subscription struct {
	link     *link
	topic    *topic
	listener Listener
	ready    chan struct{}
	closed   atomic.Bool
	live     atomic.Bool

	state state // guarded by the link's mutex
}

// state is what a subscription has been told.
type state int

const (
	waiting  state = iota // its channel was never confirmed
	standing              // confirmed
	missing               // Lost was called, Gap is to come
)

// Subscribe has l hear what is published on channel. It returns at once, and works
// while Redis is silent: see [Subscription.Ready]. All subscriptions of all Conns on
// one client share one connection, and those to one channel one SUBSCRIBE. See "The
// link" on the package's page.
func (c *Conn) Subscribe(channel string, l Listener) *Subscription {
	return c.core.subscribe(name{text: channel}, l)
}

// SubscribePattern has l hear what is published on channels that match pattern, as
// PSUBSCRIBE does. It is as [Conn.Subscribe] else.
func (c *Conn) SubscribePattern(pattern string, l Listener) *Subscription {
	return c.core.subscribe(name{text: pattern, isPattern: true}, l)
}

// subscribe adds a listener to the client's link, and starts the link with the first.
func (c *core) subscribe(n name, listener Listener) *Subscription {
	c.linkMu.Lock()
	defer c.linkMu.Unlock()
	if c.link == nil {
		c.link = newLink(c)
		go c.link.run()
	}
	l := c.link
	t := l.topics[n]
	if t == nil {
		t = &topic{name: n}
		l.topics[n] = t
		l.fresh = append(l.fresh, t)
		l.poke()
	}
	s := &Subscription{link: l, topic: t, listener: listener, ready: make(chan struct{})}
	t.subs = append(slices.Clip(t.subs), s) // a copy: the link may be walking the old one
	if t.confirmed {
		s.state = standing
		s.live.Store(true)
		close(s.ready)
	}
	return s
}

// Ready is closed when Redis has first confirmed the subscription: what is published
// from then on is heard. It stays open while Redis is silent, and when the user may
// not subscribe to the channel (ACL), which is asked again every few seconds.
func (s *Subscription) Ready() <-chan struct{} { return s.ready }

// Live reports whether the subscription is confirmed, and the link is not known or
// suspected to be dead: what was published until [SuspectAfter] ago has been heard,
// and what was published where it does not arrive is found out within [EchoEvery]
// and [EchoWithin]. It costs one reading of the clock, about 70 ns.
func (s *Subscription) Live() bool { return s.live.Load() && s.link.proven() }

// Close ends the subscription. No new call to the listener begins after it returned;
// one that is under way may still be. It may be called from a listener, and again.
// With the last subscription on a client the link ends: its goroutines and its
// connection.
func (s *Subscription) Close() {
	if s.closed.Swap(true) {
		return
	}
	s.live.Store(false)
	l, t := s.link, s.topic
	l.core.linkMu.Lock()
	defer l.core.linkMu.Unlock()
	t.subs = slices.DeleteFunc(slices.Clone(t.subs), func(other *Subscription) bool { return other == s })
	if len(t.subs) > 0 {
		return
	}
	delete(l.topics, t.name)
	if t.ordered {
		l.gone = append(l.gone, t)
		l.poke()
	}
	if len(l.topics) == 0 {
		l.core.link = nil
		close(l.stop)
	}
}

// message, lost and gap call the listener, unless it is closed.
func (s *Subscription) message(channel, payload string) {
	if s.listener.Message == nil || s.closed.Load() {
		return
	}
	defer s.recovered(true)
	s.listener.Message(channel, payload)
}

func (s *Subscription) lost() { s.call(s.listener.Lost) }
func (s *Subscription) gap()  { s.call(s.listener.Gap) }

func (s *Subscription) call(f func()) {
	if f == nil || s.closed.Load() {
		return
	}
	defer s.recovered(false)
	f()
}

// recovered logs what a listener has panicked with. One that did so on a message is
// told that it has missed something.
func (s *Subscription) recovered(onMessage bool) {
	p := recover()
	if p == nil {
		return
	}
	slog.Default().LogAttrs(context.Background(), slog.LevelError, "weir: a listener panicked",
		slog.String("channel", s.topic.name.text), slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
	if onMessage {
		s.lost()
		s.gap()
	}
}

// name is what is subscribed to.
type name struct {
	text      string
	isPattern bool
}

// topic is a name and who hears it. It is guarded by the link's mutex.
type topic struct {
	name      name
	subs      []*Subscription // never changed in place
	ordered   bool            // SUBSCRIBE was sent in the present session, or is about to be
	confirmed bool            // Redis has said so
}
