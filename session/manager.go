package session

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Manager is an scs.SessionManager whose sessions live in Redis. Its Get, Put,
// RenewToken, Destroy and so on are scs's own, on the request's context, and
// handlers written for scs run unchanged, be they given the Manager or its
// SessionManager. The latter's Commit, Load and Iterate are scs's own, which know
// nothing of users, renewal or the grace period: whoever calls them by hand takes the
// Manager's.
//
// Mount it with middleware.Session, which takes the place of LoadAndSave: that
// one panics when it is mounted. The embedded manager's fields are set by New:
// changing them afterwards is a data race, and setting its IdleTimeout makes each
// look at a session a write.
//
// When Redis is silent, a look at a session that cannot be loaded leaves the
// handler by a panic, which middleware.Session answers with 503. In a goroutine that
// the handler started it finds an empty session instead, and the request is answered
// 503 all the same, or cut off. The methods that return an error return
// ErrUnavailable.
//
// It is safe for concurrent use, starts no goroutine and needs no Close.
type Manager struct {
	*scs.SessionManager
	conn  *rdb.Conn
	store backend
	index *index
	ring  *ring
	turns *turns
	// dataKey is the context key under which scs looks for its data; its type
	// is unexported in scs.
	dataKey any

	idle        time.Duration
	remembered  *remembered
	renewal     time.Duration
	grace       time.Duration
	budget      time.Duration
	maxSize     int
	plainTokens bool
	plainData   bool
	clientIP    func(*http.Request) string
	device      func(*http.Request) string
	observer    func(context.Context, Event)
}

// New returns a Manager that keeps its sessions in the client's Redis. It does
// no I/O: it works while Redis is down.
//
// Without options a session ends after 30 min unused and after 24 h at the
// latest; its cookie is named __Host-session, is Secure, HttpOnly, SameSite=Lax
// with Path=/ and no Domain, and goes when the browser closes unless RememberMe
// was called; its token has 256 random bits, of which Redis holds the SHA-256.
//
// Several managers on one Redis, such as one for users and one for staff, need a
// [WithName] each: a token of one is otherwise good for the other.
//
// Its errors are of kind ErrConfig, all mistakes joined.
func New(client redis.UniversalClient, options ...Option) (*Manager, error) {
	cfg, mistakes := configure(options)
	conn, err := rdb.Open(client, cfg.budget)
	if err := rdb.Misconfigured("session.New", append(mistakes, err)...); err != nil {
		return nil, err
	}
	m := &Manager{
		SessionManager: newManager(),
		conn:           conn,
		store:          newStore(conn, cfg),
		ring:           cfg.ring,
		turns:          newTurns(),
		index:          &index{conn: conn, prefix: cfg.prefix, refuse: cfg.full == RefuseNew},
		idle:           *cfg.idle,
		remembered:     cfg.remember,
		grace:          graceOf(cfg.budget),
		budget:         cfg.budget,
		maxSize:        cfg.maxSize,
		plainTokens:    cfg.plainTokens,
		plainData:      cfg.plainData,
		clientIP:       cfg.clientIP,
		device:         cfg.device,
		observer:       cfg.observer,
	}
	if cfg.store != nil {
		m.store = &foreign{store: cfg.store, conn: conn, grace: m.grace}
	}
	if cfg.limit != nil {
		m.index.limit = *cfg.limit
	}
	if cfg.renewal != nil {
		m.renewal = *cfg.renewal
	}
	m.Store = &gate{m}
	m.Codec = gobCodec{}
	if cfg.codec != nil {
		m.Codec = strict{cfg.codec}
	}
	m.Lifetime = cfg.lifetime
	m.Cookie = scs.SessionCookie{
		Name:        cfg.cookie.name,
		Domain:      cfg.cookie.domain,
		Path:        cfg.cookie.path,
		HttpOnly:    true,
		Secure:      !cfg.cookie.insecure,
		SameSite:    cfg.cookie.sameSite,
		Partitioned: cfg.cookie.partitioned,
	}
	m.dataKey = dataKeyOf(m.SessionManager)
	return m, nil
}

// LoadAndSave panics: mount middleware.Session instead, which needs no more than
// that in its place. scs's own would bring ended sessions back, and cost each request
// a round trip.
func (m *Manager) LoadAndSave(http.Handler) http.Handler {
	panic("session: LoadAndSave is scs's: mount middleware.Session(manager) in its place")
}

// Load returns a context with the session of a token, for work outside of a request,
// such as a job that was handed it. Within a request that middleware.Session has
// seen, it returns ctx. An unknown token is an empty session with a token of its
// own, once it is committed.
//
// The errors are those of a look at a session: ErrUnavailable, or ctx's own.
func (m *Manager) Load(ctx context.Context, token string) (context.Context, error) {
	v := m.visitOf(ctx)
	if v != nil {
		return ctx, v.Ready()
	}
	// Nobody would tell the browser of a new token.
	v = &Visit{Context: ctx, manager: m, began: time.Now(), keep: true, tokens: func() []string {
		if isToken(token) {
			return []string{token}
		}
		return nil
	}}
	return v, v.Ready()
}

// Commit saves what was changed in ctx's session now, and returns its token and
// when it ends at the latest. middleware.Session does that at the end of a request.
// The errors are those of [Visit.Commit] and [Visit.Finish], and ErrEnded if the session
// was ended meanwhile.
func (m *Manager) Commit(ctx context.Context) (token string, deadline time.Time, err error) {
	v := m.visitOf(ctx)
	if v == nil {
		return m.SessionManager.Commit(ctx)
	}
	if err := v.Ready(); err != nil {
		return "", time.Time{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.committed && v.needsCookie() {
		return "", time.Time{}, ErrTooLate
	}
	v.keep = v.keep || v.committed
	if err := v.save(); err != nil {
		return "", time.Time{}, err
	}
	h := v.record.get()
	if h.over || v.over && h.token == "" {
		return "", time.Time{}, ErrEnded
	}
	return h.real, m.Deadline(v.data), nil
}

// Alive asks Redis whether ctx's session still lives, in one round trip. A stream that
// outlasts its request's look, such as a WebSocket, asks now and then, and ends when the
// visitor has logged out elsewhere. It pushes no timeout back. A session that was never
// stored is not alive. Under [WithRenewal] it follows the session to its new token: one
// that is bound to no user must be asked about more often than every 30 s for that.
//
// The error is of kind ErrUnavailable when Redis is silent, and ErrNoVisit outside of
// middleware.Session.
func (m *Manager) Alive(ctx context.Context) (bool, error) {
	v, err := m.visiting(ctx)
	if err != nil {
		return false, err
	}
	h := v.record.get()
	if h.token == "" || h.over {
		return false, nil
	}
	f, b, err := m.find(ctx, h.real)
	for err == nil && f.kind == moved && isToken(h.real) {
		h.real = derive(h.real, f.nonce)
		if f, _, err = m.find(ctx, h.real); err == nil && f.kind == live {
			v.record.follow(h.real, m.name(h.real), f)
		}
	}
	if err == nil && f.kind == absent && b.bound() && m.renewal > 0 {
		// The mark that led to its new token may be gone.
		alive := m.index.alive(b.tag, b.id)
		if err = m.conn.Exec(ctx, alive); err == nil {
			return m.index.present(alive), nil
		}
	}
	return f.kind == live, m.wrap(ctx, "find", err)
}

// Ready loads the session, and returns why it could not be.
func (v *Visit) Ready() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.ready()
}

// Iterate calls f with each session that there is, in no order, as a context for
// the manager's methods: f may read the session, change it and Commit, or Destroy
// it. It stops at f's first error and returns it. Sessions that do not decode are left
// out, as are those that begin or end meanwhile, perhaps.
//
// It walks Redis with SCAN, a hundred sessions at a time, each step within the budget;
// the error is of kind ErrUnavailable when Redis falls silent. A store given by
// [WithStore] must have All.
func (m *Manager) Iterate(ctx context.Context, f func(context.Context) error) error {
	return m.store.all(ctx, func(names []string, data [][]byte) error {
		visits, err := m.revive(ctx, names, data)
		if err != nil {
			return err
		}
		for _, v := range visits {
			if err := f(v); err != nil {
				return err
			}
		}
		return nil
	})
}

// revive makes visits of stored sessions, but of those that their user has ended.
func (m *Manager) revive(ctx context.Context, names []string, data [][]byte) (visits []*Visit, err error) {
	var asked []*rdb.Cmd
	for i, name := range names {
		v := &Visit{Context: ctx, manager: m, began: time.Now(), keep: true}
		token := "~" + name // its own is not known, and nobody needs it here
		if v.data, err = v.decode(token, data[i]); err != nil {
			continue
		}
		b := m.bindingIn(v.data)
		v.record.identify(m.userOf(v.data, b))
		v.record.times(m.idleOf(m.GetBool(v.data, rememberKey)))
		v.record.hold(token, token, name, found{kind: live, data: data[i], stored: string(data[i]), left: v.life()}, data[i])
		if b.bound() {
			v.record.bind(b)
			asked = append(asked, m.index.alive(b.tag, b.id))
		}
		visits = append(visits, v)
	}
	if err := m.conn.Exec(ctx, asked...); err != nil && !isCorrupt(err) {
		return nil, m.wrap(ctx, "iterate", err)
	}
	for _, cmd := range asked {
		if err := cmd.Err(); err != nil && !isCorrupt(err) {
			return nil, m.wrap(ctx, "iterate", err)
		}
	}
	return slices.DeleteFunc(visits, func(v *Visit) bool {
		if !v.record.get().binding.bound() {
			return false
		}
		alive := asked[0]
		asked = asked[1:]
		return alive.Err() != nil || !m.index.present(alive)
	}), nil
}

// name is what the backend knows a token by.
func (m *Manager) name(token string) string {
	if m.plainTokens {
		return token
	}
	return digest(token)
}

// find looks a token up. A session that is bound to a user has ended when it is not
// in that user's index any more; both are asked in one round trip.
func (m *Manager) find(ctx context.Context, token string) (found, binding, error) {
	b := bindingOf(token)
	if !b.bound() {
		f, err := m.store.find(ctx, m.name(token))
		return f, b, err
	}
	alive := m.index.alive(b.tag, b.id)
	f, err := m.store.find(ctx, m.name(token), alive)
	if err == nil && f.kind == live && !m.index.present(alive) {
		f = found{kind: ended}
	}
	return f, b, err
}

// Foresee has the next call to Redis under r's context look for the session of r's
// cookie along the way, where middleware.OneTrip is outside; else it does nothing, as
// with a store given by [WithStore]. The visit has what was read for 50 ms, and reads it
// itself after that, or when Redis was silent. It does no I/O.
func (m *Manager) Foresee(r *http.Request) {
	store, ok := m.store.(*Store)
	if !ok || !rdb.Foresees(r.Context()) {
		return
	}
	tokens := tokensOf(r, m.Cookie.Name)
	if len(tokens) == 0 {
		return
	}
	get, ttl := store.look(m.name(tokens[0]))
	if b := bindingOf(tokens[0]); b.bound() {
		m.conn.Foresee(r.Context(), get, ttl, m.index.alive(b.tag, b.id))
	} else {
		m.conn.Foresee(r.Context(), get, ttl)
	}
}

// end ends a session for everybody, whatever is under way.
func (m *Manager) end(ctx context.Context, name string, b binding) error {
	if err := m.store.mark(ctx, []string{name}, markOf(ended, newNonce())); err != nil {
		return err
	}
	if !b.bound() {
		return nil
	}
	_, _, err := m.index.remove(ctx, b.tag, b.id)
	return m.wrap(ctx, "end", err)
}
