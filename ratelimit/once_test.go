package ratelimit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// The script runs, its reply is lost and the connection cut: the caller still
// gets the verdict, and is counted once, with a default client that has retries.
//
// Red when admit is made by rdb.NewScript (no second attempt: the stand-in
// decides), when the script looks for no earlier run by ZADD NX or, on a full
// limit, by ZSCORE, or when each run has an id of its own (counted twice).
func TestLimiter_countedOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			tests := []struct {
				name      string
				used      int // before, of 3
				allowed   bool
				remaining int
				counted   int
			}{
				{"first", 0, true, 2, 1},
				{"with room left", 1, true, 1, 2},
				{"the last", 2, true, 0, 3},
				{"denied", 3, false, 0, 3},
			}
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					client, proxies := b.ProxiedClient(t)
					prefix := b.Prefix(t)
					limiter := open(t, client, prefix, ratelimit.PerHour(3), ratelimit.Every(100, 2*time.Hour))
					// Connections, slots, script: on a name of its own.
					warm := open(t, client, b.Prefix(t), ratelimit.PerHour(3))
					for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
						allow(t, warm, key)
					}
					for range tt.used {
						allow(t, limiter, "alice")
					}
					proxies.Each(func(p *testkit.Proxy) { p.SwallowReply(1, "evalsha", testkit.ThenClose) })
					got := allow(t, limiter, "alice")
					if n := proxies.Swallowed(); n != 1 {
						t.Fatalf("%d replies lost; want 1", n)
					}
					proxies.Each((*testkit.Proxy).Heal)
					if got.Allowed != tt.allowed || got.Remaining != tt.remaining || got.Limit != ratelimit.PerHour(3) {
						t.Errorf("%s; want allowed %v, %d remaining of 3 per hour", show(got), tt.allowed, tt.remaining)
					}
					direct := b.Client(t)
					if n := len(testkit.Members(t, direct, testkit.OnlyKey(t, direct, prefix))); n != tt.counted {
						t.Errorf("%d counted; want %d", n, tt.counted)
					}
				})
			}
		})
	}
}

// A second run that comes when the first one's admission has left the shortest
// window, and it alone, answers too.
//
// Red when the script's leaves() takes it for granted that there is one: it then
// ends in an error.
func TestLimiter_countedOnce_afterTheShortestWindow(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"mini", "server"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Mini(t)
			if kind == "server" {
				b = testkit.Shared(t, kind)
			}
			p := testkit.NewProxy(t, b.Addrs()[0])
			prefix := b.Prefix(t)
			limiter := open(t, p.Client(t), prefix, ratelimit.Every(1, time.Millisecond), ratelimit.PerHour(100))
			allow(t, limiter, "bob")
			p.Delay(20 * time.Millisecond) // the loss as well is noticed so late
			p.SwallowReply(1, "evalsha", testkit.ThenClose)
			got := allow(t, limiter, "alice")
			if !got.Allowed || p.Swallowed() != 1 {
				t.Errorf("%s, %d replies lost; want allowed, 1", show(got), p.Swallowed())
			}
			if got.Limit.Requests() == 1 && (got.Remaining != 1 || got.ResetAfter != 0) {
				t.Errorf("%s; want 1 remaining, nothing to wait for", show(got))
			}
			direct := b.Client(t)
			total := 0
			for _, key := range testkit.Keys(t, direct, prefix) {
				total += len(testkit.Members(t, direct, key))
			}
			if total != 2 {
				t.Errorf("%d counted for alice and bob; want one each", total)
			}
		})
	}
}

// What any go-redis client may be configured to does not change the verdict.
func TestLimiter_anyClient(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	addr := b.Addrs()[0]
	clients := map[string]func() redis.UniversalClient{
		"RESP2": func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: addr, Protocol: 2}) },
		"context timeouts": func() redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
		},
		"no retries":     func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1}) },
		"one connection": func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1}) },
		"ring": func() redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": addr}})
		},
	}
	for name, client := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := client()
			t.Cleanup(func() { _ = c.Close() })
			limiter := open(t, c, b.Prefix(t), ratelimit.PerHour(2))
			for i, want := range []bool{true, true, false} {
				if got := allow(t, limiter, "alice"); got.Allowed != want {
					t.Errorf("request %d: %s; want allowed %v", i+1, show(got), want)
				}
			}
		})
	}
}

// What was counted by a decision whose reply was lost is found by its refund.
//
// Red when the second run tells its own instant and not the entry's.
func TestLimiter_refundAfterALostReply(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t)
	limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(10))
	allow(t, limiter, "alice")
	proxies.Each(func(p *testkit.Proxy) { p.SwallowReply(1, "evalsha", testkit.ThenClose) })
	ticket := allow(t, limiter, "alice").Ticket()
	if !refund(t, limiter, "alice", ticket) {
		t.Error("not refunded")
	}
	if got, err := limiter.Peek(t.Context(), "alice"); err != nil || got.Remaining != 9 {
		t.Errorf("%s, %v; want 9 remaining", show(got), err)
	}
}

// A place that Redis gave when nobody listened any more is given back a second
// later, and not when its lease ends.
//
// Red when decide does not note it.
func TestAtOnce_givenUp(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t)
	limiter := open(t, client, b.Prefix(t), ratelimit.AtOnce(2, time.Hour))
	allow(t, limiter, "warm")
	proxies.Each(func(p *testkit.Proxy) { p.Delay(100 * time.Millisecond) })
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := limiter.Allow(ctx, "alice"); err == nil {
			t.Error("decided in time")
		}
		cancel()
	}
	pause(1200 * time.Millisecond)
	proxies.Each((*testkit.Proxy).Heal)
	allow(t, limiter, "bob") // takes the releases along
	testkit.Eventually(t, "the places to be free", func() bool {
		got, err := limiter.Peek(t.Context(), "alice")
		return err == nil && got.Remaining == 2
	})
}

// A server out of memory admits nobody by scripts that go on writing: what is
// refused is the stand-in's to decide.
//
// Red when a script's first write is one that Redis lets pass.
func TestLimiter_outOfMemory(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	limits := map[string]*ratelimit.Limiter{
		"sliding": open(t, client, "a", ratelimit.PerHour(1000)),
		"smooth":  open(t, client, "b", ratelimit.PerHour(1000).Smooth(1000)),
		"at once": open(t, client, "c", ratelimit.AtOnce(1000, time.Hour)),
		"ban":     open(t, client, "d", ratelimit.PerHour(1), ratelimit.WithBan(1000, time.Hour, time.Hour), ratelimit.WithDenyCache(0)),
	}
	for _, limiter := range limits {
		allow(t, limiter, "alice")
	}
	for _, set := range [][2]string{{"maxmemory-policy", "noeviction"}, {"maxmemory", "1"}} {
		if err := client.ConfigSet(t.Context(), set[0], set[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for name, limiter := range limits {
		for range 3 {
			got, err := limiter.Allow(t.Context(), "alice")
			if err != nil || !errors.Is(got.Standin, ratelimit.ErrUnavailable) {
				t.Errorf("%s: %s, Standin %v, %v; want the stand-in's verdict", name, show(got), got.Standin, err)
			}
		}
	}
}
