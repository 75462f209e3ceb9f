package lock

import (
	"slices"
	"sync"
	"time"
)

// gate is where the calls of one process that wait for one lock queue up. The first
// of them, the head, is the only one that asks Redis.
type gate struct {
	lock  string
	woken chan struct{} // the lock may be free

	// Of the head alone; the next one has them from it.
	watch *watch
	// taken is until when the lock is known to be a sibling's, who was told to
	// announce its end.
	taken time.Time

	// Under gates.mu.
	busy  bool // there is a head
	queue []chan struct{}
}

// wake tells the head, now or when there is one. It is called by the link.
func (g *gate) wake() {
	select {
	case g.woken <- struct{}{}:
	default:
	}
}

// gates are those of one Locker. A lock that nobody waits for has none.
type gates struct {
	mu sync.Mutex
	m  map[string]*gate
}

// enter joins the gate of a lock. turn is closed when the caller is the head; it is
// nil if it is at once.
func (gs *gates) enter(lock string) (g *gate, turn chan struct{}) {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	g = gs.m[lock]
	if g == nil {
		g = &gate{lock: lock, woken: make(chan struct{}, 1)}
		if gs.m == nil {
			gs.m = make(map[string]*gate)
		}
		gs.m[lock] = g
	}
	if !g.busy {
		g.busy = true
		return g, nil
	}
	turn = make(chan struct{})
	g.queue = append(g.queue, turn)
	return g, turn
}

// leave is called by the head when it is done: the next one in the queue is the head.
func (gs *gates) leave(g *gate) {
	gs.mu.Lock()
	if len(g.queue) > 0 {
		close(g.queue[0])
		g.queue = slices.Delete(g.queue, 0, 1)
		gs.mu.Unlock()
		return
	}
	delete(gs.m, g.lock)
	gs.mu.Unlock()
	if g.watch != nil {
		g.watch.close()
	}
}

// abandon is called by who no longer waits for its turn.
func (gs *gates) abandon(g *gate, turn chan struct{}) {
	gs.mu.Lock()
	if i := slices.Index(g.queue, turn); i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
		gs.mu.Unlock()
		return
	}
	gs.mu.Unlock()
	gs.leave(g) // it had just become the head
}

// others says whether somebody waits behind the head.
func (gs *gates) others(g *gate) waiting {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	if len(g.queue) > 0 {
		return others
	}
	return caller
}
