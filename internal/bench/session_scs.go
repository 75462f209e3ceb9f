package bench

import (
	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"
)

// scsIdle is scs with an idle timeout, which makes each request that carries a
// session's cookie write the whole session, whether it looked at it or not.
var scsIdle = keeping{
	name: "scs + goredisstore, idle timeout",
	open: func(client *redis.Client) (keeper, error) {
		m := newSCS(goredisstore.New(client))
		m.IdleTimeout = idleTimeout
		return scsKeeper(m), nil
	},
}

// scsNoIdle is scs as it comes: a session ends 24 h after it began.
var scsNoIdle = keeping{
	name: "scs + goredisstore, no idle timeout",
	open: func(client *redis.Client) (keeper, error) { return scsKeeper(newSCS(goredisstore.New(client))), nil },
}

// newSCS is scs's manager with the token hashed in Redis and Weir's cookie, which
// is shorter than that of scs: it has no date.
func newSCS(store scs.Store) *scs.SessionManager {
	m := scs.New()
	m.Store = store
	m.HashTokenInStore = true
	m.Cookie.Name = "__Host-session"
	m.Cookie.Secure = true
	m.Cookie.Persist = false
	return m
}

func scsKeeper(m *scs.SessionManager) keeper {
	k := contextKeeper(m)
	k.wrap = m.LoadAndSave
	return k
}
