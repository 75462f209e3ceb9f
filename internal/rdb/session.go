package rdb

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// batchSize is how many channels one SUBSCRIBE names at most.
	batchSize = 1000

	// maxPending is how many commands wait for their answer at most, besides a PING.
	maxPending = 16

	// connectWithin bounds a dial. go-redis's own timeouts bound the handshake.
	connectWithin = 5 * time.Second

	// askAgain is how long a channel that the user may not subscribe to is left alone.
	askAgain = 10 * time.Second
)

// session is one connection of the link, from dial to loss. Its writer goroutine
// dials and sends, its reader goroutine receives; both end with it. All fields but
// those of the goroutines are run's own.
type session struct {
	link *link
	ctx  context.Context // ends with it
	end  context.CancelFunc

	orders chan *order // to the writer; never full
	events chan any    // *redis.Message, *redis.Subscription, *redis.Pong, error
	probed chan error  // what came of a probe's PUBLISH

	pending []*order // sent, and not yet answered, in their order
	own     *topic   // the session's own channel, for the probe
	heard   bool     // anything at all
	since   int64    // then
	alone   []*topic // refused together with others, to be asked for one by one
	refused []*topic // refused by themselves, to be asked for again at askAt
	askAt   int64

	pinging  bool
	pingedAt int64

	prober
}

// order is one command to the session's connection.
type order struct {
	verb   string
	topics []*topic // none for PING
	done   int      // how many were answered
}

// ended is the context of everything after the dial. go-redis looks at it neither
// when it reads nor when it writes, but a PubSub that has lost its connection makes
// itself a new one, silently, and that dial it ends at once. The loss must be ours to
// tell.
var ended = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// open begins a session. It does not wait for it.
func (l *link) open() *session {
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{
		link:   l,
		ctx:    ctx,
		end:    cancel,
		orders: make(chan *order, maxPending+4),
		events: make(chan any, 64),
		probed: make(chan error, 1),
		own:    &topic{name: name{text: "weir:link:" + rand.Text()}},
	}
	s.pending = []*order{{verb: "subscribe", topics: []*topic{s.own}}, {verb: "ping"}}
	s.pinging = true
	go s.write()
	return s
}

// write dials, then sends orders.
func (s *session) write() {
	ps, err := s.dial()
	if err != nil {
		s.tell(err)
		return
	}
	defer ps.Close()
	go s.read(ps)
	for {
		select {
		case <-s.ctx.Done():
			return
		case o := <-s.orders:
			if err := o.send(ps); err != nil {
				s.tell(err)
				return
			}
		}
	}
}

// dial opens the connection, with the two orders that are pending from the start.
func (s *session) dial() (ps *redis.PubSub, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, connectWithin)
	defer cancel()
	defer func() {
		// A Ring that takes all its servers for down panics with an error.
		if p := recover(); p != nil {
			ring, ok := p.(error)
			if !ok {
				panic(p)
			}
			err = ring
		}
	}()
	ps = s.link.core.client.Subscribe(ctx, s.own.name.text) // and says not whether it could
	if err := ps.Ping(ended); err != nil {
		ps.Close()
		return nil, err
	}
	return ps, nil
}

// read receives until the connection ends.
func (s *session) read(ps *redis.PubSub) {
	for {
		event, err := receive(ps)
		if err != nil {
			event = err
		}
		if !s.tell(event) || err != nil && !isReply(err) {
			return
		}
	}
}

// receive is ps.Receive, which panics on answers that it does not expect.
func receive(ps *redis.PubSub) (event any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("strange message: %v", p)
		}
	}()
	return ps.ReceiveTimeout(ended, DeadAfter)
}

// tell passes an event to run; it reports whether there is still somebody to hear.
func (s *session) tell(event any) bool {
	select {
	case s.events <- event:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// send writes the command.
func (o *order) send(ps *redis.PubSub) error {
	names := make([]string, len(o.topics))
	for i, t := range o.topics {
		names[i] = t.name.text
	}
	switch o.verb {
	case "subscribe":
		return ps.Subscribe(ended, names...)
	case "psubscribe":
		return ps.PSubscribe(ended, names...)
	case "unsubscribe":
		return ps.Unsubscribe(ended, names...)
	case "punsubscribe":
		return ps.PUnsubscribe(ended, names...)
	default:
		return ps.Ping(ended)
	}
}

func (s *session) place(o *order) {
	s.pending = append(s.pending, o)
	s.orders <- o
}

func (s *session) ping(at int64) {
	s.pinging, s.pingedAt = true, at
	s.place(&order{verb: "ping"})
}

// flush sends what is to be subscribed to and unsubscribed from, as far as there is
// room.
func (l *link) flush(s *session) {
	for len(s.pending) < maxPending {
		o := l.next(s)
		if o == nil {
			return
		}
		s.place(o)
	}
}

// next makes the next order, nil if there is none. Those that are gone come first: a
// channel may be among the fresh again.
func (l *link) next(s *session) *order {
	l.core.linkMu.Lock()
	defer l.core.linkMu.Unlock()
	if o := take(&l.gone, batchSize, "unsubscribe"); o != nil {
		return o
	}
	closed := func(t *topic) bool { return l.topics[t.name] != t }
	l.fresh = slices.DeleteFunc(l.fresh, closed)
	if o := take(&l.fresh, batchSize, "subscribe"); o != nil {
		for _, t := range o.topics {
			t.ordered = true
		}
		return o
	}
	s.alone = slices.DeleteFunc(s.alone, closed)
	return take(&s.alone, 1, "subscribe")
}

// take cuts an order for channels, or one for patterns, off the front of a list.
func take(list *[]*topic, most int, verb string) *order {
	topics := *list
	if len(topics) == 0 {
		*list = nil
		return nil
	}
	n := 1
	for n < min(most, len(topics)) && topics[n].name.isPattern == topics[0].name.isPattern {
		n++
	}
	*list = topics[n:]
	if topics[0].name.isPattern {
		verb = "p" + verb
	}
	return &order{verb: verb, topics: topics[:n:n]}
}

// hear takes in one event. It reports whether the session is still worth hearing.
func (l *link) hear(s *session, event any) bool {
	switch event := event.(type) {
	case *redis.Message:
		switch {
		case event.Pattern != "":
			l.deliver(name{event.Pattern, true}, event.Channel, event.Payload)
		case event.Channel == s.own.name.text:
			l.echo(s, event.Payload)
		default:
			l.deliver(name{event.Channel, false}, event.Channel, event.Payload)
		}
	case *redis.Subscription:
		if !l.answered(s, event) {
			return false
		}
	case *redis.Pong:
		if len(s.pending) == 0 || s.pending[0].verb != "ping" {
			return false
		}
		s.pinging, s.pending = false, s.pending[1:]
	case error:
		if !isReply(event) || len(s.pending) == 0 {
			return false
		}
		s.refuse(now())
	}
	l.alive(s)
	l.flush(s)
	return true
}

// answered takes in Redis's word on one channel. Out of step, the session is worth
// nothing.
func (l *link) answered(s *session, m *redis.Subscription) bool {
	if len(s.pending) == 0 {
		return false
	}
	o := s.pending[0]
	if o.verb != m.Kind || o.topics[o.done].name.text != m.Channel {
		return false
	}
	t := o.topics[o.done]
	if o.done++; o.done == len(o.topics) {
		s.pending = s.pending[1:]
	}
	switch {
	case t == s.own:
		s.listens = true
	case o.verb == "subscribe", o.verb == "psubscribe":
		l.confirm(t)
	}
	return true
}

// refuse takes in an error reply. ACL refuses all channels of a SUBSCRIBE for one.
func (s *session) refuse(at int64) {
	o := s.pending[0]
	s.pending = s.pending[1:]
	switch {
	case o.verb == "ping":
		s.pinging = false // not allowed, and a sign of life all the same
	case o.topics[0] == s.own:
		s.mute = true
	case o.verb == "unsubscribe", o.verb == "punsubscribe":
	case len(o.topics) > 1:
		s.alone = append(s.alone, o.topics...)
	default:
		if len(s.refused) == 0 {
			s.askAt = at + int64(askAgain)
		}
		s.refused = append(s.refused, o.topics[0])
	}
}

// askRefused has refused channels asked for again, when it is time.
func (s *session) askRefused(at int64) {
	if len(s.refused) > 0 && at >= s.askAt {
		s.alone = append(s.alone, s.refused...)
		s.refused = nil
	}
}

// alive notes a sign of life.
func (l *link) alive(s *session) {
	at := now()
	l.heardAt.Store(at)
	if s.mute {
		l.echoAt.Store(always)
	}
	if s.heard {
		return
	}
	s.heard, s.since, s.pingedAt = true, at, at
	// A new link passes for proven, unless the one before it could not be.
	if !l.distrust && !s.mute {
		l.echoAt.Store(at)
	}
}
