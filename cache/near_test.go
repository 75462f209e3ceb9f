package cache_test

import (
	"context"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// near is two instances on one Redis, both with a near tier, and what b's observer saw.
type pair struct {
	a, b   *cache.Cache[string]
	sa, sb *cache.Store
	seen   *events
}

func newPair(t *testing.T, backend *testkit.Backend, options ...cache.Option) pair {
	t.Helper()
	prefix := backend.Prefix(t)
	seen := new(events)
	all := append([]cache.Option{cache.WithPrefix(prefix), cache.WithTimeout(patience), cache.WithTTL(time.Minute), cache.WithNear(1 << 20)}, options...)
	var p pair
	for i, part := range []struct {
		store **cache.Store
		view  **cache.Cache[string]
	}{{&p.sa, &p.a}, {&p.sb, &p.b}} {
		own := all
		if i == 1 {
			own = append(own, cache.WithObserver(seen.note))
		}
		store, err := cache.New(backend.Client(t), own...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		view, err := cache.For[string](store, "v")
		if err != nil {
			t.Fatal(err)
		}
		*part.store, *part.view = store, view
	}
	p.seen = seen
	return p
}

// nearby waits until b answers key from its near tier.
func (p pair) nearby(t *testing.T, key string) {
	t.Helper()
	testkit.Eventually(t, "a near hit of "+key, func() bool {
		before := p.seen.count(cache.NearHit)
		if _, _, err := p.b.Get(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		return p.seen.count(cache.NearHit) > before
	})
}

func TestNear_hearsOfWrites(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, backend *testkit.Backend) {
		t.Parallel()
		p := newPair(t, backend)
		ctx := t.Context()
		for name, change := range map[string]func() error{
			"set":           func() error { return p.a.Set(ctx, "k", "new") },
			"delete":        func() error { return p.a.Delete(ctx, "k") },
			"delete tags":   func() error { return p.sa.DeleteTags(ctx, "red", "blue") },
			"delete prefix": func() error { return p.a.DeletePrefix(ctx, "k") },
			"pattern":       func() error { return p.a.DeletePattern(ctx, "k*") },
			"clear":         func() error { return p.sa.Clear(ctx) },
			"store":         func() error { return p.a.Store(ctx, "k", "new", func(context.Context, string) error { return nil }) },
		} {
			if err := p.a.Set(ctx, "k", "old", cache.WithTags("blue")); err != nil {
				t.Fatal(name, err)
			}
			p.nearby(t, "k")
			if err := change(); err != nil {
				t.Fatal(name, err)
			}
			testkit.Eventually(t, name+" to be heard of", func() bool {
				v, _, err := p.b.Get(ctx, "k")
				return err == nil && v != "old"
			})
		}
	})
}
