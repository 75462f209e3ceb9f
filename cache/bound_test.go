package cache_test

import (
	"context"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// bound is what is stated: no read is older than an acknowledged write by more. It is
// the tier's second, and what a read may take under way.
const bound = 1250 * time.Millisecond

// acks are a writer's acknowledged writes: each number, and when it was acknowledged.
type acks struct {
	mu sync.Mutex
	at []time.Time // of number i+1
}

func (a *acks) add(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = append(a.at, at)
}

// until is the last number that was acknowledged at t.
func (a *acks) until(t time.Time) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return int64(sort.Search(len(a.at), func(i int) bool { return a.at[i].After(t) }))
}

// watch has one instance write numbers, and another one read them through its near
// tier, while fault goes on; then until the reader is near again.
func watch(t *testing.T, writes, reads redis.UniversalClient, prefix string, fault func()) {
	t.Helper()
	var nearHits atomic.Int64
	options := []cache.Option{cache.WithPrefix(prefix), cache.WithTTL(time.Minute), cache.WithNear(1 << 20), cache.WithTimeout(time.Second)}
	writer, err := cache.New(writes, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(writer.Close)
	reader, err := cache.New(reads, append(options, cache.WithObserver(func(_ context.Context, e cache.Event) {
		if e.Kind == cache.NearHit {
			nearHits.Add(1)
		}
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(reader.Close)
	from, err1 := cache.For[int64](writer, "v")
	to, err2 := cache.For[int64](reader, "v")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}

	ctx, stop := context.WithCancel(t.Context())
	var acknowledged acks
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := int64(1); ctx.Err() == nil; {
			// What was not confirmed may have been written: the next one is sure to be.
			if from.Set(ctx, "k", n) == nil {
				acknowledged.add(time.Now())
				n++
			}
			pause(ctx, 15*time.Millisecond)
		}
	})
	var worst atomic.Int64
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				begun := time.Now()
				n, ok, err := to.Get(ctx, "k")
				if err == nil && ok {
					if least := acknowledged.until(begun.Add(-bound)); n < least {
						t.Errorf("read %d; %d was acknowledged %v before", n, least, bound)
						return
					}
					if fresh := acknowledged.until(begun); n < fresh {
						age := begun.Sub(func() time.Time { acknowledged.mu.Lock(); defer acknowledged.mu.Unlock(); return acknowledged.at[n] }())
						for old := worst.Load(); int64(age) > old && !worst.CompareAndSwap(old, int64(age)); old = worst.Load() {
						}
					}
				}
				pause(ctx, 200*time.Microsecond)
			}
		})
	}
	near := func() {
		before := nearHits.Load()
		testkit.Eventually(t, "near hits", func() bool { return nearHits.Load() > before })
	}
	near()
	fault()
	near()
	stop()
	wg.Wait()
	t.Logf("%d writes, %d near hits, the oldest read by %v", acknowledged.until(time.Now()), nearHits.Load(), time.Duration(worst.Load()))
}

// turns is how often a fault is repeated.
func turns() int {
	if soak() {
		return 25
	}
	return 2
}

// The near tier is never older than the bound, whatever breaks; without the comparison
// with Redis, in prove, the messages that are never sent are never missed; without
// proven, in get, what hangs serves for ever.
func TestNear_bound(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes long")
	}
	t.Parallel()
	t.Run("no fault", func(t *testing.T) {
		t.Parallel()
		b := testkit.Shared(t, "server")
		watch(t, b.Client(t), b.Client(t), b.Prefix(t), func() { pause(t.Context(), time.Second) })
	})
	t.Run("messages are lost", func(t *testing.T) {
		t.Parallel()
		b := testkit.Shared(t, "server")
		writes := b.Client(t)
		writes.AddHook(mutant{"set.lua", "write(s, 'k', ARGV[1])", "s.n = redis.call('HINCRBY', META, 'n', 1)"}.hook(t))
		watch(t, writes, b.Client(t), b.Prefix(t), func() { pause(t.Context(), time.Duration(turns())*time.Second) })
	})
	t.Run("connections are killed", func(t *testing.T) {
		t.Parallel()
		b := testkit.Server(t)
		admin := b.Client(t)
		watch(t, b.Client(t), b.Client(t), b.Prefix(t), func() {
			for range 10 * turns() {
				admin.ClientKillByFilter(t.Context(), "TYPE", "pubsub")
				pause(t.Context(), 150*time.Millisecond)
			}
		})
	})
	t.Run("black hole", func(t *testing.T) {
		t.Parallel()
		b := testkit.Shared(t, "server")
		p := testkit.NewProxy(t, b.Addrs()[0])
		watch(t, b.Client(t), p.Client(t), b.Prefix(t), func() {
			for range turns() {
				p.Hang()
				pause(t.Context(), 2500*time.Millisecond)
				p.Heal()
				pause(t.Context(), 500*time.Millisecond)
			}
		})
	})
	t.Run("the server restarts empty", func(t *testing.T) {
		t.Parallel()
		b := testkit.Server(t)
		watch(t, b.Client(t), b.Client(t), b.Prefix(t), func() {
			for range turns() {
				b.Kill()
				pause(t.Context(), 300*time.Millisecond)
				b.Restart(t)
				pause(t.Context(), 500*time.Millisecond)
			}
		})
	})
	t.Run("cluster, a master is paused", func(t *testing.T) {
		t.Parallel()
		b := testkit.Cluster3(t)
		watch(t, b.Client(t), b.Client(t), b.Prefix(t), func() {
			for i := range turns() {
				node := b.Nodes()[i%3]
				node.Pause()
				pause(t.Context(), 2*time.Second)
				node.Resume()
				pause(t.Context(), 500*time.Millisecond)
			}
		})
	})
	t.Run("failover", func(t *testing.T) {
		t.Parallel()
		b := testkit.Sentinel(t)
		watch(t, b.Client(t), b.Client(t), b.Prefix(t), func() {
			b.Nodes()[0].Kill()
			pause(t.Context(), 6*time.Second)
		})
	})
}
