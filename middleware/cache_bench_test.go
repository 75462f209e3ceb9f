package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// discard is a response writer that costs nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header             { return d.h }
func (*discard) WriteHeader(int)                   {}
func (*discard) Write(p []byte) (int, error)       { return len(p), nil }
func (*discard) WriteString(s string) (int, error) { return len(s), nil }

// BenchmarkCache compares an answer through the cache with the bare handler. The
// client's ContextTimeoutEnabled saves rdb a goroutine per call.
func BenchmarkCache(b *testing.B) {
	body := strings.Repeat("x", 1024)
	handler := fresh(body, `ETag: "1"`, "Content-Type: text/plain", "X-A: 1", "Vary: Accept-Encoding")
	run := func(b *testing.B, h http.Handler, method string, fields ...string) {
		r := httptest.NewRequest(method, "/page", nil)
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			r.Header.Set(name, value)
		}
		w := &discard{h: http.Header{}}
		h.ServeHTTP(w, r)
		b.ReportAllocs()
		for b.Loop() {
			clear(w.h)
			h.ServeHTTP(w, r)
		}
	}
	b.Run("bare", func(b *testing.B) { run(b, handler, "GET") })
	b.Run("near/hit", func(b *testing.B) {
		backend := testkit.Shared(b, "server")
		store, err := cache.New(backend.Client(b), cache.WithPrefix(backend.Prefix(b)), cache.WithNear(1<<20))
		if err != nil {
			b.Fatal(err)
		}
		defer store.Close()
		h := middleware.Cache(store)(handler)
		for range 50 { // the tier begins with the first read
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/page", nil))
			time.Sleep(5 * time.Millisecond)
		}
		run(b, h, "GET")
	})
	for _, kind := range []string{"mini", "server"} {
		c := func(b *testing.B) *cached {
			var backend *testkit.Backend
			if kind == "mini" {
				backend = testkit.Mini(b)
			} else {
				backend = testkit.Shared(b, kind)
			}
			client := backend.Client(b, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true })
			return newCachedFor(b, client, backend.Prefix(b), nil, handler)
		}
		b.Run(kind+"/hit", func(b *testing.B) { run(b, c(b), "GET") })
		b.Run(kind+"/not modified", func(b *testing.B) { run(b, c(b), "GET", `If-None-Match: "1"`) })
		b.Run(kind+"/miss, stored", func(b *testing.B) { run(b, c(b), "GET", "Cache-Control: no-cache") })
		b.Run(kind+"/miss, not stored", func(b *testing.B) { run(b, c(b), "HEAD", "Cookie: a=b") })
		b.Run(kind+"/range", func(b *testing.B) { run(b, c(b), "GET", "Range: bytes=0-1") })
		b.Run(kind+"/bypass", func(b *testing.B) { run(b, c(b), "GET", `If-Match: "1"`) })
	}
}

// BenchmarkCache_bodies has bodies of several lengths answered out of Redis, stored, and
// made fresh by a 304.
func BenchmarkCache_bodies(b *testing.B) {
	backend := testkit.Shared(b, "server")
	client := backend.Client(b, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true })
	for _, size := range []int{1 << 10, 64 << 10, 256 << 10, 1<<20 - 1<<10, 16 << 20} {
		body := make([]byte, size)
		c := newCachedFor(b, client, backend.Prefix(b), nil, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("ETag", `"1"`)
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			for rest := body; len(rest) > 0; rest = rest[min(32<<10, len(rest)):] {
				_, _ = w.Write(rest[:min(32<<10, len(rest))])
			}
		})
		for name, fields := range map[string][]string{"hit": nil, "store": {"Cache-Control: no-cache", "X: store"}, "fresh": {"Cache-Control: no-cache"}} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, name), func(b *testing.B) {
				r := httptest.NewRequest("GET", "/page", nil)
				for _, f := range fields {
					name, value, _ := strings.Cut(f, ": ")
					r.Header.Set(name, value)
				}
				w := &discard{h: http.Header{}}
				c.ServeHTTP(w, httptest.NewRequest("GET", "/page", nil))
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					clear(w.h)
					if name == "store" {
						_ = c.store.DeleteResource(b.Context(), middleware.KeyOf(r))
					}
					c.ServeHTTP(w, r)
				}
			})
		}
	}
}

func BenchmarkEntry(b *testing.B) {
	h := http.Header{"Etag": {`"1"`}, "Content-Type": {"text/plain"}, "Vary": {"A"}, "Date": {"now"}, "Content-Length": {"1024"}, "Cache-Control": {"max-age=60"}}
	e := middleware.Entry{Status: 200, Body: 1024}
	data := string(middleware.Encode(e, h, nil))
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			middleware.Encode(e, h, nil)
		}
	})
	b.Run("decode", func(b *testing.B) {
		into := http.Header{}
		b.ReportAllocs()
		for b.Loop() {
			clear(into)
			_, _ = middleware.Decode(data, e.Body, into)
		}
	})
}
