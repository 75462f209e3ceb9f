package ratelimit_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// The first L pass with L-1..0 remaining, the next do not.
func TestLimiter_admitsTheLimit(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(5))
		for i := range 8 {
			got := allow(t, limiter, "alice")
			if want := i < 5; got.Allowed != want || got.Remaining != max(0, 4-i) || got.Limit != ratelimit.PerHour(5) {
				t.Errorf("request %d: %s; want allowed %v, %d remaining", i+1, show(got), want, max(0, 4-i))
			}
			if got.Allowed == (got.RetryAfter > 0) || got.ResetAfter <= 0 || got.ResetAfter > time.Hour {
				t.Errorf("request %d: %s; want RetryAfter only on a denial, ResetAfter up to an hour", i+1, show(got))
			}
		}
	})
}

// Requests at the same time: exactly L pass, and each is told another number.
func TestLimiter_admitsTheLimit_atOnce(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		const limit = 40
		limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(limit))
		results := make([]ratelimit.Result, 2*limit)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() { results[i], _ = limiter.Allow(t.Context(), "alice") })
		}
		wg.Wait()
		var remaining []int
		for _, r := range results {
			if r.Standin != nil {
				t.Fatal(r.Standin)
			}
			if r.Allowed {
				remaining = append(remaining, r.Remaining)
			}
		}
		slices.Sort(remaining)
		for i := range max(limit, len(remaining)) {
			if len(remaining) != limit || remaining[i] != i {
				t.Fatalf("%d admitted, told %v; want 0 to %d, each once", len(remaining), remaining, limit-1)
			}
		}
	})
}

// Sequences of requests at random times, on windows short enough to roll over
// several times, get the model's verdict to the microsecond.
//
// Red when the script's count takes > for >=, its trim comes early, or the tier
// shown is the first full one and not the one that keeps out longest.
func TestLimiter_followsTheModel(t *testing.T) {
	tiers := map[string][]ratelimit.Limit{
		"one limit":    {ratelimit.Every(7, 100*time.Millisecond)},
		"three limits": {ratelimit.Every(3, 30*time.Millisecond), ratelimit.Every(8, 120*time.Millisecond), ratelimit.Every(20, 350*time.Millisecond)},
	}
	for name, limits := range tiers {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
				limiter := open(t, client, b.Prefix(t), limits[0], asOptions(limits[1:])...)
				m := &model{limits: limits}
				random := rand.New(rand.NewPCG(1, uint64(len(name))))
				for end := time.Now().Add(700 * time.Millisecond); time.Now().Before(end); {
					checkAgainst(t, m, allow(t, limiter, "alice"))
					if random.IntN(4) == 0 {
						pause(time.Duration(random.IntN(20)) * time.Millisecond)
					}
				}
			})
		})
	}
}

// The same in faked time, for a simulated day: windows of minutes and hours, and
// calls at the very instant at which a window ends, one microsecond before, and
// one after.
//
// Red when the script's trim keeps, or its ZCOUNT counts, an admission that is
// exactly a window old.
func TestLimiter_followsTheModel_forADay(t *testing.T) {
	t.Parallel()
	limits := []ratelimit.Limit{ratelimit.PerSecond(2), ratelimit.PerMinute(9), ratelimit.PerHour(60)}
	synctest.Test(t, func(t *testing.T) {
		client := testkit.Memory(t).Client(t)
		limiter := open(t, client, "weir", limits[2], limits[0], limits[1])
		m := &model{limits: limits}
		random := rand.New(rand.NewPCG(2, 2))
		for start := time.Now(); time.Since(start) < 24*time.Hour; {
			got := allow(t, limiter, "alice")
			checkAgainst(t, m, got)
			switch random.IntN(5) {
			case 0:
				time.Sleep(time.Duration(random.Int64N(int64(3 * time.Minute))))
			case 1:
				time.Sleep(got.ResetAfter)
			case 2:
				time.Sleep(max(0, got.RetryAfter-time.Microsecond))
			case 3:
				time.Sleep(got.RetryAfter + time.Microsecond)
			}
		}
	})
}

func checkAgainst(t *testing.T, m *model, got ratelimit.Result) {
	t.Helper()
	if want := m.decide(got.At); show(got) != show(want) {
		t.Fatalf("at %v, after %d admissions:\n got %s\nwant %s", got.At, len(m.admitted), show(got), show(want))
	}
}

func asOptions(limits []ratelimit.Limit) (options []ratelimit.Option) {
	for _, l := range limits {
		options = append(options, l)
	}
	return options
}

// pause lets Redis's clock go on, which nothing here can fake.
func pause(d time.Duration) { <-time.After(d) }

// A denied request changes nothing: not the admissions, not their times, not the
// instant of the next one.
//
// Red when the script adds on a denial.
func TestLimiter_denialChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.PerHour(3), ratelimit.Every(9, 2*time.Hour))
		var last ratelimit.Result
		for range 3 {
			last = allow(t, limiter, "alice")
		}
		key := testkit.OnlyKey(t, client, prefix)
		before := testkit.Members(t, client, key)
		for range 20 {
			last = allow(t, limiter, "alice")
			if last.Allowed {
				t.Fatal("allowed beyond the limit")
			}
		}
		if after := testkit.Members(t, client, key); len(before) != 3 || !slices.Equal(before, after) {
			t.Errorf("admissions before %v, after %v; want three, the same", before, after)
		}
		first := time.UnixMicro(int64(before[0].Score))
		if free := last.At.Add(last.RetryAfter); !free.Equal(first.Add(time.Hour)) {
			t.Errorf("the 20th denial names %v; want %v, an hour after the first admission", free, first.Add(time.Hour))
		}
	})
}

// Whoever waits RetryAfter is admitted, and nobody earlier.
func TestLimiter_retryAfterIsTrue(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limiter := open(t, client, b.Prefix(t), ratelimit.Every(2, 200*time.Millisecond))
		for denials := 0; denials < 2; {
			denied := allow(t, limiter, "alice")
			if denied.Allowed {
				continue
			}
			denials++
			received, free := time.Now(), denied.At.Add(denied.RetryAfter)
			pause(denied.RetryAfter / 2)
			// By Redis's clock: this machine may have slept too long to be early.
			if early := allow(t, limiter, "alice"); early.Allowed && early.At.Before(free) {
				t.Errorf("admitted %v before the instant told", free.Sub(early.At))
			} else if early.Allowed {
				continue
			}
			pause(time.Until(received.Add(denied.RetryAfter)))
			if late := allow(t, limiter, "alice"); !late.Allowed {
				t.Errorf("denied %v after the instant told: %s", late.At.Sub(free), show(late))
			}
		}
	})
}

// Under several limits a request is counted by all or by none, and the one that
// keeps it out is named.
//
// Red when the script lets a tier that has room speak for one that has none:
// without "longestWait == 0 and".
func TestLimiter_tiersAllOrNothing(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		short, long := ratelimit.Every(2, 250*time.Millisecond), ratelimit.PerHour(3)
		limiter := open(t, client, prefix, long, short)
		if got := limiter.Limits(); !slices.Equal(got, []ratelimit.Limit{short, long}) {
			t.Errorf("Limits() = %v; want the shortest window first", got)
		}
		steps := []struct {
			allowed bool
			tier    ratelimit.Limit
			counted int
		}{{true, short, 1}, {true, short, 2}, {false, short, 2}, {false, short, 2}, {true, long, 3}, {false, long, 3}}
		for i, want := range steps {
			got := allow(t, limiter, "alice")
			if got.Allowed != want.allowed || got.Limit != want.tier {
				if i == 2 && got.Allowed {
					return // this machine took a whole window for three calls
				}
				t.Fatalf("request %d: %s; want allowed %v by %v", i+1, show(got), want.allowed, want.tier)
			}
			if n := len(testkit.Members(t, client, testkit.OnlyKey(t, client, prefix))); n != want.counted {
				t.Errorf("request %d: %d counted; want %d", i+1, n, want.counted)
			}
			if i == 3 {
				pause(short.Window()) // both have left
			}
		}
	})
}

// No key outlives its longest window by more than a second, be it of 100 ms, and
// none lacks an expiry.
//
// Red when the script's last PEXPIRE is removed.
func TestLimiter_everyKeyExpires(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		for _, window := range []time.Duration{time.Millisecond, 100 * time.Millisecond, 1500 * time.Millisecond, time.Hour} {
			prefix := b.Prefix(t)
			limiter := open(t, client, prefix, ratelimit.Every(2, window))
			for i := range 4 {
				allow(t, limiter, "alice")
				keys := testkit.Keys(t, client, prefix)
				if len(keys) == 0 && window < time.Second {
					continue // expired already
				}
				ttl, err := client.PTTL(t.Context(), keys[0]).Result()
				if gone := ttl == -2 && window < time.Second; err != nil || !gone && (ttl < 0 || ttl > window+time.Second) {
					t.Errorf("%v, after request %d: a lifetime of %v, %v; want one, up to a second more", window, i+1, ttl, err)
				}
			}
			if window <= 100*time.Millisecond {
				testkit.Eventually(t, "the key to expire", func() bool { return len(testkit.Keys(t, client, prefix)) == 0 })
			}
		}
	})
}

// A key that others spoiled is healed by the next decision.
//
// Red, in turn, when the PEXPIRE on a denial, the one on an admission, or the DEL
// for WRONGTYPE is removed from the script.
func TestLimiter_heals(t *testing.T) {
	tests := []struct {
		name    string
		used    int // before the harm, of 2
		harm    func(t *testing.T, client redis.UniversalClient, key string) error
		allowed bool
	}{
		{"lost its expiry, room left", 1, persist, true},
		{"lost its expiry, full", 2, persist, false},
		{"a string", 2, func(t *testing.T, client redis.UniversalClient, key string) error {
			return client.Set(t.Context(), key, "17", 0).Err()
		}, false},
		{"a list", 2, func(t *testing.T, client redis.UniversalClient, key string) error {
			return errors.Join(client.Del(t.Context(), key).Err(), client.LPush(t.Context(), key, "17").Err())
		}, false},
		{"deleted", 2, func(t *testing.T, client redis.UniversalClient, key string) error {
			return client.Del(t.Context(), key).Err()
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
				prefix := b.Prefix(t)
				limiter := open(t, client, prefix, ratelimit.PerMinute(2))
				for range tt.used {
					allow(t, limiter, "alice")
				}
				key := testkit.OnlyKey(t, client, prefix)
				if err := tt.harm(t, client, key); err != nil {
					t.Fatal(err)
				}
				if got := allow(t, limiter, "alice"); got.Allowed != tt.allowed {
					t.Errorf("%s; want allowed %v", show(got), tt.allowed)
				}
				ttl, err := client.PTTL(t.Context(), key).Result()
				if err != nil || ttl <= 0 || ttl > time.Minute+time.Second {
					t.Errorf("a lifetime of %v, %v; want up to 61s", ttl, err)
				}
			})
		})
	}
}

func persist(t *testing.T, client redis.UniversalClient, key string) error {
	changed, err := client.Persist(t.Context(), key).Result()
	if err == nil && !changed {
		err = errors.New("PERSIST changed nothing")
	}
	return err
}

// Keys do not share, nor do names, prefixes and longest windows; the same of all
// does, over Limiters.
func TestLimiter_sharing(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		minute := ratelimit.PerMinute(1)
		used := open(t, client, prefix, minute)
		named := open(t, client, prefix, minute, ratelimit.WithName("login"))
		allow(t, used, "alice")
		allow(t, named, "alice")
		tests := []struct {
			name    string
			limiter *ratelimit.Limiter
			key     string
			shared  bool
		}{
			{"same limiter", used, "alice", true},
			{"same limits", open(t, client, prefix, minute), "alice", true},
			{"same name", open(t, client, prefix, minute, ratelimit.WithName("login")), "alice", true},
			{"another key", used, "bob", false},
			{"a key that differs by case", used, "Alice", false},
			{"a key that differs by a space", used, "alice ", false},
			{"another name", open(t, client, prefix, minute, ratelimit.WithName("search")), "alice", false},
			{"another prefix", open(t, client, prefix+":x", minute), "alice", false},
			{"another window", open(t, client, prefix, ratelimit.PerHour(1)), "alice", false},
			{"same name, another longest window", open(t, client, prefix, ratelimit.PerHour(1), ratelimit.WithName("login")), "alice", false},
			{"name and key moved", open(t, client, prefix, minute, ratelimit.WithName("logina")), "lice", false},
		}
		for _, tt := range tests {
			if got := allow(t, tt.limiter, tt.key); got.Allowed == tt.shared {
				t.Errorf("%s: allowed %v; want shared %v", tt.name, got.Allowed, tt.shared)
			}
		}
		raised := open(t, client, prefix, ratelimit.PerMinute(3), ratelimit.WithName("login"))
		if got := allow(t, raised, "alice"); !got.Allowed || got.Remaining != 1 {
			t.Errorf("a raised number: %s; want what was used to count: 1 remaining", show(got))
		}
	})
}

// A limit that was lowered under a used name names the instant at which enough
// have left.
func TestLimiter_lowered(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		before := open(t, client, prefix, ratelimit.PerHour(9), ratelimit.WithName("n"))
		var at []time.Time
		for range 5 {
			at = append(at, allow(t, before, "alice").At)
			pause(2 * time.Millisecond)
		}
		after := open(t, client, prefix, ratelimit.PerHour(2), ratelimit.WithName("n"))
		got := allow(t, after, "alice")
		if free := got.At.Add(got.RetryAfter); got.Allowed || got.Remaining != 0 || !free.Equal(at[3].Add(time.Hour)) {
			t.Errorf("%s, that is %v; want denied until the fourth of five has left, %v", show(got), free, at[3].Add(time.Hour))
		}
	})
}

// Nothing of what callers know their users by reaches Redis, nor can it break
// out of the key's name.
func TestLimiter_keysAreNotTold(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.PerHour(2), ratelimit.WithName("secretname"))
		for _, key := range []string{"192.0.2.17", "alice@example.com", "{alice}", "alice}:x{", "\x00\xff", strings.Repeat("alice", 1e5)} {
			allow(t, limiter, key)
			allow(t, limiter, key)
			if allow(t, limiter, key).Allowed {
				t.Errorf("%.20q: admitted three of two", key)
			}
		}
		keys := testkit.Keys(t, client, prefix)
		if len(keys) != 6 {
			t.Errorf("%d keys; want one for each of six", len(keys))
		}
		for _, key := range keys {
			all := key
			for _, z := range testkit.Members(t, client, key) {
				all += " " + z.Member.(string)
			}
			for _, told := range []string{"192.0.2", "alice", "example", "secret"} {
				if strings.Contains(all, told) {
					t.Errorf("%q tells %q", all, told)
				}
			}
			if !strings.HasPrefix(key, prefix+":limit:{") || len(key)-len(prefix) > 40 {
				t.Errorf("key %q; want %s:limit:{22 characters}", key, prefix)
			}
		}
	})
}

func TestLimiter_emptyKey(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	client := b.Client(t)
	limiter := open(t, client, "weir", ratelimit.PerHour(1))
	for range 3 {
		if got, err := limiter.Allow(t.Context(), ""); !errors.Is(err, ratelimit.ErrEmptyKey) || got.Allowed {
			t.Errorf("= %+v, %v; want ErrEmptyKey", got, err)
		}
	}
	if keys := testkit.Keys(t, client, "weir"); len(keys) != 0 {
		t.Errorf("keys %q; want none", keys)
	}
}

// A decision is one command in one round trip, whatever the number of limits and
// the verdict.
func TestLimiter_oneRoundTrip(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client, proxies := b.ProxiedClient(t)
			prefix := b.Prefix(t)
			one := open(t, client, prefix, ratelimit.PerMinute(2))
			eight := open(t, client, prefix, ratelimit.PerSecond(1000), ratelimit.PerMinute(1001), ratelimit.PerHour(2),
				ratelimit.Every(1002, 2*time.Hour), ratelimit.Every(1003, 3*time.Hour), ratelimit.Every(1004, 4*time.Hour),
				ratelimit.Every(1005, 5*time.Hour), ratelimit.Every(1006, 6*time.Hour))
			keys := strings.Split("abcdefghijklmnopqrstuvwxyz", "")
			for _, key := range keys { // connections, slots, the script on every node
				allow(t, one, key)
				allow(t, eight, key)
			}
			proxies.Each((*testkit.Proxy).Reset)
			for _, key := range keys {
				for _, limiter := range []*ratelimit.Limiter{one, eight} {
					if !allow(t, limiter, key).Allowed || allow(t, limiter, key).Allowed {
						t.Fatal("want the second of two, and no third")
					}
				}
			}
			if trips, commands, want := proxies.RoundTrips(), proxies.Commands(), 4*len(keys); trips != want || commands != want {
				t.Errorf("%d decisions took %d round trips and %d commands; want one each", want, trips, commands)
			}
		})
	}
}

// SCRIPT FLUSH costs the next decision one more trip, and no verdict.
func TestLimiter_scriptFlush(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t) // of its own: it is flushed
	client, proxies := b.ProxiedClient(t)
	limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(10))
	allow(t, limiter, "alice")
	if err := b.Client(t).ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{2, 1} {
		proxies.Each((*testkit.Proxy).Reset)
		if got := allow(t, limiter, "alice"); !got.Allowed || got.Remaining != 8-i {
			t.Errorf("decision %d after the flush: %s; want allowed, %d remaining", i+1, show(got), 8-i)
		}
		if got := proxies.RoundTrips(); got != want {
			t.Errorf("decision %d after the flush took %d round trips; want %d", i+1, got, want)
		}
	}
}

// The server's clock set back never admits more than the limit, and nobody waits
// for it to be there again: what was admitted counts as admitted now. Set forward,
// windows end early, as they must.
//
// Red when the log is not moved along with the clock: 1m10s.
func TestLimiter_clockSetBack(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	mini := b.Miniredis()
	mini.ClockTTL(false)
	client := b.Client(t)
	limiter := open(t, client, "weir", ratelimit.PerMinute(2), ratelimit.WithDenyCache(0))
	start := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	steps := []struct {
		at      time.Duration
		allowed bool
		wait    time.Duration
	}{
		{0, true, 0},
		{time.Second, true, 0},
		{-10 * time.Second, false, 59 * time.Second}, // the two are of -11s and -10s now
		{48 * time.Second, false, time.Second},
		{49 * time.Second, true, 0},
		{50 * time.Second, true, 0},
		{51 * time.Second, false, 58 * time.Second},
		{3 * time.Minute, true, 0},
	}
	for _, step := range steps {
		mini.SetTime(start.Add(step.at))
		if got := allow(t, limiter, "alice"); got.Allowed != step.allowed || got.RetryAfter != step.wait {
			t.Errorf("at %v: %s; want allowed %v, retry after %v", step.at, show(got), step.allowed, step.wait)
		}
	}
}
