package bench

import (
	"context"
	"time"

	"github.com/go-redis/cache/v9"
	"github.com/redis/go-redis/v9"
)

// goRedisCache is go-redis/cache as it comes: MessagePack, and one load at a time in a
// process.
var goRedisCache = caching{
	name: "go-redis/cache",
	open: func(client *redis.Client, ask source) (cacher, error) {
		return onceOf(cache.New(&cache.Options{Redis: client}), ask), nil
	},
}

// goRedisCacheLocal keeps bytes in the process as well, for a second: nobody tells it
// of changes, so that this is how stale it may be, as Weir's near tier at worst.
var goRedisCacheLocal = caching{
	name: "go-redis/cache, TinyLFU of 1 s",
	open: func(client *redis.Client, ask source) (cacher, error) {
		return onceOf(cache.New(&cache.Options{Redis: client, LocalCache: cache.NewTinyLFU(10_000, time.Second)}), ask), nil
	},
}

func onceOf(c *cache.Cache, ask source) cacher {
	return cacher{load: func(ctx context.Context, key string) (r record, err error) {
		err = c.Once(&cache.Item{
			Ctx: ctx, Key: key, Value: &r, TTL: dataTTL,
			Do: func(item *cache.Item) (any, error) { return ask(item.Context(), key) },
		})
		return r, err
	}}
}
