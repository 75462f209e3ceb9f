package cache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// unreached is a client of a Redis that is down: what is checked before any I/O.
func unreached(t *testing.T) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)})
	t.Cleanup(func() { client.Close() })
	return client
}

func ignore(context.Context, cache.Event) {}

// Each option refuses what it cannot mean, naming itself, and says what to write.
func TestOption_mistakes(t *testing.T) {
	t.Parallel()
	client := unreached(t)
	for want, option := range map[string]cache.Option{
		"WithTTL(0s): must be from 1ms":                   cache.WithTTL(0),
		"WithJitter(-0.1): must be from 0 to 0.5":         cache.WithJitter(-0.1),
		"WithJitter(0.6)":                                 cache.WithJitter(0.6),
		"WithNegativeTTL(0s): must be":                    cache.WithNegativeTTL(0),
		"WithStale(0s, …): grace must be":                 cache.WithStale(0, 0),
		"WithStale(…, -1s): soft must be":                 cache.WithStale(time.Minute, -time.Second),
		"WithEarlyRefresh(0): must be from 0.1":           cache.WithEarlyRefresh(0),
		"WithLoadTimeout(0s): must be":                    cache.WithLoadTimeout(0),
		"WithLease(1ms): must be from 100ms":              cache.WithLease(time.Millisecond),
		"WithCodec(nil): pass a Codec":                    cache.WithCodec(nil),
		"WithCompression(1): must be at least 64":         cache.WithCompression(1),
		`tag "": must have 1 to 256 bytes`:                cache.WithTags("fine", ""),
		"WithMaxBytes(0): must be from 1":                 cache.WithMaxBytes(0),
		"WithMaxBody(0): must be from 1":                  cache.WithMaxBody(0),
		"WithClone: belongs to cache.For":                 cache.WithClone(func(s string) string { return s }),
		"WithNear(1): must be at least 65536":             cache.WithNear(1),
		"WithObserver(nil): pass a function":              cache.WithObserver(nil),
		`WithPrefix("{}"): use letters`:                   cache.WithPrefix("{}"),
		"WithTimeout(0s): must be from 1ms to 30s; leave": cache.WithTimeout(0),
	} {
		if _, err := cache.New(client, option); !errors.Is(err, cache.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want ErrConfig with %q", err, want)
		}
	}
}

// An option at a place where it does not belong is refused there, and told where it does.
func TestOption_places(t *testing.T) {
	t.Parallel()
	store, err := cache.New(unreached(t), cache.WithTTL(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	view, err := cache.For[string](store, "v")
	if err != nil {
		t.Fatal(err)
	}
	ofNew := map[string]cache.Option{
		"WithNear": cache.WithNear(1 << 20), "WithObserver": cache.WithObserver(ignore),
		"WithPrefix": cache.WithPrefix("p"), "WithTimeout": cache.WithTimeout(time.Second),
		"WithMaxBody": cache.WithMaxBody(1),
	}
	for name, option := range ofNew {
		if _, err := cache.For[string](store, "w", option); !errors.Is(err, cache.ErrConfig) || !strings.Contains(err.Error(), name+": belongs to cache.New") {
			t.Errorf("%s given to For: got %v", name, err)
		}
		if err := view.Set(t.Context(), "k", "v", option); !errors.Is(err, cache.ErrConfig) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s given to Set: got %v", name, err)
		}
	}
	for name, option := range map[string]cache.Option{
		"WithCodec": cache.WithCodec(cache.Gob), "WithMaxBytes": cache.WithMaxBytes(1),
		"WithClone": cache.WithClone(func(s string) string { return s }), "option 1 is nil": nil,
	} {
		if err := view.Set(t.Context(), "k", "v", option); !errors.Is(err, cache.ErrConfig) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s given to Set: got %v", name, err)
		}
	}
}

func TestFor_mistakes(t *testing.T) {
	t.Parallel()
	client := unreached(t)
	bare, err := cache.New(client)
	if err != nil {
		t.Fatal(err)
	}
	_, err = cache.For[int](bare, "a:b", nil, cache.WithTTL(-1), cache.WithClone(func(s string) string { return s }), cache.WithPrefix("x"))
	for _, want := range []string{`name "a:b"`, "option 1 is nil", "WithTTL(-1ns)", "no lifetime", "WithClone: got a func(string) string; want a func(int) int", "WithPrefix: belongs"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q in it", err, want)
		}
	}
	for name, want := range map[string]bool{"user": true, "user.2": true, "A-b_c": true, "": false, "a b": false, "{a}": false, strings.Repeat("n", 65): false} {
		if _, err := cache.For[int](bare, name, cache.WithTTL(time.Minute)); (err == nil) != want {
			t.Errorf("name %q: got %v; want an error: %v", name, err, !want)
		}
	}
	if _, err := cache.For[int](nil, "v"); !errors.Is(err, cache.ErrConfig) || !strings.Contains(err.Error(), "store is nil") {
		t.Errorf("nil store: got %v", err)
	}
}

// What a call cannot mean is refused before Redis, which is down, is asked.
func TestCache_badArguments(t *testing.T) {
	t.Parallel()
	store, err := cache.New(unreached(t), cache.WithTTL(time.Minute), cache.WithMaxBytes(10))
	if err != nil {
		t.Fatal(err)
	}
	view, err := cache.For[any](store, "v")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	load := func(context.Context) (any, error) { return nil, nil }
	save := func(context.Context, any) error {
		t.Error("the source was written")
		return nil
	}
	long := strings.Repeat("k", 1025)
	for what, call := range map[string]func() error{
		"get, empty key":        func() error { _, _, err := view.Get(ctx, ""); return err },
		"get, long key":         func() error { _, _, err := view.Get(ctx, long); return err },
		"get many, empty key":   func() error { _, err := view.GetMany(ctx, "a", ""); return err },
		"set, empty key":        func() error { return view.Set(ctx, "", 1) },
		"set, too large":        func() error { return view.Set(ctx, "k", "more than ten bytes") },
		"set, no lifetime":      func() error { return view.Set(ctx, "k", 1, cache.WithTTL(0)) },
		"delete, empty key":     func() error { return view.Delete(ctx, "a", "") },
		"delete, empty prefix":  func() error { return view.DeletePrefix(ctx, "") },
		"delete, long prefix":   func() error { return view.DeletePrefix(ctx, long) },
		"delete, empty pattern": func() error { return view.DeletePattern(ctx, "") },
		"delete, empty tag":     func() error { return store.DeleteTags(ctx, "") },
		"load, nil":             func() error { _, err := view.Load(ctx, "k", nil); return err },
		"load, empty key":       func() error { _, err := view.Load(ctx, "", load); return err },
		"load many, nil":        func() error { _, err := view.LoadMany(ctx, []string{"k"}, nil); return err },
		"store, nil":            func() error { return view.Store(ctx, "k", 1, nil) },
		"store, empty key":      func() error { return view.Store(ctx, "", 1, save) },
		"store, too large":      func() error { return view.Store(ctx, "k", "more than ten bytes", save) },
	} {
		if err := call(); !errors.Is(err, cache.ErrConfig) {
			t.Errorf("%s: got %v; want ErrConfig", what, err)
		}
	}
	if err := view.Set(ctx, "k", make(chan int)); err == nil || errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("what does not encode: got %v; want the codec's error", err)
	}
	if err := view.Store(ctx, "k", make(chan int), save); err == nil || errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("what does not encode, written through: got %v; want the codec's error", err)
	}
}

// Each codec, compressed or not, brings back what was kept.
func TestOption_codecs(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		type value struct {
			Name  string
			Sizes []int
			Text  string
		}
		want := value{"ann", []int{1, 2, 3}, strings.Repeat("shrinks ", 200)}
		store, err := cache.New(b.Client(t), cache.WithPrefix(b.Prefix(t)), cache.WithTimeout(patience), cache.WithTTL(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		for name, codec := range map[string]cache.Codec{"json": cache.JSON, "gob": cache.Gob, "msgpack": cache.MessagePack} {
			plain, err1 := cache.For[value](store, name, cache.WithCodec(codec))
			packed, err2 := cache.For[value](store, name, cache.WithCodec(codec), cache.WithCompression(64))
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			for i, by := range []*cache.Cache[value]{plain, packed} {
				if err := by.Set(t.Context(), "k", want); err != nil {
					t.Fatal(name, err)
				}
				size := b.Client(t).StrLen(t.Context(), store.EntryKey(name, "k")).Val()
				if small := size < 600; small != (i == 1) {
					t.Errorf("%s, compressed %v: %d bytes", name, i == 1, size)
				}
				for _, from := range []*cache.Cache[value]{plain, packed} { // either reads both
					got, ok, err := from.Get(t.Context(), "k")
					if err != nil || !ok || got.Name != want.Name || len(got.Sizes) != 3 || got.Text != want.Text {
						t.Errorf("%s: got %+v, %v, %v", name, got, ok, err)
					}
				}
			}
		}
	})
}
