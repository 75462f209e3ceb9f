package bench

import (
	"context"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// weirKeeper is Weir as it comes.
var weirKeeper = keeping{
	name: "weir",
	open: openWeirKeeper,
}

// weirKeeperDeadline is Weir on a client that keeps deadlines by itself, which
// spares it a goroutine a call.
var weirKeeperDeadline = keeping{
	name:   "weir, ContextTimeoutEnabled",
	client: func(o *redis.Options) { o.ContextTimeoutEnabled = true },
	open:   openWeirKeeper,
}

// openWeirKeeper sets a budget of a second in place of 50 ms, as the peers have no
// such bound and wait for five seconds: on a busy machine nobody is to win by
// giving up. The idle timeout is Weir's default, and what the peers are told.
func openWeirKeeper(client *redis.Client) (keeper, error) {
	m, err := session.New(client, session.WithIdleTimeout(idleTimeout), session.WithTimeout(time.Second))
	if err != nil {
		return keeper{}, err
	}
	k := contextKeeper(m)
	k.wrap = middleware.Session(m)
	return k, nil
}

// contextManager is what the managers of Weir and of scs have in common: the
// session is in the request's context.
type contextManager interface {
	GetString(ctx context.Context, key string) string
	Put(ctx context.Context, key string, value any)
	RenewToken(ctx context.Context) error
	Destroy(ctx context.Context) error
}

func contextKeeper(m contextManager) keeper {
	return keeper{
		get: func(r *http.Request, key string) (string, error) { return m.GetString(r.Context(), key), nil },
		put: func(r *http.Request, key, value string) error {
			m.Put(r.Context(), key, value)
			return nil
		},
		renew: func(_ http.ResponseWriter, r *http.Request) error { return m.RenewToken(r.Context()) },
		end:   func(_ http.ResponseWriter, r *http.Request) error { return m.Destroy(r.Context()) },
	}
}
