package cache_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

func TestNew_mistakes(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)})
	t.Cleanup(func() { client.Close() })
	var none *redis.Client
	tests := []struct {
		name    string
		client  redis.UniversalClient
		options []cache.Option
		want    []string // in this order, one a line
	}{
		{"nil client", nil, nil, []string{"client is nil"}},
		{"nil pointer", none, nil, []string{"client is nil"}},
		{"no TTL", client, []cache.Option{cache.WithTTL(0)}, []string{"WithTTL(0s)"}},
		{"negative TTL", client, []cache.Option{cache.WithTTL(-time.Second)}, []string{"WithTTL(-1s)"}},
		{"TTL too short", client, []cache.Option{cache.WithTTL(time.Microsecond)}, []string{"WithTTL(1µs)"}},
		{"TTL too long", client, []cache.Option{cache.WithTTL(367 * 24 * time.Hour)}, []string{"WithTTL(8808h0m0s)"}},
		{"no bytes", client, []cache.Option{cache.WithMaxBytes(0)}, []string{"WithMaxBytes(0)"}},
		{"negative bytes", client, []cache.Option{cache.WithMaxBytes(-1)}, []string{"WithMaxBytes(-1)"}},
		{"too many bytes", client, []cache.Option{cache.WithMaxBytes(512<<20 + 1)}, []string{"WithMaxBytes(536870913)"}},
		{"no body", client, []cache.Option{cache.WithMaxBody(0)}, []string{"WithMaxBody(0)"}},
		{"too long a body", client, []cache.Option{cache.WithMaxBody(4<<30 + 1)}, []string{"WithMaxBody(4294967297)"}},
		{"prefix", client, []cache.Option{cache.WithPrefix("a{b}")}, []string{`WithPrefix("a{b}")`}},
		{"budget", client, []cache.Option{cache.WithTimeout(time.Hour)}, []string{"WithTimeout(1h0m0s)"}},
		{"nil option", client, []cache.Option{nil}, []string{"option 1 is nil"}},
		{
			"all at once", nil,
			[]cache.Option{cache.WithTTL(-1), nil, cache.WithMaxBytes(-5), cache.WithPrefix(""), cache.WithTimeout(-1)},
			[]string{"WithTTL(-1ns)", "option 2 is nil", "WithMaxBytes(-5)", `WithPrefix("")`, "client is nil", "WithTimeout(-1ns)"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			store, err := cache.New(test.client, test.options...)
			if store != nil || !errors.Is(err, cache.ErrConfig) {
				t.Fatalf("got %v, %v; want no store and ErrConfig", store, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("got %d lines; want %d:\n%v", len(lines), len(test.want), err)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(lines[i], "cache.New: ") || !strings.Contains(lines[i], want) {
					t.Errorf("line %d: got %q; want %q in it", i+1, lines[i], want)
				}
			}
		})
	}
}

func TestNew_accepts(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)}) // Redis is down
	t.Cleanup(func() { client.Close() })
	for _, options := range [][]cache.Option{
		nil,
		{cache.WithTTL(time.Millisecond), cache.WithMaxBytes(1)},
		{cache.WithTTL(366 * 24 * time.Hour), cache.WithMaxBytes(512 << 20)},
		{cache.WithPrefix("shop:eu-1.a_b"), cache.WithTimeout(30 * time.Second)},
	} {
		if _, err := cache.New(client, options...); err != nil {
			t.Errorf("got %v; want nil", err)
		}
	}
	store, err := cache.New(client)
	if err != nil {
		t.Fatal(err)
	}
	if store.TTL() != 0 || store.MaxBytes() != 1<<20 {
		t.Errorf("defaults: got %v, %d; want 0s, %d", store.TTL(), store.MaxBytes(), 1<<20)
	}
	for want, options := range map[int64][]cache.Option{
		64 << 20: nil,
		1000:     {cache.WithMaxBytes(1000)},
		4 << 30:  {cache.WithMaxBody(4 << 30), cache.WithMaxBytes(1000)},
		1:        {cache.WithMaxBytes(1000), cache.WithMaxBody(1)},
	} {
		if s, err := cache.New(client, options...); err != nil || s.MaxBody() != want {
			t.Errorf("MaxBody: got %v, %v; want %d", s, err, want)
		}
	}
	s := bench{Store: store, t: t, rdb: client}
	if _, _, err := s.look(t.Context(), key, variantOf("")); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("Find while down: got %v; want ErrUnavailable", err)
	}
	if err := s.put(t.Context(), key, cache.Variant{Keep: time.Minute}); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("Keep while down: got %v; want ErrUnavailable", err)
	}
	if err := store.DeleteResource(t.Context(), key); !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("Delete while down: got %v; want ErrUnavailable", err)
	}
}

// One verdict, one round trip. Protected by the memory of names: without it the
// last Find takes two as well.
func TestStore_roundTrips(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb, proxies := b.ProxiedClient(t)
		options := []cache.Option{cache.WithPrefix(b.Prefix(t)), cache.WithTimeout(patience)}
		writer, err := cache.New(rdb, options...)
		if err != nil {
			t.Fatal(err)
		}
		reader, err := cache.New(rdb, options...)
		if err != nil {
			t.Fatal(err)
		}
		w, r := bench{Store: writer, t: t, rdb: rdb}, bench{Store: reader, t: t, rdb: rdb}
		w.keep("warm", "", "", "v", time.Minute) // connections and scripts
		w.wants("warm", "", "v")
		if err := w.DeleteResource(t.Context(), "warm"); err != nil {
			t.Fatal(err)
		}
		// On a cluster each key may be on a master that has not seen the scripts.
		w.keep(key, "", "", "v", time.Minute)
		w.wants(key, "", "v")
		if err := w.DeleteResource(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		w.keep(key, "", "", "v", time.Minute)

		trips := func(what string, want int, do func()) {
			t.Helper()
			proxies.Each((*testkit.Proxy).Reset)
			do()
			if got := proxies.RoundTrips(); got != want {
				t.Errorf("%s: got %d round trips; want %d", what, got, want)
			}
		}
		trips("hit", 1, func() { w.wants(key, "", "v") })
		trips("find and keep", 2, func() { w.keep(key, "lang", "de", "hallo", time.Minute) })
		trips("variant, who kept it", 1, func() { w.wants(key, "de", "hallo") })
		trips("variant, first met", 2, func() { r.wants(key, "de", "hallo") })
		trips("variant, known", 1, func() { r.wants(key, "de", "hallo") })
		trips("other variant, known", 1, func() { r.wants(key, "en", "") })
		trips("delete", 1, func() {
			if err := w.DeleteResource(t.Context(), key); err != nil {
				t.Error(err)
			}
		})
		trips("miss", 1, func() { r.wants(key, "de", "") })
	})
}

// A lost reply makes the call run again: both find what one run would have left.
func TestStore_replay(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	store, err := cache.New(p.Client(t), cache.WithPrefix(b.Prefix(t)), cache.WithTimeout(patience))
	if err != nil {
		t.Fatal(err)
	}
	s := bench{Store: store, t: t, rdb: b.Client(t)}
	s.keep(key, "", "", "warm", time.Minute)
	s.wants(key, "", "warm")
	p.SwallowReply(1, "evalsha", testkit.ThenClose)
	s.keep(key, "lang", "de", "hallo", time.Minute)
	p.SwallowReply(1, "evalsha", testkit.ThenClose)
	s.wants(key, "de", "hallo")
	p.SwallowReply(1, "evalsha", testkit.ThenClose)
	if err := store.DeleteResource(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	s.wants(key, "de", "")
	if got := p.Swallowed(); got != 3 {
		t.Errorf("got %d replies swallowed; want 3", got)
	}
}

// Protected by maxRemembered and maxNames in nameMemory.put.
func TestStore_memoryIsBounded(t *testing.T) {
	t.Parallel()
	s := newBench(t, testkit.Mini(t))
	long := strings.Repeat("n", cache.MaxNames+1)
	s.keep(key, long, "de", "hallo", time.Minute)
	s.wants(key, "de", "hallo")
	if got := s.Remembered(); got != 0 {
		t.Errorf("long names: got %d remembered; want 0", got)
	}
	if testing.Short() {
		return
	}
	for i := range cache.MaxRemembered + 100 {
		s.Remember(fmt.Sprint(i), "lang")
	}
	if got := s.Remembered(); got != cache.MaxRemembered {
		t.Errorf("got %d remembered; want %d", got, cache.MaxRemembered)
	}
}

func TestStore_foreignReply(t *testing.T) {
	t.Parallel()
	for _, reply := range [][]any{
		{},
		{int64(1)},
		{int64(1), int64(1), int64(1), "epoch", "lang", "w1", int64(0)},
		{int64(1), int64(1), int64(1), "epoch", "lang", "w1", int64(0), int64(0)},
		{int64(9), int64(1), int64(1), "epoch", "lang", nil, int64(0), int64(0)},
		{"1", int64(1), int64(1), "epoch", "lang", nil, int64(0), int64(0)},
		{nil, nil, nil, nil, nil, nil, nil, nil},
	} {
		if err := cache.ParseFound(reply); !errors.Is(err, cache.ErrCorrupt) {
			t.Errorf("%v: got %v; want ErrCorrupt", reply, err)
		}
	}
}
