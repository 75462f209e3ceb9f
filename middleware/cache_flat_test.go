package middleware_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// Ever other keys leave nothing in the process, and nothing in Redis that does not expire:
// other paths, other queries of one path, other values of a header that Vary names, other
// names in Vary, other fields in No-Vary-Search. The long form has 10⁶ of them.
//
// Red when nameMemory, varies or searches knows no bound, or keep.lua sets no lifetime.
func TestCache_flat(t *testing.T) { // not parallel: it measures the heap
	b := testkit.Server(t)
	c := newCachedOn(t, b, []cache.Option{cache.WithNear(4 << 20)}, func(w http.ResponseWriter, r *http.Request) {
		switch n := r.Header.Get("X-Random"); {
		case r.URL.Path == "/vary":
			w.Header().Set("Vary", "X-Random")
		case strings.HasPrefix(r.URL.Path, "/names"):
			w.Header().Set("Vary", "X-Random, X-"+n)
		case strings.HasPrefix(r.URL.Path, "/search"):
			w.Header().Set("No-Vary-Search", `params=("`+n+`")`)
		}
		cache.Tag(r.Context(), "tag-"+r.URL.Path)
		w.Header().Set("Cache-Control", "max-age=30")
		_, _ = w.Write([]byte("x"))
	}, middleware.WithKeepStale(0))
	defer c.store.Close()
	keys := campaign(10_000, 1_000_000)
	ask := func(n int) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range n / 8 {
					id := fmt.Sprint(rand.Uint64())
					path := [...]string{"/path/" + id, "/query?" + id, "/vary", "/names/" + id, "/search/" + id}[rand.IntN(5)]
					r := httptest.NewRequest("GET", path, nil)
					r.Header.Set("X-Random", id)
					c.ServeHTTP(&discard{h: http.Header{}}, r)
				}
			})
		}
		wg.Wait()
	}
	held := func() (heap uint64, goroutines int) {
		var m runtime.MemStats
		for range 3 { // what cleanups let go of, too
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc, runtime.NumGoroutine()
	}
	ask(keys / 2)
	before, running := held()
	ask(keys / 2)
	after, still := held()
	t.Logf("after %d keys %d KiB and %d goroutines; after %d, %d KiB and %d", keys/2, before>>10, running, keys, after>>10, still)
	// The memories of a process fill up in the beginning; together they take a few MiB.
	if slack := uint64(campaign(8<<20, 4<<20)); after > before+before/20+slack || still > running+2 {
		t.Errorf("%d KiB and %d goroutines became %d KiB and %d", before>>10, running, after>>10, still)
	}
	info, err := c.rdb.Info(t.Context(), "keyspace").Result()
	if err != nil {
		t.Fatal(err)
	}
	var kept, expiring int
	for line := range strings.Lines(info) {
		_, _ = fmt.Sscanf(line, "db0:keys=%d,expires=%d", &kept, &expiring)
	}
	t.Logf("%d keys in Redis, %d of them expire", kept, expiring)
	if kept == 0 || kept != expiring {
		t.Errorf("%d keys, %d of them expire; want all", kept, expiring)
	}
}
