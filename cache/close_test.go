package cache_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// Loads that begin while Close waits for others are served, and Close returns.
func TestStore_Close_besideLoads(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	for round := range 20 {
		r := rig{t: t, backend: b, prefix: b.Prefix(t)}.through(b.Client(t), cache.WithNear(1<<20))
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				for n := range 10 {
					got, err := r.Load(t.Context(), fmt.Sprint("k", round, i, n), func(context.Context) (string, error) { return "v", nil })
					if got != "v" || err != nil {
						t.Errorf("got %q, %v", got, err)
					}
				}
			})
		}
		r.store.Close()
		wg.Wait()
	}
}
