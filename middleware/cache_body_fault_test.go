package middleware_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// Wherever a long body is cut short, and however, nothing of it is served, nor left in
// Redis. Without Discard in forward the chunks are; without whole the body is served.
func TestCache_longBodyCutShort(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for name, end := range map[string]func(w http.ResponseWriter, leave func()){
			"returns":  func(http.ResponseWriter, func()) {},
			"panics":   func(http.ResponseWriter, func()) { panic("oh") },
			"aborts":   func(http.ResponseWriter, func()) { panic(http.ErrAbortHandler) },
			"deserted": func(_ http.ResponseWriter, leave func()) { leave() },
			"exits":    func(_ http.ResponseWriter, leave func()) { runtime.Goexit() },
		} {
			for _, at := range []int{1, chunk, chunk + 1, 2*chunk + 1, 3 * chunk, 4*chunk - 1} {
				c := newCachedOn(t, b, nil, nil)
				ctx, leave := context.WithCancel(t.Context())
				c.Handler = c.wrap(c.counted(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Cache-Control", "max-age=60")
					if name == "returns" {
						w.Header().Set("Content-Length", strconv.Itoa(4*chunk))
					}
					for piece := range slices.Chunk([]byte(noise()[:at]), 50_001) {
						_, _ = w.Write(piece)
					}
					end(w, leave)
				}))
				var wg sync.WaitGroup
				wg.Go(func() {
					defer func() { _ = recover() }()
					c.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "GET", "/page", nil))
				})
				wg.Wait()
				leave()
				if keys := c.chunks(); len(keys) > 0 {
					t.Errorf("%s at %d: left %q", name, at, keys)
				}
				c.Handler = c.wrap(c.counted(long(10, true)))
				c.get().isStored().isWhole(200, 0, 10)
			}
		}
	})
}

// hooked is a writer that does something before the n-th octet is written.
type hooked struct {
	*httptest.ResponseRecorder
	at int
	do func()
}

func (h *hooked) Write(p []byte) (int, error) { return h.WriteString(string(p)) }
func (h *hooked) WriteString(s string) (int, error) {
	if h.do != nil && h.Body.Len()+len(s) > h.at {
		h.do()
		h.do = nil
	}
	return h.ResponseRecorder.WriteString(s)
}

// serveHooked serves GET /page, and reports whether the answer was cut short.
func (c *cached) serveHooked(at int, do func()) (a cacheAnswer, aborted bool) {
	c.t.Helper()
	w := &hooked{httptest.NewRecorder(), at, do}
	func() {
		defer func() {
			if p := recover(); p != nil {
				if aborted = p == http.ErrAbortHandler; !aborted {
					panic(p)
				}
			}
		}()
		c.ServeHTTP(w, httptest.NewRequest("GET", "/page", nil))
	}()
	return cacheAnswer{c.t, w.Code, w.Result().Header, w.Body.String()}, aborted
}

// A chunk that is lost or altered while the answer is under way: it is cut short and not
// finished as if whole, and the next one is made anew. Without abort's panic it is
// finished; without the removal in cache's read the next one is cut short as well.
func TestCache_chunkLostUnderWay(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for _, near := range []bool{false, true} {
			for name, harm := range map[string]func(c *cached, key string){
				"lost": func(c *cached, key string) { c.rdb.Del(t.Context(), key) },
				"altered": func(c *cached, key string) {
					v := []byte(c.rdb.Get(t.Context(), key).Val())
					v[len(v)/2] ^= 1
					c.rdb.Set(t.Context(), key, v, time.Minute)
				},
			} {
				var settings []cache.Option
				if near {
					settings = append(settings, cache.WithNear(1<<20))
				}
				c := newCachedOn(t, b, settings, long(5*chunk, true))
				t.Cleanup(c.store.Close)
				c.get().isStored()
				if near {
					testkit.Eventually(t, "a near hit", c.nearHit)
				}
				a, aborted := c.serveHooked(0, func() {
					for _, key := range c.chunks() {
						if strings.HasSuffix(key, ":3") {
							harm(c, key)
						}
					}
				})
				if !aborted || a.body != noise()[:len(a.body)] || len(a.body) > 3*chunk {
					t.Errorf("%s: got %d octets, cut short: %v", name, len(a.body), aborted)
				}
				c.get().isStored().isWhole(200, 0, 5*chunk)
				c.get().isHit().isWhole(200, 0, 5*chunk)
				c.called(2)
			}
		}
	})
}

// A chunk that is lost before the answer begins makes it a miss, which is stored anew.
// Without the count in read, or present in find.lua, it would be cut short.
func TestCache_chunkLostBefore(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for _, near := range []bool{false, true} {
			for i, fields := range [][]string{nil, {"Range: bytes=1000000-1000001"}, {fmt.Sprintf("Range: bytes=0-1, %d-", 3*chunk)}} {
				var settings []cache.Option
				if near {
					settings = append(settings, cache.WithNear(1<<20))
				}
				body := strings.NewReader(noise()[:5*chunk])
				c := newCachedOn(t, b, settings, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Cache-Control", "max-age=60")
					http.ServeContent(w, r, "x.bin", time.Time{}, body)
				})
				t.Cleanup(c.store.Close)
				c.get().isStored()
				if near {
					testkit.Eventually(t, "a near hit", c.nearHit)
				}
				for _, key := range c.chunks() {
					if i < 2 && strings.HasSuffix(key, ":3") || i == 2 && strings.HasSuffix(key, ":0") {
						c.rdb.Del(t.Context(), key)
					}
				}
				if a := c.get(fields...); a.cacheStatus()["hit"] == true {
					t.Errorf("%v: got a hit", fields)
				}
				c.called(2)
				if fields == nil {
					c.get().isHit().isWhole(200, 0, 5*chunk)
				}
			}
		}
	})
}

// Who finds that a chunk is lost has it made once, and the others wait. Without again in
// answer, as the near tier has the header still, all of them go to the handler.
func TestCache_chunkLostCollapses(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		gate := make(chan bool)
		var c *cached
		c = newCachedOn(t, b, []cache.Option{cache.WithNear(1 << 20)}, func(w http.ResponseWriter, r *http.Request) {
			if c.calls.Load() > 1 {
				<-gate
			}
			long(5*chunk, true)(w, r)
		})
		t.Cleanup(c.store.Close)
		c.get().isStored()
		testkit.Eventually(t, "a near hit", c.nearHit)
		c.lose(2)
		var entered atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				entered.Add(1)
				c.get().isWhole(200, 0, 5*chunk)
			})
		}
		testkit.Eventually(t, "all to have come", func() bool { return entered.Load() == 20 && c.calls.Load() > 1 })
		close(gate)
		wg.Wait()
		c.called(2)
	})
}

// nearHit reports whether HEAD, which needs no chunk, is answered without Redis.
func (c *cached) nearHit() bool {
	r := new(reads)
	c.rdb.AddHook(r)
	c.do("HEAD", "/page").isHit()
	return r.scripts.Load() == 0
}

// A purge while a long body is sent, or made: what is under way goes on, and the next
// request does not have it. Protected by keep.lua's comparison with the purge.
func TestCache_purgeUnderWay(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for name, purge := range map[string]func(*cached) error{
			"by URL": func(c *cached) error {
				return c.store.DeleteResource(t.Context(), middleware.KeyOf(httptest.NewRequest("GET", "/page", nil)))
			},
			"all": func(c *cached) error { return c.store.Clear(t.Context()) },
		} {
			c := newCachedOn(t, b, nil, long(5*chunk, true))
			for i, first := range []string{"made", "sent"} {
				a, aborted := c.serveHooked(chunk+1, func() {
					if err := purge(c); err != nil {
						t.Error(err)
					}
				})
				if a.isWhole(200, 0, 5*chunk); aborted {
					t.Errorf("%s, %s: cut short", name, first)
				}
				c.get().isStored().isWhole(200, 0, 5*chunk)
				c.called(int64(2 + i))
			}
		}
	})
}

// Two instances store and serve one URL whose body changes all the time, of one length or
// another: each answer is one of the bodies, and nothing is left of the others in an hour.
func TestCache_longBodiesOfTwoInstances(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb, prefix := b.Client(t), b.Prefix(t)
		var version sync.Map
		handler := func(w http.ResponseWriter, _ *http.Request) {
			fill := byte('a' + rand.IntN(26))
			n := chunk/2 + rand.IntN(2*chunk)
			version.Store(fmt.Sprint(string(fill), n), true)
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("X-Is", fmt.Sprint(string(fill), n))
			for piece := range slices.Chunk(bytes.Repeat([]byte{fill}, n), 100_000) {
				_, _ = w.Write(piece)
			}
		}
		var wg sync.WaitGroup
		for range 2 {
			c := newCachedFor(t, rdb, prefix, nil, handler, middleware.WithCollapseWait(0))
			for i := range 4 {
				wg.Go(func() {
					for range 15 {
						if i == 0 {
							_ = c.store.Expire(t.Context())
						}
						a, aborted := c.serveHooked(0, nil)
						body := strings.TrimRight(a.body, a.body[:min(1, len(a.body))])
						if is := a.header.Get("X-Is"); aborted || body != "" || is != fmt.Sprint(a.body[:1], len(a.body)) {
							t.Errorf("got %s, %d octets, cut short: %v", is, len(a.body), aborted)
						}
					}
				})
			}
		}
		wg.Wait()
	})
}

// Redis falls silent while a long body is made: the client has all of it, and nothing is
// stored. While one is sent: it is cut short. Both within the budget.
func TestCache_silenceUnderWay(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	const budget = 500 * time.Millisecond
	c := newCachedFor(t, p.Client(t), b.Prefix(t), []cache.Option{cache.WithTimeout(budget)}, long(6*chunk, true))
	c.Handler = http.HandlerFunc(c.ServeHTTP)
	warm := func(path string) {
		testkit.Eventually(t, "Redis to answer", func() bool {
			return c.do("GET", path).cacheStatus()["detail"] != "unavailable"
		})
	}
	warm("/warm")
	took(t, "a miss", 4*budget+cacheSlack, func() {
		if a, aborted := c.serveHooked(2*chunk+1, p.Hang); aborted {
			t.Error("cut short")
		} else {
			a.isStored().isWhole(200, 0, 6*chunk)
		}
	})
	p.Heal()
	warm("/warm2")
	before := c.calls.Load()
	c.get().isWhole(200, 0, 6*chunk)
	if c.calls.Load() == before {
		t.Error("what was not stored was served")
	}
	testkit.Eventually(t, "a hit", func() bool { return c.get().cacheStatus()["hit"] == true })
	took(t, "a hit", 2*budget+cacheSlack, func() {
		a, aborted := c.serveHooked(chunk+1, p.Hang)
		if !aborted || a.body != noise()[:len(a.body)] || len(a.body) == 6*chunk {
			t.Errorf("got %d octets, cut short: %v", len(a.body), aborted)
		}
	})
	p.Heal()
	testkit.Eventually(t, "a hit after recovery", func() bool { return c.get().cacheStatus()["hit"] == true })
	c.get().isWhole(200, 0, 6*chunk)
}

// What goes on when an answer was cut short: a stale one is refreshed the next time. Without
// served in serveAndRefresh it never is again.
func TestCache_staleCutShort(t *testing.T) {
	t.Parallel()
	c := newCached(t, long(5*chunk, true, "Cache-Control: stale-while-revalidate=60"))
	key := middleware.KeyOf(httptest.NewRequest("GET", "/page", nil))
	expire := func() {
		if err := c.store.ExpireResource(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	c.get().isStored()
	expire()
	if _, aborted := c.serveHooked(0, func() { c.lose(3) }); !aborted {
		t.Error("not cut short")
	}
	c.get().isStored()
	c.called(2)
	expire()
	c.get().isHit().isWhole(200, 0, 5*chunk)
	c.called(3)
}

// lose removes chunk i of all bodies.
func (c *cached) lose(i int) {
	for _, key := range c.chunks() {
		if strings.HasSuffix(key, fmt.Sprint(":", i)) {
			c.rdb.Del(c.t.Context(), key)
		}
	}
}

// A part that is stored and lost under way is no part of an answer that is finished, before
// the rest or behind it. Without broken in pass the rest follows what came; without that in
// finish the answer ends as if whole.
func TestCache_completesNothingBroken(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		const n = 6 * chunk
		for first, most := range map[string]int{fmt.Sprintf("bytes=0-%d", 5*chunk): 3 * chunk, fmt.Sprintf("bytes=%d-", chunk): 4 * chunk} {
			c := newCachedOn(t, b, nil, ranged(`"a"`, noise()[:n]))
			c.get("Range: "+first).isMiss("uri-miss", "", true)
			a, aborted := c.serveHooked(0, func() { c.lose(3) })
			if !aborted || a.body != noise()[:len(a.body)] || len(a.body) > most {
				t.Errorf("%s: got %d octets, cut short: %v", first, len(a.body), aborted)
			}
			c.get().isStored().isWhole(200, 0, n)
			// What is known to be lost before is asked for whole.
			c = newCachedOn(t, b, nil, ranged(`"a"`, noise()[:n]))
			c.get("Range: "+first).isMiss("uri-miss", "", true)
			c.lose(3)
			c.get().isWhole(200, 0, n)
		}
	})
}

// In the place of an error a body that is not all there is not served.
func TestCache_onErrorNothingBroken(t *testing.T) {
	t.Parallel()
	fails := false
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		if fails {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		long(5*chunk, true)(w, r)
	})
	c.get().isStored()
	if err := c.store.ExpireResource(t.Context(), middleware.KeyOf(httptest.NewRequest("GET", "/page", nil))); err != nil {
		t.Fatal(err)
	}
	fails = true
	c.get().isWhole(200, 0, 5*chunk)
	c.lose(2)
	c.get().hasBody(http.StatusBadGateway, "")
}

// reads counts the chunks that a client reads on their own, and the scripts that it runs so.
type reads struct{ n, scripts atomic.Int64 }

func (r *reads) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		switch cmd.Name() {
		case "get":
			r.n.Add(1)
		case "evalsha":
			r.scripts.Add(1)
		}
		return next(ctx, cmd)
	}
}
func (r *reads) DialHook(next redis.DialHook) redis.DialHook { return next }
func (r *reads) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A refresh that a 304 ends reads nothing of the body: nobody waits for it. Without alone in
// open all of it is read twice.
func TestCache_refreshReadsNoBody(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			w.Header().Set("ETag", `"a"`)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		long(4*chunk, true, "Cache-Control: stale-while-revalidate=60")(w, r)
	})
	c.get().isStored()
	if err := c.store.ExpireResource(t.Context(), middleware.KeyOf(httptest.NewRequest("GET", "/page", nil))); err != nil {
		t.Fatal(err)
	}
	r := new(reads)
	c.rdb.AddHook(r)
	c.get().isHit().isWhole(200, 0, 4*chunk)
	if c.called(2); r.n.Load() != 3 {
		t.Errorf("read %d chunks; want the 3 behind the first, once", r.n.Load())
	}
}
