package ratelimit_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// byMulti returns a Limiter without scripts, and without a memory of denials.
func byMulti(tb testing.TB, client redis.UniversalClient, prefix string, limit ratelimit.Limit, options ...ratelimit.Option) *ratelimit.Limiter {
	tb.Helper()
	options = append([]ratelimit.Option{ratelimit.WithoutScripts(), ratelimit.WithDenyCache(0)}, options...)
	return open(tb, client, prefix, limit, options...)
}

// The first L pass with L-1..0 remaining, the next do not; a look in between
// changes nothing; what can never fit says so.
func TestMulti_admitsTheLimit(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limiter := byMulti(t, client, b.Prefix(t), ratelimit.PerHour(5))
		for i := range 8 {
			got := allow(t, limiter, "alice")
			if want := i < 5; got.Allowed != want || got.Remaining != max(0, 4-i) || (got.Ticket() != "") != want {
				t.Errorf("request %d: %s; want allowed %v, %d remaining", i+1, show(got), want, max(0, 4-i))
			}
			if got.Allowed == (got.RetryAfter > 0) || got.ResetAfter <= 0 || got.ResetAfter > time.Hour+time.Second {
				t.Errorf("request %d: %s; want RetryAfter only on a denial, ResetAfter up to an hour", i+1, show(got))
			}
			look, err := limiter.Peek(t.Context(), "alice")
			if err != nil || look.Allowed != (i < 4) || look.Remaining != max(0, 4-i) || look.Ticket() != "" {
				t.Errorf("after request %d: %s, %v; want %d remaining", i+1, show(look), err, max(0, 4-i))
			}
			if never := allowN(t, limiter, "alice", 6); never.Allowed || !never.Never || never.RetryAfter != 0 {
				t.Errorf("6 of 5: %s; want never", show(never))
			}
		}
	})
}

// Several limits count a request all or none; a denial leaves nothing behind, but
// for the lifetime that it renews; a refund gives back what it cost, once.
//
// Red when undo removes nothing; when removal forgets the units beyond the first.
func TestMulti_allOrNothing(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		short, long := ratelimit.Every(6, 10*time.Minute), ratelimit.PerHour(90)
		limiter := byMulti(t, client, prefix, long, short)
		first := allowN(t, limiter, "alice", 4)
		allowN(t, limiter, "alice", 2)
		key := testkit.OnlyKey(t, client, prefix)
		before := testkit.Members(t, client, key)
		for _, cost := range []int{1, 2, 6, 1} {
			if got := allowN(t, limiter, "alice", cost); got.Allowed || got.Limit != short || got.RetryAfter <= 0 || got.RetryAfter > 10*time.Minute+time.Second {
				t.Errorf("cost %d: %s; want denied by %v", cost, show(got), short)
			}
		}
		if after := testkit.Members(t, client, key); len(before) != 6 || !slices.Equal(before, after) {
			t.Errorf("before %v, after %v; want six, the same", before, after)
		}
		if got := refund(t, limiter, "alice", first.Ticket()); !got {
			t.Error("nothing to take back")
		}
		if got := refund(t, limiter, "alice", first.Ticket()); got {
			t.Error("taken back twice")
		}
		if got := allowN(t, limiter, "alice", 4); !got.Allowed || got.Remaining != 0 || got.Limit != short {
			t.Errorf("%s; want admitted in the place of what was taken back", show(got))
		}
	})
}

// No key outlives its longest window by more than a second, and none lacks an
// expiry: not one that lost it, either.
//
// Red when look does not ask for PTTL, or nothing is done about -1.
func TestMulti_everyKeyExpires(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		for _, window := range []time.Duration{100 * time.Millisecond, 1500 * time.Millisecond, time.Hour} {
			prefix := b.Prefix(t)
			limiter := byMulti(t, client, prefix, ratelimit.Every(2, window))
			check := func(after string) {
				keys := testkit.Keys(t, client, prefix)
				if len(keys) == 0 && window < time.Second {
					return // expired already
				}
				ttl, err := client.PTTL(t.Context(), keys[0]).Result()
				if gone := ttl == -2 && window < time.Second; err != nil || !gone && (ttl <= 0 || ttl > window+time.Second) {
					t.Errorf("%v, after %s: a lifetime of %v, %v; want one, up to a second more", window, after, ttl, err)
				}
			}
			for i := range 4 {
				allow(t, limiter, "alice")
				check(fmt.Sprint("request ", i+1))
			}
			if window > 100*time.Millisecond {
				if err := persist(t, client, testkit.OnlyKey(t, client, prefix)); err != nil {
					t.Fatal(err)
				}
				allowN(t, limiter, "alice", 0)
				check("it was lost")
				continue
			}
			testkit.Eventually(t, "the key to expire", func() bool { return len(testkit.Keys(t, client, prefix)) == 0 })
		}
	})
}

// What has left the longest window is removed while the key lives on.
//
// Red when trim does nothing.
func TestMulti_forgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := bubble(t)
		limiter := byMulti(t, client, "weir", ratelimit.PerSecond(5))
		for range 300 {
			allow(t, limiter, "alice")
			time.Sleep(190 * time.Millisecond)
		}
		if n := len(testkit.Members(t, client, testkit.OnlyKey(t, client, "weir"))); n > 60 {
			t.Errorf("%d members; want 5, and at most some 40 that have left", n)
		}
	})
}

// A key that others spoiled is taken for full, for a window, and then healed.
//
// Red when refill adds nothing.
func TestMulti_heals(t *testing.T) {
	harms := map[string]func(client redis.UniversalClient, key string) []any{
		"a string":    func(_ redis.UniversalClient, key string) []any { return []any{"set", key, "17"} },
		"without end": func(_ redis.UniversalClient, key string) []any { return []any{"zadd", key, "+inf", "alice"} },
		"far ahead":   func(_ redis.UniversalClient, key string) []any { return []any{"zadd", key, 9e15, "alice"} },
	}
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
				const window = 400 * time.Millisecond
				prefix := b.Prefix(t)
				limiter := byMulti(t, client, prefix, ratelimit.Every(3, window))
				allow(t, limiter, "alice")
				key := testkit.OnlyKey(t, client, prefix)
				if err := errors.Join(client.Del(t.Context(), key).Err(), client.Do(t.Context(), harm(client, key)...).Err()); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				got := allow(t, limiter, "alice")
				if got.Allowed || got.Remaining != 0 || got.RetryAfter <= 0 || got.RetryAfter > window+time.Second {
					t.Errorf("%s; want denied for up to %v", show(got), window)
				}
				if time.Since(begun) < window && allow(t, limiter, "alice").Allowed && time.Since(begun) < window {
					t.Error("admitted within the window")
				}
				pause(got.RetryAfter)
				for i := range 3 {
					if late := allow(t, limiter, "alice"); !late.Allowed && i == 0 {
						t.Errorf("a window later: %s", show(late))
					}
				}
			})
		})
	}
}

// Random costs under several limits, for simulated hours: no window that ends with
// an admission has more than the limit, denied is what would not have fitted shortly
// before, and whoever waits as told is admitted.
//
// Red when count takes latest for the windows' end, or earliest for the score: once
// the clock's bounds have parted, what counts is forgotten early. Red when the wait is
// that for the oldest, whatever the cost.
func TestMulti_followsTheTruth(t *testing.T) {
	t.Parallel()
	tiers := map[string][]ratelimit.Limit{
		"one limit":    {ratelimit.PerMinute(40)},
		"three limits": {ratelimit.PerSecond(8), ratelimit.PerMinute(60), ratelimit.PerHour(900)},
	}
	for name, limits := range tiers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				limiter := byMulti(t, bubble(t), "weir", limits[0], asOptions(limits[1:])...)
				random := rand.New(rand.NewPCG(11, uint64(len(name))))
				var truth ledger
				denials := 0
				for range 700 {
					cost := 1 + random.IntN(4)*random.IntN(3)
					now, got := time.Now(), allowN(t, limiter, "alice", cost)
					fits, surely := true, true
					for _, l := range limits {
						fits = fits && truth.used(l.Window(), now)+cost <= l.Requests()
						surely = surely && truth.used(l.Window()+50*time.Millisecond, now)+cost <= l.Requests()
					}
					switch {
					case got.Allowed && !fits:
						t.Fatalf("admitted %d too many, after %d admissions: %s", cost, len(truth.at), show(got))
					case !got.Allowed && surely:
						t.Fatalf("denied %d without need, after %d admissions: %s", cost, len(truth.at), show(got))
					case got.Allowed:
						truth.add(now, cost)
					case !got.Never:
						if denials++; denials%3 == 1 { // shortly before
							time.Sleep(max(0, got.RetryAfter-time.Duration(random.IntN(25))*time.Millisecond))
							continue
						} else if denials%3 == 0 {
							time.Sleep(got.RetryAfter)
							if late := allowN(t, limiter, "alice", cost); !late.Allowed {
								t.Fatalf("cost %d, denied %s, and when that was over: %s", cost, show(got), show(late))
							}
							truth.add(time.Now(), cost)
						}
					}
					time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
				}
				if denials < 50 {
					t.Errorf("%d denials tell nothing", denials)
				}
			})
		})
	}
}

// Admitting takes one round trip; a denial that nobody saw coming two, those that
// follow none, and the first that comes when the memory has ended, one.
//
// Red when look is made before every request; when wary adds and undoes.
func TestMulti_roundTrips(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client, proxies := b.ProxiedClient(t)
			limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(2), ratelimit.PerMinute(30),
				ratelimit.WithoutScripts(), ratelimit.WithDenyCache(20*time.Millisecond))
			keys := strings.Split("abcdefghijklmnopqrst", "")
			for _, key := range keys { // connections, slots, the clocks of all nodes
				allow(t, limiter, "warm "+key)
			}
			for _, key := range keys {
				steps := []struct {
					what    string
					allowed bool
					trips   int
				}{{"the first", true, 1}, {"the second", true, 1}, {"a denial", false, 2}, {"the next", false, 0}, {"when the memory has ended", false, 1}}
				for i, step := range steps {
					if i == 4 {
						pause(25 * time.Millisecond)
					}
					proxies.Each((*testkit.Proxy).Reset)
					begun := time.Now()
					got := allow(t, limiter, key)
					if i == 3 && got.Source == ratelimit.FromRedis && time.Since(begun) > time.Millisecond {
						continue // this machine slept for longer than the memory lasts
					}
					if trips := proxies.RoundTrips(); got.Allowed != step.allowed || trips != step.trips {
						t.Fatalf("%s: allowed %v in %d round trips; want %v in %d", step.what, got.Allowed, trips, step.allowed, step.trips)
					}
				}
			}
		})
	}
}

// A server that refuses scripts is found out, be it from the beginning or from one
// request to the next, by ACL or by a command that was renamed away; from then on it
// is not asked again.
//
// Red when ask does not turn to transact on a refusal, or does not remember it.
func TestMulti_detected(t *testing.T) {
	t.Parallel()
	t.Run("ACL", func(t *testing.T) {
		t.Parallel()
		b := testkit.Server(t)
		admin := b.Client(t)
		acl := func(rules ...any) {
			if err := admin.Do(t.Context(), append([]any{"acl", "setuser", "app", "on", ">secret", "~*", "+@all"}, rules...)...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		acl()
		asApp := func(o *redis.UniversalOptions) { o.Username, o.Password = "app", "secret" }
		limiter := open(t, b.Client(t, asApp), b.Prefix(t), ratelimit.PerHour(3), ratelimit.PerMinute(9), ratelimit.WithDenyCache(0))
		if got := allow(t, limiter, "bob"); got.Remaining != 2 {
			t.Errorf("%s; want by script, 2 remaining", show(got))
		}
		acl("-@scripting")
		for i := range 5 {
			if got := allow(t, limiter, "alice"); got.Allowed != (i < 3) || got.Remaining != max(0, 2-i) {
				t.Errorf("request %d: %s; want allowed %v, %d remaining", i+1, show(got), i < 3, max(0, 2-i))
			}
		}
		// EVALSHA was refused once.
		if stats := admin.Info(t.Context(), "commandstats").Val(); !strings.Contains(stats, "cmdstat_evalsha:calls=1,") && !strings.Contains(stats, "cmdstat_evalsha:calls=2,") ||
			!strings.Contains(stats, "rejected_calls=1,") {
			t.Errorf("EVALSHA was tried again: %s", stats)
		}
		if _, err := limiter.With(ratelimit.AtOnce(1, time.Second)); !errors.Is(err, ratelimit.ErrConfig) {
			t.Errorf("With(AtOnce) = %v; want ErrConfig", err)
		}
	})
	t.Run("renamed", func(t *testing.T) {
		t.Parallel()
		b := testkit.Server(t, "--rename-command", "EVALSHA", "", "--rename-command", "EVAL", "")
		limiter := open(t, b.Client(t), b.Prefix(t), ratelimit.PerHour(3), ratelimit.WithDenyCache(0))
		for i := range 5 {
			if got := allow(t, limiter, "alice"); got.Allowed != (i < 3) {
				t.Errorf("request %d: %s; want allowed %v", i+1, show(got), i < 3)
			}
		}
	})
	t.Run("no MULTI either", func(t *testing.T) {
		t.Parallel()
		b := testkit.Server(t)
		if err := b.Client(t).Do(t.Context(), "acl", "setuser", "app", "on", ">secret", "~*", "+@all", "-@scripting", "-multi", "-zadd").Err(); err != nil {
			t.Fatal(err)
		}
		limiter := open(t, b.Client(t, func(o *redis.UniversalOptions) { o.Username, o.Password = "app", "secret" }), b.Prefix(t), ratelimit.PerHour(3))
		for range 2 { // no stand-in: this is no silence
			got, err := limiter.Allow(t.Context(), "alice")
			if got.Allowed || err == nil || errors.Is(err, ratelimit.ErrUnavailable) || !strings.Contains(err.Error(), "evalsha") {
				t.Errorf("%s, %v; want the server's refusals", show(got), err)
			}
		}
	})
}

// What any go-redis client may be configured to does not change the verdict, nor
// how replies are read.
//
// Red when scoreOf knows pairs by RESP2 only.
func TestMulti_anyClient(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	clients := map[string]*redis.Options{
		"RESP2":            {Protocol: 2},
		"RESP3":            {Protocol: 3},
		"context timeouts": {ContextTimeoutEnabled: true},
		"no retries":       {MaxRetries: -1},
		"one connection":   {PoolSize: 1},
	}
	for name, options := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options.Addr = b.Addrs()[0]
			client := redis.NewClient(options)
			t.Cleanup(func() { _ = client.Close() })
			limiter := byMulti(t, client, b.Prefix(t), ratelimit.PerHour(50), ratelimit.PerMinute(4))
			steps := []struct {
				cost    int
				allowed bool
			}{{3, true}, {2, false}, {1, true}, {1, false}, {4, false}}
			for i, step := range steps {
				got := allowN(t, limiter, "alice", step.cost)
				if got.Allowed != step.allowed || !step.allowed && (got.RetryAfter < 59*time.Second-relaxed || got.RetryAfter > 61*time.Second) || got.ResetAfter <= 0 {
					t.Errorf("request %d: %s; want allowed %v, else in a minute", i+1, show(got), step.allowed)
				}
			}
		})
	}
}

// Reset forgets what MULTI has counted, too.
//
// Red when Reset does not delete the key that ends in ":multi".
func TestMulti_reset(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limiter := byMulti(t, client, b.Prefix(t), ratelimit.PerHour(1))
		for range 2 {
			if got := allow(t, limiter, "alice"); !got.Allowed {
				t.Errorf("%s; want admitted after a reset", show(got))
			}
			if err := limiter.Reset(t.Context(), "alice"); err != nil {
				t.Error(err)
			}
		}
	})
}
