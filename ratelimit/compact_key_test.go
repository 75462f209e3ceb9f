package ratelimit_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// A key above the threshold takes at most 4 KB however high its limit is, and
// whatever the traffic: as Redis measures it, after each request.
//
// Red when tidy merges nothing, or MERGE_AFTER is so high that the set has more than
// 128 members and Redis gives up its compact form.
func TestCompact_memory(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	b := testkit.Shared(t, "server")
	client := b.Client(t)
	const window = 400 * time.Millisecond
	costs := map[string]func(limit int, random *rand.Rand) int{
		"requests": func(int, *rand.Rand) int { return 1 },
		"halves":   func(limit int, _ *rand.Rand) int { return limit / 110 }, // of a batch, and a little more
		"weights":  func(limit int, random *rand.Rand) int { return 1 + random.IntN(limit/60) },
		"mixed": func(limit int, random *rand.Rand) int {
			return []int{1, 1, 1, 2, 5, max(1, limit/5000), limit / 300, 1 + random.IntN(limit/10)}[random.IntN(8)]
		},
	}
	var wg sync.WaitGroup
	for _, limit := range []int{10_000, 1_000_000} {
		for name, cost := range costs {
			for _, bursts := range []bool{false, true} {
				prefix := b.Prefix(t)
				limiter := open(t, client, prefix, ratelimit.Every(limit, window), ratelimit.WithDenyCache(0))
				random := rand.New(rand.NewPCG(3, uint64(limit)))
				allow(t, limiter, "alice")
				key := testkit.OnlyKey(t, client, prefix)
				wg.Go(func() {
					var largest, most int64
					for i, end := 0, time.Now().Add(5*window); time.Now().Before(end); i++ {
						if r, err := limiter.AllowN(t.Context(), "alice", cost(limit, random)); err != nil || r.Standin != nil {
							t.Error(err, r.Standin)
							return
						}
						if i%7 > 0 {
							continue
						}
						// Both may be 0: the key is gone when nothing came for a window.
						largest = max(largest, client.MemoryUsage(t.Context(), key, 0).Val())
						most = max(most, client.ZCard(t.Context(), key).Val())
						if bursts && random.IntN(40) == 0 {
							pause(window / 3)
						}
					}
					if largest > 4096 || most < 25 {
						t.Errorf("%d, %s, bursts %v: %d bytes with %d members; want at most 4096, and at least 25", limit, name, bursts, largest, most)
					}
					t.Logf("%d, %s, bursts %v: %d bytes with %d members", limit, name, bursts, largest, most)
				})
			}
		}
	}
	wg.Wait()
}

// A log that somebody else has written to tells nothing of what was admitted: it
// is taken for full, and healed. So is one of another kind.
//
// Red when check takes a first member that is not ours for none, a first sum above
// the total for none used, or entry a score of inf.
func TestCompact_spoiled(t *testing.T) {
	harms := map[string]func(key string, now float64) []any{
		"a stranger first": func(key string, now float64) []any { return []any{"zadd", key, now - 60e6, "alice"} },
		"a stranger last":  func(key string, now float64) []any { return []any{"zadd", key, now + 9e5, "alice"} },
		"without end":      func(key string, _ float64) []any { return []any{"zadd", key, "+inf", "a9:1:x"} },
		"sums that sink":   func(key string, now float64) []any { return []any{"zadd", key, now + 9e5, "a1:1:x"} },
	}
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
				prefix := b.Prefix(t)
				limiter := open(t, client, prefix, ratelimit.PerHour(1000), ratelimit.Every(900, time.Minute), ratelimit.WithDenyCache(0))
				var last ratelimit.Result
				for range 3 {
					last = allowN(t, limiter, "alice", 5)
				}
				key := testkit.OnlyKey(t, client, prefix)
				if err := client.Do(t.Context(), harm(key, float64(last.At.UnixMicro()))...).Err(); err != nil {
					t.Fatal(err)
				}
				for i := range 2 {
					if got := allow(t, limiter, "alice"); got.Allowed || got.RetryAfter > time.Hour {
						t.Errorf("request %d: %s; want denied for up to an hour", i+1, show(got))
					}
				}
				if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Hour+time.Second {
					t.Errorf("a lifetime of %v", ttl)
				}
				if left := testkit.Members(t, client, key); len(left) != 1 {
					t.Errorf("members %v; want one, that stands for all", left)
				}
			})
		})
	}
}

// Merging, and taking back a key's first admission, leave it with its lifetime.
//
// Red when rewrite keeps no lifetime (the refund), or done sets it before it merges
// and rewrite keeps none.
func TestCompact_keepsItsLifetime(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.Every(1000, 5*time.Second))
		first := allow(t, limiter, "alice").Ticket()
		key := testkit.OnlyKey(t, client, prefix)
		check := func(after string) {
			if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > 6*time.Second {
				t.Errorf("after %s: a lifetime of %v; want up to 6s", after, ttl)
			}
		}
		allow(t, limiter, "alice")
		if !refund(t, limiter, "alice", first) {
			t.Error("nothing to take back")
		}
		check("a refund")
		for range 120 {
			allow(t, limiter, "alice")
		}
		check("merges")
		if n := len(testkit.Members(t, client, key)); n > 60 {
			t.Errorf("%d members of 121; want fewer", n)
		}
	})
}

// Sums of 16 digits are as good as small ones, also where they gain a digit within
// one microsecond, and the next merge makes them small again.
//
// Red without the letter before the sum: the members of one instant are then in no
// order; and when merge never begins sums anew.
func TestCompact_largeSums(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.PerHour(1000))
		at := allow(t, limiter, "alice").At
		key := testkit.OnlyKey(t, client, prefix)
		crafted := []redis.Z{}
		for i := range 30 { // 15 digits, and then 16
			sum := int64(1e15 - 15 + i)
			m := fmt.Sprintf("%c%d:1:x%d", 'a'-1+len(fmt.Sprint(sum)), sum, i)
			crafted = append(crafted, redis.Z{Score: float64(at.UnixMicro()), Member: m})
		}
		if err := errors.Join(client.Del(t.Context(), key).Err(), client.ZAdd(t.Context(), key, crafted...).Err()); err != nil {
			t.Fatal(err)
		}
		for i := range 90 {
			if got := allow(t, limiter, "alice"); !got.Allowed || got.Remaining != 1000-31-i {
				t.Fatalf("request %d: %s; want %d remaining", i+1, show(got), 1000-31-i)
			}
		}
		last := testkit.Members(t, client, key)
		if text := last[len(last)-1].Member.(string); !strings.HasPrefix(text, "c120:1:") {
			t.Errorf("the last member is %q; want c120:1:…", text)
		}
	})
}
