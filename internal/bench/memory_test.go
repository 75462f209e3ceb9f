package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// BenchmarkMemory is what a key takes in Redis when its limit is used up.
func BenchmarkMemory(b *testing.B) {
	limits := []int{100, 1000, 10_000, 1_000_000}
	if brief {
		limits = limits[:2]
	}
	addr, admin := serve(b)
	s := limiterTables.sheet("memory of a key that is used up, by its limit")
	for _, requests := range limits {
		s.columns = append(s.columns, fmt.Sprint(requests))
	}
	of := entrants(inMemory)
	for _, c := range of {
		var cells []string
		for _, requests := range limits {
			if err := admin.FlushAll(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
			cell := none
			if full, ok := fill(open(b, c, addr, 0, limit{requests, time.Hour}), keysOf(c, 1)[0], requests); full {
				cell = size(memory(b, admin))
			} else if ok {
				cell = "not full"
			}
			cells = append(cells, cell)
		}
		s.add(c.name, cells...)
	}
	s.note("%s: would take a million decisions, for want of weights. A million is spent in 10,000 requests of cost 100.", none)
	instead(b, float64(len(of)), "contestants")
}

// fill asks until the key is denied. ok is false for what takes too long: a
// million requests by a contestant that cannot weigh them.
func fill(l limiter, key string, requests int) (full, ok bool) {
	const most = 10_000 // requests, so that it takes a second
	cost := max(1, requests/most)
	allow := l.allow
	if cost > 1 {
		if l.spend == nil {
			return false, false
		}
		allow = func(ctx context.Context, key string) (bool, error) { return l.spend(ctx, key, cost) }
	}
	// GCRA refills while it is filled, and a failed decision may count or not:
	// there is room for a few more.
	left := int64(requests/cost) * 2
	var denied atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !denied.Load() && atomic.AddInt64(&left, -1) >= 0 {
				if allowed, err := allow(context.Background(), key); err == nil && !allowed {
					denied.Store(true)
				}
			}
		})
	}
	wg.Wait()
	return denied.Load(), true
}

// memory is what all keys there are take.
func memory(b *testing.B, admin *redis.Client) (bytes int64) {
	b.Helper()
	ctx := context.Background()
	keys := admin.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		n, err := admin.MemoryUsage(ctx, keys.Val(), 0).Result() // 0: every member
		if err != nil {
			b.Fatal(err)
		}
		bytes += n
	}
	if err := keys.Err(); err != nil {
		b.Fatal(err)
	}
	return bytes
}
