package cache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

const chunk = cache.ChunkBytes

// octets are n that differ from chunk to chunk.
func octets(n int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		x := random.Uint64()
		for j := range 8 {
			b[i+j] = byte(x >> (8 * j))
		}
	}
	return b[:n]
}

// sight finds the resource of key.
func (b bench) sight(key string, body bool) cache.Found {
	b.t.Helper()
	f, err := b.Find(b.t.Context(), cache.Resource{Key: key, Variant: plain, Body: body})
	if err != nil {
		b.t.Fatalf("Find(%q): %v", key, err)
	}
	return f
}

// store keeps a body under key, given in pieces.
func (b bench) store(key string, body []byte, keep time.Duration) {
	b.t.Helper()
	f := b.sight(key, false)
	w := b.written(key, body)
	kept, err := f.Keep(b.t.Context(), cache.Variant{Data: []byte("head"), Body: w, Fresh: keep, Keep: keep})
	if !kept || err != nil {
		b.t.Fatalf("Keep(%q): %v, %v", key, kept, err)
	}
}

func (b bench) written(key string, body []byte) *cache.BodyWriter {
	b.t.Helper()
	w := b.NewBody(b.t.Context(), key)
	for piece := range slices.Chunk(body, 100_003) {
		if n, err := w.Write(piece); n != len(piece) || err != nil {
			b.t.Fatalf("Write: %d, %v", n, err)
		}
	}
	return w
}

// chunks are the keys of chunks that there are.
func (b bench) chunks() []string {
	b.t.Helper()
	return slices.DeleteFunc(testkit.Keys(b.t, b.rdb, b.prefix), func(key string) bool { return !strings.Contains(key, "}:c:") })
}

func readPart(t *testing.T, b *cache.Body, from, end int64) (string, error) {
	t.Helper()
	p, err := b.Open(t.Context(), from, end)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = p.Copy(t.Context(), &out)
	return out.String(), err
}

// Bodies of every length come back, whole and in part, to any process; each key of theirs
// expires, and outlasts its entry. Without chunkGrace in keep.lua they do not.
func TestBody_lengths(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, backend *testkit.Backend) {
		t.Parallel()
		for _, near := range []bool{false, true} {
			var options []cache.Option
			if near {
				options = append(options, cache.WithNear(1<<22))
			}
			b := newBench(t, backend, options...)
			t.Cleanup(b.Close)
			other := bench{newMakers(t, backend, 1, append(options, cache.WithPrefix(b.prefix))...)[0].Store, t, b.rdb, b.prefix}
			for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 3 * chunk, 5*chunk + 7} {
				key := fmt.Sprint("body ", n)
				body := octets(n)
				before := len(b.chunks())
				b.store(key, body, time.Minute)
				want := 0
				if n > chunk {
					want = (n + chunk - 1) / chunk
				}
				keys := b.chunks()
				if got := len(keys) - before; got != want {
					t.Errorf("%d: got %d chunks; want %d", n, got, want)
				}
				for _, key := range keys {
					if ttl := b.rdb.PTTL(t.Context(), key).Val(); ttl <= time.Minute || ttl > time.Minute+cache.ChunkGrace {
						t.Errorf("%d: %s has %v left; want a minute more than the entry", n, key, ttl)
					}
				}
				for range 2 {
					for _, along := range []bool{true, false} {
						f := other.sight(key, along)
						if f.Value != "head" || f.Body.Len() != int64(n) {
							t.Fatalf("%d: found %v, %d octets", n, f.Value, f.Body.Len())
						}
						for _, part := range [][2]int{{0, n}, {0, 0}, {0, min(1, n)}, {n / 2, n}, {max(0, n-1), n}, {min(n, chunk-1), min(n, chunk+1)}, {min(n, chunk), min(n, 2*chunk)}} {
							got, err := readPart(t, f.Body, int64(part[0]), int64(part[1]))
							if err != nil || got != string(body[part[0]:part[1]]) {
								t.Errorf("%d: %v: got %d octets, %v", n, part, len(got), err)
							}
						}
					}
				}
			}
		}
	})
}

// What is missing of a body, or is not what was stored, is found out before the first octet
// where that is asked for, and at the octet itself at the latest. Without the sum, or
// with one that is of the octets alone, wrong ones are read; without present in find.lua
// the first are those of a body that is not whole.
func TestBody_broken(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, backend *testkit.Backend) {
		t.Parallel()
		b := newBench(t, backend)
		ctx := t.Context()
		const n = 3*chunk + 10
		body := octets(n)
		b.store("other", octets(n), time.Minute)
		other := b.sight("other", false).Body
		for name, harm := range map[string]struct {
			do   func(body *cache.Body, i int)
			gone bool
		}{
			"lost": {func(body *cache.Body, i int) { b.rdb.Del(ctx, body.ChunkKey(i)) }, true},
			"flipped": {func(body *cache.Body, i int) {
				v := []byte(b.rdb.Get(ctx, body.ChunkKey(i)).Val())
				v[len(v)-1] ^= 1
				b.rdb.Set(ctx, body.ChunkKey(i), v, time.Minute)
			}, false},
			"cut":           {func(body *cache.Body, i int) { b.rdb.SetRange(ctx, body.ChunkKey(i), 0, "xx") }, false},
			"longer":        {func(body *cache.Body, i int) { b.rdb.Append(ctx, body.ChunkKey(i), "x") }, false},
			"empty":         {func(body *cache.Body, i int) { b.rdb.Set(ctx, body.ChunkKey(i), "", time.Minute) }, false},
			"another body":  {func(body *cache.Body, i int) { b.copy(other.ChunkKey(i), body.ChunkKey(i)) }, false},
			"another chunk": {func(body *cache.Body, i int) { b.copy(body.ChunkKey((i+1)%3), body.ChunkKey(i)) }, false},
			"another type": {func(body *cache.Body, i int) {
				b.rdb.Del(ctx, body.ChunkKey(i))
				b.rdb.RPush(ctx, body.ChunkKey(i), "x")
			}, false},
		} {
			for i := range 3 {
				key := fmt.Sprint(name, i)
				b.store(key, body, time.Minute)
				whole := b.sight(key, true)
				harm.do(whole.Body, i)
				f, err := b.Find(ctx, cache.Resource{Key: key, Variant: plain, Body: true})
				switch {
				case harm.gone && (f.Value != nil || err != nil):
					t.Errorf("%s: found %v, %v; want it missing", key, f.Value, err)
				case !harm.gone && i == 0 && f.Value != nil:
					t.Errorf("%s: found %v; want it missing or ErrCorrupt", key, f.Value)
				}
				// Who has found it already, or found it without the body.
				f = b.sight(key, false)
				for _, body2 := range []*cache.Body{f.Body, whole.Body} {
					got, err := readPart(t, body2, 0, n)
					if body2 == whole.Body && i == 0 {
						continue // it was read by then
					}
					if !errors.Is(err, cache.ErrCorrupt) || !strings.HasPrefix(string(body), got) || len(got) > i*chunk {
						t.Errorf("%s: got %d octets, %v; want ErrCorrupt after %d at most", key, len(got), err, i*chunk)
					}
				}
				// What does not need that chunk is answered.
				j := (i + 1) % 3
				if got, err := readPart(t, f.Body, int64(j*chunk), int64(j*chunk+5)); err != nil || got != string(body[j*chunk:j*chunk+5]) {
					t.Errorf("%s: chunk %d: got %q, %v", key, j, got, err)
				}
			}
		}
	})
}

func (b bench) copy(from, to string) {
	v := b.rdb.Get(b.t.Context(), from).Val()
	b.rdb.Set(b.t.Context(), to, v, time.Minute)
}

// A body beside its entry is checked as well. Without the sum a wrong one is read.
func TestBody_besideBroken(t *testing.T) {
	t.Parallel()
	b := newBench(t, testkit.Mini(t))
	for name, value := range map[string]any{"flipped": "xxxxwrong", "cut": "xx", "empty": "", "lost": nil} {
		if err := b.DeleteResource(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		b.store("k", []byte("right"), time.Minute)
		if value == nil {
			b.rdb.HDel(t.Context(), b.RedisKey("k"), "b:")
		} else {
			b.rdb.HSet(t.Context(), b.RedisKey("k"), "b:", value)
		}
		f, err := b.Find(t.Context(), cache.Resource{Key: "k", Variant: plain})
		if f.Value != nil || err != nil && !errors.Is(err, cache.ErrCorrupt) || value == nil && err != nil {
			t.Errorf("%s: got %v, %v", name, f.Value, err)
		}
	}
}

type writer func(piece []byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// Chunks last while they are written and while they are read, however slowly. Without
// run's ticker the first is gone before the last is written; without hold in copyChunks
// before it is read.
func TestBody_slowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, testkit.Memory(t))
		body := octets(4 * chunk)
		f := b.sight("k", false)
		w := b.NewBody(t.Context(), "k")
		for piece := range slices.Chunk(body, chunk) {
			if _, err := w.Write(piece); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
		}
		if kept, err := f.Keep(t.Context(), cache.Variant{Data: []byte("head"), Body: w, Fresh: time.Second, Keep: time.Second}); !kept || err != nil {
			t.Fatalf("got %v, %v", kept, err)
		}
		f = b.sight("k", true)
		p, err := f.Body.Open(t.Context(), 0, f.Body.Len())
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		err = p.Copy(t.Context(), writer(func(piece []byte) {
			got.Write(piece)
			time.Sleep(50 * time.Second)
		}))
		if err != nil || !bytes.Equal(got.Bytes(), body) {
			t.Errorf("got %d octets, %v", got.Len(), err)
		}
		time.Sleep(2 * time.Minute)
		if keys := b.rdb.Keys(t.Context(), "*:c:*").Val(); len(keys) > 0 {
			t.Errorf("left %q", keys)
		}
	})
}

// Redis falls silent between two chunks: the writer says so within two budgets, takes no
// more, and what it had written ends by itself. A reader says so as well.
func TestBody_silence(t *testing.T) {
	t.Parallel()
	backend := testkit.Shared(t, "server")
	proxy := testkit.NewProxy(t, backend.Addrs()[0])
	client := proxy.Client(t)
	prefix := backend.Prefix(t)
	store, err := cache.New(client, cache.WithPrefix(prefix), cache.WithTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	b := bench{store, t, backend.Client(t), prefix}
	body := octets(4 * chunk)
	b.store("k", body, time.Minute)
	f := b.sight("k", true)
	p, err := f.Body.Open(t.Context(), 0, f.Body.Len())
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	err = p.Copy(t.Context(), writer(func(piece []byte) {
		if got.Write(piece); got.Len() == 2*chunk {
			proxy.Hang()
		}
	}))
	// The third may have been read ahead by then.
	if !errors.Is(err, cache.ErrUnavailable) || !bytes.HasPrefix(body, got.Bytes()) || got.Len() > 3*chunk {
		t.Errorf("got %d octets, %v; want ErrUnavailable", got.Len(), err)
	}
	proxy.Heal()
	testkit.Eventually(t, "Redis to be back", func() bool {
		_, err := store.Find(t.Context(), cache.Resource{Key: "w", Variant: plain})
		return err == nil
	})
	f = b.sight("w", false)
	before := len(b.chunks())
	w := b.written("w", body[:2*chunk])
	testkit.Eventually(t, "a chunk", func() bool { return len(b.chunks()) > before })
	proxy.Hang()
	begun := time.Now()
	var n int
	for range 4 {
		if n, err = w.Write(body[:chunk]); err != nil {
			break
		}
	}
	if !errors.Is(err, cache.ErrUnavailable) || time.Since(begun) > 5*time.Second {
		t.Errorf("got %d, %v after %v; want ErrUnavailable", n, err, time.Since(begun))
	}
	if kept, err := f.Keep(t.Context(), cache.Variant{Data: []byte("head"), Body: w, Fresh: time.Minute, Keep: time.Minute}); kept || !errors.Is(err, cache.ErrUnavailable) {
		t.Errorf("got %v, %v; want it not kept", kept, err)
	}
	for _, key := range b.chunks() {
		if ttl := b.rdb.PTTL(t.Context(), key).Val(); ttl < 0 {
			t.Errorf("%s lasts for ever", key)
		}
	}
}

// A reader whose writer takes no more ends, and one whose context ends says so.
func TestBody_readerLeaves(t *testing.T) {
	t.Parallel()
	b := newBench(t, testkit.Mini(t))
	b.store("k", octets(4*chunk), time.Minute)
	body := b.sight("k", true).Body
	p, err := body.Open(t.Context(), 0, body.Len())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Copy(t.Context(), broken{}); err != nil {
		t.Errorf("got %v; want nil", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var got bytes.Buffer
	err = p.Copy(ctx, writer(func(piece []byte) { cancel(); got.Write(piece) }))
	if err != context.Canceled || got.Len() > 2*chunk {
		t.Errorf("got %d octets, %v; want context.Canceled", got.Len(), err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// A body's form reads as what it was written as, and nothing else makes a panic, or a body
// that has other octets than it says.
func FuzzParseBody(f *testing.F) {
	for _, text := range []string{"-", "ABC.0.0", "ABC.5.0", "ABC.1000000.262144", "A.1.1", "..", "A.-1.0", "A.9223372036854775807.1", "A.0.5"} {
		f.Add(text, "", false)
		f.Add(text, "\x00\x00\x00\x00hello", true)
	}
	f.Fuzz(func(t *testing.T, text, first string, along bool) {
		b, err := cache.ParseBody(text, first, along)
		if err != nil || b == nil {
			return
		}
		if b.Len() < 0 {
			t.Fatalf("got a length of %d", b.Len())
		}
		if held, all := b.Text(); all && int64(len(held)) != b.Len() || int64(len(held)) > b.Len() {
			t.Fatalf("got %d of %d octets", len(held), b.Len())
		}
		again, err := cache.ParseBody(b.Form(), first, along)
		if err != nil || again.Len() != b.Len() {
			t.Fatalf("%q became %q: %v", text, b.Form(), err)
		}
	})
}
