package testkit

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Keys lists the keys under prefix, on all masters.
func Keys(tb testing.TB, client redis.UniversalClient, prefix string) (keys []string) {
	tb.Helper()
	scan := func(ctx context.Context, client *redis.Client) error {
		for iter := client.Scan(ctx, 0, prefix+":*", 1000).Iterator(); ; {
			if !iter.Next(ctx) {
				return iter.Err()
			}
			keys = append(keys, iter.Val())
		}
	}
	var err error
	if cluster, ok := client.(*redis.ClusterClient); ok {
		masters := make(chan *redis.Client, 16)
		err = cluster.ForEachMaster(context.Background(), func(_ context.Context, master *redis.Client) error {
			masters <- master
			return nil
		})
		close(masters)
		for master := range masters {
			err = errors.Join(err, scan(context.Background(), master))
		}
	} else {
		err = scan(context.Background(), client.(*redis.Client))
	}
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

// OnlyKey is the one key under prefix.
func OnlyKey(tb testing.TB, client redis.UniversalClient, prefix string) string {
	tb.Helper()
	keys := Keys(tb, client, prefix)
	if len(keys) != 1 {
		tb.Fatalf("keys under %s: %q; want one", prefix, keys)
	}
	return keys[0]
}

// Members are those of a sorted set, with their scores.
func Members(tb testing.TB, client redis.UniversalClient, key string) []redis.Z {
	tb.Helper()
	z, err := client.ZRangeWithScores(context.Background(), key, 0, -1).Result()
	if err != nil {
		tb.Fatal(err)
	}
	return z
}
