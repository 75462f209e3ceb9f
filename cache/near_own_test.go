package cache_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// nearRig is a rig with a near tier that holds and proves.
func nearRig(t *testing.T, b *testkit.Backend, options ...cache.Option) rig {
	t.Helper()
	r := rig{t: t, backend: b, prefix: b.Prefix(t)}
	return r.through(b.Client(t), append([]cache.Option{cache.WithNear(1 << 20)}, options...)...)
}

// near waits until key is answered by the near tier.
func (r rig) near(key, want string) {
	r.t.Helper()
	testkit.Eventually(r.t, "a near hit of "+key, func() bool {
		before := r.seen.count(cache.NearHit)
		r.wants(key, want)
		return r.seen.count(cache.NearHit) > before
	})
}

// A process sees its own writes and deletions at once, whatever the messages do.
// Protected by keepStored, drop, untagged and forget in near.go.
func TestNear_ownWrites(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		r := nearRig(t, b)
		for i := range 50 {
			for name, change := range r.invalidations() {
				r.set("k", "old", cache.WithTags("t"))
				if i == 0 {
					r.near("k", "old")
				} else {
					r.wants("k", "old")
				}
				noError(t, change())
				if v, _, err := r.Get(t.Context(), "k"); v == "old" || err != nil {
					t.Fatalf("%s: got %q, %v", name, v, err)
				}
			}
			r.set("k", fmt.Sprint(i))
			r.wants("k", fmt.Sprint(i))
		}
	})
}

// After Redis has forgotten all, too: protected by "sh.epoch != as.epoch" in near.knows.
func TestNear_ownWritesInANewEpoch(t *testing.T) {
	t.Parallel()
	for range 20 {
		b := testkit.Mini(t)
		r := nearRig(t, b)
		for i := range 5 {
			r.set("k", fmt.Sprint(i))
		}
		r.near("k", "4")
		for i := range 20 {
			noError(t, r.rdb.FlushAll(t.Context()).Err())
			r.set("k", fmt.Sprint("own ", i))
			r.wants("k", fmt.Sprint("own ", i))
		}
		r.near("k", "own 19")
	}
}

// A message that did not come, and numbers that go backwards, are found out.
// Protected by the cases of nearShard.prove and hear.
func TestNear_gaps(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ctx := t.Context()
		r := nearRig(t, b)
		past := r.another() // without a near tier
		meta, entry := r.store.MetaKey("v", "k"), r.store.EntryKey("v", "k")
		replace := func(value string) { // as a write does, but for the message
			text := r.rdb.Get(ctx, entry).Val()
			i := strings.IndexByte(text, '\n')
			noError(t, r.rdb.Set(ctx, entry, text[:i+1]+`"`+value+`"`, time.Minute).Err())
		}
		cleared := func(what string) {
			t.Helper()
			testkit.Eventually(t, what+" to be found out", func() bool {
				v, _, err := r.Get(ctx, "k")
				return err == nil && v == what
			})
			if n := r.seen.count(cache.NearCleared); n == 0 {
				t.Errorf("%s: told nobody", what)
			}
			r.near("k", what)
		}
		for range 5 { // numbers to go back from
			r.set("k", "v")
		}
		r.near("k", "v")
		replace("lost")
		noError(t, r.rdb.HIncrBy(ctx, meta, "n", 1).Err())
		cleared("lost")
		replace("backwards")
		noError(t, r.rdb.HSet(ctx, meta, "n", 1).Err())
		cleared("backwards")
		r.set("k", "own") // is held again, though its number was there before
		r.near("k", "own")
		noError(t, r.rdb.Del(ctx, meta).Err())
		noError(t, past.Set(ctx, "k", "new epoch"))
		cleared("new epoch")
	})
}

// A replica that lagged takes over, and gives numbers a second time, before anybody asks
// for them. Protected by pulseSilence in near.prove.
func TestNear_numbersGivenTwice(t *testing.T) {
	t.Parallel()
	const budget = 500 * time.Millisecond
	b := testkit.Server(t)
	r := nearRig(t, b, cache.WithTimeout(budget))
	for range 5 {
		r.set("k", "old")
	}
	r.near("k", "old")
	ctx := t.Context()
	// What the replica has: two writes less, and then two of others, whose messages the
	// link hears from a server that it takes for the same.
	lagged := r.another()
	text := r.rdb.Get(ctx, r.store.EntryKey("v", "k")).Val()
	b.Pause()
	// What was asked before that must not be answered after the pause.
	testkit.Eventually(t, "the near tier to be bypassed", func() bool { return r.store.Proven("v", "k") < -2*budget })
	done := make(chan error, 1)
	go func() {
		_, err := lagged.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
			i := strings.IndexByte(text, '\n')
			p.Set(ctx, r.store.EntryKey("v", "k"), text[:i+1]+`"new"`, time.Minute)
			return nil
		})
		done <- err
	}()
	b.Resume()
	noError(t, await(t, "the write", done))
	testkit.Eventually(t, "what is new", func() bool { v, _, err := r.Get(ctx, "k"); return err == nil && v == "new" })
	r.near("k", "new")
}

// A near tier that nobody reads asks for nothing; with the next read it is back. Close
// ends what runs, for good.
func TestNear_idle(t *testing.T) {
	t.Parallel()
	r := nearRig(t, testkit.Mini(t))
	r.set("k", "v")
	for range 2 {
		r.near("k", "v")
		if !r.store.Comparing() {
			t.Error("near hits, and nothing compares numbers")
		}
		r.store.Unused()
		testkit.Eventually(t, "the comparing to end", func() bool { return !r.store.Comparing() })
	}
	r.near("k", "v")
	r.store.Close()
	r.wants("k", "v")
	if r.store.Comparing() {
		t.Error("closed, and it goes on")
	}
}

// Values are shared, or copied by WithClone: what is passed to Set and Store, too.
// Protected by give.
func TestNear_clone(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	r := nearRig(t, b)
	ctx := t.Context()
	view := viewOf[[]int](t, r.store, "list", cache.WithClone(slices.Clone[[]int]))
	list := []int{1}
	for name, store := range map[string]func() error{
		"Set":   func() error { return view.Set(ctx, "k", list) },
		"Store": func() error { return view.Store(ctx, "k", list, func(context.Context, []int) error { return nil }) },
		"Load": func() error {
			noError(t, view.Delete(ctx, "k"))
			got, err := view.Load(ctx, "k", func(context.Context) ([]int, error) { return []int{1}, nil })
			got[0] = 7
			return err
		},
	} {
		list[0] = 1
		noError(t, store())
		list[0] = 7
		for range 3 {
			got, ok, err := view.Get(ctx, "k")
			if !ok || err != nil || got[0] != 1 {
				t.Errorf("%s: got %v, %v, %v; want [1]", name, got, ok, err)
			}
			got[0] = 7
			many, err := view.GetMany(ctx, "k")
			if err != nil || many["k"][0] != 1 {
				t.Errorf("%s: got %v, %v; want [1]", name, many, err)
			}
			many["k"][0] = 7
		}
	}
}

// While Redis is silent a value that was loaded serves others for a second, but not past
// what this process changes once Redis is back. Protected by wrote, and by generation.
func TestNear_alone(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	r := rig{t: t, backend: b, prefix: b.Prefix(t)}.through(p.Client(t), cache.WithNear(1<<20), cache.WithTimeout(100*time.Millisecond))
	r.set("warm", "v")
	r.near("warm", "v")
	for name, change := range r.invalidations() {
		testkit.Eventually(t, "a second with Redis silent, and back", func() bool {
			p.Refuse()
			p.Cut()
			load := func(ctx context.Context) (string, error) { cache.Tag(ctx, "t"); return "old", nil }
			begun := time.Now()
			r.loads("k", "old", load)
			r.loads("k", "old", load)
			hit := r.seen.last(cache.NearHit).Key == "k"
			// And one that is under way when Redis is back.
			g := newGate()
			under := r.loading(t.Context(), "under", func(ctx context.Context) (string, error) { cache.Tag(ctx, "t"); return g.load(ctx) })
			await(t, "the load", g.begun)
			p.Heal()
			testkit.Eventually(t, "Redis to be back", func() bool { _, err := r.GetMany(t.Context(), "other"); return err == nil })
			testkit.Eventually(t, "the change", func() bool { return change() == nil })
			if v, _, _ := r.Get(t.Context(), "k"); v == "old" {
				t.Errorf("%s: got what was there before", name)
			}
			g.answer("old", nil)
			await(t, "the load", under).wants(t, "old", nil)
			if name == "all" || name == "view" || name == "tags" {
				if v, ok, _ := r.Get(t.Context(), "under"); ok {
					t.Errorf("%s: got %q, which was loaded before", name, v)
				}
			}
			r.store.Clear(t.Context())
			return hit && time.Since(begun) < time.Second
		})
	}
}

// What is refreshed early in Redis is so with a near tier, too: its copy ends earlier.
// Protected by drawn.
func TestNear_earlyRefresh(t *testing.T) {
	t.Parallel()
	r := nearRig(t, testkit.Mini(t))
	r.expensive("k")
	r.store.Clear(t.Context())
	r.expensive("k")
	g := newGate()
	g.answer("refreshed", nil)
	testkit.Eventually(t, "the refresh", func() bool {
		v, err := r.Load(t.Context(), "k", g.load, cache.WithEarlyRefresh(100))
		return err == nil && v == "refreshed"
	})
}

// The bytes are bounded. Protected by MaximumWeight in newNear.
func TestNear_bytes(t *testing.T) {
	t.Parallel()
	r := nearRig(t, testkit.Mini(t))
	r.set("k", "v")
	r.near("k", "v")
	big := strings.Repeat("x", 10_000)
	for i := range 400 {
		r.set(fmt.Sprint(i), big)
		r.wants(fmt.Sprint(i), big)
	}
	testkit.Eventually(t, "the near tier to shrink", func() bool { return r.store.NearBytes() <= 1<<20 })
}
