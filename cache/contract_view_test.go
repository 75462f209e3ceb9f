package cache_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// each runs tests of a rig on every kind of Redis.
func each(t *testing.T, tests map[string]func(rig), options ...cache.Option) {
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for name, test := range tests {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(newRig(t, b, options...))
			})
		}
	})
}

func TestCache_contract(t *testing.T) {
	t.Parallel()
	each(t, map[string]func(rig){
		"get, set, delete":           testGetSetDelete,
		"any bytes":                  testAnyBytes,
		"views are apart":            testViewsApart,
		"get many":                   testGetMany,
		"delete many":                testDeleteMany,
		"arguments":                  testArguments,
		"lifetimes":                  testLifetimes,
		"lost lifetimes come back":   testLostLifetimes,
		"sizes":                      testValueSizes,
		"the server forgets scripts": testScriptsForgotten,
		"the caller's own end":       testOwnEnd,
	})
}

func testGetSetDelete(r rig) {
	r.wants("k", "")
	r.set("k", "one")
	r.wants("k", "one")
	r.another().wants("k", "one")
	r.set("k", "two")
	r.wants("k", "two")
	r.wants("K", "")
	r.del("k")
	r.wants("k", "")
	r.del("k")
	r.del()
	r.set("k", "three")
	r.wants("k", "three")
	if hits, misses := r.seen.count(cache.Hit), r.seen.count(cache.Miss); hits != 3 || misses != 3 {
		r.t.Errorf("told of %d hits and %d misses; want 3 and 3", hits, misses)
	}
	if e := r.seen.last(cache.Hit); e.View != "v" || e.Key != "k" || e.Err != nil {
		r.t.Errorf("told %+v", e)
	}
}

// strange keys, tags and prefixes: what would break a message, a pattern, a list of
// tags, an entry's head or a hash tag.
var strange = []string{
	"a b", "a\nb", "\n", " ", "{x}", "}", "a}b{c", "*", "?", "[a-z]", `\`, "a,b", "a:b", ":", "\x00\xff\xfe",
	"w1 1 1 e 1 1 1 - \n", "%2C", "ключ", strings.Repeat("x", 250), "\r\n", "-", "0", "nil", "%d %s",
}

func testAnyBytes(r rig) {
	keys := append(slices.Clone(strange), strings.Repeat("\xff", 1024))
	for i, key := range keys {
		r.set(key, fmt.Sprint("value of ", i))
	}
	for i, key := range keys {
		r.wants(key, fmt.Sprint("value of ", i))
	}
	found, err := r.GetMany(r.t.Context(), keys...)
	if err != nil || len(found) != len(keys) {
		r.t.Errorf("GetMany: got %d, %v; want %d", len(found), err, len(keys))
	}
	for i, key := range keys {
		r.loads(key, fmt.Sprint("value of ", i), never(r.t))
		r.del(key)
		r.wants(key, "")
		r.loads(key, "again", returns("again", nil), cache.WithTags(strange...))
		r.wants(key, "again")
	}
	for _, tag := range strange {
		if err := r.store.DeleteTags(r.t.Context(), tag); err != nil {
			r.t.Errorf("DeleteTags(%q): %v", tag, err)
		}
	}
	for _, key := range keys {
		r.wants(key, "")
	}
}

func testViewsApart(r rig) {
	other := viewOf[string](r.t, r.store, "v2")
	same := viewOf[string](r.t, r.another().store, "v")
	r.set("2:k", "mine")
	if err := other.Set(r.t.Context(), "k", "other"); err != nil {
		r.t.Fatal(err)
	}
	r.wants("2:k", "mine")
	r.wants("k", "")
	if v, ok, err := other.Get(r.t.Context(), "k"); v != "other" || !ok || err != nil {
		r.t.Errorf("got %q, %v, %v", v, ok, err)
	}
	if v, ok, err := same.Get(r.t.Context(), "2:k"); v != "mine" || !ok || err != nil {
		r.t.Errorf("a view of the same name: got %q, %v, %v", v, ok, err)
	}
	if err := other.Clear(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.wants("2:k", "mine")
	if _, ok, _ := other.Get(r.t.Context(), "k"); ok {
		r.t.Error("Clear left an entry of the view")
	}
}

func testGetMany(r rig) {
	var keys []string
	want := map[string]string{}
	for i := range 50 {
		key := fmt.Sprint("k", i)
		keys = append(keys, key, key) // twice
		if i%2 == 0 {
			r.set(key, key+"!")
			want[key] = key + "!"
		}
	}
	r.loads("none", "", returns("", nil))
	if _, err := r.Load(r.t.Context(), "none2", returns("", cache.ErrNotFound), cache.WithNegativeTTL(time.Minute)); !errors.Is(err, cache.ErrNotFound) {
		r.t.Errorf("got %v; want ErrNotFound", err)
	}
	keys = append(keys, "none", "none2")
	want["none"] = ""
	found, err := r.GetMany(r.t.Context(), keys...)
	if err != nil || !maps.Equal(found, want) {
		r.t.Errorf("got %v, %v; want %v", found, err, want)
	}
	if found, err := r.GetMany(r.t.Context()); err != nil || len(found) != 0 {
		r.t.Errorf("of nothing: got %v, %v", found, err)
	}
	if _, err := r.GetMany(r.t.Context(), "k0", ""); !errors.Is(err, cache.ErrConfig) {
		r.t.Errorf("an empty key: got %v; want ErrConfig", err)
	}
}

func testDeleteMany(r rig) {
	var keys []string
	for i := range 40 {
		keys = append(keys, fmt.Sprint(i))
		r.set(keys[i], "v")
	}
	if err := r.Delete(r.t.Context(), "0", ""); !errors.Is(err, cache.ErrConfig) {
		r.t.Errorf("an empty key: got %v; want ErrConfig", err)
	}
	r.wants("0", "v") // nothing is removed
	r.del(keys[1:]...)
	found, err := r.GetMany(r.t.Context(), keys...)
	if err != nil || len(found) != 1 {
		r.t.Errorf("got %v, %v; want one left", found, err)
	}
}

func testArguments(r rig) {
	ctx := r.t.Context()
	long := strings.Repeat("k", 1025)
	save := func(context.Context, string) error { r.t.Error("save was called"); return nil }
	many := func(context.Context, []string) (map[string]string, error) {
		r.t.Error("load was called")
		return nil, nil
	}
	for name, call := range map[string]func() error{
		"Get empty":       func() error { _, _, err := r.Get(ctx, ""); return err },
		"Get long":        func() error { _, _, err := r.Get(ctx, long); return err },
		"GetMany long":    func() error { _, err := r.GetMany(ctx, "k", long); return err },
		"Set empty":       func() error { return r.Set(ctx, "", "v") },
		"Set long":        func() error { return r.Set(ctx, long, "v") },
		"Delete long":     func() error { return r.Delete(ctx, long) },
		"Load empty":      func() error { _, err := r.Load(ctx, "", never(r.t)); return err },
		"Load nil":        func() error { _, err := r.Load(ctx, "k", nil); return err },
		"LoadMany nil":    func() error { _, err := r.LoadMany(ctx, []string{"k"}, nil); return err },
		"LoadMany empty":  func() error { _, err := r.LoadMany(ctx, []string{"k", ""}, many); return err },
		"Store nil":       func() error { return r.Store(ctx, "k", "v", nil) },
		"Store empty":     func() error { return r.Store(ctx, "", "v", save) },
		"Store option":    func() error { return r.Store(ctx, "k", "v", save, cache.WithTTL(-1)) },
		"Set option":      func() error { return r.Set(ctx, "k", "v", cache.WithTTL(0)) },
		"Load option":     func() error { _, err := r.Load(ctx, "k", never(r.t), cache.WithLease(0)); return err },
		"LoadMany option": func() error { _, err := r.LoadMany(ctx, []string{"k"}, many, nil); return err },
		"prefix empty":    func() error { return r.DeletePrefix(ctx, "") },
		"prefix long":     func() error { return r.DeletePrefix(ctx, long) },
		"pattern empty":   func() error { return r.DeletePattern(ctx, "") },
		"tag empty":       func() error { return r.store.DeleteTags(ctx, "a", "") },
		"tag long":        func() error { return r.store.DeleteTags(ctx, strings.Repeat("t", 257)) },
		"Set tag":         func() error { return r.Set(ctx, "k", "v", cache.WithTags("")) },
	} {
		if err := call(); !errors.Is(err, cache.ErrConfig) || !strings.HasPrefix(err.Error(), "cache: ") {
			r.t.Errorf("%s: got %v; want ErrConfig", name, err)
		}
	}
	if err := r.store.DeleteTags(ctx); err != nil {
		r.t.Errorf("no tags: got %v; want nil", err)
	}
	if keys := testkit.Keys(r.t, r.rdb, r.prefix); len(keys) != 0 {
		r.t.Errorf("what was refused left %q", keys)
	}
}

// Protected by the PX of put and by both PEXPIRE in data.lua.
func testLifetimes(r rig) {
	r.set("k", "v", cache.WithTTL(time.Minute), cache.WithStale(time.Minute, 0), cache.WithTags("t"))
	r.lasts(r.store.EntryKey("v", "k"), 2*time.Minute)
	r.lasts(r.store.TagKey("v", "k", "t"), 2*time.Minute)
	r.lasts(r.store.MetaKey("v", "k"), 400*24*time.Hour)
	// The tag outlives the longest entry that has it; a shorter one changes nothing.
	r.set("k", "v", cache.WithTTL(time.Hour), cache.WithTags("t"))
	r.lasts(r.store.TagKey("v", "k", "t"), time.Hour)
	r.set("k", "v", cache.WithTTL(time.Second), cache.WithTags("t"))
	r.lasts(r.store.TagKey("v", "k", "t"), time.Hour)

	r.set("longest", "v", cache.WithTTL(366*24*time.Hour), cache.WithStale(366*24*time.Hour, 0))
	r.lasts(r.store.EntryKey("v", "longest"), 732*24*time.Hour)
	r.set("short", "v", cache.WithTTL(time.Millisecond))
	testkit.Eventually(r.t, "the shortest to end", func() bool { return !r.exists(r.store.EntryKey("v", "short")) })
	r.wants("short", "")

	g := newGate()
	done := r.loading(r.t.Context(), "loading", g.load, cache.WithLease(10*time.Second))
	await(r.t, "the load", g.begun)
	r.lasts(r.store.LeaseKey("v", "loading"), 10*time.Second)
	g.answer("v", nil)
	await(r.t, "the value", done).wants(r.t, "v", nil)
	r.everythingExpires()
}

// lasts checks that a key has this lifetime, or a little less.
func (r rig) lasts(key string, want time.Duration) {
	r.t.Helper()
	if ttl := r.ttl(key); ttl > want || ttl < want-5*time.Second {
		r.t.Errorf("lifetime of %q: got %v; want %v", key, ttl, want)
	}
}

// everythingExpires checks that no key stays for ever.
func (r rig) everythingExpires() {
	r.t.Helper()
	for _, key := range testkit.Keys(r.t, r.rdb, r.prefix) {
		if ttl := r.ttl(key); ttl == -1 {
			r.t.Errorf("%q has no lifetime", key)
		}
	}
}

// Somebody took the lifetimes away: each is given back by whoever comes next.
func testLostLifetimes(r rig) {
	r.set("k", "v", cache.WithTags("t"))
	for _, key := range testkit.Keys(r.t, r.rdb, r.prefix) {
		r.rdb.Persist(r.t.Context(), key)
	}
	r.wants("k", "v")
	r.set("k", "w", cache.WithTags("t"))
	r.everythingExpires()
	for _, key := range testkit.Keys(r.t, r.rdb, r.prefix) {
		r.rdb.Persist(r.t.Context(), key)
	}
	if err := r.store.DeleteTags(r.t.Context(), "t"); err != nil {
		r.t.Fatal(err)
	}
	r.wants("k", "")
	r.loads("k", "x", returns("x", nil), cache.WithTags("t"))
	r.everythingExpires()
	// A lease without an end: protected by the PEXPIRE in ask.lua.
	r.del("k")
	lease := r.store.LeaseKey("v", "k")
	g := newGate()
	r.loading(r.t.Context(), "k", g.load)
	await(r.t, "the load", g.begun)
	r.rdb.Persist(r.t.Context(), lease)
	other := newGate()
	waiting := r.another().loading(r.t.Context(), "k", other.load)
	testkit.Eventually(r.t, "the lease to have an end", func() bool { return r.ttl(lease) > 0 })
	g.answer("y", nil)
	await(r.t, "the value", waiting).wants(r.t, "y", nil)
}

func testValueSizes(r rig) {
	view := viewOf[string](r.t, r.store, "sized", cache.WithMaxBytes(102)) // two are JSON's quotes
	full := strings.Repeat("v", 100)
	if err := view.Set(r.t.Context(), "k", full); err != nil {
		r.t.Errorf("as large as may be: %v", err)
	}
	if err := view.Set(r.t.Context(), "k", full+"v"); !errors.Is(err, cache.ErrConfig) {
		r.t.Errorf("a byte more: got %v; want ErrConfig", err)
	}
	if v, ok, err := view.Get(r.t.Context(), "k"); v != full || !ok || err != nil {
		r.t.Errorf("a refused Set changed what is kept: %q, %v, %v", v, ok, err)
	}
	err := view.Store(r.t.Context(), "k", full+"v", func(context.Context, string) error { r.t.Error("save was called"); return nil })
	if !errors.Is(err, cache.ErrConfig) {
		r.t.Errorf("Store: got %v; want ErrConfig", err)
	}
	v, err := view.Load(r.t.Context(), "other", returns(full+"v", nil))
	if v != full+"v" || err != nil {
		r.t.Errorf("Load: got %q, %v", v, err)
	}
	if e := r.seen.last(cache.NotStored); !errors.Is(e.Err, cache.ErrConfig) || e.Key != "other" {
		r.t.Errorf("told %+v; want that it was not stored", e)
	}
	if _, ok, _ := view.Get(r.t.Context(), "other"); ok {
		r.t.Error("what is too large was stored")
	}
	if r.exists(r.store.LeaseKey("sized", "other")) {
		r.t.Error("the lease is left")
	}
}

// flushScripts has all masters forget all scripts.
func (r rig) flushScripts() {
	r.t.Helper()
	var err error
	if c, ok := r.rdb.(*redis.ClusterClient); ok {
		err = c.ForEachMaster(r.t.Context(), func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() })
	} else {
		err = r.rdb.ScriptFlush(r.t.Context()).Err()
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

func testScriptsForgotten(r rig) {
	ctx := r.t.Context()
	for name, call := range map[string]func(){
		"set":    func() { r.set("k", "v", cache.WithTags("t")) },
		"get":    func() { r.Get(ctx, "k") },
		"many":   func() { r.GetMany(ctx, "k", "l", "m", "n") },
		"delete": func() { r.del("k", "l") },
		"load": func() {
			r.del("k")
			r.loads("k", "x", func(context.Context) (string, error) { r.flushScripts(); return "x", nil })
			r.wants("k", "x")
		},
		"fail": func() {
			if _, err := r.Load(ctx, "f", func(context.Context) (string, error) { r.flushScripts(); return "", errSource }); err != errSource {
				r.t.Errorf("got %v; want the load's own error", err)
			}
			r.nothingLeft("f")
		},
		"store": func() {
			if err := r.Store(ctx, "k", "y", func(context.Context, string) error { r.flushScripts(); return nil }); err != nil {
				r.t.Error(err)
			}
			r.wants("k", "y")
		},
		"tags":    func() { noError(r.t, r.store.DeleteTags(ctx, "t")) },
		"prefix":  func() { noError(r.t, r.DeletePrefix(ctx, "k")) },
		"pattern": func() { noError(r.t, r.DeletePattern(ctx, "k*")) },
		"clear":   func() { noError(r.t, r.store.Clear(ctx)) },
	} {
		r.flushScripts()
		call()
		if r.t.Failed() {
			r.t.Fatal(name)
		}
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// The caller's own end passes as it is, and nothing is done.
func testOwnEnd(r rig) {
	r.set("k", "v")
	ctx, cancel := context.WithCancel(r.t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"Get":     func() error { _, _, err := r.Get(ctx, "k"); return err },
		"GetMany": func() error { _, err := r.GetMany(ctx, "k"); return err },
		"Set":     func() error { return r.Set(ctx, "k", "w") },
		"Delete":  func() error { return r.Delete(ctx, "k") },
		"Load":    func() error { _, err := r.Load(ctx, "k", never(r.t)); return err },
		"LoadMany": func() error {
			_, err := r.LoadMany(ctx, []string{"k"}, func(context.Context, []string) (map[string]string, error) {
				r.t.Error("load was called")
				return nil, nil
			})
			return err
		},
		"Store": func() error {
			return r.Store(ctx, "k", "w", func(context.Context, string) error { r.t.Error("save was called"); return nil })
		},
		"DeleteTags":    func() error { return r.store.DeleteTags(ctx, "t") },
		"DeletePrefix":  func() error { return r.DeletePrefix(ctx, "k") },
		"DeletePattern": func() error { return r.DeletePattern(ctx, "k") },
		"Clear":         func() error { return r.Clear(ctx) },
		"Store.Clear":   func() error { return r.store.Clear(ctx) },
	} {
		if err := call(); err != context.Canceled {
			r.t.Errorf("%s: got %v; want context.Canceled itself", name, err)
		}
	}
	r.wants("k", "v")
}
