package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// Info is what the list of a user's sessions says of one of them.
type Info struct {
	// ID names the session to [Manager.End]. It is no secret, stays when the token is
	// renewed, and opens nothing.
	ID string
	// Created is when Login made it, and Seen when it was last looked at, up to a
	// tenth of the idle timeout before. Both are by Redis's clock.
	Created, Seen time.Time
	// IP and Device are as of then: see WithClientIP and WithDevice. They are
	// what the visitor says, to be escaped where they are shown.
	IP, Device string
	// Current says that it is the session of the request that asks.
	Current bool
}

// User is the user to whom ctx's session was bound by [Manager.Login], or "". It looks
// at the session, and does as scs's methods do when Redis is silent.
func (m *Manager) User(ctx context.Context) string {
	if v := m.looking(ctx); v != nil {
		return v.record.get().user
	}
	return ""
}

// ID is the public id of ctx's session, by which the list of a user's sessions names
// it, or "" if it is bound to none. It looks at the session, and does as scs's methods
// do when Redis is silent.
func (m *Manager) ID(ctx context.Context) string {
	if v := m.looking(ctx); v != nil {
		return v.record.get().binding.id
	}
	return ""
}

// looking looks at ctx's session as scs does. It returns nil if there is none that is
// still bound.
func (m *Manager) looking(ctx context.Context) *Visit {
	m.Status(ctx) // panics where scs's methods do
	v := m.visitOf(ctx)
	if v == nil || v.record.get().over || v.Blind() || v.Ready() != nil {
		return nil
	}
	return v
}

// Sessions lists a user's sessions, the latest first. One that has expired may be in
// it for up to a tenth of the idle timeout longer.
//
// It is a round trip for each few hundred sessions. The error is of kind
// ErrUnavailable when Redis is silent.
func (m *Manager) Sessions(ctx context.Context, user string) ([]Info, error) {
	tag := m.index.tag(user)
	entries, err := m.index.list(ctx, tag)
	if err != nil {
		return nil, m.wrap(ctx, "list", err)
	}
	own := ""
	if v := m.visitOf(ctx); v != nil && v.Touched() {
		if h := v.record.get(); h.binding.tag == tag && !h.over {
			own = h.binding.id
		}
	}
	infos := make([]Info, len(entries))
	for i, e := range entries {
		l := m.labelOf(tag, e)
		infos[i] = Info{ID: e.id, Created: e.created, Seen: e.seen, IP: l.IP, Device: l.Device, Current: e.id == own}
	}
	return infos, nil
}

// End ends one of a user's sessions, by its id, and reports whether there was such a
// one. From its return on its token opens nothing, whatever is under way. If it is
// the request's own, the browser is told to forget its cookie.
//
// The error is of kind ErrUnavailable when Redis is silent: the session may then
// have ended, or not.
func (m *Manager) End(ctx context.Context, user, id string) (ok bool, err error) {
	tag := m.index.tag(user)
	e, ok, err := m.index.remove(lastingOf(ctx, m), tag, id)
	if err != nil || !ok {
		return false, m.wrap(ctx, "end", err)
	}
	if err := m.clean(lastingOf(ctx, m), user, []entry{e}, Ended); err != nil {
		return true, err
	}
	return true, m.leave(ctx, func(own binding) bool { return own == binding{id: id, tag: tag} })
}

// EndOthers ends all sessions of the request's user but the request's own, and all
// logins that are under way. The error is ErrNoUser if the session is bound to none,
// and of kind ErrUnavailable when Redis is silent.
func (m *Manager) EndOthers(ctx context.Context) error {
	v, err := m.visiting(ctx)
	if err != nil {
		return err
	}
	b := v.record.get().binding
	if !b.bound() || v.record.get().over {
		return ErrNoUser
	}
	return m.endAll(v.lasting(), v.record.get().user, b.tag, b.id)
}

// EndAll ends all sessions of a user, and all logins that are under way: a [Manager.Login]
// in a request that began before EndAll returns ErrEnded. It takes effect at once,
// however many there are; that their data is removed from Redis, too, takes a round
// trip or two for each few hundred. If the request's own session is among them, the browser is
// told to forget its cookie.
//
// The error is of kind ErrUnavailable when Redis is silent.
func (m *Manager) EndAll(ctx context.Context, user string) error {
	tag := m.index.tag(user)
	if err := m.endAll(lastingOf(ctx, m), user, tag, ""); err != nil {
		return err
	}
	return m.leave(ctx, func(own binding) bool { return own.tag == tag })
}

func (m *Manager) endAll(ctx context.Context, user, tag, keep string) error {
	batch, some, err := m.index.removeAll(ctx, tag, keep)
	if err != nil {
		return m.wrap(ctx, "end all", err)
	}
	if v := m.visitOf(ctx); v != nil {
		v.clears(batch)
	}
	if !some {
		return nil
	}
	// They have ended; what is left is to remove their data.
	return m.wrap(ctx, "end all", m.index.drain(ctx, tag, batch, func(entries []entry) error {
		return m.clean(ctx, user, entries, Ended)
	}))
}

// clears takes note that the request itself has ended the user's sessions: the login
// that follows is not one of those that were under way.
func (v *Visit) clears(batch string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cleared = batch
}

// leave destroys the request's own session, if it is one of those that were ended.
func (m *Manager) leave(ctx context.Context, is func(binding) bool) error {
	v := m.visitOf(ctx)
	if v == nil || !v.Touched() || v.Blind() {
		return nil
	}
	if h := v.record.get(); h.over || !h.binding.bound() || !is(h.binding) {
		return nil
	}
	return m.Destroy(ctx)
}

// clean removes the data of sessions that have ended, and tells of them.
func (m *Manager) clean(ctx context.Context, user string, entries []entry, why EventKind) error {
	if len(entries) == 0 {
		return nil
	}
	tag := m.index.tag(user)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		if l := m.labelOf(tag, e); l.Name != "" {
			names = append(names, l.Name)
		}
		m.tell(ctx, Event{Kind: why, User: user, ID: e.id})
	}
	if len(names) == 0 {
		return nil
	}
	return m.store.mark(ctx, names, markOf(ended, newNonce()))
}

// rebind notes a session's new name in its user's index. The error is ErrEnded if it
// has ended meanwhile.
func (m *Manager) rebind(ctx context.Context, v *Visit, b binding, name string, life time.Duration) error {
	ok, err := m.index.renew(ctx, b.tag, b.id, m.label(v, b, name), m.spare(life, v.remembered))
	if err == nil && !ok {
		err = ErrEnded
	}
	return m.wrap(ctx, "renew", err)
}

// alongside is what the user's index must hear of when a session lives for life from
// now on, if anything. It goes along in the same round trip.
func (v *Visit) alongside(h held, life time.Duration) []*rdb.Cmd {
	if !h.binding.bound() {
		return nil
	}
	m, b := v.manager, h.binding
	var text []byte // outside of a request what is known of the device stays
	if v.request != nil {
		text = m.label(v, b, h.name)
	}
	return []*rdb.Cmd{m.index.touch(b.tag, b.id, text, life+h.idle/10+time.Second)}
}

// spare is how long the index knows a session that lives for life: it must not forget
// it first.
func (m *Manager) spare(life time.Duration, remembered bool) time.Duration {
	return life + m.idleOf(remembered)/10 + time.Second
}

// userOf is the user to whom a session is bound. What it holds under userKey counts
// only if its token says the same: a handler may have put anything there.
func (m *Manager) userOf(data context.Context, b binding) string {
	if !b.bound() {
		return ""
	}
	if id, user, ok := cutID(m.GetString(data, userKey)); ok && id == b.id && m.index.tag(user) == b.tag {
		return user
	}
	return ""
}

// bindingIn is the binding that a session says it has, where its token is not known.
func (m *Manager) bindingIn(data context.Context) binding {
	if id, user, ok := cutID(m.GetString(data, userKey)); ok {
		return binding{id: id, tag: m.index.tag(user)}
	}
	return binding{}
}

func cutID(s string) (id, user string, ok bool) {
	if len(s) <= idLen {
		return "", "", false
	}
	return s[:idLen], s[idLen:], true
}

// visiting is ctx's visit, loaded.
func (m *Manager) visiting(ctx context.Context) (*Visit, error) {
	v := m.visitOf(ctx)
	if v == nil {
		return nil, ErrNoVisit
	}
	return v, v.Ready()
}

// lastingOf is ctx, and if that is a visit's, one that outlives the request.
func lastingOf(ctx context.Context, m *Manager) context.Context {
	if m.visitOf(ctx) != nil {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// wrap gives an error of the index its words.
func (m *Manager) wrap(ctx context.Context, what string, err error) error {
	switch {
	case err == nil, err == ctx.Err(), errors.Is(err, ErrEnded):
		return err
	case errors.Is(err, errTooMany):
		return ErrTooMany
	case errors.Is(err, errBeaten):
		return ErrEnded
	case strings.HasPrefix(err.Error(), "session: "):
		return err
	}
	rdb.Remember(ctx, err)
	return fmt.Errorf("session: %s: %w", what, err)
}
