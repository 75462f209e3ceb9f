package cache_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// What does not come to be an entry is gone at once: given up, too long, refused by an
// invalidation, or found incomplete. Without Discard, or refuse in keep.lua, it lies there
// for a minute.
func TestBodyWriter_leavesNothing(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, backend *testkit.Backend) {
		t.Parallel()
		b := newBench(t, backend, cache.WithMaxBody(4*chunk))
		ctx := t.Context()
		body := octets(3*chunk + 10)
		v := func(w *cache.BodyWriter) cache.Variant {
			return cache.Variant{Data: []byte("head"), Body: w, Fresh: time.Minute, Keep: time.Minute}
		}
		for name, end := range map[string]func(f cache.Found, w *cache.BodyWriter){
			"discarded": func(_ cache.Found, w *cache.BodyWriter) { w.Discard() },
			"too long": func(_ cache.Found, w *cache.BodyWriter) {
				if n, err := w.Write(body); n != 0 || err == nil {
					t.Errorf("got %d, %v; want an error", n, err)
				}
				if n, err := w.Write([]byte("x")); n != 0 || err == nil {
					t.Errorf("afterwards: got %d, %v; want an error", n, err)
				}
				w.Discard()
			},
			"invalidated": func(f cache.Found, w *cache.BodyWriter) {
				if err := b.DeleteResource(ctx, "k"); err != nil {
					t.Fatal(err)
				}
				if kept, err := f.Keep(ctx, v(w)); kept || err != nil {
					t.Errorf("got %v, %v; want it not kept", kept, err)
				}
			},
			"incomplete": func(f cache.Found, w *cache.BodyWriter) {
				testkit.Eventually(t, "a chunk", func() bool { return len(b.chunks()) > 0 })
				b.rdb.Del(ctx, b.chunks()[0])
				if kept, err := f.Keep(ctx, v(w)); kept || err != nil {
					t.Errorf("got %v, %v; want it not kept", kept, err)
				}
			},
			"refused": func(f cache.Found, w *cache.BodyWriter) {
				bad := v(w)
				bad.Keep = 0
				if _, err := f.Keep(ctx, bad); !errors.Is(err, cache.ErrConfig) {
					t.Errorf("got %v; want ErrConfig", err)
				}
			},
			"of another key": func(f cache.Found, w *cache.BodyWriter) {
				f = b.sight("another", false)
				if _, err := f.Keep(ctx, v(w)); !errors.Is(err, cache.ErrConfig) {
					t.Errorf("got %v; want ErrConfig", err)
				}
			},
		} {
			f := b.sight("k", false)
			w := b.written("k", body)
			end(f, w)
			if keys := b.chunks(); len(keys) > 0 {
				t.Errorf("%s: left %q", name, keys)
			}
			if f := b.sight("k", true); f.Value != nil {
				t.Errorf("%s: found %v", name, f.Value)
			}
			w.Discard() // may be called again
		}
	})
}

// sizes counts the bytes of what a client sends.
type sizes struct{ sent int }

func (s *sizes) DialHook(next redis.DialHook) redis.DialHook { return next }
func (s *sizes) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		for _, arg := range cmd.Args() {
			switch arg := arg.(type) {
			case []byte:
				s.sent += len(arg)
			case string:
				s.sent += len(arg)
			}
		}
		return next(ctx, cmd)
	}
}
func (s *sizes) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A new header does not send the body again, lets it last as long as itself, and is kept
// for the body it is about alone. Without SameBody's comparison in keep.lua, it is put to
// whatever body is there.
func TestStore_Keep_sameBody(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, backend *testkit.Backend) {
		t.Parallel()
		for _, n := range []int{0, 5, chunk, 2*chunk + 5} {
			b := newBench(t, backend)
			ctx := t.Context()
			body := octets(n)
			b.store("k", body, time.Minute)
			counted := new(sizes)
			b.rdb.AddHook(counted)
			f := b.sight("k", true)
			late := f
			v := cache.Variant{Data: []byte("new"), SameBody: true, Fresh: time.Hour, Keep: time.Hour}
			if kept, err := f.Keep(ctx, v); !kept || err != nil {
				t.Fatalf("%d: got %v, %v", n, kept, err)
			}
			if counted.sent > 32<<10 { // the script's own text may be among it
				t.Errorf("%d: sent %d bytes", n, counted.sent)
			}
			for _, key := range append(b.chunks(), b.RedisKey("k")) {
				if ttl := b.rdb.PTTL(ctx, key).Val(); ttl < 59*time.Minute {
					t.Errorf("%d: %s has %v left; want an hour", n, key, ttl)
				}
			}
			same := func(what string, v cache.Variant) {
				t.Helper()
				f, err := b.Find(ctx, cache.Resource{Key: "k", Variant: func(string) string { return v.Name }, Body: true})
				if err != nil || f.Value != string(v.Data) {
					t.Fatalf("%d: %s: found %v, %v", n, what, f.Value, err)
				}
				if got, err := readPart(t, f.Body, 0, int64(n)); got != string(body) || err != nil {
					t.Errorf("%d: %s: got %d octets, %v", n, what, len(got), err)
				}
			}
			same("made fresh", v)
			// Told apart by other names now, it goes with its body.
			v.By, v.Name, v.Data = "language", "de", []byte("newer")
			if kept, err := late.Keep(ctx, v); !kept || err != nil {
				t.Fatalf("%d: other names: got %v, %v", n, kept, err)
			}
			same("other names", v)
			// Of a body that has been replaced, nothing is kept.
			f, err := b.Find(ctx, cache.Resource{Key: "k", Variant: func(string) string { return "de" }})
			if err != nil {
				t.Fatal(err)
			}
			replaced := cache.Variant{By: "language", Name: "de", Data: []byte("replaced"), Body: b.written("k", []byte("other")), Fresh: time.Minute, Keep: time.Minute}
			if kept, err := late.Keep(ctx, replaced); !kept || err != nil {
				t.Fatalf("%d: replaced: got %v, %v", n, kept, err)
			}
			if kept, err := f.Keep(ctx, v); kept || err != nil {
				t.Errorf("%d: after another body: got %v, %v; want it not kept", n, kept, err)
			}
			body, n = []byte("other"), 5
			same("replaced", replaced)
		}
	})
}

// Who reads a body that is replaced, or removed, reads it to its end; then its chunks are
// not kept for longer than a minute. Without retire in keep.lua they stay for an hour.
func TestBody_replaced(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, backend *testkit.Backend) {
		t.Parallel()
		b := newBench(t, backend)
		body := octets(4 * chunk)
		for name, by := range map[string]string{"replaced": "", "other names": "language"} {
			b.store("k", body, time.Hour)
			f := b.sight("k", true)
			old := f.Body
			p, err := old.Open(t.Context(), 0, old.Len())
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			err = p.Copy(t.Context(), writer(func(piece []byte) {
				if got.Len() == 0 {
					v := cache.Variant{By: by, Data: []byte("new"), Fresh: time.Minute, Keep: time.Minute}
					if kept, err := f.Keep(t.Context(), v); !kept || err != nil {
						t.Errorf("%s: got %v, %v", name, kept, err)
					}
				}
				got.Write(piece)
			}))
			if err != nil || !bytes.Equal(got.Bytes(), body) {
				t.Errorf("%s: got %d octets, %v", name, got.Len(), err)
			}
			for i := range 4 {
				if ttl := b.rdb.PTTL(t.Context(), old.ChunkKey(i)).Val(); ttl <= 0 || ttl > cache.ChunkGrace {
					t.Errorf("%s: chunk %d has %v left; want up to a minute", name, i, ttl)
				}
			}
			if err := b.DeleteResource(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
		}
		// One beside its entry goes when one in chunks takes its place.
		b.store("short", body[:10], time.Hour)
		b.store("short", body, time.Hour)
		if b.rdb.HExists(t.Context(), b.RedisKey("short"), "b:").Val() {
			t.Error("the body that was replaced is still beside the entry")
		}
	})
}
