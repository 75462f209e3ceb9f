package session

import (
	"sync"
	"time"
)

// record is what a visit knows of its session's record in Redis. The Store
// notes it, on any goroutine of the handler: one may call scs's Commit itself.
type record struct {
	mu   sync.Mutex
	id   string        // the token's digest; "" while nothing was found or stored
	left time.Duration // until it expires, as of then; negative if it never does
	data []byte        // as last stored by this visit; nil if only found
}

// is reports whether the visit has found or stored a record under id.
func (r *record) is(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id != "" && r.id == id
}

func (r *record) note(id string, left time.Duration, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id, r.left, r.data = id, left, data
}

func (r *record) get() (id string, left time.Duration, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id, r.left, r.data
}
