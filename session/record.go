package session

import (
	"bytes"
	"maps"
	"slices"
	"sync"
	"time"
)

// record is what a visit knows of its session as it is stored. Several of the
// handler's goroutines may come here at a time: one may call scs's Commit itself.
type record struct {
	mu sync.Mutex
	held
	damaged []string // names under which is what does not decode
}

// held is what a record holds.
type held struct {
	token   string  // as scs has it; "" while nothing was found or stored
	real    string  // as the browser is to have it: another one, if it was renewed beside us
	name    string  // of real, in the backend
	binding binding // of real
	user    string  // of the binding
	found   found   // as it was when we last heard of it
	over    bool    // ended meanwhile, by somebody else
	// base is what scs's values were made of, or made into, and updated what Update
	// has stored since under some keys (nil: taken away): what differs from them is
	// what the visit has changed itself.
	base    []byte
	shown   string // base as it was found or stored; "" if it never was
	updated map[string]any
	idle    time.Duration // the idle timeout that holds for it
}

// behind reports whether more is stored than scs's values show.
func (h held) behind() bool { return h.shown != h.found.stored }

func (r *record) get() held {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.held
	h.updated = maps.Clone(h.updated)
	return h
}

// hold takes note of what was found, or stored under a token of our own; scs calls it
// token.
func (r *record) hold(token, real, name string, f found, base []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held{token: token, real: real, name: name, binding: bindingOf(real), user: r.user, idle: r.idle}
	r.set(f, base)
}

// identify takes note of the user to whom the session is bound.
func (r *record) identify(user string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.user = user
}

// bind takes note of a binding that the token does not tell.
func (r *record) bind(b binding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.binding = b
}

// stored takes note of what was stored now under the same name.
func (r *record) stored(f found, base []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set(f, base)
}

func (r *record) set(f found, base []byte) {
	r.found, r.base, r.shown, r.updated = f, base, "", nil
	if bytes.Equal(f.data, base) {
		r.shown = f.stored
	}
}

// follow takes note of what others have stored, be it under another name.
func (r *record) follow(real, name string, f found) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.real, r.name, r.found = real, name, f
}

// touched takes note of how long the session lives now.
func (r *record) touched(left time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found.left = left
}

// times takes note of the idle timeout that holds.
func (r *record) times(idle time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = idle
}

// update takes note of what Update has stored, and under which key.
func (r *record) update(f found, key string, v any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.updated == nil {
		r.updated = make(map[string]any)
	}
	r.updated[key] = v
	r.found = f
}

// damage takes note of a name under which is what does not decode.
func (r *record) damage(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.damaged = append(r.damaged, name)
}

// unfit are the names of what does not decode.
func (r *record) unfit() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.damaged)
}

// end takes note that somebody has ended the session.
func (r *record) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// release takes note that the visit itself has ended it: another one may follow.
func (r *record) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held{idle: r.idle}
}
