package session

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/go-weir/weir/internal/rdb"
)

// Commit saves what the handler changed, and returns the cookie to send, or nil
// if the browser need not be told anything. It survives the end of the request's
// context: a visitor who leaves does not undo what the handler did.
//
// A change is written only if the session is as it was loaded; if another request
// has changed it meanwhile, the changes of both are kept, key by key, and those of
// one key from the later Commit.
//
// With an error there may be a cookie, too: the handler's Login took effect, and what
// failed was a change after it. The old token is nobody's any more.
//
// The error is of kind ErrUnavailable when Redis did not confirm the write,
// ErrTooLarge, that of a value that the codec cannot encode, or that of the session
// that could not be loaded, should the handler have gone on all the same. Neither a
// session that ended meanwhile nor an idle timeout that could not be pushed back is
// an error: they are a [Visit.Warning].
func (v *Visit) Commit() (*http.Cookie, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.committed, v.late = true, false
	m := v.manager
	switch {
	case v.err != nil && v.optional && (v.blind == nil || m.Status(v.blind) == scs.Unmodified):
		return nil, nil
	case v.err != nil:
		return nil, v.err
	case v.data == nil:
		return nil, nil
	}
	err := v.save()
	if err != nil && m.Status(v.data) == scs.Destroyed {
		return nil, err
	}
	return v.cookie(), err
}

// cookie is what the browser must be told, if anything. v.mu is held.
func (v *Visit) cookie() *http.Cookie {
	m, h := v.manager, v.record.get()
	switch {
	case m.Status(v.data) == scs.Destroyed:
		v.sent = ""
		return m.cookieOf("", time.Time{}, false)
	case h.token == "" || h.over:
		return nil
	}
	persist := m.Cookie.Persist || m.GetBool(v.data, rememberKey)
	if h.real == v.sent && persist == v.persist {
		return nil
	}
	v.sent, v.persist = h.real, persist
	return m.cookieOf(h.real, m.Deadline(v.data), persist)
}

// save brings what is stored up to what the handler left. v.mu is held.
func (v *Visit) save() error {
	m, ctx, h := v.manager, v.lasting(), v.record.get()
	status, token := m.Status(v.data), m.Token(v.data)
	known := h.token != ""
	switch {
	case status == scs.Destroyed:
		return nil
	case h.over && (status == scs.Modified || token != h.token),
		v.over && token == "" && status == scs.Modified:
		// Of an ended session nothing is kept; nor does its token begin another one
		// beside the login that may have ended it. RenewToken says that it is meant.
		v.warn(Lost, ErrEnded)
		return nil
	case known && token == h.token && !v.keep && v.due():
		err := v.renew(ctx)
		if err != nil && status == scs.Unmodified && v.record.get().real == h.real {
			v.warn(Unsaved, err) // a look must not fail for it; the next one tries again
			v.reload()
			err = nil
		}
		return err
	case status == scs.Unmodified:
		v.touch(ctx, v.life())
		return nil
	case !known && token == "" && len(m.Keys(v.data)) == 0:
		return nil // what was put was taken away again
	}
	v.remember(!known || token != h.token)
	v.stamp(!known || token != h.token)
	data, token, err := v.encode()
	switch {
	case err != nil:
		return err
	case known && token == h.token:
		err = v.update(ctx, data, v.life())
	case known:
		err = v.rotate(ctx, token, data, rotated, v.life())
	default:
		err = v.begin(ctx, token, data, v.life())
	}
	if h := v.record.get(); err == nil && h.token != h.real {
		v.reload()
	}
	return err
}

// lasting is the visit as a context that outlives the request's.
func (v *Visit) lasting() context.Context { return context.WithoutCancel(v) }

// The keys that Weir keeps in a session's values beside the handler's, and the one
// that scs does.
const (
	rememberKey = "__rememberMe"
	userKey     = "__weir.user" // id and name of the user it is bound to; see userOf
	bornKey     = "__weir.born" // Unix time of the token, under WithRenewal
)

// remember sets what depends on whether the visitor is to be remembered. isNew says
// that the absolute timeout begins anew. v.mu is held.
func (v *Visit) remember(isNew bool) {
	m := v.manager
	remembered := m.GetBool(v.data, rememberKey)
	if r := m.remembered; r != nil && (remembered != v.remembered || remembered && isNew) {
		lifetime := m.Lifetime
		if remembered {
			lifetime = r.lifetime
		}
		m.SetDeadline(v.data, time.Now().Add(lifetime).UTC())
	}
	v.remembered = remembered
	v.record.times(m.idleOf(remembered))
}

// stamp has the session say to whom it is bound, whatever Clear or MergeSession have
// made of that, and when its token was made.
func (v *Visit) stamp(isNew bool) {
	m, h := v.manager, v.record.get()
	b, said := h.binding, m.GetString(v.data, userKey)
	switch {
	case b.bound() && h.user != "" && said != b.id+h.user:
		m.Put(v.data, userKey, b.id+h.user)
	case !b.bound() && said != "":
		m.Remove(v.data, userKey)
	}
	if m.renewal > 0 && isNew {
		m.Put(v.data, bornKey, time.Now().Unix())
	}
}

// idleOf is the idle timeout of a session.
func (m *Manager) idleOf(remembered bool) time.Duration {
	if remembered && m.remembered != nil {
		return m.remembered.idle
	}
	return m.idle
}

// life is how long a session lives that is used now.
func (v *Visit) life() time.Duration {
	return min(time.Until(v.manager.Deadline(v.data)), v.record.get().idle)
}

// due reports whether the token is as old as WithRenewal allows.
func (v *Visit) due() bool {
	m := v.manager
	if m.renewal == 0 {
		return false
	}
	born := m.GetInt64(v.data, bornKey)
	return time.Since(time.Unix(born, 0)) >= m.renewal
}

// capturing is the context in which scs encodes a visit's data without storing it.
type capturing struct {
	context.Context
	data []byte
}

type capturingKey struct{}

func (c *capturing) Value(key any) any {
	if key == any(capturingKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// encode has scs encode its data, and make a token if there is none.
func (v *Visit) encode() (data []byte, token string, err error) {
	c := &capturing{Context: v.data}
	if token, _, err = v.manager.SessionManager.Commit(c); err != nil {
		return nil, "", err
	}
	return c.data, token, v.manager.fits(c.data)
}

func (m *Manager) fits(data []byte) error {
	if len(data) > m.maxSize {
		return fmt.Errorf("%w: %d bytes, and WithMaxSize allows %d", ErrTooLarge, len(data), m.maxSize)
	}
	return nil
}

// begin stores a session for the first time.
func (v *Visit) begin(ctx context.Context, token string, data []byte, life time.Duration) error {
	m := v.manager
	if life < time.Millisecond {
		return nil // SetDeadline has ended it before it began
	}
	f, err := m.store.create(ctx, m.name(token), data, life)
	if err != nil {
		return err
	}
	v.record.hold(token, token, m.name(token), f, data)
	m.tell(v, Event{Kind: Created})
	return nil
}

// update writes a changed session over what was loaded.
func (v *Visit) update(ctx context.Context, data []byte, life time.Duration) error {
	m, h := v.manager, v.record.get()
	unchanged, next, err := m.rebase(h, data)
	if err != nil {
		return err
	}
	if unchanged {
		v.touch(ctx, life)
		return nil
	}
	if life < time.Millisecond { // SetDeadline has ended it
		v.record.end()
		return m.end(ctx, h.name, h.binding)
	}
	f, err := v.swap(ctx, next, life)
	switch {
	case errors.Is(err, ErrEnded):
		v.warn(Lost, err)
		return nil
	case err != nil:
		return err
	}
	v.record.stored(f, data)
	return nil
}

// maxConflicts is how often a write is tried: each time that it fails another one
// has succeeded.
const maxConflicts = 1000

var errContended = fmt.Errorf("session: commit: %w: %d others were faster", ErrUnavailable, maxConflicts)

// swap writes data, made of what was found, over that. What others have changed
// meanwhile is merged in. The error is ErrEnded if there is no session any more.
func (v *Visit) swap(ctx context.Context, data []byte, life time.Duration) (found, error) {
	m := v.manager
	with := v.alongside(v.record.get(), life)
	for n := range maxConflicts {
		h := v.record.get()
		ok, now, err := m.store.swap(ctx, h.name, h.found.stored, value{data: data, life: life}, with...)
		if err == nil {
			err = v.unlisted(ctx, with)
		}
		if err != nil || ok {
			return now, err
		}
		if now, err = v.meet(ctx, now); err != nil {
			return found{}, err
		}
		if data, err = m.mergeData(h.found.data, data, now.data); err != nil {
			return found{}, err
		}
		with = nil
		if n == 0 {
			defer m.turns.wait(h.name, m.budget)()
		}
	}
	return found{}, errContended
}

// unlisted is ErrEnded if the user's index, which was told along with a write, does not
// know the session any more: the write was one into a session that has ended.
func (v *Visit) unlisted(ctx context.Context, with []*rdb.Cmd) error {
	if len(with) == 0 || with[0].Int() == 1 {
		return nil
	}
	v.record.end()
	v.manager.discard(ctx, v.record.get().name)
	return ErrEnded
}

// meet takes note of what stands where a write expected something else, and follows
// it if the session has moved. The error is ErrEnded if there is no session any more.
func (v *Visit) meet(ctx context.Context, now found) (found, error) {
	m, h := v.manager, v.record.get()
	for now.kind == moved && isToken(h.real) {
		next := derive(h.real, now.nonce)
		var err error
		if now, _, err = m.find(ctx, next); err != nil {
			return found{}, err
		}
		h.real, h.name = next, m.name(next)
	}
	if now.kind != live {
		v.record.end()
		return found{}, ErrEnded
	}
	v.record.follow(h.real, h.name, now)
	return now, nil
}

// touch pushes the idle timeout back if that gains a tenth of it. Toward the
// absolute deadline it gains nothing any more.
func (v *Visit) touch(ctx context.Context, most time.Duration) {
	h := v.record.get()
	if h.name == "" || h.over || !h.tenth(most) {
		return
	}
	m := v.manager
	if err := m.store.touch(ctx, h.name, h.found, most, v.alongside(h, most)...); err != nil {
		v.warn(Unsaved, err)
		return
	}
	v.record.touched(most)
}

// tenth reports whether a life of most is by a tenth of the idle timeout longer
// than what is left.
func (h held) tenth(most time.Duration) bool {
	return h.found.left < 0 || most-h.found.left >= h.idle/10 // below 0 it has lost its expiry
}
