package bench

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
)

// weirLocker is Weir as it comes.
var weirLocker = locking{name: "weir", open: openWeirLocker}

// weirLockerDeadline is Weir on a client that keeps deadlines by itself, which spares
// it a goroutine a call.
var weirLockerDeadline = locking{
	name:   "weir, ContextTimeoutEnabled",
	client: func(o *redis.Options) { o.ContextTimeoutEnabled = true },
	open:   openWeirLocker,
}

// openWeirLocker sets a budget of a second in place of 50 ms, as the peers have no
// such bound.
func openWeirLocker(client *redis.Client) (locker, error) {
	l, err := lock.New(client, lock.WithTimeout(time.Second))
	if err != nil {
		return locker{}, err
	}
	return locker{acquire: func(ctx context.Context, key string) (func(context.Context) error, error) {
		lease, err := l.Acquire(ctx, key, lockTTL)
		if err != nil {
			return nil, err
		}
		return lease.Release, nil
	}}, nil
}
