package bench

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
)

// weirData is a view of a Store, with a budget that a stampede on few cores keeps.
var weirData = caching{
	name: "weir",
	open: func(client *redis.Client, ask source) (cacher, error) { return openWeirData(client, ask) },
}

// weirNear has a near tier as well.
var weirNear = caching{
	name: "weir, near tier",
	open: func(client *redis.Client, ask source) (cacher, error) {
		return openWeirData(client, ask, cache.WithNear(64<<20))
	},
}

func openWeirData(client *redis.Client, ask source, options ...cache.Option) (cacher, error) {
	store, err := cache.New(client, append(options, cache.WithTTL(dataTTL), cache.WithTimeout(5*time.Second))...)
	if err != nil {
		return cacher{}, err
	}
	view, err := cache.For[record](store, "record")
	if err != nil {
		return cacher{}, err
	}
	return cacher{
		load: func(ctx context.Context, key string) (record, error) {
			return view.Load(ctx, key, func(ctx context.Context) (record, error) { return ask(ctx, key) })
		},
		close: store.Close,
	}, nil
}
