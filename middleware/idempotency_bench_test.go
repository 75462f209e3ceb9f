package middleware_test

import (
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// A first request, which is carried out, and one that repeats it.
func BenchmarkIdempotency(b *testing.B) {
	backend := testkit.Shared(b, "server")
	h := middleware.Idempotency(newOnce(b, backend.Client(b), backend.Prefix(b)), byUser)(new(payments))
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for n := 0; b.Loop(); n++ {
			h.ServeHTTP(httptest.NewRecorder(), payRequest(fmt.Sprint(b.N, "-", n), "20"))
		}
	})
	b.Run("replay", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			h.ServeHTTP(httptest.NewRecorder(), payRequest("k", "20"))
		}
	})
}
