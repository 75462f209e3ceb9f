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
// some other way calls [Manager.Visit], runs the handler with the Visit as its
// request's context, calls Commit right before the response's header leaves and
// Finish after the handler, unless it panicked. The handler's goroutines may use
// it concurrently; Commit and Finish may not run concurrently.
//
// When Redis is silent, scs's methods panic, as they return no error: see
// [Failure]. A goroutine that the handler starts should not be the first to
// look, as nothing recovers its panics.
//
//	untouched ──scs looks──▶ loaded ──Commit──▶ committed ──scs looks──▶ late ──Finish──▶ saved again
type Visit struct {
	context.Context
	manager *Manager
	request *http.Request
	memory  rdb.Memory
	record  record

	mu        sync.Mutex
	data      context.Context // scs's data, once loaded
	err       error           // why it could not be loaded
	warning   error
	committed bool
	late      bool   // looked at after Commit
	sent      string // the token the browser has, or gets with the header
}

// Visit begins a request's visit. It does no I/O.
func (m *Manager) Visit(r *http.Request) *Visit {
	return &Visit{Context: r.Context(), manager: m, request: r}
}

type visitKey struct{}

// visitOf is the innermost visit in ctx, or nil.
func visitOf(ctx context.Context) *Visit {
	v, _ := ctx.Value(visitKey{}).(*Visit)
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

// String keeps the token out of logs that print contexts.
func (v *Visit) String() string { return "session.Visit" }

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
	if v.data == nil && v.err == nil {
		v.load()
	}
	if v.err != nil {
		panic(failure{v.err})
	}
	if v.committed && !v.late {
		v.late = true
		v.refresh()
	}
	return v.data
}

// loading is the context in which scs loads a visit's data. It finds none there,
// and so asks the Store, which notes in the visit what it found.
type loading struct {
	*Visit
	again []byte // unless nil, the Store's answer, without asking Redis
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

// load finds the session of the request's cookie, or begins a new one that is
// not stored before something is put into it.
func (v *Visit) load() {
	for _, token := range v.manager.tokensOf(v.request) {
		v.data, v.err = v.manager.Load(&loading{Visit: v}, token)
		switch {
		case errors.Is(v.err, ErrCorrupt):
			// One bad record must not lock its visitor out of every page.
			v.warning = errors.Join(v.warning, v.err)
		case v.err != nil:
			return
		case !v.known():
			// Never adopted: scs makes a token of its own for what is put now.
		case time.Now().Before(v.manager.Deadline(v.data)):
			v.sent = token
			return
		default:
			v.expire()
		}
		v.record.note("", 0, nil)
	}
	v.data, v.err = v.manager.Load(&loading{Visit: v}, "")
}

// known reports whether Redis knew the token looked up last.
func (v *Visit) known() bool {
	id, _, _ := v.record.get()
	return id != ""
}

// expire removes a record that has outlived its absolute deadline: somebody
// took its expiry away, or the clocks of two servers differ.
func (v *Visit) expire() {
	id, _, _ := v.record.get()
	if err := v.manager.store.DeleteCtx(v, id); err != nil {
		v.warning = errors.Join(v.warning, err)
	}
}

// refresh makes scs's data those just committed, as if they had been loaded now.
// scs goes on calling them modified, and Finish would write them again, over
// what other requests wrote during a long stream.
func (v *Visit) refresh() {
	_, _, data := v.record.get()
	m := v.manager
	if data == nil || m.Status(v.data) != scs.Modified || m.Token(v.data) != v.sent {
		return
	}
	if loaded, err := m.Load(&loading{Visit: v, again: data}, v.sent); err == nil {
		v.data = loaded
	}
}

// Touched reports whether the session was looked at.
func (v *Visit) Touched() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.data != nil || v.err != nil
}

// Commit saves what the handler changed, and returns the cookie to send, or nil
// if the browser need not be told anything. It survives the end of the request's
// context: a visitor who leaves does not undo what the handler did.
//
// The error is of kind ErrUnavailable when Redis did not confirm the write, that
// of a value gob cannot encode, or that of the session that could not be loaded,
// should the handler have gone on all the same. Neither a session that ended
// meanwhile nor an idle timeout that could not be pushed back is an error; the
// latter is a [Visit.Warning].
func (v *Visit) Commit() (*http.Cookie, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.committed, v.late = true, false
	if v.data == nil || v.err != nil {
		return nil, v.err
	}
	m, ctx := v.manager, context.WithoutCancel(v.data)
	switch m.Status(ctx) {
	case scs.Destroyed:
		v.sent = ""
		return m.cookie("", time.Time{}, false), nil
	case scs.Modified:
		token, expiry, err := m.SessionManager.Commit(ctx)
		if errors.Is(err, errEnded) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		v.sent = token
		return m.cookie(token, expiry, m.GetBool(ctx, "__rememberMe")), nil
	}
	v.touch(ctx)
	return nil, nil
}

// touch pushes the idle timeout back if that gains a tenth of it. Toward the
// absolute deadline it gains nothing any more.
func (v *Visit) touch(ctx context.Context) {
	id, left, _ := v.record.get()
	if id == "" {
		return
	}
	s := v.manager.store
	most := s.left(v.manager.Deadline(ctx))
	if left >= 0 && most-left < s.idle/10 { // below 0 it has lost its expiry
		return
	}
	if err := s.touch(ctx, id, most); err != nil {
		v.warning = errors.Join(v.warning, err)
		return
	}
	v.record.note(id, most, nil)
}

// Finish saves what was changed after Commit. The error is ErrTooLate when that
// change needs a cookie (it began a session or renewed the token), else as
// Commit's.
func (v *Visit) Finish() error {
	if late, err := v.lateness(); err != nil || !late {
		return err
	}
	_, err := v.Commit()
	return err
}

func (v *Visit) lateness() (late bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.err != nil || !v.late {
		return false, v.err
	}
	m := v.manager
	if m.Status(v.data) == scs.Modified && (v.sent == "" || m.Token(v.data) != v.sent) {
		return true, ErrTooLate
	}
	return true, nil
}

// Warning tells of what went wrong without stopping the request: data that did
// not decode (ErrCorrupt), an idle timeout that could not be pushed back.
func (v *Visit) Warning() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.warning
}
