package bench

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/ratelimit"
)

// weir is Weir as it comes.
var weir = limiting{
	name: "weir",
	open: openWeir(),
}

// weirDeadline is Weir on a client that keeps deadlines by itself, which spares
// it a goroutine a call.
var weirDeadline = limiting{
	name:   "weir, ContextTimeoutEnabled",
	client: func(o *redis.Options) { o.ContextTimeoutEnabled = true },
	open:   openWeir(),
}

// weirNoDenyCache asks Redis about every request, as the peers do.
var weirNoDenyCache = limiting{
	name: "weir, WithDenyCache(0)",
	open: openWeir(ratelimit.WithDenyCache(0)),
	only: []table{inDenied, inCost, inExact},
}

// weirSingly keeps each request by itself where Weir would keep batches.
var weirSingly = limiting{
	name: "weir, WithExact(100000)",
	open: openWeir(ratelimit.WithExact(100_000)),
	only: []table{inMemory},
}

// openWeir sets two things that users need not. The budget is a second in place
// of 50 ms, as the peers have no such bound and wait for five seconds: on a busy
// machine nobody is to win by giving up. And Weir fails closed, so that a
// decision without Redis counts as an error and not as a fast verdict.
func openWeir(options ...ratelimit.Option) func(*redis.Client, limit) (limiter, error) {
	options = append(options, ratelimit.WithTimeout(time.Second), ratelimit.WithFailClosed())
	return func(client *redis.Client, l limit) (limiter, error) {
		w, err := ratelimit.New(client, ratelimit.Every(l.requests, l.window), options...)
		if err != nil {
			return limiter{}, err
		}
		return limiter{
			allow: func(ctx context.Context, key string) (bool, error) {
				result, err := w.Allow(ctx, key)
				return result.Allowed, err
			},
			spend: func(ctx context.Context, key string, n int) (bool, error) {
				result, err := w.AllowN(ctx, key, n)
				return result.Allowed, err
			},
		}, nil
	}
}
