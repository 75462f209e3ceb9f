package middleware_test

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// Retry-After is true, a hundred times out of a hundred: who comes back then is
// admitted, and who comes back a second earlier is not. So is the t of RateLimit,
// which is never later.
//
// Red when Retry-After is rounded down, or is the whole window.
func TestRateLimit_retryAfterOfAHundred(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		const clients = 100
		for name, limit := range map[string]ratelimit.Limit{
			"sliding": ratelimit.Every(2, 3*time.Second),
			"smooth":  ratelimit.Every(1, 3*time.Second).Smooth(2),
		} {
			limiter := newLimiter(t, b.Client(t), limit, ratelimit.WithPrefix(b.Prefix(t)))
			h := middleware.RateLimit(limiter, middleware.KeyByIP)(new(countedHandler))
			var early, late, wrong atomic.Int64
			var clientsDone sync.WaitGroup
			for i := range clients {
				clientsDone.Go(func() {
					ip := fmt.Sprintf("192.0.2.%d", i)
					begun := time.Now()
					ask(h, ip)
					<-time.After(time.Duration(i) * 3 * time.Millisecond)
					ask(h, ip)
					denied := ask(h, ip)
					received := time.Now()
					seconds, err := strconv.Atoi(denied.Header.Get("Retry-After"))
					if denied.StatusCode != http.StatusTooManyRequests || err != nil || seconds < 2 {
						wrong.Add(1)
						return
					}
					wait := time.Duration(seconds) * time.Second
					<-time.After(time.Until(received.Add(wait - time.Second)))
					if ask(h, ip).StatusCode == http.StatusTooManyRequests {
						early.Add(1)
					} else if time.Since(begun) >= limit.Window() {
						early.Add(1) // this machine slept too long to be early
						late.Add(1)
						return
					}
					<-time.After(time.Until(received.Add(wait)))
					if ask(h, ip).StatusCode == http.StatusOK {
						late.Add(1)
					}
				})
			}
			clientsDone.Wait()
			if early.Load() != clients || late.Load() != clients || wrong.Load() > 0 {
				t.Errorf("%s: of %d, %d failed a second earlier and %d succeeded at Retry-After; %d had none", name, clients, early.Load(), late.Load(), wrong.Load())
			}
		}
	})
}
