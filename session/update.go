package session

import (
	"context"
	"math/rand/v2"
	"time"
)

// Update changes what the session holds under key to what f makes of it, at once and
// atomically: of 200 in parallel, in any number of processes, each sees what the one
// before has made. f is given nil if there is nothing, and returns nil to take the
// key away; as others may be faster, it may be called several times. It is one round
// trip, and one more for each that was faster.
//
// What f sees is what is stored, unless this request has changed the key itself and
// not saved it yet: then that. A session that is not stored yet has nobody who could
// be faster: the change is saved with the others.
//
// The error is ErrEnded if the session was ended meanwhile, ErrTooLarge if it grows
// beyond WithMaxSize, ErrNoVisit outside of middleware.Session, and of kind
// ErrUnavailable when Redis is silent: the change may then have been made or not. In
// each case what the request sees under key is as before.
//
// A typed form is [Key.Update].
func (m *Manager) Update(ctx context.Context, key string, f func(old any) any) error {
	return m.change(ctx, key, func(old any) (any, error) { return f(old), nil })
}

// change is Update with a function that may fail, which changes nothing.
func (m *Manager) change(ctx context.Context, key string, f func(old any) (any, error)) error {
	v, err := m.visiting(ctx)
	if err != nil {
		return err
	}
	v.updating.Lock() // or goroutines of one handler would only keep each other busy
	defer v.updating.Unlock()
	h := v.record.get()
	switch {
	case h.over || v.over && h.token == "":
		return ErrEnded
	case h.token == "":
		next, err := f(m.Get(ctx, key))
		if err == nil {
			m.set(ctx, key, next)
		}
		return err
	}
	return v.change(v.lasting(), key, f)
}

func (v *Visit) change(ctx context.Context, key string, f func(old any) (any, error)) error {
	m, h := v.manager, v.record.get()
	pending, own, err := v.pending(h, key)
	if err != nil {
		return err
	}
	now := h.found
	for n := range maxConflicts {
		c, err := m.contents(now.data)
		if err != nil {
			return err
		}
		old := c.values[key]
		if own { // anew each time: f may change it in place
			p, err := m.contents(pending)
			if err != nil {
				return err
			}
			old = p.values[key]
		}
		next, err := f(old)
		if err != nil {
			return err
		}
		if next == nil {
			delete(c.values, key)
		} else {
			c.values[key] = next
		}
		data, err := m.encode(c)
		if err != nil {
			return err
		}
		life := min(time.Until(c.deadline), h.idle)
		if life < time.Millisecond {
			return ErrEnded
		}
		with := v.alongside(v.record.get(), life)
		ok, other, err := m.store.swap(ctx, v.record.get().name, now.stored, value{data: data, life: life, once: true}, with...)
		if err == nil {
			err = v.unlisted(ctx, with)
		}
		if err != nil {
			return err
		}
		if ok {
			kept, err := m.contents(data) // a copy: the handler may change its own in place
			if err != nil {
				return err
			}
			v.record.update(other, key, kept.values[key])
			m.set(v, key, next)
			return nil
		}
		if now, err = v.meet(ctx, other); err != nil {
			return err
		}
		if n == 0 {
			defer m.turns.wait(h.name, m.budget)()
		} else { // another process: let it pass
			time.Sleep(rand.N(time.Duration(min(n, 20)) * time.Millisecond / 2))
		}
	}
	return errContended
}

// pending is what the visit has made of a key and not stored, encoded, if it has.
func (v *Visit) pending(h held, key string) (data []byte, own bool, err error) {
	m := v.manager
	c := contents{deadline: time.Now(), values: make(map[string]any)}
	if value := m.Get(v, key); value != nil {
		c.values[key] = value
	}
	if data, err = m.encode(c); err != nil {
		return nil, false, err
	}
	// As the codec makes it: an empty list may come out as none.
	if c, err = m.contents(data); err != nil {
		return nil, false, err
	}
	base, err := m.loaded(h)
	return data, !same(base.values[key], c.values[key]), err
}

// set puts or takes away.
func (m *Manager) set(ctx context.Context, key string, value any) {
	if value == nil {
		m.Remove(ctx, key)
		return
	}
	m.Put(ctx, key, value)
}
