package event

import (
	"fmt"
	"sync"

	"github.com/go-weir/weir/internal/rdb"
)

// Gap says that events may have been missed, and is an error of kind ErrGap. It comes
// in the place where they are missing: after what was received before, and before what
// was received since, once. Gaps that wait in the buffer with no event between them are
// one.
type Gap struct {
	// Dropped counts the events that this subscription's buffer had no room for.
	Dropped uint64
	// Link says that the link to Redis was lost for a while. Nobody knows what was
	// published meanwhile, if anything was.
	Link bool
}

// Error tells why something may be missing.
func (g *Gap) Error() string {
	switch {
	case !g.Link:
		return fmt.Sprintf("%v: %d dropped for want of room", ErrGap, g.Dropped)
	case g.Dropped == 0:
		return fmt.Sprintf("%v: the link to Redis was lost", ErrGap)
	default:
		return fmt.Sprintf("%v: the link to Redis was lost, and %d dropped for want of room", ErrGap, g.Dropped)
	}
}

// Is makes errors.Is(g, ErrGap) true.
func (g *Gap) Is(target error) bool { return target == ErrGap }

func (g *Gap) add(other Gap) {
	g.Dropped += other.Dropped
	g.Link = g.Link || other.Link
}

// Stats is what a subscription has counted.
type Stats struct {
	Received  uint64 // events that Redis has sent
	Dropped   uint64 // of those, dropped for want of room, and told as a Gap
	Coalesced uint64 // of those, replaced by a later one of their key
	Waiting   int    // of those, in the buffer now
	Gaps      uint64 // how often the link to Redis was lost
}

// feed is a subscription's buffer between the link, which must not wait, and the
// subscriber, who may.
type feed struct {
	bus    *Bus
	size   int
	policy Overflow
	wake   chan struct{} // has an element when there is something to take

	mu       sync.Mutex
	link     *rdb.Subscription
	first    *waiting
	last     *waiting
	byKey    map[string]*waiting // those that may be replaced, under Coalesce
	missing  Gap                 // behind the last one
	held     *message            // before the first: its gap was told, it cannot be dropped
	stopped  bool                // nothing more comes in
	overflow bool                // stopped by Disconnect
	stats    Stats
}

// waiting is a message in the buffer.
type waiting struct {
	missing Gap // before it
	message message
	key     string
	next    *waiting
}

// message is what came from Redis.
type message struct{ channel, payload string }

// openFeed makes a feed of what is published on a channel, or on those that match a
// pattern.
func (b *Bus) openFeed(channel string, isPattern bool, cfg *subscribeConfig) (*feed, error) {
	f := &feed{bus: b, size: cfg.size, policy: cfg.policy, wake: make(chan struct{}, 1)}
	if f.policy == Coalesce {
		f.byKey = make(map[string]*waiting)
	}
	if !b.admit(f) {
		return nil, ErrClosed
	}
	l := rdb.Listener{Message: f.push, Gap: f.gap}
	f.mu.Lock() // push waits until link is set
	defer f.mu.Unlock()
	if isPattern {
		f.link = b.conn.SubscribePattern(channel, l)
	} else {
		f.link = b.conn.Subscribe(channel, l)
	}
	if f.stopped {
		f.link.Close() // the Bus was closed meanwhile
	}
	return f, nil
}

// push takes in a message. The link calls it, one at a time.
func (f *feed) push(channel, payload string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return
	}
	f.stats.Received++
	m := message{channel, payload}
	key := ""
	if f.policy == Coalesce {
		key = keyOf(payload)
		if w := f.byKey[key]; w != nil && key != "" {
			w.message = m
			f.stats.Coalesced++
			return
		}
	}
	if f.stats.Waiting >= f.size && !f.makeRoom() {
		return
	}
	w := &waiting{missing: f.missing, message: m, key: key}
	f.missing = Gap{}
	if f.last == nil {
		f.first = w
	} else {
		f.last.next = w
	}
	f.last = w
	f.stats.Waiting++
	if key != "" {
		f.byKey[key] = w
	}
	f.poke()
}

// makeRoom does what the policy says of a full buffer; it reports whether there is now
// room for one more.
func (f *feed) makeRoom() bool {
	f.stats.Dropped++
	switch f.policy {
	case DropNewest:
		f.miss(Gap{Dropped: 1})
		return false
	case Disconnect:
		f.overflow = true
		f.stopLocked()
		return false
	}
	old := f.remove()
	old.missing.Dropped++
	if f.first != nil {
		f.first.missing.add(old.missing)
	} else {
		f.miss(old.missing)
	}
	return true
}

// remove takes the first one out.
func (f *feed) remove() *waiting {
	w := f.first
	f.first = w.next
	if f.first == nil {
		f.last = nil
	}
	f.stats.Waiting--
	if w.key != "" && f.byKey[w.key] == w {
		delete(f.byKey, w.key)
	}
	return w
}

// miss notes a gap behind the last message.
func (f *feed) miss(g Gap) {
	f.missing.add(g)
	// What comes after the gap must not take a place before it.
	clear(f.byKey)
	f.poke()
}

// gap is told by the link that it was lost, and stands again.
func (f *feed) gap() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped {
		return
	}
	f.stats.Gaps++
	f.miss(Gap{Link: true})
}

// take gives what is next: a message, or the error in its place; ok is false if there
// is nothing yet.
func (f *feed) take() (m message, err error, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.held != nil:
		m, f.held = *f.held, nil
	case f.first != nil:
		w := f.remove()
		m = w.message
		if w.missing != (Gap{}) {
			// Were the message dropped before it is taken, there would be a second gap
			// before the next one.
			m, f.held, err = message{}, &w.message, &w.missing
		}
	case f.missing != (Gap{}):
		g := f.missing
		f.missing, err = Gap{}, &g
	case !f.stopped:
		return message{}, nil, false
	default:
		f.bus.forget(f)
		err = ErrClosed
		if f.overflow {
			err = ErrSlow
		}
	}
	// Others may be about to wait, too, and find but one element for two messages.
	if f.held != nil || f.first != nil || f.missing != (Gap{}) || f.stopped {
		f.poke()
	}
	return m, err, true
}

// stop ends what comes in; what is there can still be taken.
func (f *feed) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopLocked()
}

func (f *feed) stopLocked() {
	f.stopped = true
	if f.link != nil {
		f.link.Close()
	}
	f.poke()
}

// close ends the feed, and drops what is there.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopLocked()
	f.held, f.first, f.last, f.missing, f.overflow, f.stats.Waiting = nil, nil, nil, Gap{}, false, 0
	clear(f.byKey)
	f.bus.forget(f)
}

func (f *feed) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feed) counted() Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	stats := f.stats
	if f.held != nil {
		stats.Waiting++
	}
	return stats
}
