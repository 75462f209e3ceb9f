package cache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// truth is the source of a campaign: each key has a version, which only grows. next is
// the last that was given out; floor the version that a read which begins now must at
// least show, as an invalidation that came after it has been acknowledged.
type truth struct {
	next, version, floor [8]atomic.Int64
	broken               sync.Map // what was found wrong, each once
}

// save changes the source, unless that is newer.
func (c *truth) save(n int, v int64) error {
	for {
		old := c.version[n].Load()
		if old >= v {
			return errSource
		}
		if c.version[n].CompareAndSwap(old, v) {
			return nil
		}
	}
}

// change changes the source, and returns its version.
func (c *truth) change(n int) int64 {
	for {
		if v := c.next[n].Add(1); c.save(n, v) == nil {
			return v
		}
	}
}

// campaign is random reads, loads, writes and invalidations of a few keys through
// several instances, each with goroutines of its own.
type campaign struct {
	truth
	views   []*cache.Cache[int64]
	stores  []*cache.Store
	workers int
	steps   int // in all
	done    atomic.Int64
}

func newCampaign(t *testing.T, prefix string, clients []redis.UniversalClient, steps int, options ...cache.Option) *campaign {
	t.Helper()
	c := &campaign{workers: 6, steps: steps}
	for _, client := range clients {
		store, err := cache.New(client, append([]cache.Option{cache.WithPrefix(prefix), cache.WithTimeout(patience), cache.WithTTL(time.Minute)}, options...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		view, err := cache.For[int64](store, "v", cache.WithStale(time.Minute, 0))
		if err != nil {
			t.Fatal(err)
		}
		c.stores, c.views = append(c.stores, store), append(c.views, view)
	}
	return c
}

func (c *campaign) run(ctx context.Context, seed uint64) {
	var wg sync.WaitGroup
	for i, view := range c.views {
		for w := range c.workers {
			random := rand.New(rand.NewPCG(seed, uint64(i*100+w)))
			wg.Go(func() {
				for c.done.Add(1) <= int64(c.steps) && ctx.Err() == nil {
					c.step(ctx, random, view, c.stores[i])
				}
			})
		}
	}
	wg.Wait()
}

// step is one random operation. What is loaded is what was true when the load began.
func (c *campaign) step(ctx context.Context, random *rand.Rand, view *cache.Cache[int64], store *cache.Store) {
	n := random.IntN(len(c.version))
	key, tag := keyOf(n), "even"
	if n%2 == 1 {
		tag = "odd"
	}
	work := time.Duration(random.IntN(400)) * time.Microsecond
	if random.IntN(4) == 0 {
		work *= 10
	}
	switch kind := random.IntN(24); {
	case kind < 12:
		least := c.floor[n].Load()
		got, err := view.Load(ctx, key, func(ctx context.Context) (int64, error) {
			v := c.version[n].Load()
			pause(ctx, work)
			cache.Tag(ctx, tag)
			if kind == 0 {
				return 0, errSource
			}
			return v, nil
		})
		c.check("load", n, got, least, err)
	case kind < 14:
		least := c.floor[n].Load()
		if got, ok, err := view.Get(ctx, key); ok {
			c.check("get", n, got, least, err)
		}
	case kind == 14:
		var least [8]int64
		for i := range least {
			least[i] = c.floor[i].Load()
		}
		got, err := view.LoadMany(ctx, []string{key, "k0", "k1"}, func(ctx context.Context, missing []string) (map[string]int64, error) {
			cache.Tag(ctx, "even", "odd")
			found := make(map[string]int64)
			for _, k := range missing {
				i, _ := strconv.Atoi(k[1:])
				found[k] = c.version[i].Load()
			}
			pause(ctx, work)
			return found, nil
		})
		for k, v := range got {
			i, _ := strconv.Atoi(k[1:])
			c.check("load many", i, v, least[i], err)
		}
	case kind < 18:
		v := c.change(n)
		c.acknowledged(n, v, view.Delete(ctx, key))
	case kind == 18:
		c.invalidate(func(i int) bool { return i%2 == n%2 }, func() error { return store.DeleteTags(ctx, tag) })
	case kind == 19:
		c.invalidate(func(i int) bool { return true }, func() error { return view.DeletePrefix(ctx, "k") })
	case kind == 20:
		c.invalidate(func(i int) bool { return true }, func() error { return view.DeletePattern(ctx, "k*") })
	case kind == 21:
		c.invalidate(func(i int) bool { return true }, func() error { return store.Clear(ctx) })
	default:
		v := c.next[n].Add(1)
		c.acknowledged(n, v, view.Store(ctx, key, v, func(context.Context, int64) error {
			pause(ctx, work/2)
			err := c.save(n, v)
			pause(ctx, work/2)
			return err
		}, cache.WithTags(tag)))
	}
}

func keyOf(n int) string { return "k" + strconv.Itoa(n) }

var errSource = fmt.Errorf("the source fails")

// invalidate has the source change for all keys that which takes, and then tells.
func (c *campaign) invalidate(which func(int) bool, tell func() error) {
	var v [8]int64
	for i := range v {
		if which(i) {
			v[i] = c.change(i)
		}
	}
	err := tell()
	for i := range v {
		if which(i) {
			c.acknowledged(i, v[i], err)
		}
	}
}

// acknowledged raises the floor.
func (c *campaign) acknowledged(n int, v int64, err error) {
	for err == nil {
		old := c.floor[n].Load()
		if old >= v || c.floor[n].CompareAndSwap(old, v) {
			return
		}
	}
}

func (c *campaign) check(what string, n int, got, least int64, err error) {
	if err == nil && got < least {
		c.broken.LoadOrStore(what, fmt.Sprintf("%s of %s: got version %d; %d was acknowledged before", what, keyOf(n), got, least))
	}
}

func (c *campaign) faults() (all []string) {
	c.broken.Range(func(_, fault any) bool {
		all = append(all, fault.(string))
		return true
	})
	return all
}

func seed(t *testing.T) uint64 {
	s := rand.Uint64()
	if given := os.Getenv("WEIR_SEED"); given != "" {
		var err error
		if s, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("WEIR_SEED: %v", err)
		}
	}
	t.Logf("WEIR_SEED=%d", s)
	return s
}

// Random interleavings over three instances: no read shows what was there before an
// invalidation that had been acknowledged when the read began.
func TestInterleavings(t *testing.T) {
	t.Parallel()
	steps := 4000
	if soak() {
		steps = 100_000
	}
	for _, kind := range []string{"server", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			c := newCampaign(t, b.Prefix(t), []redis.UniversalClient{b.Client(t), b.Client(t), b.Client(t)}, steps)
			c.run(t.Context(), seed(t))
			for _, fault := range c.faults() {
				t.Error(fault)
			}
		})
	}
}
