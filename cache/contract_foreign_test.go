package cache_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
)

// What others have put, changed or removed in Redis.
func TestCache_foreign(t *testing.T) {
	t.Parallel()
	each(t, map[string]func(rig){
		"another type is none":         testEntryOfOtherType,
		"another's text is none":       testEntryOfOthers,
		"a lost hash is a new epoch":   testLostMeta,
		"a hash that is no longer one": testForeignMeta,
	})
}

// Protected by redis.pcall in data.lua.
func testEntryOfOtherType(r rig) {
	ctx := r.t.Context()
	for name, put := range map[string]func(key string) error{
		"hash": func(key string) error { return r.rdb.HSet(ctx, key, "a", "b").Err() },
		"list": func(key string) error { return r.rdb.RPush(ctx, key, "a").Err() },
		"zset": func(key string) error { return r.rdb.ZAdd(ctx, key, redis.Z{Score: 1, Member: "a"}).Err() },
		"stream": func(key string) error {
			return r.rdb.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []any{"a", "b"}}).Err()
		},
	} {
		for _, key := range []string{
			r.store.EntryKey("v", name), r.store.LeaseKey("v", name), r.store.TagKey("v", name, "t"), r.store.MetaKey("v", name),
		} {
			r.rdb.Del(ctx, key)
			if err := put(key); err != nil {
				r.t.Fatal(err)
			}
			r.wants(name, "")
			r.loads(name, "loaded", returns("loaded", nil), cache.WithTags("t"))
			r.wants(name, "loaded")
			if err := r.store.DeleteTags(ctx, "t"); err != nil {
				r.t.Fatal(err)
			}
			r.wants(name, "")

			r.rdb.Del(ctx, key)
			if err := put(key); err != nil {
				r.t.Fatal(err)
			}
			r.set(name, "set", cache.WithTags("t"))
			r.wants(name, "set")
			r.rdb.Del(ctx, key)
			if err := put(key); err != nil {
				r.t.Fatal(err)
			}
			if err := r.Store(ctx, name, "stored", func(context.Context, string) error { return nil }); err != nil {
				r.t.Fatal(err)
			}
			r.wants(name, "stored")
			r.rdb.Del(ctx, key)
			if err := put(key); err != nil {
				r.t.Fatal(err)
			}
			r.del(name)
			r.wants(name, "")
		}
	}
}

// What is not an entry of ours counts as none, and Load replaces it.
func testEntryOfOthers(r rig) {
	ctx := r.t.Context()
	at := r.store.EntryKey("v", "k")
	r.set("k", "v")
	good := r.rdb.Get(ctx, at).Val()
	fields := strings.SplitN(strings.SplitN(good, "\n", 2)[0], " ", 9)
	with := func(i int, s string) string {
		f := slices.Clone(fields)
		f[i] = s
		return strings.Join(f, " ") + "\n\"v\""
	}
	huge := strings.Repeat("9", 40)
	for _, text := range []string{
		"", "\n", "text", "w1", "w2" + good[2:], good[:len(good)/2], strings.Replace(good, "\n", " ", 1),
		with(1, "x"), with(2, ""), with(3, "other-epoch"), with(4, "-1"), with(5, "1.5"), with(6, "nan"), with(8, "lost-tag"),
		with(1, "-5"), with(4, huge), with(5, huge), with(6, huge), with(1, huge), with(2, huge),
	} {
		if err := r.rdb.Set(ctx, at, text, time.Minute).Err(); err != nil {
			r.t.Fatal(err)
		}
		if _, _, err := r.Get(ctx, "k"); err != nil && !errors.Is(err, cache.ErrCorrupt) {
			r.t.Errorf("%.60q: Get: got %v; want nothing, or ErrCorrupt", text, err)
		}
		if _, err := r.GetMany(ctx, "k", "other"); err != nil {
			r.t.Errorf("%.60q: GetMany: got %v; want it left out", text, err)
		}
		v, err := r.Load(ctx, "k", returns("loaded", nil))
		if err != nil || v != "loaded" && v != "v" {
			r.t.Errorf("%.60q: Load: got %q, %v", text, v, err)
		}
		if err := r.Set(ctx, "k", "set"); err != nil {
			r.t.Errorf("%.60q: Set: %v", text, err)
		}
		r.wants("k", "set")
	}
}

// The shard's hash is evicted, or the server flushed: nobody knows any more what was
// invalidated. Protected by "epoch ~= s.e" in data.lua.
func testLostMeta(r rig) {
	r.set("k", "v", cache.WithTags("t"))
	noError(r.t, r.store.DeleteTags(r.t.Context(), "t"))
	r.rdb.Del(r.t.Context(), r.store.MetaKey("v", "k"), r.store.TagKey("v", "k", "t"))
	r.wants("k", "")
	r.loads("k", "w", returns("w", nil))
	r.wants("k", "w")
	// Under way while it is lost.
	r.loads("l", "x", func(context.Context) (string, error) {
		r.rdb.Del(r.t.Context(), r.store.MetaKey("v", "l"))
		return "x", nil
	})
	r.wants("l", "")
	// The record of a tag is evicted: protected by "since" in data.lua.
	r.set("m", "v", cache.WithTags("t"))
	r.rdb.Del(r.t.Context(), r.store.TagKey("v", "m", "t"))
	r.wants("m", "")
	r.set("m", "v", cache.WithTags("t"))
	r.rdb.Del(r.t.Context(), r.store.TagKey("v", "m", "t"))
	noError(r.t, r.store.DeleteTags(r.t.Context(), "t"))
	r.wants("m", "")
	r.set("m", "v", cache.WithTags("t"))
	r.rdb.Del(r.t.Context(), r.store.TagKey("v", "m", "t"))
	r.set("n", "v", cache.WithTags("t")) // another that may be on the same shard
	r.wants("m", "")
	r.everythingExpires()
}

func testForeignMeta(r rig) {
	ctx := r.t.Context()
	meta := r.store.MetaKey("v", "k")
	for _, fields := range [][]any{
		{"n", "many"}, {"n", "1.5"}, {"n", "-1"}, {"f", "x"}, {"b", "x"}, {"p", "x"}, {"p", "5 100:v:"}, {"p", "5 2:v: "}, {"e", ""}, {"e", "a b"},
		{"e", "a\nb"}, {"n", ""},
	} {
		r.rdb.Del(ctx, meta)
		r.set("k", "v")
		noError(r.t, r.rdb.HSet(ctx, meta, fields...).Err())
		_, _, err := r.Get(ctx, "k")
		noError(r.t, err)
		r.rdb.Del(ctx, r.store.EntryKey("v", "k"))
		r.loads("k", "loaded", returns("loaded", nil))
		noError(r.t, r.Set(ctx, "k", "w"))
		r.wants("k", "w")
		noError(r.t, r.DeletePrefix(ctx, "k"))
		r.wants("k", "")
		if r.t.Failed() {
			r.t.Fatalf("with %q in the hash", fields)
		}
	}
}
