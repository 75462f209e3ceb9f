package bench

import (
	"context"
	"time"

	"github.com/bsm/redislock"
	"github.com/redis/go-redis/v9"
)

// redislockLocker is bsm/redislock. It does not wait by default; it is given the
// back-off of its README, 100 ms.
var redislockLocker = locking{
	name: "redislock",
	open: func(client *redis.Client) (locker, error) {
		locks := redislock.New(client)
		options := &redislock.Options{RetryStrategy: redislock.LinearBackoff(100 * time.Millisecond)}
		return locker{acquire: func(ctx context.Context, key string) (func(context.Context) error, error) {
			// Without a deadline it waits no longer than the ttl.
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			l, err := locks.Obtain(ctx, "redislock:"+key, lockTTL, options)
			if err != nil {
				return nil, err
			}
			return l.Release, nil
		}}, nil
	},
}
