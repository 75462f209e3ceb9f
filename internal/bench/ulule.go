package bench

import (
	"context"

	"github.com/redis/go-redis/v9"
	ulule "github.com/ulule/limiter/v3"
	store "github.com/ulule/limiter/v3/drivers/store/redis"
)

// uluLimiter is a counter in a script, with a window that begins at the first
// request.
var uluLimiter = limiting{
	name: "ulule/limiter",
	open: func(client *redis.Client, l limit) (limiter, error) {
		counts, err := store.NewStore(client)
		if err != nil {
			return limiter{}, err
		}
		u := ulule.New(counts, ulule.Rate{Period: l.window, Limit: int64(l.requests)})
		return limiter{
			allow: func(ctx context.Context, key string) (bool, error) {
				state, err := u.Get(ctx, key)
				return err == nil && !state.Reached, err
			},
			spend: func(ctx context.Context, key string, n int) (bool, error) {
				state, err := u.Increment(ctx, key, int64(n))
				return err == nil && !state.Reached, err
			},
		}, nil
	},
}
