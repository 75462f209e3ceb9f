package bench

import (
	"context"
	"net/http"

	"github.com/go-chi/httprate"
	httprateredis "github.com/go-chi/httprate-redis"
	"github.com/redis/go-redis/v9"
)

// httprateRedis is two counters of fixed windows, the older one weighted. OnLimit
// is its decision without the answer to the client; it writes no header here, as
// the other contestants write none. Its fallback is off: a failure is an error.
var httprateRedis = limiting{
	name: "httprate-redis",
	open: func(client *redis.Client, l limit) (limiter, error) {
		counter := httprateredis.NewCounter(&httprateredis.Config{
			Client:           client,
			WindowLength:     l.window,
			FallbackDisabled: true,
		})
		rate := httprate.NewRateLimiter(l.requests, l.window,
			httprate.WithLimitCounter(counter),
			httprate.WithResponseHeaders(httprate.ResponseHeaders{}),
			httprate.WithErrorHandler(func(w http.ResponseWriter, _ *http.Request, err error) {
				w.(*failure).error = err
			}),
		)
		request, err := http.NewRequest(http.MethodGet, "/", nil)
		if err != nil {
			return limiter{}, err
		}
		decide := func(r *http.Request, key string) (bool, error) {
			var w failure
			limited := rate.OnLimit(&w, r, key)
			return !limited && w.error == nil, w.error
		}
		return limiter{
			allow: func(_ context.Context, key string) (bool, error) { return decide(request, key) },
			spend: func(ctx context.Context, key string, n int) (bool, error) {
				return decide(request.WithContext(httprate.WithIncrement(ctx, n)), key)
			},
		}, nil
	},
}

// failure takes the error of one decision, and is never written to.
type failure struct {
	http.ResponseWriter
	error error
}
