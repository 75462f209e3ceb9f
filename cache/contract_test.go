package cache_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// patience is a budget that a busy machine does not exceed.
const patience = 10 * time.Second

// bench is a store under test and a way past it.
type bench struct {
	*cache.Store
	t      *testing.T
	rdb    redis.UniversalClient
	prefix string
}

func newBench(t *testing.T, b *testkit.Backend, options ...cache.Option) bench {
	t.Helper()
	rdb, prefix := b.Client(t), b.Prefix(t)
	options = append([]cache.Option{cache.WithPrefix(prefix), cache.WithTimeout(patience)}, options...)
	store, err := cache.New(rdb, options...)
	if err != nil {
		t.Fatal(err)
	}
	return bench{store, t, rdb, prefix}
}

func (b bench) keep(key, names, variant, data string, ttl time.Duration) {
	b.t.Helper()
	if err := b.put(b.t.Context(), key, cache.Variant{By: names, Name: variant, Data: []byte(data), Fresh: ttl, Keep: ttl}); err != nil {
		b.t.Fatalf("Keep(%q, %q, %q): %v", key, names, variant, err)
	}
}

// put stores a variant as who has found it missing does.
func (b bench) put(ctx context.Context, key string, v cache.Variant) error {
	f, err := b.Find(ctx, cache.Resource{Key: key, Variant: func(string) string { return v.Name }})
	if err != nil {
		return err
	}
	kept, err := f.Keep(ctx, v)
	if err == nil && !kept {
		err = errors.New("it was not kept")
	}
	return err
}

// found is what is there, as text.
type found struct {
	Data          string
	StoredAt, Now time.Time
	Others        bool
}

func (b bench) look(ctx context.Context, key string, variant func(string) string) (e found, ok bool, err error) {
	f, err := b.Find(ctx, cache.Resource{Key: key, Variant: variant})
	e.StoredAt, e.Now, e.Others = f.StoredAt, f.Now, f.Others
	e.Data, ok = f.Value.(string)
	return e, ok && !f.Stale, err
}

// find looks for the variant that is called value wherever there are variants.
func (b bench) find(key, value string) (found, bool) {
	b.t.Helper()
	e, ok, err := b.look(b.t.Context(), key, variantOf(value))
	if err != nil {
		b.t.Fatalf("Find(%q, %q): %v", key, value, err)
	}
	return e, ok
}

// wants checks what is found; "" wants nothing.
func (b bench) wants(key, value, want string) {
	b.t.Helper()
	e, ok := b.find(key, value)
	if ok != (want != "") || e.Data != want {
		b.t.Errorf("Find(%q, %q): got %.40q, %v; want %.40q", key, value, e.Data, ok, want)
	}
}

func variantOf(value string) func(string) string {
	return func(names string) string {
		if names == "" {
			return ""
		}
		return value
	}
}

const key = "https://shop.example/cart?user=ann%40mail.example"

func TestStore_contract(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for name, test := range map[string]func(bench){
			"find, keep, delete":               testFindKeepDelete,
			"variants":                         testVariants,
			"other names drop the variants":    testNamesChange,
			"at most 64 variants":              testVariantCap,
			"each key expires":                 testExpiry,
			"each variant expires":             testVariantExpiry,
			"a lost lifetime comes back":       testPersist,
			"another type is a miss":           testWrongType,
			"a foreign hash is a miss":         testForeignHash,
			"the server forgets the scripts":   testScriptFlush,
			"age is by Redis's clock":          testAge,
			"no text of the key reaches Redis": testPrivacy,
			"the caller's end passes":          testCancelled,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(newBench(t, b))
			})
		}
		t.Run("sizes", func(t *testing.T) { t.Parallel(); testSizes(t, b) })
	})
}

func testFindKeepDelete(b bench) {
	b.wants(key, "", "")
	b.keep(key, "", "", "first", time.Minute)
	b.wants(key, "", "first")
	b.wants(key+"/", "", "")
	b.keep(key, "", "", "second", time.Minute)
	b.wants(key, "", "second")
	b.keep("other", "", "", "\x00\xff bytes \r\n", time.Minute)
	if err := b.DeleteResource(b.t.Context(), key); err != nil {
		b.t.Fatal(err)
	}
	b.wants(key, "", "")
	b.wants("other", "", "\x00\xff bytes \r\n")
	if err := b.DeleteResource(b.t.Context(), key); err != nil {
		b.t.Errorf("Delete of what is not there: got %v; want nil", err)
	}
	b.keep(key, "", "", "third", time.Minute)
	b.wants(key, "", "third")
}

func testVariants(b bench) {
	b.keep(key, "lang", "de", "hallo", time.Minute)
	b.keep(key, "lang", "en", "hello", time.Minute)
	b.wants(key, "de", "hallo")
	b.wants(key, "en", "hello")
	b.wants(key, "fr", "")
	if e, _ := b.find(key, "fr"); !e.Others {
		b.t.Error("a miss beside other variants: Others is not set")
	}
	if e, _ := b.find("nothing", "fr"); e.Others {
		b.t.Error("a miss with no entry: Others is set")
	}
	if err := b.DeleteResource(b.t.Context(), key); err != nil {
		b.t.Fatal(err)
	}
	b.wants(key, "de", "")
	b.wants(key, "en", "")
}

// Protected by "by ~= names" in keep.lua.
func testNamesChange(b bench) {
	b.keep(key, "lang", "x", "by language", time.Minute)
	b.keep(key, "coding", "y", "by coding", time.Minute)
	b.wants(key, "x", "")
	b.wants(key, "y", "by coding")
	b.keep(key, "", "", "for all", time.Minute)
	b.wants(key, "y", "for all")
	b.keep(key, "lang", "x", "by language", time.Minute)
	b.wants(key, "y", "")
	b.wants(key, "x", "by language")
}

// Protected by the HLEN in keep.lua; that those there are may still be replaced,
// by the HEXISTS.
func testVariantCap(b bench) {
	redisKey := b.RedisKey(key)
	for i := range cache.MaxVariants {
		b.keep(key, "lang", fmt.Sprint(i), "v", time.Minute)
	}
	b.keep(key, "lang", "0", "again", time.Minute)
	b.wants(key, "0", "again")
	b.wants(key, fmt.Sprint(cache.MaxVariants-1), "v")
	if n := b.rdb.HLen(b.t.Context(), redisKey).Val(); n != cache.MaxVariants+1 {
		b.t.Errorf("fields: got %d; want %d", n, cache.MaxVariants+1)
	}
	b.keep(key, "lang", "one more", "v", time.Minute)
	b.wants(key, "one more", "v")
	b.wants(key, "0", "")
	if n := b.rdb.HLen(b.t.Context(), redisKey).Val(); n != 2 {
		b.t.Errorf("fields after one more: got %d; want 2", n)
	}
}

// Protected by the PEXPIRE in keep.lua.
func testExpiry(b bench) {
	ctx, redisKey := b.t.Context(), b.RedisKey(key)
	b.keep(key, "lang", "de", "hallo", time.Minute)
	within(b, redisKey, 50*time.Second, time.Minute)
	b.keep(key, "lang", "en", "hello", time.Hour)
	within(b, redisKey, 59*time.Minute, time.Hour)
	b.keep(key, "lang", "fr", "salut", time.Second)
	within(b, redisKey, 59*time.Minute, time.Hour)
	b.keep("for ever", "", "", "v", 1<<62)
	within(b, b.RedisKey("for ever"), 365*24*time.Hour, 366*24*time.Hour)

	b.keep("short", "", "", "v", 30*time.Millisecond)
	testkit.Eventually(b.t, "the key to go", func() bool {
		return b.rdb.Exists(ctx, b.RedisKey("short")).Val() == 0
	})
	b.wants("short", "", "")
}

func within(b bench, redisKey string, low, high time.Duration) {
	b.t.Helper()
	if ttl := b.rdb.PTTL(b.t.Context(), redisKey).Val(); ttl < low || ttl > high {
		b.t.Errorf("lifetime: got %v; want %v to %v", ttl, low, high)
	}
}

// Protected by "now >= till" in find.lua.
func testVariantExpiry(b bench) {
	b.keep(key, "lang", "de", "hallo", 30*time.Millisecond)
	b.keep(key, "lang", "en", "hello", time.Minute)
	testkit.Eventually(b.t, "the variant to end", func() bool { _, ok := b.find(key, "de"); return !ok })
	b.wants(key, "en", "hello")
	// A shorter life replaces a longer one, though the key lives on.
	b.keep("plain", "", "", "long", time.Minute)
	b.keep("plain", "", "", "short", 30*time.Millisecond)
	testkit.Eventually(b.t, "the entry to end", func() bool { _, ok := b.find("plain", ""); return !ok })
}

// Protected by the PTTL comparison in keep.lua.
func testPersist(b bench) {
	b.keep(key, "lang", "de", "hallo", time.Minute)
	if !b.rdb.Persist(b.t.Context(), b.RedisKey(key)).Val() {
		b.t.Fatal("PERSIST did nothing")
	}
	b.keep(key, "lang", "en", "hello", time.Minute)
	within(b, b.RedisKey(key), 50*time.Second, time.Minute)
	b.wants(key, "de", "hallo")
}

// Protected by redis.pcall in both scripts.
func testWrongType(b bench) {
	ctx, redisKey := b.t.Context(), b.RedisKey(key)
	for kind, put := range map[string]func() error{
		"string": func() error { return b.rdb.Set(ctx, redisKey, "by", 0).Err() },
		"list":   func() error { return b.rdb.RPush(ctx, redisKey, "by", "", "v:", "x").Err() },
		"zset":   func() error { return b.rdb.ZAdd(ctx, redisKey, redis.Z{Score: 1, Member: "by"}).Err() },
	} {
		b.rdb.Del(ctx, redisKey)
		if err := put(); err != nil {
			b.t.Fatal(kind, err)
		}
		b.wants(key, "", "")
		b.keep(key, "", "", kind, time.Minute)
		b.wants(key, "", kind)
		within(b, redisKey, 50*time.Second, time.Minute)
	}
}

func testForeignHash(b bench) {
	ctx, redisKey := b.t.Context(), b.RedisKey(key)
	for _, fields := range [][]any{
		{"by", "", "v:", "data"},
		{"by", "", "v:", "w1 1 1 epoch 1 99999999999999 0 - \ndata"},
		{"by", "", "v:", "w1 -1 0 x y z 0 - \ndata"},
		{"v:", "data"},
		{"by", "lang", "v:", "data", "d", "1"},
		{"by", "", "d", "many", "s", "few"},
		{"user", "ann", "visits", "3"},
	} {
		b.rdb.Del(ctx, redisKey)
		if err := b.rdb.HSet(ctx, redisKey, fields...).Err(); err != nil {
			b.t.Fatal(err)
		}
		if e, ok := b.find(key, "de"); ok {
			b.t.Errorf("%q: got %+v; want nothing", fields, e)
		}
		b.keep(key, "", "", "ours", time.Minute)
		b.wants(key, "", "ours")
		within(b, redisKey, 50*time.Second, time.Minute)
	}
}

func testScriptFlush(b bench) {
	b.keep(key, "", "", "v", time.Minute)
	flush := func() {
		var err error
		if c, ok := b.rdb.(*redis.ClusterClient); ok {
			err = c.ForEachMaster(b.t.Context(), func(ctx context.Context, c *redis.Client) error {
				return c.ScriptFlush(ctx).Err()
			})
		} else {
			err = b.rdb.ScriptFlush(b.t.Context()).Err()
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	flush()
	b.wants(key, "", "v")
	flush()
	b.keep(key, "", "", "w", time.Minute)
	b.wants(key, "", "w")
}

func testAge(b bench) {
	b.keep(key, "", "", "v", time.Minute)
	e, _ := b.find(key, "")
	now, err := b.rdb.Time(b.t.Context()).Result()
	if err != nil {
		b.t.Fatal(err)
	}
	if age := e.Now.Sub(e.StoredAt); age < 0 || age > patience || e.Now.After(now) || now.Sub(e.Now) > patience {
		b.t.Errorf("stored %v, now %v; Redis says %v", e.StoredAt, e.Now, now)
	}
	testkit.Eventually(b.t, "the entry to age", func() bool {
		again, ok := b.find(key, "")
		return ok && again.StoredAt.Equal(e.StoredAt) && again.Now.Sub(again.StoredAt) >= 20*time.Millisecond
	})
}

// Protected by rdb.Digest in redisKey. What variants are called is the caller's.
func testPrivacy(b bench) {
	b.keep(key, "lang", "de", "v", time.Minute)
	redisKey := b.RedisKey(key)
	if b.rdb.Exists(b.t.Context(), redisKey).Val() != 1 {
		b.t.Fatalf("no key %q", redisKey)
	}
	if strings.Contains(redisKey, "ann") || strings.Contains(redisKey, "shop") {
		b.t.Errorf("the key in Redis tells of the caller's: %q", redisKey)
	}
	for f := range b.rdb.HGetAll(b.t.Context(), redisKey).Val() {
		if f != "by" && !strings.HasPrefix(f, "v:") || strings.HasSuffix(f, "de") {
			b.t.Errorf("field %q", f)
		}
	}
}

func testCancelled(b bench) {
	ctx, cancel := context.WithCancel(b.t.Context())
	cancel()
	if _, _, err := b.look(ctx, key, variantOf("")); err != context.Canceled {
		b.t.Errorf("Find: got %v; want context.Canceled itself", err)
	}
	if err := b.put(ctx, key, cache.Variant{Fresh: time.Minute, Keep: time.Minute}); err != context.Canceled {
		b.t.Errorf("Keep: got %v; want context.Canceled itself", err)
	}
	if err := b.DeleteResource(ctx, key); err != context.Canceled {
		b.t.Errorf("Delete: got %v; want context.Canceled itself", err)
	}
}

func testSizes(t *testing.T, backend *testkit.Backend) {
	b := newBench(t, backend, cache.WithMaxBytes(3<<20))
	big := strings.Repeat("0123456789abcdef", 3<<16)
	b.keep(key, "", "", big, time.Minute)
	if e, ok := b.find(key, ""); !ok || e.Data != big {
		t.Errorf("got %d bytes, %v; want %d", len(e.Data), ok, len(big))
	}
	b.keep("empty", "", "", "", time.Minute)
	if e, ok := b.find("empty", ""); !ok || e.Data != "" {
		t.Errorf("empty: got %q, %v", e.Data, ok)
	}
	for name, err := range map[string]error{
		"a byte too long": b.put(t.Context(), key, cache.Variant{Data: []byte(big + "x"), Keep: time.Minute}),
		"no lifetime":     b.put(t.Context(), key, cache.Variant{}),
		"negative":        b.put(t.Context(), key, cache.Variant{Keep: -time.Second}),
		"under 1 ms":      b.put(t.Context(), key, cache.Variant{Keep: time.Millisecond - 1}),
	} {
		if !errors.Is(err, cache.ErrConfig) {
			t.Errorf("%s: got %v; want ErrConfig", name, err)
		}
	}
	if e, ok := b.find(key, ""); !ok || len(e.Data) != len(big) {
		t.Error("a refused Keep changed what is stored")
	}
}
