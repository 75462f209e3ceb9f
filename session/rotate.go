package session

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// rotate stores data under a new token and then leaves a mark in the old one's
// place, in this order: a failure in between loses nothing, and whoever has the old
// token gets nothing of what the new one is worth. A session that was ended
// meanwhile does not live on under the new token.
func (v *Visit) rotate(ctx context.Context, token string, data []byte, k kind, life time.Duration) error {
	m, h := v.manager, v.record.get()
	b := h.binding
	if life < time.Millisecond {
		v.record.end()
		return m.end(ctx, h.name, b)
	}
	next, nonce := token, newNonce()
	switch {
	case k == moved:
		next = derive(h.real, nonce)
	case b.bound():
		next = b.token(token)
	}
	fresh, err := m.upToDate(h, data)
	if err != nil {
		return err
	}
	f, err := m.store.create(ctx, m.name(next), fresh, life)
	if err != nil {
		return err
	}
	if b.bound() { // before the old one ends: if it fails, that one lives on
		err = m.rebind(ctx, v, b, m.name(next), life)
	}
	claimed := false
	if err == nil {
		claimed = true
		f, err = v.claim(ctx, m.name(next), f, value{mark: markOf(k, nonce), life: m.grace}, life)
	}
	// If nobody knows whether the mark is there, it may be this that it leads to.
	if err != nil && !(claimed && errors.Is(err, ErrUnavailable)) {
		m.discard(afresh(ctx), m.name(next))
	}
	if err == errMoved { // another request has renewed it beside us
		if err = nil; b.bound() {
			err = m.rebind(ctx, v, b, v.record.get().name, life)
		}
		if err == nil {
			return v.update(ctx, data, life)
		}
	}
	switch {
	case errors.Is(err, ErrEnded):
		v.record.end()
		v.warn(Lost, ErrEnded)
		return nil
	case err != nil:
		return err
	}
	v.record.hold(token, next, m.name(next), f, data)
	m.tell(v, Event{Kind: Renewed, User: h.user, ID: b.id})
	return nil
}

// afresh is a context that knows nothing of silence met before: what must be found out
// or undone is tried for a budget of its own.
func afresh(ctx context.Context) context.Context {
	return &freshly{Context: ctx}
}

type freshly struct {
	context.Context
	memory rdb.Memory
}

func (f *freshly) Value(key any) any {
	if key == rdb.MemoryKey() {
		return &f.memory
	}
	return f.Context.Value(key)
}

// errMoved says that the session has got another token, by a periodic renewal.
var errMoved = errors.New("session: renewed meanwhile")

// claim leaves a mark in the place of the session that the visit holds, and brings
// what is stored under a new name up to what that session was last.
func (v *Visit) claim(ctx context.Context, name string, f found, mark value, life time.Duration) (found, error) {
	m := v.manager
	for range maxConflicts {
		h := v.record.get()
		ok, now, err := m.store.swap(ctx, h.name, h.found.stored, mark)
		if err != nil {
			// The mark may be there, and then the new session is all there is. Ask once
			// more, for a budget of its own.
			there, err2 := m.store.find(afresh(ctx), h.name)
			_, nonce := parseMark(mark.mark)
			ok = err2 == nil && there.kind != live && there.nonce == nonce
			if ok {
				err = nil
			}
		}
		if err != nil || ok {
			return f, err
		}
		if now.kind == moved {
			if parsed, _ := parseMark(mark.mark); parsed == moved {
				_, err := v.meet(ctx, now)
				return found{}, cmp.Or(err, errMoved)
			}
		}
		if now, err = v.meet(ctx, now); err != nil {
			return found{}, err
		}
		data, err := m.mergeData(h.found.data, f.data, now.data)
		if err != nil {
			return found{}, err
		}
		ok, f, err = m.store.swap(ctx, name, f.stored, value{data: data, life: life})
		if err != nil || !ok {
			return found{}, cmp.Or(err, ErrEnded)
		}
	}
	return found{}, errContended
}

// discard ends what was stored under a name whose token nobody has got. If it
// fails, that expires, unused.
func (m *Manager) discard(ctx context.Context, name string) {
	_ = m.store.mark(ctx, []string{name}, markOf(ended, newNonce()))
}

// renew gives the session a new token, to which the old one leads for a while.
func (v *Visit) renew(ctx context.Context) error {
	v.remember(false) // the absolute deadline stays: or there would be none
	v.stamp(true)
	data, token, err := v.encode()
	if err != nil {
		return err
	}
	if err := v.rotate(ctx, token, data, moved, v.life()); err != nil {
		return err
	}
	v.reload()
	return nil
}
