package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

type product struct {
	ID    int64
	Name  string
	Price int64
	Tags  []string
}

// BenchmarkLoad is a read of a decoded struct: from the near tier, and from Redis.
func BenchmarkLoad(b *testing.B) {
	backend := testkit.Shared(b, "server")
	for name, options := range map[string][]cache.Option{
		"near":  {cache.WithNear(1 << 20)},
		"redis": nil,
	} {
		b.Run(name, func(b *testing.B) {
			store, err := cache.New(backend.Client(b), append(options, cache.WithPrefix(backend.Prefix(b)), cache.WithTTL(time.Hour))...)
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			view, err := cache.For[product](store, "product")
			if err != nil {
				b.Fatal(err)
			}
			load := func(context.Context) (product, error) {
				return product{1, "a teapot", 1999, []string{"kitchen", "gift"}}, nil
			}
			ctx := b.Context()
			for range 3 { // the tier begins with the first read
				if _, err := view.Load(ctx, "1", load); err != nil {
					b.Fatal(err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := view.Load(ctx, "1", load); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
