package bench

import (
	"context"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

// redisRate is GCRA in a script. Its shorthands (PerSecond and so on) set the
// burst to the limit, and so does this.
var redisRate = limiting{
	name: "redis_rate",
	open: func(client *redis.Client, l limit) (limiter, error) {
		rate := redis_rate.NewLimiter(client)
		limit := redis_rate.Limit{Rate: l.requests, Burst: l.requests, Period: l.window}
		spend := func(ctx context.Context, key string, n int) (bool, error) {
			result, err := rate.AllowN(ctx, key, limit, n)
			return err == nil && result.Allowed > 0, err
		}
		return limiter{
			allow: func(ctx context.Context, key string) (bool, error) { return spend(ctx, key, 1) },
			spend: spend,
		}, nil
	},
}
