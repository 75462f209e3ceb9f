package session

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/go-weir/weir/internal/rdb"
)

// Visit is one request's way to its session. It is a context: scs finds the
// session's data in it, and the data is loaded when scs first looks. A request
// that never looks costs nothing.
//
// middleware.Session makes one for each request; code that mounts sessions
// some other way calls [Manager.Visit], runs the handler by [Visit.Guard] with the
// Visit as its request's context, calls Commit right before the response's header
// leaves and Finish after the handler, unless it panicked. The handler's goroutines
// may use it concurrently; Commit and Finish may not run concurrently.
//
// When Redis is silent, scs's methods panic, as they return no error: see
// [Failure]. Where nothing would recover that, as in a goroutine that the handler
// started, they find an empty session instead, and the request is refused all the
// same.
//
//	untouched ──scs looks──▶ loaded ──Commit──▶ committed ──scs looks──▶ late ──Finish──▶ saved again
type Visit struct {
	context.Context
	manager *Manager
	request *http.Request // nil outside of HTTP
	tokens  func() []string
	began   time.Time
	memory  rdb.Memory
	record  record

	updating sync.Mutex // held by Update

	mu        sync.Mutex
	data      context.Context // scs's data, once loaded
	err       error           // why it could not be loaded
	blind     context.Context // an empty session in its place
	optional  bool            // the handler may go on with that
	over      bool            // the browser's token has a successor that it has not yet
	committed bool
	late      bool   // looked at after Commit
	keep      bool   // the token is not to be renewed, as the cookie could not be sent
	sent      string // the token the browser has, or gets with the header
	persist   bool   // whether its cookie outlives the browser

	remembered bool   // whether the visitor is, as of the last look
	cleared    string // the end of all of a user's sessions by this request

	warnings sync.Mutex
	warning  error
}

// Visit begins a request's visit. It does no I/O.
func (m *Manager) Visit(r *http.Request) *Visit {
	return &Visit{
		Context: r.Context(), manager: m, request: r, began: time.Now(),
		tokens: func() []string { return tokensOf(r, m.Cookie.Name) },
	}
}

type visitKey struct{}

// visitOf is the innermost visit in ctx, or nil.
func visitOf(ctx context.Context) *Visit {
	v, _ := ctx.Value(visitKey{}).(*Visit)
	return v
}

// visitOf is ctx's visit to this manager; there may be visits to others inside.
func (m *Manager) visitOf(ctx context.Context) *Visit {
	v := visitOf(ctx)
	for v != nil && v.manager != m {
		v = visitOf(v.Context)
	}
	return v
}

// Touched reports whether a session was looked at in ctx's request: its
// response then depends on who asks.
func Touched(ctx context.Context) bool {
	for v := visitOf(ctx); v != nil; v = visitOf(v.Context) {
		if v.Touched() {
			return true
		}
	}
	return false
}

// String and GoString keep the token out of logs that print contexts.
func (v *Visit) String() string { return "session.Visit" }

// GoString is String.
func (v *Visit) GoString() string { return "session.Visit" }

// Value answers scs's question for its data, and those of this package.
func (v *Visit) Value(key any) any {
	switch key {
	case v.manager.dataKey:
		return v.look().Value(key)
	case any(visitKey{}):
		return v
	case rdb.MemoryKey():
		if m := v.Context.Value(key); m != nil {
			return m
		}
		return &v.memory
	}
	return v.Context.Value(key)
}

// look returns the context that holds scs's data, loading it the first time. It
// panics with a failure when that is not possible: a session that cannot be read
// must not look like an empty one.
func (v *Visit) look() context.Context {
	v.mu.Lock()
	defer v.mu.Unlock()
	err := v.ready()
	switch {
	case err == nil:
		return v.data
	case !v.optional && guarded():
		panic(failure{err})
	}
	if v.blind == nil {
		v.blind, _ = v.manager.SessionManager.Load(&loading{Visit: v}, "") // without a token there is no error
	}
	return v.blind
}

// ready loads the session the first time. v.mu is held.
func (v *Visit) ready() error {
	if v.data == nil && v.err == nil {
		v.load()
	}
	if v.err != nil {
		return v.err
	}
	if v.committed && !v.late {
		v.late = true
		v.refresh()
	}
	return nil
}

// loading is the context in which scs makes a visit's data out of bytes: it finds
// none there, and so asks the gate, which hands it those.
type loading struct {
	*Visit
	data []byte
}

type loadingKey struct{}

func (l *loading) Value(key any) any {
	switch key {
	case l.manager.dataKey:
		return nil
	case any(loadingKey{}):
		return l
	}
	return l.Visit.Value(key)
}

// decode has scs make its data out of what is stored.
func (v *Visit) decode(token string, data []byte) (context.Context, error) {
	return v.manager.SessionManager.Load(&loading{Visit: v, data: data}, token)
}

// load finds the session of the request's cookie, or begins a new one that is
// not stored before something is put into it.
func (v *Visit) load() {
	for _, token := range v.tokens() {
		ok, err := v.enter(token)
		switch {
		case isCorrupt(err):
			v.record.damage(v.manager.name(token))
			// One bad record must not lock its visitor out of every page.
			v.warn(Damaged, err)
		case err != nil:
			v.err = err
			return
		case ok:
			return
		}
	}
	// Never adopted: scs makes a token of its own for what is put now.
	v.data, v.err = v.decode("", nil)
}

// enter tries to take the session of a token for the visit's.
func (v *Visit) enter(token string) (ok bool, err error) {
	// Also for a visitor who has left: the handler may go on, and have something to keep.
	m, ctx := v.manager, v.lasting()
	f, b, err := m.find(ctx, token)
	if err != nil {
		return false, err
	}
	next := token
	if f.kind == moved {
		next = derive(token, f.nonce)
		if f, b, err = m.find(ctx, next); err != nil {
			return false, err
		}
	}
	switch f.kind {
	case rotated, moved:
		v.over = true
		return false, nil
	case ended:
		return false, nil
	case absent:
		m.tell(v, Event{Kind: Expired})
		return false, nil
	}
	data, err := v.decode(next, f.data)
	if err != nil {
		return false, err
	}
	if !time.Now().Before(m.Deadline(data)) {
		// It has outlived its absolute deadline: somebody took its expiry away, or
		// the clocks of two servers differ.
		m.tell(v, Event{Kind: Expired, ID: b.id})
		return false, m.end(ctx, m.name(next), b)
	}
	v.data, v.sent = data, token
	v.record.identify(m.userOf(data, b))
	v.remembered = m.GetBool(data, rememberKey)
	v.persist = m.Cookie.Persist || v.remembered
	v.record.times(m.idleOf(v.remembered))
	v.record.hold(next, next, m.name(next), f, f.data)
	return true, nil
}

// warn tells of what went wrong without stopping the request.
func (v *Visit) warn(kind EventKind, err error) {
	v.warnings.Lock()
	v.warning = errors.Join(v.warning, err)
	v.warnings.Unlock()
	v.manager.tell(v, Event{Kind: kind, Err: err})
}

// refresh makes scs's data those just committed, as if they had been loaded now.
// scs goes on calling them modified, and Finish would write them again, over
// what other requests wrote during a long stream.
func (v *Visit) refresh() {
	if h := v.record.get(); v.manager.Status(v.data) == scs.Modified && v.manager.Token(v.data) == h.token {
		v.reload()
	}
}

// reload makes scs's data what is stored, under the token that the browser is to
// have. v.mu is held.
func (v *Visit) reload() {
	h := v.record.get()
	if h.token == "" || h.over {
		return
	}
	if data, err := v.decode(h.real, h.found.data); err == nil {
		v.data = data
		v.record.hold(h.real, h.real, h.name, h.found, h.found.data)
	}
}

// Touched reports whether the session was looked at.
func (v *Visit) Touched() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.data != nil || v.err != nil
}

// AllowAnonymous lets the handler take a visitor whose session cannot be loaded for
// one without a session, instead of leaving it by a panic. What it then puts into the
// session is refused by Commit, as the session that is there must not be replaced.
func (v *Visit) AllowAnonymous() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.optional = true
}

// AllowAnonymous is [Visit.AllowAnonymous] for all visits in ctx.
func AllowAnonymous(ctx context.Context) {
	for v := visitOf(ctx); v != nil; v = visitOf(v.Context) {
		v.AllowAnonymous()
	}
}

// Blind reports whether the session could not be loaded, and the handler has taken
// the visitor for one without: its answer is nobody else's, and not for long.
func (v *Visit) Blind() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.blind != nil || v.optional && v.err != nil
}

// Warning tells of what went wrong without stopping the request: data that did
// not decode (ErrCorrupt), an idle timeout that could not be pushed back, a change
// that was not kept as the session had ended (ErrEnded).
func (v *Visit) Warning() error {
	v.warnings.Lock()
	defer v.warnings.Unlock()
	return v.warning
}
