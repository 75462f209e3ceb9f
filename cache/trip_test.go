package cache_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// What the page promises of round trips: on a Cluster those to several masters are made
// side by side, and count one by one here.
func TestCache_roundTrips(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			rdb, proxies := b.ProxiedClient(t)
			r := rig{t: t, backend: b, prefix: b.Prefix(t)}.through(rdb)
			ctx := t.Context()
			masters := len(proxies)
			var keys []string
			for i := range 100 {
				keys = append(keys, fmt.Sprint("k", i))
			}
			load := func(_ context.Context, missing []string) (map[string]string, error) {
				values := map[string]string{}
				for _, key := range missing {
					values[key] = "v"
				}
				return values, nil
			}
			everything := func(each func(what string, most int, do func() error)) {
				each("set", 1, func() error { return r.Set(ctx, "k", "v") })
				each("hit", 1, func() error { _, _, err := r.Get(ctx, "k"); return err })
				each("load, hit", 1, func() error { _, err := r.Load(ctx, "k", never(t)); return err })
				each("delete", 1, func() error { return r.Delete(ctx, "k") })
				each("miss", 1, func() error { _, _, err := r.Get(ctx, "k"); return err })
				each("load, miss", 2, func() error { _, err := r.Load(ctx, "k", returns("v", nil)); return err })
				each("store", 2, func() error { return r.Store(ctx, "k", "v", ok) })
				each("load many, miss", 2*masters, func() error { _, err := r.LoadMany(ctx, keys, load); return err })
				each("load many, hit", masters, func() error { _, err := r.LoadMany(ctx, keys, nil2(t)); return err })
				each("get many", masters, func() error { _, err := r.GetMany(ctx, keys...); return err })
				each("delete many", masters, func() error { return r.Delete(ctx, keys...) })
				each("tags", masters, func() error { return r.store.DeleteTags(ctx, "a", "b", "c") })
				each("prefix", masters, func() error { return r.DeletePrefix(ctx, "k") })
				each("clear", masters, func() error { return r.store.Clear(ctx) })
			}
			everything(func(what string, _ int, do func() error) { noError(t, do()) }) // connections, scripts
			everything(func(what string, most int, do func() error) {
				t.Helper()
				proxies.Each((*testkit.Proxy).Reset)
				noError(t, do())
				// Pipelines above 32 KiB may be answered in parts: see Proxy.RoundTrips.
				if got := proxies.RoundTrips(); got > most {
					t.Errorf("%s: got %d round trips; want %d", what, got, most)
				}
			})
		})
	}
}

func nil2(t *testing.T) func(context.Context, []string) (map[string]string, error) {
	return func(context.Context, []string) (map[string]string, error) {
		t.Error("the source was asked")
		return nil, errors.New("not to be asked")
	}
}

// A reply is lost after the script ran. What may run twice does, and answers as if it
// had run once; what may not is told to the caller, or to the observer, and leaves
// nothing that is wrong. Protected by what each script does with its token.
func TestCache_lostReplies(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	r := rig{t: t, backend: b, prefix: b.Prefix(t)}.through(p.Client(t))
	ctx := t.Context()
	lose := func() { p.SwallowReply(1, "evalsha", testkit.ThenClose) }
	for range 2 { // scripts are known the second time
		lose()
		r.set("k", "v", cache.WithTags("t"))
		lose()
		r.wants("k", "v")
		lose()
		r.del("k")
		lose()
		r.wants("k", "")
		lose() // ask.lua, which has taken the lease
		r.loads("k", "w", returns("w", nil), cache.WithTags("t"))
		r.wants("k", "w")
		lose()
		noError(t, r.store.DeleteTags(ctx, "t"))
		r.wants("k", "")
		r.set("k", "v")
		lose()
		noError(t, r.DeletePrefix(ctx, "k"))
		r.wants("k", "")
		r.set("k", "v")
		lose()
		noError(t, r.store.Clear(ctx))
		r.wants("k", "")
		// fill.lua has stored it, or not: the caller has its value either way.
		r.loads("k", "x", func(context.Context) (string, error) { lose(); return "x", nil })
		r.loads("k", "x", returns("x", nil))
		r.del("k")
		// intend.lua: the second run finds its token, and is not a second writer.
		lose()
		r.stores("k", "y")
		r.wants("k", "y")
		// finish.lua: it has run, and nobody knows.
		err := r.Store(ctx, "k", "z", func(context.Context, string) error { lose(); return nil })
		if !errors.Is(err, cache.ErrNotInvalidated) || !errors.Is(err, cache.ErrUnavailable) {
			t.Errorf("got %v; want ErrNotInvalidated and ErrUnavailable", err)
		}
		if v, ok, err := r.Get(ctx, "k"); err != nil || ok && v != "z" {
			t.Errorf("got %q, %v, %v; want nothing but what was stored", v, ok, err)
		}
		r.del("k")
		// yield.lua, after a failure.
		if _, err := r.Load(ctx, "k", func(context.Context) (string, error) { lose(); return "", errSource }); err != errSource {
			t.Errorf("got %v; want the load's own error", err)
		}
		r.nothingLeft("k")
	}
	if got := p.Swallowed(); got < 18 {
		t.Errorf("got %d replies lost; want 18 or more", got)
	}
}

// While Redis is silent each call fails within the budget, and Load asks the source, once
// in the process. Then all is as before.
func TestCache_silent(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*testkit.Proxy){
		"hung": (*testkit.Proxy).Hang, "gone": func(p *testkit.Proxy) { p.Refuse(); p.Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, "server")
			p := testkit.NewProxy(t, b.Addrs()[0])
			r := rig{t: t, backend: b, prefix: b.Prefix(t)}.through(p.Client(t), cache.WithTimeout(200*time.Millisecond))
			ctx := t.Context()
			r.set("k", "v")
			fault(p)
			for what, call := range map[string]func() error{
				"Get": func() error { _, _, err := r.Get(ctx, "k"); return err }, "GetMany": func() error { _, err := r.GetMany(ctx, "k"); return err },
				"Set": func() error { return r.Set(ctx, "k", "w") }, "Delete": func() error { return r.Delete(ctx, "k") },
				"DeleteTags": func() error { return r.store.DeleteTags(ctx, "t") }, "Clear": func() error { return r.Clear(ctx) },
				"DeletePrefix": func() error { return r.DeletePrefix(ctx, "k") }, "DeletePattern": func() error { return r.DeletePattern(ctx, "k") },
			} {
				begun := time.Now()
				if err := call(); !errors.Is(err, cache.ErrUnavailable) || time.Since(begun) > patience {
					t.Errorf("%s: got %v after %v; want ErrUnavailable", what, err, time.Since(begun))
				}
			}
			g := newGate()
			var all []<-chan got
			for range 20 {
				all = append(all, r.loading(ctx, "k", g.load))
			}
			await(t, "the load", g.begun)
			testkit.Eventually(t, "all to wait", func() bool { return r.store.Waiters("v", "k") == 20 })
			g.answer("alone", nil)
			for _, done := range all {
				await(t, "the value", done).wants(t, "alone", nil)
			}
			if n := g.calls.Load(); n != 1 {
				t.Errorf("got %d loads; want 1", n)
			}
			if r.seen.count(cache.Unavailable) == 0 {
				t.Error("nobody was told that Redis is silent")
			}
			found, err := r.LoadMany(ctx, []string{"k", "l"}, func(context.Context, []string) (map[string]string, error) {
				return map[string]string{"k": "many"}, nil
			})
			if err != nil || len(found) != 1 || found["k"] != "many" {
				t.Errorf("LoadMany: got %v, %v", found, err)
			}
			p.Heal()
			testkit.Eventually(t, "Redis to be back", func() bool { return r.Set(ctx, "k", "back") == nil })
			r.wants("k", "back")
			r.loads("k", "back", never(t))
		})
	}
}
