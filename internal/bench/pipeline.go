package bench

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// plainPipeline is what many a service has written for itself: a sorted set of
// instants by the caller's clock, in four commands. It counts what it denies.
var plainPipeline = limiting{
	name: "plain pipeline",
	open: func(client *redis.Client, l limit) (limiter, error) {
		var last atomic.Int64 // tells requests of one nanosecond apart
		return limiter{allow: func(ctx context.Context, key string) (bool, error) {
			key = "pipeline:" + key
			now := time.Now().UnixNano()
			member := strconv.FormatInt(now, 10) + "-" + strconv.FormatInt(last.Add(1), 10)
			pipe := client.Pipeline()
			pipe.ZRemRangeByScore(ctx, key, "-inf", strconv.FormatInt(now-int64(l.window), 10))
			pipe.ZAdd(ctx, key, redis.Z{Score: float64(now), Member: member})
			count := pipe.ZCard(ctx, key)
			pipe.Expire(ctx, key, l.window)
			_, err := pipe.Exec(ctx)
			return err == nil && count.Val() <= int64(l.requests), err
		}}, nil
	},
}
