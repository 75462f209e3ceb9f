package ratelimit_test

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// One decision on a real server over loopback, by how many goroutines ask at a
// time. Each goroutine has a key of its own; a denied one has spent it.
//
// "deadline" is a client with ContextTimeoutEnabled, which spares a goroutine a
// call: see internal/rdb.
func BenchmarkLimiter_allow(b *testing.B) {
	server := testkit.Shared(b, "server")
	for _, verdict := range []string{"allowed", "denied"} {
		for _, kind := range []string{"default", "deadline"} {
			for _, goroutines := range []int{1, 16, 128} {
				b.Run(fmt.Sprintf("%s/%s/%d", verdict, kind, goroutines), func(b *testing.B) {
					client := server.Client(b, func(o *redis.UniversalOptions) {
						o.ContextTimeoutEnabled = kind == "deadline"
						o.PoolSize = 32
					})
					limit := ratelimit.Every(math.MaxInt32, 50*time.Millisecond)
					if verdict == "denied" {
						limit = ratelimit.PerHour(1)
					}
					limiter, err := ratelimit.New(client, limit,
						ratelimit.WithPrefix(server.Prefix(b)), ratelimit.WithTimeout(time.Second))
					if err != nil {
						b.Fatal(err)
					}
					benchmarkAllow(b, limiter, goroutines, verdict == "allowed")
				})
			}
		}
	}
}

// One decision of the stand-in, with the breaker open.
func BenchmarkLimiter_silent(b *testing.B) {
	limiter := alone(b, ratelimit.PerHour(math.MaxInt32))
	for range 10 {
		_, _ = limiter.Allow(b.Context(), "alice")
	}
	benchmarkAllow(b, limiter, 16, true)
}

func benchmarkAllow(b *testing.B, limiter *ratelimit.Limiter, goroutines int, allowed bool) {
	b.ReportAllocs()
	ctx := context.Background()
	for i := range goroutines { // connections, the script, and the keys that are to be spent
		if _, err := limiter.Allow(ctx, strconv.Itoa(i)); err != nil {
			b.Fatal(err)
		}
	}
	b.SetParallelism(max(1, goroutines/runtime.GOMAXPROCS(0)))
	if goroutines == 1 {
		for b.Loop() {
			if result, err := limiter.Allow(ctx, "0"); err != nil || result.Allowed != allowed {
				b.Fatalf("= %+v, %v", result, err)
			}
		}
		return
	}
	var next atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		key := strconv.Itoa(int(next.Add(1)-1) % goroutines)
		for pb.Next() {
			if result, err := limiter.Allow(ctx, key); err != nil || result.Allowed != allowed {
				b.Errorf("= %+v, %v", result, err)
				return
			}
		}
	})
}
