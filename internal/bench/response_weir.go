package bench

import (
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/middleware"
)

// weirNearAnswer answers from the process.
var weirNearAnswer = answering{
	name: "weir, near tier",
	open: answers{wrap: wrapWeir(cache.WithNear(64 << 20)), near: true},
}

// weirStoredAnswer answers from Redis.
var weirStoredAnswer = answering{
	name: "weir, from Redis",
	open: answers{wrap: wrapWeir()},
}

// weirDeadlineAnswer does so on a client that keeps deadlines by itself, which spares
// it a goroutine a call.
var weirDeadlineAnswer = answering{
	name:   "weir, from Redis, ContextTimeoutEnabled",
	client: func(o *redis.Options) { o.ContextTimeoutEnabled = true },
	open:   answers{wrap: wrapWeir()},
}

// weirUnstored is asked for what may not be stored: it looks, and the handler answers.
var weirUnstored = answering{
	name: "weir, no-store",
	open: answers{wrap: wrapWeir(), noStore: true},
}

// weirMissed is asked for what is not there, and stores it.
var weirMissed = answering{
	name: "weir, miss and store",
	open: answers{wrap: wrapWeir(), fresh: true},
}

// wrapWeir sets a budget of a second, so that nobody wins by giving up.
func wrapWeir(options ...cache.Option) func(*redis.Client, http.Handler) (http.Handler, error) {
	return func(client *redis.Client, h http.Handler) (http.Handler, error) {
		store, err := cache.New(client, append(options, cache.WithTimeout(time.Second))...)
		if err != nil {
			return nil, err
		}
		return middleware.Cache(store)(h), nil
	}
}
