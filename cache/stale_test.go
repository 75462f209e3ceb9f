package cache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

func TestStale_contract(t *testing.T) {
	t.Parallel()
	each(t, map[string]func(rig){
		"for an error":            testStaleForError,
		"for a slow load":         testStaleForSlow,
		"never what was removed":  testStaleNeverRemoved,
		"a batch":                 testStaleBatch,
		"cool-down":               testStaleCooldown,
		"cool-down, others":       testStaleCooldownOthers,
		"not for what is found":   testStaleNotFound,
		"close ends the slow":     testStaleClose,
		"early refresh":           testEarlyRefresh,
		"early refresh and close": testEarlyRefreshClose,
	}, cache.WithStale(time.Minute, 0))
}

// ages has an entry, and waits until it is stale.
func (r rig) ages(key, value string, options ...cache.Option) {
	r.t.Helper()
	r.set(key, value, append(options, cache.WithTTL(time.Millisecond))...)
	testkit.Eventually(r.t, "it to be stale", func() bool {
		_, ok, err := r.Get(r.t.Context(), key)
		return !ok && err == nil
	})
	if !r.exists(r.store.EntryKey("v", key)) {
		r.t.Fatal("it is gone altogether")
	}
}

func testStaleForError(r rig) {
	r.ages("k", "stale")
	r.loads("k", "stale", returns("", errSource))
	if e := r.seen.last(cache.StaleServed); e.Key != "k" || e.Err != errSource {
		r.t.Errorf("told %+v; want that it was served, and why", e)
	}
	r.ages("p", "stale")
	r.loads("p", "stale", func(context.Context) (string, error) { panic("no") })
	var p *cache.PanicError
	if e := r.seen.last(cache.StaleServed); !errors.As(e.Err, &p) {
		r.t.Errorf("told %+v; want that it panicked", e)
	}
	// Nothing to stand in.
	if _, err := r.Load(r.t.Context(), "none", returns("", errSource)); err != errSource {
		r.t.Errorf("got %v; want the load's own error", err)
	}
	// What comes is kept, and is no longer stale.
	r.del("k")
	r.ages("k", "stale")
	r.loads("k", "new", returns("new", nil))
	r.wants("k", "new")
}

func testStaleForSlow(r rig) {
	r.ages("k", "stale")
	g := newGate()
	r.loads("k", "stale", g.load, cache.WithStale(time.Minute, 10*time.Millisecond))
	if e := r.seen.last(cache.StaleServed); e.Key != "k" || e.Err != nil {
		r.t.Errorf("told %+v; want that it was served, for no error", e)
	}
	r.loads("k", "stale", g.load, cache.WithStale(time.Minute, 10*time.Millisecond))
	load := await(r.t, "the load", g.begun)
	if g.calls.Load() != 1 || load.Err() != nil {
		r.t.Errorf("%d loads, %v; want one that goes on", g.calls.Load(), load.Err())
	}
	g.answer("new", nil)
	testkit.Eventually(r.t, "it to be stored", func() bool { v, _, _ := r.Get(r.t.Context(), "k"); return v == "new" })
	// Nothing to stand in: it is waited for.
	none := r.loading(r.t.Context(), "none", g.load, cache.WithStale(time.Minute, time.Millisecond))
	await(r.t, "the load", g.begun)
	g.answer("late", nil)
	await(r.t, "the value", none).wants(r.t, "late", nil)
}

// Protected by "if not h then v = nil" in ask.lua, and the UNLINK of drop.lua and intend.lua.
func testStaleNeverRemoved(r rig) {
	for name, invalidate := range r.invalidations() {
		r.del("k")
		r.ages("k", "removed", cache.WithTags("t"))
		noError(r.t, invalidate())
		v, err := r.Load(r.t.Context(), "k", returns("", errSource))
		if v == "removed" || err == nil && v != "new" || err != nil && err != errSource {
			r.t.Errorf("%s: got %q, %v", name, v, err)
		}
		// While the load is under way.
		r.del("k")
		r.ages("k", "removed", cache.WithTags("t"))
		g := newGate()
		done := r.loading(r.t.Context(), "k", g.load)
		await(r.t, "the load", g.begun)
		noError(r.t, invalidate())
		g.answer("", errSource)
		if got := await(r.t, "the load", done); got.value == "removed" {
			r.t.Errorf("%s under way: got %q, %v", name, got.value, got.err)
		}
	}
	r.del("k")
	r.ages("k", "removed", cache.WithTags("t"))
	r.rdb.Del(r.t.Context(), r.store.TagKey("v", "k", "t")) // evicted: nobody knows
	if v, err := r.Load(r.t.Context(), "k", returns("", errSource)); err != errSource {
		r.t.Errorf("got %q, %v; want the load's own error", v, err)
	}
}

func testStaleBatch(r rig) {
	r.ages("a", "stale a")
	r.ages("b", "stale b")
	fails := func(context.Context, []string) (map[string]string, error) { return nil, errSource }
	found, err := r.LoadMany(r.t.Context(), []string{"a", "b"}, fails)
	if err != nil || found["a"] != "stale a" || found["b"] != "stale b" {
		r.t.Errorf("got %v, %v", found, err)
	}
	if found, err := r.LoadMany(r.t.Context(), []string{"a", "b", "none"}, fails); err != errSource || found != nil {
		r.t.Errorf("one has nothing to stand in: got %v, %v; want the load's own error", found, err)
	}
	for _, key := range []string{"a", "b", "none"} {
		r.nothingLeft(key)
	}
}

// After a failure nobody loads again for a while, and the stale value comes at once.
// Protected by the hold in loadLeased, and verdict 6 of ask.lua.
func testStaleCooldown(r rig) {
	r.ages("k", "stale")
	r.loads("k", "stale", returns("", errSource), cache.WithLease(time.Minute))
	lease := r.store.LeaseKey("v", "k")
	if ttl := r.ttl(lease); ttl <= 0 || ttl > time.Second {
		r.t.Errorf("the cool-down: got %v; want up to 1s", ttl)
	}
	r.rdb.Expire(r.t.Context(), lease, time.Minute) // a cool-down that outlasts the test
	other := r.another(cache.WithStale(time.Minute, 0))
	for _, r := range []rig{r, other} {
		for range 3 {
			r.loads("k", "stale", never(r.t))
		}
	}
	// What is not there cannot stand in: it is loaded.
	r.del("k")
	r.loads("k", "new", returns("new", nil))
}

// Who has waited for another process that fails gets the stale value at once, too.
func testStaleCooldownOthers(r rig) {
	r.ages("k", "stale")
	g := newGate()
	first := r.loading(r.t.Context(), "k", g.load)
	await(r.t, "the load", g.begun)
	other := r.another(cache.WithStale(time.Minute, 0))
	waiting := other.loading(r.t.Context(), "k", never(r.t))
	lease := r.store.LeaseKey("v", "k")
	testkit.Eventually(r.t, "the other to wait", func() bool {
		return strings.HasSuffix(r.rdb.Get(r.t.Context(), lease).Val(), " 1")
	})
	g.answer("", errSource)
	await(r.t, "the first", first).wants(r.t, "stale", nil)
	await(r.t, "who waited", waiting).wants(r.t, "stale", nil)
}

func testStaleNotFound(r rig) {
	r.ages("k", "stale")
	if _, err := r.Load(r.t.Context(), "k", returns("", cache.ErrNotFound)); !errors.Is(err, cache.ErrNotFound) {
		r.t.Errorf("got %v; want ErrNotFound, which is no failure", err)
	}
	r.nothingLeft("k")
}

func testStaleClose(r rig) {
	r.ages("k", "stale")
	g := newGate()
	r.loads("k", "stale", g.load, cache.WithStale(time.Minute, time.Millisecond))
	load := await(r.t, "the load", g.begun)
	r.store.Close()
	if load.Err() == nil {
		r.t.Error("Close has returned, and the load goes on")
	}
	r.nothingLeft("k")
	r.store.Close()
	r.loads("k", "after", returns("after", nil))
	r.wants("k", "after")
}

// earlyOption refreshes what has taken 10 ms or more to load and lives for a minute, as
// good as always.
func (r rig) expensive(key string) {
	r.t.Helper()
	r.set(key, "fresh")
	at := r.store.EntryKey("v", key)
	fields := strings.SplitN(r.rdb.Get(r.t.Context(), at).Val(), " ", 9)
	fields[6] = "100000000"
	noError(r.t, r.rdb.Set(r.t.Context(), at, strings.Join(fields, " "), time.Minute).Err())
}

// Nobody waits for a refresh: neither who begins it nor who comes meanwhile.
func testEarlyRefresh(r rig) {
	r.expensive("k")
	g := newGate()
	early := cache.WithEarlyRefresh(100)
	r.loads("k", "fresh", g.load, early)
	await(r.t, "the refresh", g.begun)
	for range 3 {
		r.loads("k", "fresh", never(r.t), early)
		r.another(early).loads("k", "fresh", never(r.t))
	}
	r.wants("k", "fresh")
	g.answer("refreshed", nil)
	testkit.Eventually(r.t, "the refreshed", func() bool { v, _, _ := r.Get(r.t.Context(), "k"); return v == "refreshed" })
	r.nothingLeft("k")
	// One that fails leaves what there is; a deletion meanwhile stands.
	r.expensive("k")
	r.loads("k", "fresh", g.load, early)
	await(r.t, "the refresh", g.begun)
	g.answer("", errSource)
	testkit.Eventually(r.t, "the failure", func() bool { return r.seen.count(cache.LoadFailed) == 1 })
	r.wants("k", "fresh")
	r.expensive("l")
	r.loads("l", "fresh", g.load, early)
	await(r.t, "the refresh", g.begun)
	r.del("l")
	g.answer("refreshed", nil)
	testkit.Eventually(r.t, "the end", func() bool { return r.seen.count(cache.NotStored) == 1 })
	r.wants("l", "")
}

func testEarlyRefreshClose(r rig) {
	r.expensive("k")
	g := newGate()
	r.loads("k", "fresh", g.load, cache.WithEarlyRefresh(100))
	load := await(r.t, "the refresh", g.begun)
	r.store.Close()
	if load.Err() == nil {
		r.t.Error("Close has returned, and the refresh goes on")
	}
	r.nothingLeft("k")
	r.loads("k", "fresh", never(r.t), cache.WithEarlyRefresh(100))
	r.nothingLeft("k")
}
