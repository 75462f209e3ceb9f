package bench

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// bareTrip is an empty script: what no limiter with a script can be faster than,
// unless it leaves the trip out.
var bareTrip = limiting{
	name:  "an empty EVALSHA",
	floor: true,
	open: func(client *redis.Client, _ limit) (limiter, error) {
		sha, err := client.ScriptLoad(context.Background(), "return 1").Result()
		return limiter{allow: func(ctx context.Context, key string) (bool, error) {
			err := client.EvalSha(ctx, sha, []string{"bare:" + key}).Err()
			return err == nil, err
		}}, err
	},
}
