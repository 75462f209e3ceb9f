package bench

import (
	"context"

	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
)

// redsyncLocker is redsync on one server. It asks again after 50 to 250 ms, its
// default; it is given more tries than its 32, which waiters here can use up.
var redsyncLocker = locking{
	name: "redsync",
	open: func(client *redis.Client) (locker, error) {
		rs := redsync.New(goredis.NewPool(client))
		return locker{acquire: func(ctx context.Context, key string) (func(context.Context) error, error) {
			m := rs.NewMutex("redsync:"+key, redsync.WithExpiry(lockTTL), redsync.WithTries(1000))
			if err := m.LockContext(ctx); err != nil {
				return nil, err
			}
			return func(ctx context.Context) error {
				_, err := m.UnlockContext(ctx)
				return err
			}, nil
		}}, nil
	},
}
