package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// The whole wrapper around an empty handler, on a real server over loopback.
func BenchmarkRateLimit(b *testing.B) {
	server := testkit.Shared(b, "server")
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	limits := map[string]ratelimit.Limit{
		"allowed": ratelimit.Every(1<<30, 50*time.Millisecond),
		"denied":  ratelimit.PerHour(1),
	}
	for _, name := range []string{"allowed", "denied"} {
		b.Run(name, func(b *testing.B) {
			limiter := newLimiter(b, server.Client(b), limits[name], ratelimit.WithPrefix(server.Prefix(b)))
			benchmarkWrapped(b, middleware.RateLimit(limiter, middleware.KeyByIP)(next))
		})
	}
	b.Run("without Redis", func(b *testing.B) { // what is not the network
		limiter := newLimiter(b, &brokenRedis{err: errUnreachable}, ratelimit.PerHour(1<<30))
		benchmarkWrapped(b, middleware.RateLimit(limiter, middleware.KeyByIP)(next))
	})
}

func benchmarkWrapped(b *testing.B, h http.Handler) {
	b.ReportAllocs()
	r := httptest.NewRequest("GET", "/", nil)
	h.ServeHTTP(httptest.NewRecorder(), r) // connections and the script
	b.RunParallel(func(pb *testing.PB) {
		w := discardWriter{}
		for pb.Next() {
			clear(w)
			h.ServeHTTP(w, r)
		}
	})
}

// discardWriter is a header, and no body.
type discardWriter http.Header

func (w discardWriter) Header() http.Header         { return http.Header(w) }
func (w discardWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w discardWriter) WriteHeader(int)             {}
