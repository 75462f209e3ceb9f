package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
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

// label is what the index keeps for us with a session. With encryption it is sealed.
type label struct {
	Name   string `json:"n"`
	IP     string `json:"ip,omitempty"`
	Device string `json:"ua,omitempty"`
}

const (
	maxIP     = 64
	maxDevice = 256
)

func (m *Manager) label(v *Visit, b binding, name string) []byte {
	l := label{Name: name}
	if r := v.request; r != nil {
		l.IP, l.Device = cut(m.ipOf(r), maxIP), cut(m.deviceOf(r), maxDevice)
	}
	text, _ := json.Marshal(l) // strings only
	if m.ring == nil {
		return text
	}
	sealed, err := m.ring.seal(text, labelName(b.tag, b.id))
	if err != nil {
		return nil // no entropy: the session then has no label, which is shown as such
	}
	return sealed
}

// labelOf reads a label; one that cannot be read is empty.
func (m *Manager) labelOf(tag string, e entry) (l label) {
	text := e.blob
	if m.ring != nil && !(m.plainData && !isSealed(string(text))) {
		var err error
		if text, err = m.ring.open(text, labelName(tag, e.id)); err != nil {
			return label{}
		}
	}
	if json.Unmarshal(text, &l) != nil {
		return label{}
	}
	return l
}

func labelName(tag, id string) string { return "session-user:" + tag + ":" + id }

func (m *Manager) ipOf(r *http.Request) string {
	if m.clientIP != nil {
		return m.clientIP(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

func (m *Manager) deviceOf(r *http.Request) string {
	if m.device != nil {
		return m.device(r)
	}
	return r.UserAgent()
}

// cut is at most n bytes of s, as valid text.
func cut(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
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
