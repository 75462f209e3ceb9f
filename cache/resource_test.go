package cache_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// maker is one instance that makes resources when they are missing, one at a time.
type maker struct {
	*cache.Store
	calls *atomic.Int64
}

func newMakers(t *testing.T, b *testkit.Backend, n int, options ...cache.Option) []maker {
	t.Helper()
	calls := new(atomic.Int64)
	makers := make([]maker, n)
	prefix := b.Prefix(t)
	for i := range makers {
		store, err := cache.New(b.Client(t), append([]cache.Option{cache.WithPrefix(prefix), cache.WithTimeout(patience)}, options...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		makers[i] = maker{store, calls}
	}
	return makers
}

func named(name string) func() string { return func() string { return name } }

func plain(string) string { return "" }

// get returns the resource, made if need be; pass says that it cannot be kept.
func (m maker) get(ctx context.Context, key string, pass bool, tags ...string) (string, error) {
	for {
		f, err := m.Find(ctx, cache.Resource{Key: key, Name: named("https://" + key), Variant: plain, Claim: true})
		if err != nil {
			return "", err
		}
		if f.Value != nil && !f.Stale {
			return f.Value.(string), nil
		}
		if f.Busy {
			f.Wait(ctx, patience)
			continue
		}
		made := fmt.Sprint("made ", m.calls.Add(1))
		pause(ctx, 5*time.Millisecond)
		if pass {
			f.Yield(ctx, true)
			return made, nil
		}
		_, err = f.Keep(ctx, cache.Variant{Data: []byte(made), Fresh: time.Minute, Keep: time.Hour, Tags: tags})
		return made, err
	}
}

// Four instances with 25 callers each: one makes it, all have it.
//
// Red when find.lua takes a lease that there is, or keep.lua does not wake.
func TestStore_Find_collapses(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for name, options := range map[string][]cache.Option{"plain": nil, "near": {cache.WithNear(1 << 20)}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				makers := newMakers(t, b, 4, options...)
				for round := range 5 {
					makers[0].calls.Store(0)
					var wg sync.WaitGroup
					for i := range 100 {
						wg.Go(func() {
							got, err := makers[i%4].get(t.Context(), fmt.Sprint("shop.example/", round), false)
							if got != "made 1" || err != nil {
								t.Errorf("got %q, %v; want what was made first", got, err)
							}
						})
					}
					wg.Wait()
				}
			})
		}
	})
}

// What cannot be kept is waited for once; then nobody waits for a while.
//
// Red when pass.lua sets no mark, or find.lua does not look at it.
func TestStore_Find_passes(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		makers := newMakers(t, b, 2)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				if _, err := makers[i%2].get(t.Context(), "k", true); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := makers[0].calls.Load(); n != 20 {
			t.Errorf("made %d times; want 20, each for itself", n)
		}
		f, err := makers[1].Find(t.Context(), cache.Resource{Key: "k", Variant: plain, Claim: true})
		if err != nil || f.Claimed || f.Busy {
			t.Errorf("got %+v, %v; want neither a claim nor a wait", f, err)
		}
		// What turns out to be storable ends that.
		if _, err := f.Keep(t.Context(), cache.Variant{Data: []byte("v"), Fresh: time.Minute, Keep: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if got, err := makers[0].get(t.Context(), "k", false); got != "v" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// Each way to invalidate, hard and soft, beats what is being made, and what is kept.
func TestStore_invalidatesResources(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for _, near := range []bool{false, true} {
			var options []cache.Option
			if near {
				options = append(options, cache.WithNear(1<<20))
			}
			makers := newMakers(t, b, 2, options...)
			m, other := makers[0], makers[1]
			ctx := t.Context()
			for name, way := range map[string]struct{ hard, soft func() error }{
				"resource": {func() error { return m.DeleteResource(ctx, "k") }, func() error { return m.ExpireResource(ctx, "k") }},
				"tag":      {func() error { return m.DeleteTags(ctx, "red") }, func() error { return m.ExpireTags(ctx, "red") }},
				"prefix":   {func() error { return m.DeleteResources(ctx, "https://") }, func() error { return m.ExpireResources(ctx, "https://k") }},
				"all":      {func() error { return m.Clear(ctx) }, func() error { return m.Expire(ctx) }},
			} {
				resource := cache.Resource{Key: "k", Name: named("https://k"), Variant: plain, Claim: true}
				find := func(in maker, what string) cache.Found {
					f, err := in.Find(ctx, resource)
					if err != nil {
						t.Fatal(name, what, err)
					}
					return f
				}
				v := cache.Variant{Data: []byte("v"), Fresh: time.Minute, Keep: time.Hour, Tags: []string{"red"}}
				keep := func() {
					if _, err := m.get(ctx, "k", false, "red"); err != nil {
						t.Fatal(name, err)
					}
				}
				keep()
				testkit.Eventually(t, name+": both to have it", func() bool { f := find(other, "kept"); return f.Value != nil && !f.Stale })
				if err := way.soft(); err != nil {
					t.Fatal(name, err)
				}
				// A near tier hears of it within a moment; who said it knows at once.
				f := find(m, "soft")
				if f.Value == nil || !f.Stale || !f.Expired || !f.Claimed {
					t.Errorf("%s, soft: got %+v; want it stale, and claimed", name, f)
				}
				f.Yield(ctx, false)
				testkit.Eventually(t, name+": soft to be heard of", func() bool {
					f := find(other, "soft")
					f.Yield(ctx, false)
					return f.Value != nil && f.Stale
				})
				keep()
				if err := way.hard(); err != nil {
					t.Fatal(name, err)
				}
				f = find(m, "hard")
				if f.Value != nil || !f.Claimed {
					t.Errorf("%s, hard: got %+v; want nothing, and a claim", name, f)
				}
				testkit.Eventually(t, name+": hard to be heard of", func() bool { return find(other, "hard").Value == nil })
				if err := way.hard(); err != nil {
					t.Fatal(name, err)
				}
				if kept, err := f.Keep(ctx, v); kept || err != nil {
					t.Errorf("%s, while it was made: got %v, %v; want it not kept", name, kept, err)
				}
				f = find(m, "again")
				if kept, err := f.Keep(ctx, v); !kept || err != nil {
					t.Errorf("%s, afterwards: got %v, %v; want it kept", name, kept, err)
				}
			}
		}
	})
}
