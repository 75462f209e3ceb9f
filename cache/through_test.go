package cache_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

func TestStore_through(t *testing.T) {
	t.Parallel()
	each(t, map[string]func(rig){
		"source first":           testSourceFirst,
		"save fails":             testSaveFails,
		"two overlap":            testWritersOverlap,
		"one after another":      testWritersInTurn,
		"a load under way":       testLoadUnderWrite,
		"a load meanwhile":       testLoadDuringWrite,
		"changed meanwhile":      testWriteInvalidated,
		"a writer dies":          testWriterDies,
		"one dies, others go on": testWriterDiesAmongOthers,
		"its lease ends":         testWriterLeaseEnds,
		"canceled while saving":  testWriterCanceled,
		"options":                testWriteOptions,
	})
}

func ok(context.Context, string) error { return nil }

func (r rig) stores(key, value string, options ...cache.Option) {
	r.t.Helper()
	if err := r.Store(r.t.Context(), key, value, ok, options...); err != nil {
		r.t.Fatalf("Store(%q): %v", key, err)
	}
}

// While save runs nothing is read that was there before.
func testSourceFirst(r rig) {
	r.set("k", "old")
	other := r.another()
	err := r.Store(context.WithValue(r.t.Context(), ctxKey{}, "mine"), "k", "new", func(ctx context.Context, v string) error {
		if v != "new" || ctx.Value(ctxKey{}) != "mine" {
			r.t.Errorf("save got %q, %v", v, ctx.Value(ctxKey{}))
		}
		r.wants("k", "")
		other.wants("k", "")
		r.lasts(r.store.LeaseKey("v", "k"), 3*time.Second)
		return nil
	})
	noError(r.t, err)
	r.wants("k", "new")
	r.nothingLeft("k")
	r.lasts(r.store.EntryKey("v", "k"), time.Minute)
}

// An error passes as it is, a panic and Goexit too; then nothing is kept, and loads store
// again. Protected by the deferred finish in Store.
func testSaveFails(r rig) {
	for name, save := range map[string]func(context.Context, string) error{
		"error":  func(context.Context, string) error { return errSource },
		"panic":  func(context.Context, string) error { panic(errSource) },
		"goexit": func(context.Context, string) error { runtime.Goexit(); return nil },
	} {
		r.set(name, "old")
		var err error
		var panicked any
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() { panicked = recover() }()
			err = r.Store(r.t.Context(), name, "new", save)
		})
		wg.Wait()
		if name == "error" && err != errSource || name == "panic" && panicked != any(errSource) {
			r.t.Errorf("%s: got %v, panic %v; want save's own", name, err, panicked)
		}
		r.wants(name, "")
		r.nothingLeft(name)
		r.loads(name, "loaded", returns("loaded", nil))
		r.wants(name, "loaded")
	}
}

// Of two that overlap nobody knows which the source took last: neither is kept, in
// whatever order they end. Protected by "contended" in intend.lua and finish.lua.
func testWritersOverlap(r rig) {
	other := r.another()
	for i, order := range [][]int{{0, 1}, {1, 0}} {
		key := fmt.Sprint(i)
		gates := []*gate{newGate(), newGate()}
		var done [2]chan error
		for w, who := range []rig{r, other} {
			done[w] = make(chan error, 1)
			go func() {
				done[w] <- who.Store(r.t.Context(), key, fmt.Sprint("of ", w), func(ctx context.Context, _ string) error {
					_, err := gates[w].load(ctx)
					return err
				})
			}()
			await(r.t, "save", gates[w].begun)
		}
		for _, w := range order {
			gates[w].answer("", nil)
			noError(r.t, await(r.t, "the writer", done[w]))
			r.wants(key, "")
		}
		r.nothingLeft(key)
		r.stores(key, "alone")
		r.wants(key, "alone")
	}
}

func testWritersInTurn(r rig) {
	for i := range 20 {
		r.stores("k", fmt.Sprint(i))
		r.wants("k", fmt.Sprint(i))
	}
}

// What was being loaded when the write began is not stored, and what it brings goes to
// those only who had asked before. Protected by the SET of intend.lua.
func testLoadUnderWrite(r rig) {
	for name, save := range map[string]func(context.Context, string) error{
		"taken": ok, "refused": func(context.Context, string) error { return errSource },
	} {
		g := newGate()
		first := r.another().loading(r.t.Context(), name, g.load)
		await(r.t, "the load", g.begun)
		late := make(chan got, 1)
		err := r.Store(r.t.Context(), name, "new", func(ctx context.Context, v string) error {
			g.answer("old", nil)
			await(r.t, "the load", first).wants(r.t, "old", nil)
			r.wants(name, "")
			return save(ctx, v)
		})
		if err != nil && err != errSource {
			r.t.Error(err)
		}
		close(late)
		r.loads(name, "new", returns("new", nil))
		r.wants(name, "new")
	}
}

// What is loaded between is not stored.
func testLoadDuringWrite(r rig) {
	other := r.another()
	noError(r.t, r.Store(r.t.Context(), "k", "new", func(context.Context, string) error {
		for range 2 {
			other.loads("k", "old", returns("old", nil))
			r.loads("k", "old", returns("old", nil))
		}
		found, err := other.LoadMany(r.t.Context(), []string{"k", "l"}, func(_ context.Context, missing []string) (map[string]string, error) {
			values := map[string]string{}
			for _, key := range missing {
				values[key] = "old"
			}
			return values, nil
		})
		if err != nil || found["k"] != "old" || found["l"] != "old" {
			r.t.Errorf("got %v, %v", found, err)
		}
		r.wants("k", "")
		return nil
	}))
	r.wants("k", "new")
	r.wants("l", "old")
	// A load that began between and ends after it.
	g := newGate()
	var done <-chan got
	noError(r.t, r.Store(r.t.Context(), "k", "newer", func(context.Context, string) error {
		done = other.loading(r.t.Context(), "k", g.load)
		await(r.t, "the load", g.begun)
		return nil
	}))
	late := other.loading(r.t.Context(), "k", never(r.t)) // waits for it, and does not take it
	g.answer("old", nil)
	await(r.t, "who came between", done).wants(r.t, "old", nil)
	await(r.t, "who came after", late).wants(r.t, "newer", nil)
	r.wants("k", "newer")
}

// An invalidation while the source is being written: what was written is not kept, as
// it may be what the invalidation was about.
func testWriteInvalidated(r rig) {
	other := r.another()
	for name, invalidate := range other.invalidations() {
		noError(r.t, r.Store(r.t.Context(), "k", "mine", func(context.Context, string) error { return invalidate() }, cache.WithTags("t")))
		v, kept, err := r.Get(r.t.Context(), "k")
		if err != nil || kept && v == "mine" {
			r.t.Errorf("%s: got %q, %v, %v; want it not to be kept", name, v, kept, err)
		}
		r.nothingLeft("k")
		r.stores("k", "alone")
		r.wants("k", "alone")
	}
}

// A writer that died keeps its key from being stored until its lease ends.
func testWriterDies(r rig) {
	hold := make(chan struct{})
	saving := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		noError(r.t, r.Store(r.t.Context(), "k", "late", func(context.Context, string) error {
			close(saving)
			<-hold
			return nil
		}, cache.WithLease(time.Minute)))
	})
	await(r.t, "save", saving)
	other := r.another()
	other.loads("k", "v", returns("v", nil))
	other.wants("k", "")
	r.rdb.PExpire(r.t.Context(), r.store.LeaseKey("v", "k"), time.Millisecond)
	testkit.Eventually(r.t, "the lease to end", func() bool { return !r.exists(r.store.LeaseKey("v", "k")) })
	other.loads("k", "v", returns("v", nil))
	other.wants("k", "v")
	// It was not dead: what it has written makes the entry obsolete.
	close(hold)
	wg.Wait()
	other.wants("k", "")
	other.loads("k", "late", returns("late", nil))
	other.wants("k", "late")
}

// As long as others keep writing, too. Protected by the ends of writers in data.lua.
func testWriterDiesAmongOthers(r rig) {
	hold := make(chan struct{})
	saving := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		noError(r.t, r.Store(r.t.Context(), "k", "late", func(context.Context, string) error {
			close(saving)
			<-hold
			return nil
		}, cache.WithLease(time.Minute)))
	})
	await(r.t, "save", saving)
	lease := r.store.LeaseKey("v", "k")
	// As if it had died long ago: its end is in the past, the lease is others'.
	text := r.rdb.Get(r.t.Context(), lease).Val()
	var contended, born int
	var epoch, writer string
	if _, err := fmt.Sscanf(text, "W %d %d %s %s", &contended, &born, &epoch, &writer); err != nil {
		r.t.Fatalf("%q: %v", text, err)
	}
	token, _, _ := strings.Cut(writer, ":")
	r.rdb.Set(r.t.Context(), lease, fmt.Sprintf("W %d %d %s %s:1000", contended, born, epoch, token), time.Minute)
	r.stores("k", "alive")
	r.wants("k", "alive")
	close(hold)
	wg.Wait()
	r.wants("k", "")
}

// A writer whose lease has ended, while another one writes: neither is kept.
func testWriterLeaseEnds(r rig) {
	other := r.another()
	noError(r.t, r.Store(r.t.Context(), "k", "slow", func(context.Context, string) error {
		r.rdb.Del(r.t.Context(), r.store.LeaseKey("v", "k"))
		return other.Store(r.t.Context(), "k", "other", ok)
	}))
	r.wants("k", "")
	noError(r.t, r.Store(r.t.Context(), "k", "slow", func(context.Context, string) error {
		r.rdb.Del(r.t.Context(), r.store.LeaseKey("v", "k"))
		other.loads("k", "v", returns("v", nil))
		return nil
	}))
	r.wants("k", "")
	// A load that began meanwhile is not stored either: it may have read too early.
	g := newGate()
	var done <-chan got
	noError(r.t, r.Store(r.t.Context(), "k", "slow", func(context.Context, string) error {
		r.rdb.Del(r.t.Context(), r.store.LeaseKey("v", "k"))
		done = other.loading(r.t.Context(), "k", g.load)
		await(r.t, "the load", g.begun)
		return nil
	}))
	g.answer("old", nil)
	await(r.t, "the load", done).wants(r.t, "old", nil)
	r.wants("k", "")
}

// A caller that leaves while the source is being written: the cache is told all the same.
// Protected by WithoutCancel in writer.finish.
func testWriterCanceled(r rig) {
	ctx, cancel := context.WithCancel(r.t.Context())
	noError(r.t, r.Store(ctx, "k", "new", func(context.Context, string) error { cancel(); return nil }))
	r.wants("k", "new")
	r.nothingLeft("k")
}

func testWriteOptions(r rig) {
	r.stores("k", "v", cache.WithTTL(time.Hour), cache.WithTags("t"), cache.WithStale(time.Hour, 0), cache.WithLease(time.Second))
	r.lasts(r.store.EntryKey("v", "k"), 2*time.Hour)
	noError(r.t, r.store.DeleteTags(r.t.Context(), "t"))
	r.wants("k", "")
}

// Redis falls silent before, and after, the source was written.
func TestStore_silent(t *testing.T) {
	t.Parallel()
	for _, fault := range []struct {
		name        string
		before, now func(*testkit.Proxy)
	}{
		{"refused all the time", func(p *testkit.Proxy) { p.Refuse(); p.Cut() }, nil},
		{"refused from then on", nil, func(p *testkit.Proxy) { p.Refuse(); p.Cut() }},
		{"silent all the time", (*testkit.Proxy).Hang, nil},
		{"silent from then on", nil, (*testkit.Proxy).Hang},
		{"the last reply is lost", nil, func(p *testkit.Proxy) { p.SwallowReply(1, "evalsha", testkit.ThenClose) }},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, "server")
			p := testkit.NewProxy(t, b.Addrs()[0])
			r := rig{t: t, backend: b, prefix: b.Prefix(t)}.through(p.Client(t), cache.WithTimeout(300*time.Millisecond))
			direct := r.another()
			r.set("k", "old")
			r.stores("warm", "v") // connections and scripts
			if fault.before != nil {
				fault.before(p)
			}
			saved := false
			err := r.Store(t.Context(), "k", "new", func(context.Context, string) error {
				saved = true
				if fault.now != nil {
					fault.now(p)
				}
				return nil
			}, cache.WithLease(time.Second))
			if !saved || !errors.Is(err, cache.ErrNotInvalidated) || !errors.Is(err, cache.ErrUnavailable) {
				t.Fatalf("saved %v, got %v; want ErrNotInvalidated and ErrUnavailable", saved, err)
			}
			p.Heal()
			if v, ok, err := direct.Get(t.Context(), "k"); err != nil || ok && v == "old" && fault.before == nil {
				t.Errorf("got %q, %v, %v; want nothing old", v, ok, err)
			}
			// Nothing is stuck: once its lease has ended the key is stored again.
			direct.del("k")
			testkit.Eventually(t, "the key to be stored again", func() bool {
				direct.loads("k", "again", returns("again", nil))
				v, ok, _ := direct.Get(t.Context(), "k")
				return ok && v == "again"
			})
		})
	}
	t.Run("back before the end", func(t *testing.T) {
		t.Parallel()
		b := testkit.Shared(t, "server")
		p := testkit.NewProxy(t, b.Addrs()[0])
		r := rig{t: t, backend: b, prefix: b.Prefix(t)}.through(p.Client(t), cache.WithTimeout(300*time.Millisecond))
		direct := r.another()
		r.set("k", "old")
		p.Refuse()
		p.Cut()
		err := r.Store(t.Context(), "k", "new", func(context.Context, string) error {
			direct.loads("k", "old", never(t))
			p.Heal()
			testkit.Eventually(t, "Redis to be back", func() bool { _, _, err := r.Get(t.Context(), "k"); return err == nil })
			return nil
		})
		noError(t, err)
		direct.wants("k", "")
	})
}
