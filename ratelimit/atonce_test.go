package ratelimit_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// At most n are in flight, by their ids: who is released makes room, once.
//
// Red when the script does not count those in flight, or Release removes nothing.
func TestAtOnce(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.AtOnce(2, time.Hour))
		other := open(t, client, prefix, ratelimit.AtOnce(2, time.Hour))
		first, second := allow(t, limiter, "alice"), allowN(t, limiter, "alice", 5)
		denied := allow(t, limiter, "alice")
		if !first.Allowed || first.Remaining != 1 || !second.Allowed || second.Remaining != 0 || denied.Allowed || denied.RetryAfter != 0 || denied.Never {
			t.Errorf("%s\n%s\n%s; want two, and a denial without a time", show(first), show(second), show(denied))
		}
		for range 2 { // from elsewhere, and again
			if err := other.Release(t.Context(), "alice", first.Ticket()); err != nil {
				t.Fatal(err)
			}
		}
		if got := allow(t, limiter, "alice"); !got.Allowed || got.Remaining != 0 {
			t.Errorf("after a release: %s; want one more", show(got))
		}
		if got := allow(t, limiter, "alice"); got.Allowed {
			t.Errorf("released twice: %s; want no second one", show(got))
		}
		if !refund(t, limiter, "alice", second.Ticket()) {
			t.Error("a refund releases nothing")
		}
		if got := allow(t, limiter, "alice"); !got.Allowed {
			t.Errorf("after a refund: %s", show(got))
		}
	})
}

// Parallel holders are never more than n, in any process.
func TestAtOnce_parallel(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limiter := open(t, client, b.Prefix(t), ratelimit.AtOnce(3, time.Hour))
		var now, most, done atomic.Int64
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				for range 30 {
					got := allow(t, limiter, "alice")
					if !got.Allowed {
						continue
					}
					n := now.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					done.Add(1)
					now.Add(-1)
					if err := limiter.Release(t.Context(), "alice", got.Ticket()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if most.Load() > 3 || done.Load() < 30 {
			t.Errorf("at most %d at a time, %d in all; want up to 3", most.Load(), done.Load())
		}
		if got, err := limiter.Peek(t.Context(), "alice"); err != nil || got.Remaining != 3 {
			t.Errorf("at the end: %s, %v; want 3 free", show(got), err)
		}
	})
}

// A holder that crashed loses its place when its lease ends; one that renews keeps
// it; one that comes back too late is told, unless the place is free still.
//
// Red when the script does not remove ended leases, or renew does not look at the
// others.
func TestAtOnce_leases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := open(t, testkit.Memory(t).Client(t), "weir", ratelimit.AtOnce(1, time.Minute))
		renew := func(r ratelimit.Result, want bool) {
			t.Helper()
			if kept, err := limiter.Renew(t.Context(), "alice", r.Ticket()); err != nil || kept != want {
				t.Errorf("renew: %v, %v; want %v", kept, err, want)
			}
		}
		crashed := allow(t, limiter, "alice")
		time.Sleep(time.Minute - time.Millisecond)
		if allow(t, limiter, "alice").Allowed {
			t.Error("admitted beside a lease")
		}
		time.Sleep(2 * time.Millisecond)
		holder := allow(t, limiter, "alice")
		if !holder.Allowed {
			t.Errorf("after the lease: %s", show(holder))
		}
		renew(crashed, false)
		for range 5 {
			time.Sleep(50 * time.Second)
			renew(holder, true)
		}
		if allow(t, limiter, "alice").Allowed {
			t.Error("admitted beside a renewed lease")
		}
		time.Sleep(2 * time.Minute)
		renew(holder, true) // nobody took it
		if allow(t, limiter, "alice").Allowed {
			t.Error("admitted beside a lease taken up again")
		}
	})
}

// In-flight and sliding limits are kept together; a denial by either takes nothing
// of the other.
func TestAtOnce_besideSliding(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(2), ratelimit.AtOnce(1, time.Hour))
		first := allow(t, limiter, "alice")
		if got := allow(t, limiter, "alice"); got.Allowed || got.Limit.Kind() != ratelimit.InFlight {
			t.Errorf("%s; want a denial by those in flight", show(got))
		}
		release := func(r ratelimit.Result) {
			t.Helper()
			if err := limiter.Release(t.Context(), "alice", r.Ticket()); err != nil {
				t.Fatal(err)
			}
		}
		release(first)
		second := allow(t, limiter, "alice")
		if !second.Allowed {
			t.Errorf("%s; want the second of two", show(second))
		}
		release(second)
		if got := allow(t, limiter, "alice"); got.Allowed || got.Limit.Kind() != ratelimit.Sliding || got.RetryAfter <= 0 {
			t.Errorf("%s; want a denial by the window", show(got))
		}
	})
}

// A limiter without such a limit needs no release, and asks for none.
func TestAtOnce_none(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t)
	limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(2))
	ticket := allow(t, limiter, "alice").Ticket()
	proxies.Each((*testkit.Proxy).Reset)
	kept, err := limiter.Renew(t.Context(), "alice", ticket)
	if err := limiter.Release(t.Context(), "alice", ticket); err != nil {
		t.Error(err)
	}
	if trips := proxies.RoundTrips(); trips != 0 || !kept || err != nil {
		t.Errorf("%d round trips, %v, %v; want none", trips, kept, err)
	}
}

// The key of those in flight expires, heals, and counts as full when nobody knows.
func TestAtOnce_keys(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.AtOnce(2, time.Minute))
		allow(t, limiter, "alice")
		key := testkit.OnlyKey(t, client, prefix)
		for _, harm := range []func() error{
			func() error { return persist(t, client, key) },
			func() error { return client.Set(t.Context(), key, "17", 0).Err() },
		} {
			allow(t, limiter, "alice")
			if err := harm(); err != nil {
				t.Fatal(err)
			}
			if got := allow(t, limiter, "alice"); got.Allowed {
				t.Errorf("%s; want denied", show(got))
			}
			if ttl, err := client.PTTL(t.Context(), key).Result(); err != nil || ttl <= 0 || ttl > 61*time.Second {
				t.Errorf("a lifetime of %v, %v; want up to 61s", ttl, err)
			}
		}
	})
}
