package bench

import (
	"context"

	"github.com/redis/go-redis/v9"
	"github.com/throttled/throttled/v2"
	store "github.com/throttled/throttled/v2/store/goredisstore.v9"
)

// throttledGCRA is GCRA in the client: it reads, computes, and swaps if nobody
// was faster. After ten attempts in vain it returns an error.
var throttledGCRA = limiting{
	name: "throttled",
	open: func(client *redis.Client, l limit) (limiter, error) {
		values, err := store.NewCtx(client, "throttled:")
		if err != nil {
			return limiter{}, err
		}
		// A burst is what comes on top of the first request.
		quota := throttled.RateQuota{MaxRate: throttled.PerDuration(l.requests, l.window), MaxBurst: l.requests - 1}
		gcra, err := throttled.NewGCRARateLimiterCtx(values, quota)
		if err != nil {
			return limiter{}, err
		}
		spend := func(ctx context.Context, key string, n int) (bool, error) {
			limited, _, err := gcra.RateLimitCtx(ctx, key, n)
			return err == nil && !limited, err
		}
		return limiter{
			allow: func(ctx context.Context, key string) (bool, error) { return spend(ctx, key, 1) },
			spend: spend,
		}, nil
	},
}
