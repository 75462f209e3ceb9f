package middleware_test

import (
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// A hit behind a limit and a session, and a page that looks at the session, on a server
// in the next room.
func BenchmarkOneTrip(b *testing.B) {
	for _, path := range []string{"/page", "/mine"} {
		for name, chain := range map[string]func(...middleware.Middleware) middleware.Middleware{"Chain": middleware.Chain, "OneTrip": middleware.OneTrip} {
			b.Run(path[1:]+"/"+name, func(b *testing.B) {
				p := testkit.NewProxy(b, testkit.Server(b).Addrs()[0])
				site := newTripSite(b, p.Client(b), "trip", chain)
				site.limitless = true
				site.get("/login")
				site.get("/page")
				p.Delay(time.Millisecond)
				b.ReportAllocs()
				p.Reset()
				for b.Loop() {
					site.get(path)
				}
				b.ReportMetric(float64(p.RoundTrips())/float64(b.N), "trips/op")
			})
		}
	}
}
