package ratelimit_test

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// A smooth limit admits its burst, then one request each interval, and says so.
//
// Red when the level does not sink, or sinks by another rate.
func TestSmooth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := open(t, testkit.Memory(t).Client(t), "weir", ratelimit.PerMinute(60).Smooth(3))
		for i := range 3 {
			if got := allow(t, limiter, "alice"); !got.Allowed || got.Remaining != 2-i || got.ResetAfter > time.Second {
				t.Errorf("request %d of the burst: %s", i+1, show(got))
			}
		}
		for range 5 {
			denied := allow(t, limiter, "alice")
			if denied.Allowed || denied.RetryAfter > time.Second || denied.RetryAfter != denied.ResetAfter {
				t.Fatalf("%s; want denied for up to a second", show(denied))
			}
			time.Sleep(denied.RetryAfter)
			if got := allow(t, limiter, "alice"); !got.Allowed || got.Remaining != 0 {
				t.Fatalf("after the time told: %s; want allowed", show(got))
			}
		}
		time.Sleep(time.Hour)
		got, err := limiter.Peek(t.Context(), "alice")
		if err != nil || got.Remaining != 3 || got.ResetAfter != 0 {
			t.Errorf("after an hour: %s, %v; want 3 remaining, nothing counted", show(got), err)
		}
	})
}

// Rates whose interval is no whole microsecond, and more than a million a second,
// are kept as a token bucket with exact arithmetic keeps them: never more than
// burst + rate·time, and at most one request less.
//
// Red when the interval is rounded to µs, either way.
func TestSmooth_rates(t *testing.T) {
	t.Parallel()
	for _, limit := range []ratelimit.Limit{
		ratelimit.PerSecond(3).Smooth(1), ratelimit.PerSecond(7).Smooth(7), ratelimit.PerSecond(3_000_000).Smooth(1000),
		ratelimit.PerHour(1).Smooth(2), ratelimit.Every(1_000_003, 7*time.Second).Smooth(50), ratelimit.Every(5, time.Millisecond).Smooth(2),
	} {
		synctest.Test(t, func(t *testing.T) {
			limiter := open(t, testkit.Memory(t).Client(t), "weir", limit, ratelimit.WithDenyCache(0))
			random := rand.New(rand.NewPCG(5, uint64(limit.Requests())))
			interval := float64(limit.Window()) / float64(limit.Requests())
			var begun time.Time
			asked, admitted := 0, 0
			for range 400 {
				cost := 1 + random.IntN(limit.Burst())
				got := allowN(t, limiter, "alice", cost)
				if begun.IsZero() {
					begun = got.At
				}
				most := float64(limit.Burst()) + float64(got.At.Sub(begun))/interval
				if got.Allowed {
					admitted += cost
				}
				if float64(admitted) > most+1e-3 {
					t.Fatalf("%v: %d admitted in %v; want at most %.3f", limit, admitted, got.At.Sub(begun), most)
				}
				asked++
				// Asked without a pause for long: the bucket is never full, and none
				// of the rate is lost.
				if !got.Allowed {
					if float64(admitted+cost) < most-float64(limit.Burst())-1e-3 {
						t.Fatalf("%v: %d admitted in %v, and %d denied; want more", limit, admitted, got.At.Sub(begun), cost)
					}
					time.Sleep(got.RetryAfter)
				}
			}
		})
	}
}

// The key of a smooth limit expires when its level is back at nothing, and one
// that lost its expiry or holds another type heals.
func TestSmooth_keys(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.PerMinute(60).Smooth(4), ratelimit.WithDenyCache(0))
		allow(t, limiter, "alice")
		key := testkit.OnlyKey(t, client, prefix)
		lifetime := func(want time.Duration) {
			t.Helper()
			if ttl, err := client.PTTL(t.Context(), key).Result(); err != nil || ttl <= 0 || ttl > want {
				t.Errorf("a lifetime of %v, %v; want up to %v", ttl, err, want)
			}
		}
		lifetime(time.Second + 10*time.Millisecond)
		for range 4 {
			allow(t, limiter, "alice")
		}
		if err := persist(t, client, key); err != nil {
			t.Fatal(err)
		}
		if allow(t, limiter, "alice").Allowed {
			t.Error("admitted beyond the burst")
		}
		lifetime(5 * time.Second)
		if err := client.Set(t.Context(), key, "17", 0).Err(); err != nil {
			t.Fatal(err)
		}
		if got := allow(t, limiter, "alice"); got.Allowed {
			t.Errorf("nobody knows what was admitted: %s; want denied", show(got))
		}
		lifetime(5 * time.Second)
	})
}

// Smooth and sliding limits are kept together: by both or by none.
func TestSmooth_besideSliding(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(3), ratelimit.PerHour(1).Smooth(2), ratelimit.WithDenyCache(0))
		allow(t, limiter, "alice")
		allow(t, limiter, "alice")
		got := allow(t, limiter, "alice")
		if got.Allowed || got.Limit.Kind() != ratelimit.Smooth {
			t.Errorf("%s; want the smooth limit to deny", show(got))
		}
		for s := range got.All() {
			if want := map[ratelimit.Kind]int{ratelimit.Sliding: 1, ratelimit.Smooth: 0}[s.Limit.Kind()]; s.Remaining != want || s.Full != (want == 0) {
				t.Errorf("%v: %d remaining, full %v; want %d", s.Limit, s.Remaining, s.Full, want)
			}
		}
	})
}
