package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// record is what the data caches keep.
type record struct {
	ID    int64
	Name  string
	Price int64
	Tags  []string
}

func recordOf(key string) record {
	return record{ID: int64(len(key)), Name: key, Price: 1999, Tags: []string{"kitchen", "gift"}}
}

// dataTTL is how long every contestant keeps what it is given.
const dataTTL = time.Hour

// source is what a cache stands before.
type source func(ctx context.Context, key string) (record, error)

// caching is a contestant that keeps data.
type caching = contestant[func(*redis.Client, source) (cacher, error)]

// cacher is one instance of it. load is called from many goroutines.
type cacher struct {
	// load returns what is kept, else what the source says, which is then kept.
	load func(ctx context.Context, key string) (record, error)
	// close frees what the client's Close does not; nil if there is nothing.
	close func()
}

// cachers are in the order of the tables' rows. To add one, write its file and name
// it here.
var cachers = []caching{
	weirData,
	weirNear,
	goRedisCache,
	goRedisCacheLocal,
	ekoLoadable,
}

// Data caches are compared with the one that is made for go-redis.
var cacherReferences = []string{goRedisCache.name, goRedisCacheLocal.name}

const (
	stampedeKeys    = 30
	stampedeCallers = 100 // of each instance
	sourceTakes     = 20 * time.Millisecond
)

// stampede has two instances, each with a client of its own, asked for cold keys by many
// at a time, and returns how often the source was asked for each, and how many got
// something wrong.
func stampede(ctx context.Context, c caching, addr string, keys []string) (loads float64, wrong int64, err error) {
	var asked, bad atomic.Int64
	ask := func(ctx context.Context, key string) (record, error) {
		asked.Add(1)
		select {
		case <-time.After(sourceTakes):
		case <-ctx.Done():
			return record{}, ctx.Err()
		}
		return recordOf(key), nil
	}
	var instances [2]cacher
	for i := range instances {
		client := c.dial(addr, 2*stampedeCallers)
		defer client.Close()
		if instances[i], err = c.open(client, ask); err != nil {
			return 0, 0, err
		}
		if instances[i].close != nil {
			defer instances[i].close()
		}
		if _, err = instances[i].load(ctx, fmt.Sprint("warm", i)); err != nil {
			return 0, 0, err
		}
	}
	asked.Store(0)
	for _, key := range keys {
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range 2 * stampedeCallers {
			wg.Go(func() {
				<-begin
				if got, err := instances[i%2].load(ctx, key); err != nil || got.Name != key {
					bad.Add(1)
				}
			})
		}
		close(begin)
		wg.Wait()
	}
	return float64(asked.Load()) / float64(len(keys)), bad.Load(), nil
}
