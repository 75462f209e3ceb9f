package cache_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

func TestLoad_contract(t *testing.T) {
	t.Parallel()
	each(t, map[string]func(rig){
		"once in a process":          testLoadsOnce,
		"once across instances":      testLoadsOnceAcross,
		"who leaves":                 testLeaving,
		"own deadline":               testOwnDeadline,
		"errors":                     testLoadErrors,
		"what comes late":            testLateJoiners,
		"what another made obsolete": testOtherInvalidates,
		"values of the context":      testLoadContext,
		"not found":                  testNotFound,
		"timeout":                    testLoadTimeout,
		"notes":                      testNotes,
		"an entry that is damaged":   testDamaged,
		"waiting for a damaged one":  testDamagedAcross,
		"a holder that died":         testHolderDied,
		"a lease renewed":            testLeaseRenewed,
	})
}

func testLoadsOnce(r rig) {
	g := newGate()
	var all []<-chan got
	for range 50 {
		all = append(all, r.loading(r.t.Context(), "k", g.load))
	}
	await(r.t, "the load", g.begun)
	testkit.Eventually(r.t, "all to wait", func() bool { return r.store.Waiters("v", "k") == 50 })
	g.answer("v", nil)
	for _, done := range all {
		await(r.t, "the value", done).wants(r.t, "v", nil)
	}
	r.loads("k", "v", never(r.t))
	if n := g.calls.Load(); n != 1 {
		r.t.Errorf("got %d loads; want 1", n)
	}
	if n := r.seen.count(cache.Loaded); n != 1 {
		r.t.Errorf("told of %d loads; want 1", n)
	}
	r.nothingLeft("k")
}

func testLoadsOnceAcross(r rig) {
	others := []rig{r, r.another(), r.another()}
	g := newGate()
	first := r.loading(r.t.Context(), "k", g.load)
	await(r.t, "the load", g.begun)
	var all []<-chan got
	for _, other := range others {
		for range 10 {
			all = append(all, other.loading(r.t.Context(), "k", g.load))
		}
	}
	for _, other := range others[1:] {
		testkit.Eventually(r.t, "all to wait", func() bool { return other.store.Waiters("v", "k") == 10 })
	}
	g.answer("v", nil)
	await(r.t, "the value", first).wants(r.t, "v", nil)
	for _, done := range all {
		await(r.t, "the value", done).wants(r.t, "v", nil)
	}
	if n := g.calls.Load(); n != 1 {
		r.t.Errorf("got %d loads; want 1", n)
	}
}

// Of ten callers, all, most, some or none leave; the load's context ends when all have.
// Protected by "f.waiters > 0" in flight.leave.
func testLeaving(r rig) {
	for _, leaving := range []int{10, 9, 3, 0} {
		key := fmt.Sprint("leave", leaving)
		g := newGate()
		var stay, leave []<-chan got
		ctx, cancel := context.WithCancel(r.t.Context())
		for i := range 10 {
			if i < leaving { // the first of them began the load
				leave = append(leave, r.loading(ctx, key, g.load))
			} else {
				stay = append(stay, r.loading(r.t.Context(), key, g.load))
			}
			testkit.Eventually(r.t, "the caller to wait", func() bool { return r.store.Waiters("v", key) == i+1 })
		}
		load := await(r.t, "the load", g.begun)
		cancel()
		for _, done := range leave {
			if got := await(r.t, "who leaves", done); got.err != context.Canceled {
				r.t.Errorf("who left: got %v; want context.Canceled itself", got.err)
			}
		}
		if leaving == 10 {
			await(r.t, "the load's end", load.Done())
			testkit.Eventually(r.t, "the lease to be given up", func() bool { return !r.exists(r.store.LeaseKey("v", key)) })
			r.loads(key, "again", returns("again", nil))
			continue
		}
		if load.Err() != nil {
			r.t.Errorf("%d of 10 left: the load's context ended: %v", leaving, context.Cause(load))
		}
		g.answer("v", nil)
		for _, done := range stay {
			await(r.t, "the value", done).wants(r.t, "v", nil)
		}
		if n := g.calls.Load(); n != 1 {
			r.t.Errorf("%d of 10 left: got %d loads; want 1", leaving, n)
		}
		r.wants(key, "v")
	}
}

// Who waits for another process leaves at its own deadline, too.
func testOwnDeadline(r rig) {
	g := newGate()
	first := r.loading(r.t.Context(), "k", g.load)
	await(r.t, "the load", g.begun)
	other := r.another()
	ctx, cancel := context.WithTimeout(r.t.Context(), 50*time.Millisecond)
	defer cancel()
	for name, done := range map[string]<-chan got{
		"here": r.loading(ctx, "k", g.load), "there": other.loading(ctx, "k", g.load),
	} {
		if got := await(r.t, "the deadline", done); got.err != context.DeadlineExceeded {
			r.t.Errorf("%s: got %v; want context.DeadlineExceeded itself", name, got.err)
		}
	}
	g.answer("v", nil)
	await(r.t, "the value", first).wants(r.t, "v", nil)
	if n := g.calls.Load(); n != 1 {
		r.t.Errorf("got %d loads; want 1", n)
	}
}

// Each waiter, here and there, is told; no lease stays, and the next call loads anew.
// Protected by the yield in loadLeased, and by the deferred recover in call.
func testLoadErrors(r rig) {
	for name, end := range map[string]func() (string, error){
		"error":  func() (string, error) { return "", errSource },
		"panic":  func() (string, error) { panic(errSource) },
		"nil":    func() (string, error) { panic(nil) }, //nolint:govet // on purpose
		"goexit": func() (string, error) { runtime.Goexit(); return "", nil },
	} {
		g := newGate()
		var all []<-chan got
		for range 10 { // all at once: some are told that another loads before it has begun
			all = append(all, r.loading(r.t.Context(), name, g.load))
		}
		await(r.t, "the load", g.begun)
		testkit.Eventually(r.t, "all to wait", func() bool { return r.store.Waiters("v", name) == 10 })
		other := newGate()
		there := r.another().loading(r.t.Context(), name, other.load)
		g.reply <- end
		for _, done := range all {
			err := await(r.t, name, done).err
			var p *cache.PanicError
			switch {
			case name == "error" && err != errSource:
				r.t.Errorf("got %v; want the load's own error", err)
			case name == "panic" && !(errors.Is(err, errSource) && errors.As(err, &p) && p.Stack != nil && strings.Contains(p.Error(), "panicked")):
				r.t.Errorf("got %v; want a PanicError of it", err)
			case name == "goexit" && !(errors.As(err, &p) && p.Value == nil && p.Stack == nil && p.Unwrap() == nil):
				r.t.Errorf("got %v; want a PanicError without a value", err)
			case name == "nil" && !(errors.As(err, &p) && p.Stack != nil):
				r.t.Errorf("got %v; want a PanicError", err)
			}
		}
		// Another process is not told of an error: it asks the source itself.
		await(r.t, "the other's load", other.begun)
		other.answer("other", nil)
		await(r.t, "the other's value", there).wants(r.t, "other", nil)
		r.nothingLeft(name)
		r.loads(name, "other", never(r.t))
	}
	if n := r.seen.count(cache.LoadFailed); n != 4 {
		r.t.Errorf("told of %d failures; want 4", n)
	}
}

// invalidations are all ways to make "k", with tag "t", obsolete.
func (r rig) invalidations() map[string]func() error {
	ctx := r.t.Context()
	return map[string]func() error{
		"delete": func() error { return r.Delete(ctx, "k") },
		"set":    func() error { return r.Set(ctx, "k", "new") },
		"store":  func() error { return r.Store(ctx, "k", "new", func(context.Context, string) error { return nil }) },
		"failed": func() error {
			r.Store(ctx, "k", "new", func(context.Context, string) error { return errSource })
			return nil
		},
		"tags":    func() error { return r.store.DeleteTags(ctx, "other", "t") },
		"prefix":  func() error { return r.DeletePrefix(ctx, "k") },
		"pattern": func() error { return r.DeletePattern(ctx, "[j-l]*") },
		"view":    func() error { return r.Clear(ctx) },
		"all":     func() error { return r.store.Clear(ctx) },
	}
}

// What a load under way brings is given to those only who asked before it began, once
// something has made it obsolete: a value, that there is none, and one that cannot be
// stored. Protected by the marks in loadLeased, by spoil and covered in data.lua, and by
// the barrier in fill.lua.
func testLateJoiners(r rig) {
	for name, invalidate := range r.invalidations() {
		if name == "tags" {
			continue // of those the load has told nobody yet: see testOtherInvalidates
		}
		for _, old := range []got{{"old", nil}, {"", cache.ErrNotFound}, {strings.Repeat("x", 1<<20), nil}} {
			r.del("k")
			g := newGate()
			first := r.loading(r.t.Context(), "k", g.load)
			await(r.t, "the load", g.begun)
			noError(r.t, invalidate())
			late := r.loading(r.t.Context(), "k", returns("new", nil))
			if name != "set" && name != "store" { // else it has read what is kept
				testkit.Eventually(r.t, "the late one to wait", func() bool { return r.store.Waiters("v", "k") > 0 || len(late) == 1 })
			}
			g.answer(old.value, old.err)
			if got := await(r.t, "the first", first); got.value != old.value || !errors.Is(got.err, old.err) {
				r.t.Fatalf("%s: the first got %.20q, %v; want %.20q, %v", name, got.value, got.err, old.value, old.err)
			}
			if got := await(r.t, "the late one", late); got.value != "new" || got.err != nil {
				r.t.Errorf("%s: who asked after it got %.20q, %v; want what is new", name, got.value, got.err)
			}
			r.loads("k", "new", returns("new", nil))
			r.nothingLeft("k")
		}
	}
}

// As testLateJoiners, with another instance that invalidates, and one that asks late.
func testOtherInvalidates(r rig) {
	other := r.another()
	for name, invalidate := range other.invalidations() {
		r.del("k")
		load := newGate()
		first := r.loading(r.t.Context(), "k", func(ctx context.Context) (string, error) {
			cache.Tag(ctx, "t")
			return load.load(ctx)
		})
		await(r.t, "the load", load.begun)
		noError(r.t, invalidate())
		late := other.loading(r.t.Context(), "k", returns("new", nil))
		here := r.loading(r.t.Context(), "k", returns("new", nil))
		load.answer("old", nil)
		await(r.t, "the first", first).wants(r.t, "old", nil)
		for _, done := range []<-chan got{late, here} {
			if got := await(r.t, "who is late", done); got.value != "new" || got.err != nil {
				r.t.Errorf("%s: who asked after it got %.20q, %v; want what is new", name, got.value, got.err)
			}
		}
		r.loads("k", "new", returns("new", nil))
		r.nothingLeft("k")
	}
}

type ctxKey struct{}

func testLoadContext(r rig) {
	ctx, cancel := context.WithTimeout(context.WithValue(r.t.Context(), ctxKey{}, "mine"), time.Hour)
	defer cancel()
	r.loadsIn(ctx, "k", func(ctx context.Context) (string, error) {
		deadline, ok := ctx.Deadline()
		if !ok || time.Until(deadline) > 31*time.Second || time.Until(deadline) < 20*time.Second {
			r.t.Errorf("deadline: got %v, %v; want in 30 s", deadline, ok)
		}
		return ctx.Value(ctxKey{}).(string), nil
	})
	r.wants("k", "mine")
}

func (r rig) loadsIn(ctx context.Context, key string, load func(context.Context) (string, error), options ...cache.Option) {
	r.t.Helper()
	_, err := r.Load(ctx, key, load, options...)
	noError(r.t, err)
}

func testNotFound(r rig) {
	wrapped := fmt.Errorf("user 42: %w", cache.ErrNotFound)
	for range 2 {
		if _, err := r.Load(r.t.Context(), "k", returns("", wrapped)); err != wrapped {
			r.t.Errorf("got %v; want the load's own error", err)
		}
	}
	if n := r.seen.count(cache.Loaded); n != 2 {
		r.t.Errorf("told of %d loads; want 2, as it is not kept", n)
	}
	_, err := r.Load(r.t.Context(), "k", returns("", wrapped), cache.WithNegativeTTL(time.Minute), cache.WithStale(time.Hour, 0))
	if err != wrapped {
		r.t.Errorf("got %v; want the load's own error", err)
	}
	if _, err := r.Load(r.t.Context(), "k", never(r.t)); !errors.Is(err, cache.ErrNotFound) {
		r.t.Errorf("got %v; want ErrNotFound", err)
	}
	r.wants("k", "")
	r.lasts(r.store.EntryKey("v", "k"), time.Minute) // nothing stale of what is not there
	r.set("k", "v")
	r.wants("k", "v")
	r.del("k")
	// Expire keeps it without WithNegativeTTL.
	r.Load(r.t.Context(), "k", func(ctx context.Context) (string, error) {
		cache.Expire(ctx, 2*time.Minute)
		return "", cache.ErrNotFound
	})
	r.lasts(r.store.EntryKey("v", "k"), 2*time.Minute)
	if _, err := r.Load(r.t.Context(), "k", never(r.t)); !errors.Is(err, cache.ErrNotFound) {
		r.t.Errorf("got %v; want ErrNotFound", err)
	}
	noError(r.t, r.store.Clear(r.t.Context()))
	r.loads("k", "v", returns("v", nil))
}

// Whether it honours its context or not, the load's error tells of the timeout.
func testLoadTimeout(r rig) {
	hold := make(chan struct{})
	defer close(hold)
	for name, load := range map[string]func(context.Context) (string, error){
		"honours":    func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
		"by cause":   func(ctx context.Context) (string, error) { <-ctx.Done(); return "", context.Cause(ctx) },
		"own error":  func(ctx context.Context) (string, error) { <-ctx.Done(); return "", errSource },
		"never ends": func(context.Context) (string, error) { <-hold; return "late", nil },
	} {
		_, err := r.Load(r.t.Context(), name, load, cache.WithLoadTimeout(20*time.Millisecond))
		if !errors.Is(err, cache.ErrLoadTimeout) {
			r.t.Errorf("%s: got %v; want ErrLoadTimeout", name, err)
		}
		r.nothingLeft(name)
		r.loads(name, "next", returns("next", nil))
	}
}

func testNotes(r rig) {
	ctx := r.t.Context()
	cache.Tag(ctx, "") // under another context: nothing
	cache.Expire(ctx, -1)
	r.loads("k", "v", func(ctx context.Context) (string, error) {
		cache.Tag(ctx, "a", "b")
		cache.Tag(ctx, "c")
		cache.Expire(ctx, time.Hour)
		// A load inside of a load has notes of its own.
		r.loadsIn(ctx, "inner", func(ctx context.Context) (string, error) { cache.Tag(ctx, "d"); return "i", nil })
		return "v", nil
	})
	r.lasts(r.store.EntryKey("v", "k"), time.Hour)
	r.lasts(r.store.EntryKey("v", "inner"), time.Minute)
	noError(r.t, r.store.DeleteTags(ctx, "d"))
	r.wants("k", "v")
	r.wants("inner", "")
	noError(r.t, r.store.DeleteTags(ctx, "c"))
	r.wants("k", "")

	many := make([]string, 129)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	for name, note := range map[string]func(context.Context){
		"empty tag":      func(ctx context.Context) { cache.Tag(ctx, "") },
		"long tag":       func(ctx context.Context) { cache.Tag(ctx, strings.Repeat("t", 257)) },
		"129 tags":       func(ctx context.Context) { cache.Tag(ctx, many...) },
		"too many calls": func(ctx context.Context) { cache.Tag(ctx, many[:70]...); cache.Tag(ctx, many[:70]...) },
		"no lifetime":    func(ctx context.Context) { cache.Expire(ctx, 0) },
		"negative":       func(ctx context.Context) { cache.Expire(ctx, -time.Second) },
		"too long":       func(ctx context.Context) { cache.Expire(ctx, 367*24*time.Hour) },
	} {
		load := func(ctx context.Context) (string, error) { note(ctx); return "v", nil }
		if v, err := r.Load(ctx, "bad", load); !errors.Is(err, cache.ErrConfig) || v != "" {
			r.t.Errorf("%s: got %q, %v; want ErrConfig", name, v, err)
		}
		r.wants("bad", "")
		r.nothingLeft("bad")
		_, err := r.LoadMany(ctx, []string{"bad", "worse"}, func(ctx context.Context, _ []string) (map[string]string, error) {
			note(ctx)
			return map[string]string{"bad": "v"}, nil
		})
		if !errors.Is(err, cache.ErrConfig) && name != "too many calls" {
			r.t.Errorf("%s: LoadMany: got %v; want ErrConfig", name, err)
		}
		r.nothingLeft("worse")
	}
}

// damage has key's entry hold bytes that do not decode.
func (r rig) damage(key string) {
	r.t.Helper()
	r.set(key, "good")
	text := r.rdb.Get(r.t.Context(), r.store.EntryKey("v", key)).Val()
	noError(r.t, r.rdb.Set(r.t.Context(), r.store.EntryKey("v", key), strings.Replace(text, `"good"`, `{"no`, 1), time.Minute).Err())
}

func testDamaged(r rig) {
	r.damage("k")
	if _, ok, err := r.Get(r.t.Context(), "k"); ok || !errors.Is(err, cache.ErrCorrupt) {
		r.t.Errorf("Get: got %v, %v; want ErrCorrupt", ok, err)
	}
	if e := r.seen.last(cache.Damaged); e.Key != "k" || !errors.Is(e.Err, cache.ErrCorrupt) {
		r.t.Errorf("told %+v", e)
	}
	if found, err := r.GetMany(r.t.Context(), "k"); len(found) != 0 || err != nil {
		r.t.Errorf("GetMany: got %v, %v; want nothing", found, err)
	}
	r.loads("k", "good again", returns("good again", nil))
	r.wants("k", "good again")
	r.damage("k")
	found, err := r.LoadMany(r.t.Context(), []string{"k", "l"}, func(_ context.Context, missing []string) (map[string]string, error) {
		values := map[string]string{}
		for _, key := range missing {
			values[key] = key + "!"
		}
		return values, nil
	})
	if err != nil || found["k"] != "k!" || found["l"] != "l!" {
		r.t.Errorf("LoadMany: got %v, %v", found, err)
	}
	r.wants("k", "k!")
	// A source that fails, and nothing that could stand in.
	r.damage("k")
	if _, err := r.Load(r.t.Context(), "k", returns("", errSource), cache.WithStale(time.Minute, 0)); err != errSource {
		r.t.Errorf("got %v; want the load's own error", err)
	}
}

// Who finds a damaged entry that another is replacing waits, without asking Redis over
// and over, and loads no more. Protected by damaged in Store.wait.
func testDamagedAcross(r rig) {
	r.damage("k")
	g := newGate()
	first := r.loading(r.t.Context(), "k", g.load)
	await(r.t, "the load", g.begun)
	other := r.another()
	waiting := other.loading(r.t.Context(), "k", never(r.t))
	testkit.Eventually(r.t, "the other to wait", func() bool {
		return strings.HasSuffix(r.rdb.Get(r.t.Context(), r.store.LeaseKey("v", "k")).Val(), " 1")
	})
	here := r.loading(r.t.Context(), "k", never(r.t))
	g.answer("good again", nil)
	for _, done := range []<-chan got{first, waiting, here} {
		await(r.t, "the value", done).wants(r.t, "good again", nil)
	}
	if n := other.seen.count(cache.Damaged); n > 1 {
		r.t.Errorf("told %d times of one damaged entry", n)
	}
}

// A process that dies while it loads: its lease ends, and another one loads.
func testHolderDied(r rig) {
	g := newGate()
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	r.loading(ctx, "k", g.load, cache.WithLease(time.Minute))
	await(r.t, "the load", g.begun)
	waiting := r.another().loading(r.t.Context(), "k", returns("other", nil), cache.WithLease(100*time.Millisecond))
	lease := r.store.LeaseKey("v", "k")
	testkit.Eventually(r.t, "the other to wait", func() bool {
		return strings.HasSuffix(r.rdb.Get(r.t.Context(), lease).Val(), " 1")
	})
	r.rdb.PExpire(r.t.Context(), lease, time.Millisecond) // nobody renews it any more
	next := r.another().loading(r.t.Context(), "k", returns("other", nil))
	await(r.t, "who comes next", next).wants(r.t, "other", nil)
	r.rdb.Publish(r.t.Context(), r.prefix+":data:wake:v:k", "") // else it sleeps for as long as the lease said
	await(r.t, "who waited", waiting).wants(r.t, "other", nil)
	// What the dead one brings in the end is not stored.
	g.answer("late", nil)
	testkit.Eventually(r.t, "the late one to end", func() bool { return r.seen.count(cache.NotStored) == 1 })
	r.wants("k", "other")
}

// Protected by keepLease.
func testLeaseRenewed(r rig) {
	g := newGate()
	first := r.loading(r.t.Context(), "k", g.load)
	await(r.t, "the load", g.begun)
	waiting := r.another().loading(r.t.Context(), "k", never(r.t))
	lease, least := r.store.LeaseKey("v", "k"), time.Hour
	testkit.Eventually(r.t, "the lease to be renewed", func() bool {
		left := r.ttl(lease)
		least = min(least, left)
		return left > least
	})
	g.answer("v", nil)
	await(r.t, "the value", first).wants(r.t, "v", nil)
	await(r.t, "who waited", waiting).wants(r.t, "v", nil)
}
