package cache_test

import (
	"context"
	"errors"
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

// Who waits for a claim that has ended and been taken anew, before they could hear of
// it, looks again: nobody knows that they wait, and the new one's end would wake nobody.
//
// Red when leased counts a lease that is not marked as waited for.
func TestFound_Wait_takenAnew(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		makers := newMakers(t, b, 3)
		ctx := t.Context()
		find := func(m maker) cache.Found {
			t.Helper()
			f, err := m.Find(ctx, cache.Resource{Key: "k", Variant: plain, Claim: true})
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		first := find(makers[0])
		waits := find(makers[1])
		first.Yield(ctx, false)
		second := find(makers[2])
		if !first.Claimed || !waits.Busy || !second.Claimed {
			t.Fatalf("got %+v, %+v, %+v; want a claim, somebody who waits, and a claim", first, waits, second)
		}
		woken := func() <-chan struct{} {
			done := make(chan struct{})
			go func() { defer close(done); waits.Wait(ctx, time.Minute) }()
			return done
		}
		await(t, "a look at who makes it now", woken())
		if waits = find(makers[1]); !waits.Busy {
			t.Fatalf("got %+v; want it busy", waits)
		}
		done := woken()
		second.Yield(ctx, false)
		await(t, "the second claim's end", done)
	})
}

// While Redis is silent one caller of a process makes a resource, and who asks meanwhile
// has it; unless it is another variant, may not be kept, or was asked for after a second.
//
// Red, in this order, when findSolo lets nobody wait; waitSolo compares no names; endSolo
// remembers no pass; findSolo looks at no age; and when purges leave solos alone.
func TestStore_resourcesWhileSilent(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	p := testkit.NewProxy(t, b.Addrs()[0])
	store, err := cache.New(p.Client(t), cache.WithPrefix(b.Prefix(t)), cache.WithTimeout(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	p.Hang()
	find := func(key, user string) cache.Found {
		t.Helper()
		f, err := store.Find(ctx, cache.Resource{Key: key, Claim: true, Variant: func(names string) string {
			if names == "" {
				return ""
			}
			return user
		}})
		if !errors.Is(err, cache.ErrUnavailable) || !f.Silent {
			t.Fatalf("got %+v, %v; want it to be silent", f, err)
		}
		return f
	}
	v := cache.Variant{Data: []byte("v"), Fresh: time.Minute, Keep: time.Minute}
	keep := func(f cache.Found, v cache.Variant) {
		t.Helper()
		if kept, err := f.Keep(ctx, v); kept || err != nil {
			t.Errorf("got %v, %v; want it not kept", kept, err)
		}
	}
	first, second := find("k", "ann"), find("k", "ben")
	if !first.Claimed || !second.Busy {
		t.Fatalf("got %+v, %+v; want the second one to wait", first, second)
	}
	if _, ok := second.Wait(ctx, time.Millisecond); ok {
		t.Error("something was made before it was")
	}
	keep(first, v)
	if made, ok := second.Wait(ctx, time.Minute); !ok || made.Value != "v" {
		t.Errorf("got %+v, %v; want what was made", made, ok)
	}
	// A panic, or a client that leaves.
	first, second = find("k", "ann"), find("k", "ben")
	first.Yield(ctx, false)
	if _, ok := second.Wait(ctx, time.Minute); ok || !find("k", "ben").Claimed {
		t.Error("want the next one to make it")
	}
	first, second = find("vary", "ann"), find("vary", "ben")
	own := v
	own.By, own.Name = "X-User", "ann"
	keep(first, own)
	if made, ok := second.Wait(ctx, time.Minute); ok {
		t.Errorf("ben got %+v", made)
	}
	if again := find("vary", "ben"); !again.Claimed {
		t.Errorf("got %+v; want ben to make his own", again)
	}
	first, second = find("pass", "ann"), find("pass", "ben")
	first.Yield(ctx, true)
	if _, ok := second.Wait(ctx, time.Minute); ok {
		t.Error("got what may not be kept")
	}
	if f := find("pass", "ben"); f.Claimed || f.Busy {
		t.Errorf("got %+v; want nobody to wait for it", f)
	}
	// A body of more than a chunk would have to be in Redis: nobody waits for the next one.
	first, second = find("long", "ann"), find("long", "ben")
	long := v
	long.Body = store.NewBody(ctx, "long")
	_, _ = long.Body.Write(make([]byte, 300<<10))
	if kept, err := first.Keep(ctx, long); kept || !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("a long body: got %v, %v; want ErrUnavailable", kept, err)
	}
	if _, ok := second.Wait(ctx, time.Minute); ok {
		t.Error("got a body that nobody has")
	}
	if f := find("long", "ben"); f.Claimed || f.Busy {
		t.Errorf("got %+v; want nobody to wait for a long body", f)
	}
	find("old", "ann")
	testkit.Eventually(t, "nobody to wait for what began a second ago", func() bool { return find("old", "ben").Claimed })
	// A purge that Redis did not confirm counts in this process. Red without desert in purge.
	find("unconfirmed", "ann")
	if err := store.DeleteResource(ctx, "unconfirmed"); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("a purge: got %v; want ErrUnavailable", err)
	}
	if f := find("unconfirmed", "ben"); !f.Claimed {
		t.Errorf("got %+v; want no wait for what began before a purge", f)
	}
	// Redis is back for a purge, and silent again.
	first = find("purged", "ann")
	p.Heal()
	testkit.Eventually(t, "a purge", func() bool { return store.DeleteTags(ctx, "tag") == nil })
	p.Hang()
	if f := find("purged", "ben"); !f.Claimed {
		t.Errorf("got %+v; want no wait for what began before a purge", f)
	}
	keep(first, v)
}
