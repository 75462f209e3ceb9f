package bench

import (
	"time"

	"github.com/alexedwards/scs/redisstore"
	redigo "github.com/gomodule/redigo/redis"
	"github.com/redis/go-redis/v9"
)

// scsRedigo is scs with an idle timeout on its older store, with redigo: a SET in
// a transaction, and no context. Its pool waits, as go-redis's does, and has the
// same size and timeouts.
var scsRedigo = keeping{
	name: "scs + redisstore, idle timeout",
	open: func(client *redis.Client) (keeper, error) {
		options := client.Options()
		pool := &redigo.Pool{
			Dial: func() (redigo.Conn, error) {
				return redigo.Dial("tcp", options.Addr, redigo.DialConnectTimeout(5*time.Second),
					redigo.DialReadTimeout(options.ReadTimeout), redigo.DialWriteTimeout(options.WriteTimeout))
			},
			MaxIdle:   options.PoolSize,
			MaxActive: options.PoolSize,
			Wait:      true,
		}
		m := newSCS(redisstore.New(pool))
		m.IdleTimeout = idleTimeout
		k := scsKeeper(m)
		k.close = pool.Close
		return k, nil
	},
}
