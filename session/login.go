package session

import (
	"context"
	"errors"
	"time"
)

// Login binds the request's session to a user, under a new token (OWASP: renew the
// session id after any privilege level change). What the session holds stays, unless
// [Manager.Clear] is called before; its absolute timeout begins anew. The user's
// sessions can then be listed and ended: see [Manager.Sessions]. user is whatever
// names a user for good, such as an account's number; Redis holds it in the session's
// data only, and a digest elsewhere.
//
// It takes effect at once, in three or four round trips. The old token is nobody's
// from then on: for a grace period (30 s) requests that still bring it are anonymous,
// keep nothing and get no cookie.
//
// The error is ErrTooMany if [WithMaxSessions] has it refused; ErrEnded if the
// session was ended, or all of the user's sessions were by EndAll or EndOthers, since
// the request began; ErrTooLate once the response's header has left; ErrUnavailable
// when Redis is silent. The visitor then is who they were before.
func (m *Manager) Login(ctx context.Context, user string) error {
	v, err := m.visiting(ctx)
	if err != nil {
		return err
	}
	if user == "" {
		return errors.New("session: login: the user is empty: give what names the account")
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.committed:
		return ErrTooLate
	case v.record.get().over:
		return ErrEnded
	}
	return v.login(v.lasting(), user)
}

// login is Login, while v.mu is held.
func (v *Visit) login(ctx context.Context, user string) error {
	m, old := v.manager, v.record.get()
	b := binding{id: newID(), tag: m.index.tag(user)}
	again := old.binding.tag == b.tag
	if again { // the same session in the user's list, and not one more
		b.id = old.binding.id
	}
	token := b.token(newSecret())
	name := m.name(token)

	remembered, lifetime := m.GetBool(v.data, rememberKey), m.Lifetime
	if remembered && m.remembered != nil {
		lifetime = m.remembered.lifetime
	}
	life := min(lifetime, m.idleOf(remembered))
	c := v.contents()
	c.deadline = time.Now().Add(lifetime).UTC()
	c.values[userKey] = b.id + user
	if m.renewal > 0 {
		c.values[bornKey] = time.Now().Unix()
	}
	data, err := m.encode(c)
	if err != nil {
		return err
	}
	data, err = m.upToDate(old, data)
	if err != nil {
		return err
	}
	f, err := m.store.create(ctx, name, data, life)
	if err != nil {
		return err
	}
	// From here to the end whoever fails leaves a session of which nobody has the token.
	evicted, err := v.enlist(ctx, b, m.label(v, b, name), m.spare(life, remembered), again)
	if err != nil {
		if errors.Is(err, ErrUnavailable) && !again { // it may be there, and in the way of the next login
			_, _, _ = m.index.remove(afresh(ctx), b.tag, b.id)
		}
		m.discard(afresh(ctx), name)
		return m.wrap(ctx, "login", err)
	}
	if old.token != "" {
		if f, err = v.claim(ctx, name, f, value{mark: markOf(rotated, newNonce()), life: m.grace}, life); err == nil && !again {
			err = m.unbind(ctx, old.binding)
		}
		if err != nil {
			if !again {
				_, _, _ = m.index.remove(afresh(ctx), b.tag, b.id)
			}
			m.discard(afresh(ctx), name)
			return err
		}
	}
	v.record.hold(token, token, name, f, data)
	v.record.times(m.idleOf(remembered))
	v.record.identify(user)
	v.remembered = remembered
	v.reload()
	m.tell(v, Event{Kind: LoggedIn, User: user, ID: b.id})
	if err := m.clean(ctx, user, evicted, Evicted); err != nil {
		v.warn(Unsaved, err) // they have ended; their data expires
	}
	return nil
}

// unbind takes a session whose token was exchanged out of its user's index. The error
// is ErrEnded if it was not there any more: what it held must not live on.
func (m *Manager) unbind(ctx context.Context, b binding) error {
	if !b.bound() {
		return nil
	}
	_, ok, err := m.index.remove(ctx, b.tag, b.id)
	if err == nil && !ok {
		err = ErrEnded
	}
	return m.wrap(ctx, "login", err)
}

// enlist adds a login's session to its user's index. It is refused if all of the user's
// sessions were ended since the request began, and that was not this request's doing.
func (v *Visit) enlist(ctx context.Context, b binding, label []byte, life time.Duration, again bool) (evicted []entry, err error) {
	x, sent := v.manager.index, time.Now()
	if again { // it is there, or has ended meanwhile
		ok, err := x.renew(ctx, b.tag, b.id, label, life)
		if err == nil && !ok {
			err = ErrEnded
		}
		return nil, err
	}
	evicted, lead, err := x.add(ctx, b.tag, b.id, label, life, sent.Sub(v.began), v.cleared)
	// The reply was on its way while time went by that Redis takes for the login's. The
	// quicker it comes the less that is: a second and third look may settle it.
	for try := 0; err == nil && lead >= 0 && lead <= time.Since(sent); try++ {
		sent = time.Now()
		age := sent.Sub(v.began)
		if lead, err = x.since(ctx, b.tag); err != nil || lead < 0 {
			break
		}
		if lead -= age; lead <= 0 || try == 3 {
			_, _, _ = x.remove(ctx, b.tag, b.id)
			return nil, errBeaten
		}
	}
	return evicted, err
}

// contents is what the session holds now.
func (v *Visit) contents() contents {
	m := v.manager
	c := contents{deadline: m.Deadline(v.data), values: make(map[string]any)}
	for _, key := range m.Keys(v.data) {
		if value := m.Get(v.data, key); value != nil {
			c.values[key] = value
		}
	}
	return c
}
