package lock_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// Lock and unlock of what nobody else wants: two round trips. The peers are in
// internal/bench.
func BenchmarkLocker_uncontended(b *testing.B) {
	server := testkit.Server(b)
	for name, enabled := range map[string]bool{"default client": false, "ContextTimeoutEnabled": true} {
		b.Run(name, func(b *testing.B) {
			l := open(b, server.Client(b, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = enabled }), server.Prefix(b))
			var next atomic.Int64
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				key := "key-" + strconv.FormatInt(next.Add(1), 10)
				for pb.Next() {
					lease, err := l.Acquire(b.Context(), key, long)
					if err == nil {
						err = lease.Release(b.Context())
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
