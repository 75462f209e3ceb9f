package bench

import (
	"context"
	"encoding/json"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	ekoredis "github.com/eko/gocache/store/redis/v4"
	"github.com/redis/go-redis/v9"
)

// ekoLoadable is gocache's loadable cache on its Redis store, with values as JSON, which
// it leaves to the caller.
var ekoLoadable = caching{
	name: "eko/gocache, loadable",
	open: func(client *redis.Client, ask source) (cacher, error) {
		load := func(ctx context.Context, key any) (string, []store.Option, error) {
			r, err := ask(ctx, key.(string))
			if err != nil {
				return "", nil, err
			}
			text, err := json.Marshal(r)
			return string(text), nil, err
		}
		c := cache.NewLoadable(load, cache.New[string](ekoredis.NewRedis(client, store.WithExpiration(dataTTL))))
		return cacher{
			load: func(ctx context.Context, key string) (r record, err error) {
				text, err := c.Get(ctx, key)
				if err != nil {
					return r, err
				}
				return r, json.Unmarshal([]byte(text), &r)
			},
			close: func() { c.Close() },
		}, nil
	},
}
