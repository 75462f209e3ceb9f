package session

import (
	"hash/maphash"
	"time"
)

// turns let those requests of this process that write one session at a time do so one
// after the other, once they have been in each other's way. Right it would be without:
// it saves the round trips in which all but one fail.
type turns struct {
	seed  maphash.Seed
	queue [64]chan struct{}
}

func newTurns() *turns {
	t := &turns{seed: maphash.MakeSeed()}
	for i := range t.queue {
		t.queue[i] = make(chan struct{}, 1)
	}
	return t
}

// wait waits for a session's turn, for a time at most, and returns how to give it back.
func (t *turns) wait(name string, most time.Duration) (done func()) {
	q := t.queue[maphash.String(t.seed, name)%uint64(len(t.queue))]
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case q <- struct{}{}:
		return func() { <-q }
	case <-timer.C:
		return func() {}
	}
}
