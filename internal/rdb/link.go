package rdb

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// The bounds of the link. What is heard, be it a message or the answer to a PING, is
// a sign of life.
const (
	// PingEvery is how often the link is asked for a sign of life.
	PingEvery = 500 * time.Millisecond

	// SuspectAfter is the silence after which [Subscription.Live] is false. It is
	// true again with the next sign of life, before which everything older was heard.
	SuspectAfter = time.Second

	// DeadAfter is the silence after which the link is given up: Lost is called, and
	// a new connection made. go-redis itself never awaits the answer to its PING.
	DeadAfter = 2 * time.Second

	// EchoEvery is how often the link publishes to itself, on the way of every other
	// publish, to find out whether that way still leads here: a connection may be
	// fine, and yet on a server that no longer gets what is published
	// (centrifugal/centrifuge#594). On a Cluster each probe goes through another
	// master.
	EchoEvery = time.Second

	// EchoWithin is how long such a message may take once Redis has taken it. After
	// that the link is given up. While Redis takes none, nothing is proven, and Live
	// is false after EchoEvery and EchoWithin together.
	EchoWithin = time.Second
)

const (
	// tickEvery is the link's own clock.
	tickEvery = 100 * time.Millisecond

	// The pause before a new connection is random, from half to all of a bound that
	// doubles until a connection lasts longer than leastPause, so that a thousand
	// processes do not return in one instant.
	leastPause = 20 * time.Millisecond
	mostPause  = time.Second

	// always is an instant that never grows old, never one that was never young.
	always = int64(1) << 62
	never  = -always
)

// link is the one pub/sub connection of a client. One goroutine, run, makes
// sessions, hears them, and calls the listeners; nothing that it does can block on
// the network.
//
//	run ── connects ──▶ session ── error, silence, no echo ──▶ Lost to all
//	 ▲                                                          │
//	 └──────────────────────── pause ◀──────────────────────────┘
//
// The next session confirms the channels one after the other, and each confirmation
// is that channel's Gap.
type link struct {
	core *core
	stop chan struct{} // closed with the last subscription

	// Guarded by core.linkMu.
	topics map[name]*topic
	fresh  []*topic // to be subscribed to
	gone   []*topic // to be unsubscribed from

	changed chan struct{} // fresh or gone has grown

	heardAt atomic.Int64 // the last sign of life, on the clock of now
	echoAt  atomic.Int64 // the last echo; always if there are none to be had, never if it did not come

	// Only of run.
	distrust bool // the last session ended for want of an echo
}

func newLink(c *core) *link {
	l := &link{
		core:    c,
		stop:    make(chan struct{}),
		topics:  make(map[name]*topic),
		changed: make(chan struct{}, 1),
	}
	l.heardAt.Store(never)
	l.echoAt.Store(never)
	return l
}

// poke has run look at fresh and gone.
func (l *link) poke() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// proven reports whether the link has shown lately that it is alive.
func (l *link) proven() bool {
	at := now()
	return at-l.heardAt.Load() <= int64(SuspectAfter) && at-l.echoAt.Load() <= int64(EchoEvery+EchoWithin)
}

func (l *link) run() {
	pause := leastPause
	for {
		s := l.open()
		stopped := l.serve(s)
		s.end()
		if stopped {
			return
		}
		l.lose()
		if s.heard && now()-s.since > int64(leastPause) {
			pause = leastPause // it worked
		}
		select {
		case <-l.stop:
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, mostPause)
	}
}

// serve hears a session until it ends; stopped says that the link does.
func (l *link) serve(s *session) (stopped bool) {
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	for {
		alive := true
		select {
		case <-l.stop:
			return true
		case <-l.changed:
			l.flush(s)
		case event := <-s.events:
			alive = l.hear(s, event)
		case err := <-s.probed:
			l.took(s, err)
		case <-tick.C:
			alive = l.tick(s)
		}
		if !alive {
			return false
		}
	}
}

// tick does what time asks for. It reports whether the session is still worth
// hearing.
func (l *link) tick(s *session) bool {
	if !s.heard || len(s.events) > 0 {
		return true // nothing yet, or not yet looked at
	}
	at := now()
	if at-l.heardAt.Load() > int64(DeadAfter) {
		return false
	}
	if s.echoDue != 0 && at > s.echoDue {
		l.distrust = true
		l.echoAt.Store(never)
		return false
	}
	if at-s.pingedAt >= int64(PingEvery) && !s.pinging {
		s.ping(at)
	}
	if at-s.probedAt >= int64(EchoEvery) {
		s.probe(at)
	}
	s.askRefused(at)
	l.flush(s)
	return true
}

// lose tells all that the link is lost.
func (l *link) lose() {
	var hit []*Subscription
	l.core.linkMu.Lock()
	l.fresh, l.gone = make([]*topic, 0, len(l.topics)), nil
	for _, t := range l.topics {
		t.ordered, t.confirmed = false, false
		l.fresh = append(l.fresh, t)
		for _, sub := range t.subs {
			if sub.state == standing {
				sub.state = missing
				sub.live.Store(false)
				hit = append(hit, sub)
			}
		}
	}
	l.core.linkMu.Unlock()
	for _, sub := range hit {
		sub.lost()
	}
}

// confirm tells those who wait for t that it stands.
func (l *link) confirm(t *topic) {
	var back []*Subscription
	l.core.linkMu.Lock()
	t.confirmed = true
	for _, sub := range t.subs {
		switch sub.state {
		case waiting:
			sub.live.Store(!sub.closed.Load())
			close(sub.ready)
		case missing:
			back = append(back, sub)
		}
		sub.state = standing
	}
	l.core.linkMu.Unlock()
	for _, sub := range back {
		sub.gap()
		// Not before: who asks Live must not trust what Gap is about to take away.
		sub.live.Store(!sub.closed.Load())
	}
}

// deliver gives a message to those who hear n.
func (l *link) deliver(n name, channel, payload string) {
	l.core.linkMu.Lock()
	var subs []*Subscription
	if t := l.topics[n]; t != nil {
		subs = t.subs
	}
	l.core.linkMu.Unlock()
	for _, sub := range subs {
		sub.message(channel, payload)
	}
}
