package session

import (
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Manager is an scs.SessionManager whose sessions live in Redis. Its Get, Put,
// RenewToken, Destroy and so on are scs's own, on the request's context, and
// handlers written for scs run unchanged. Iterate is not there yet: it panics.
//
// Mount it with middleware.Session, which takes the place of LoadAndSave; that
// one is still scs's own, with all that the package's Guarantees rule out. The
// embedded manager's fields are set by New: changing them afterwards is a data
// race, and setting its IdleTimeout makes each look at a session a write.
//
// When Redis is silent, a look at a session that cannot be loaded leaves the
// handler by a panic, which middleware.Session answers with 503. A goroutine that
// the handler started must not be the first to look: its panic would end the
// process.
//
// It is safe for concurrent use, starts no goroutine and needs no Close.
type Manager struct {
	*scs.SessionManager
	store *Store
	// dataKey is the context key under which scs looks for its data; its type
	// is unexported in scs.
	dataKey any
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
// [WithPrefix] each: a token of one is otherwise good for the other.
//
// Its errors are of kind ErrConfig, all mistakes joined.
func New(client redis.UniversalClient, options ...Option) (*Manager, error) {
	cfg, mistakes := configure(options)
	conn, err := rdb.Open(client, cfg.budget)
	if err := rdb.Misconfigured("session.New", append(mistakes, err)...); err != nil {
		return nil, err
	}
	m := &Manager{SessionManager: newManager(), store: &Store{conn: conn, prefix: cfg.prefix, idle: cfg.idle}}
	m.SessionManager.Store = m.store
	m.Codec = codec{}
	m.Lifetime = cfg.lifetime
	m.HashTokenInStore = true
	m.Cookie = scs.SessionCookie{
		Name:     cfg.name,
		Path:     "/",
		HttpOnly: true,
		Secure:   !cfg.insecure,
		SameSite: cfg.sameSite,
	}
	m.dataKey = dataKeyOf(m.SessionManager)
	return m, nil
}
