package ratelimit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/ratelimit"
)

// silent is a client whose Redis is gone: it fails at once.
type silent struct{ redis.UniversalClient }

func (*silent) Process(_ context.Context, cmd redis.Cmder) error {
	err := errors.New("gone")
	cmd.SetErr(err)
	return err
}

// alone is a Limiter on which the local stand-in decides.
func alone(tb testing.TB, limit ratelimit.Limit, options ...ratelimit.Option) *ratelimit.Limiter {
	tb.Helper()
	limiter, err := ratelimit.New(new(silent), limit, options...)
	if err != nil {
		tb.Fatal(err)
	}
	return limiter
}

func allowAlone(tb testing.TB, limiter *ratelimit.Limiter, key string) ratelimit.Result {
	tb.Helper()
	result, err := limiter.Allow(context.Background(), key)
	if err != nil || !errors.Is(result.Standin, ratelimit.ErrUnavailable) {
		tb.Fatalf("= %+v, %v; want the stand-in's verdict", result, err)
	}
	return result
}

// late is how long after it left the window the stand-in may still count an
// admission: a 16th of the window, and what its division into whole nanoseconds
// rounds up.
func late(window time.Duration) time.Duration { return window/16 + 32 }

// At random times over many windows the stand-in never admits more than its share
// in any window, denies nothing that it has room for but for a 16th of a window,
// and is right about when to come back.
//
// Red when a ring has one part less, or when a denial is counted.
func TestLocal_followsTheModel(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits    []ratelimit.Limit
		instances int
	}{
		"one limit":               {[]ratelimit.Limit{ratelimit.Every(10, time.Second)}, 1},
		"a third, rounded down":   {[]ratelimit.Limit{ratelimit.Every(10, time.Second)}, 3},
		"less than one each":      {[]ratelimit.Limit{ratelimit.Every(2, time.Second)}, 5},
		"a window not of 16ths":   {[]ratelimit.Limit{ratelimit.Every(3, 1000003*time.Microsecond)}, 1},
		"the shortest window":     {[]ratelimit.Limit{ratelimit.Every(2, time.Millisecond)}, 1},
		"three limits":            {[]ratelimit.Limit{ratelimit.PerSecond(3), ratelimit.PerMinute(9), ratelimit.PerHour(60)}, 1},
		"three limits for halves": {[]ratelimit.Limit{ratelimit.PerSecond(3), ratelimit.PerMinute(9), ratelimit.PerHour(60)}, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				limiter := alone(t, tt.limits[0], append(asOptions(tt.limits[1:]), ratelimit.WithInstances(tt.instances))...)
				longest := tt.limits[len(tt.limits)-1].Window()
				random := rand.New(rand.NewPCG(3, uint64(len(name))))
				var admitted []time.Time
				ask := func() ratelimit.Result {
					got := allowAlone(t, limiter, "alice")
					full := false
					for _, limit := range tt.limits {
						share := max(1, limit.Requests()/tt.instances)
						if n := count(admitted, got.At, limit.Window()); got.Allowed && n >= share {
							t.Fatalf("admitted with %d of %d in %v", n, share, limit.Window())
						}
						full = full || count(admitted, got.At, limit.Window()+late(limit.Window())) >= share
					}
					switch {
					case !got.Allowed && !full:
						t.Fatalf("denied with room: %s", show(got))
					case got.Allowed && (got.RetryAfter != 0 || got.Remaining < 0 || got.ResetAfter <= 0):
						t.Fatal(show(got))
					case got.Allowed:
						admitted = append(admitted, got.At)
					}
					return got
				}
				for range 4000 {
					got := ask()
					if !got.Allowed && random.IntN(2) == 0 { // nobody comes before the instant told
						time.Sleep(got.RetryAfter - time.Nanosecond)
						if early := ask(); early.Allowed || early.RetryAfter != time.Nanosecond {
							t.Fatalf("1 ns before the instant told: %s", show(early))
						}
						time.Sleep(time.Nanosecond)
						if again := ask(); !again.Allowed {
							t.Fatalf("at the instant told: %s", show(again))
						}
					}
					switch random.IntN(8) {
					case 0:
						time.Sleep(time.Duration(random.Int64N(int64(2 * longest))))
					case 1, 2:
						time.Sleep(time.Duration(random.Int64N(int64(tt.limits[0].Window() / 4))))
					}
				}
			})
		})
	}
}

// Admissions at the very edges of the parts that the stand-in counts by stay a
// whole window apart, also where a 16th of the window is no whole nanosecond.
//
// Red when a part's length is rounded down: by 9 ns.
func TestLocal_edges(t *testing.T) {
	t.Parallel()
	for _, window := range []time.Duration{time.Second, 1000003 * time.Microsecond, 1001 * time.Microsecond, 3*time.Hour + time.Microsecond} {
		for part := range time.Duration(18) {
			for nudge := time.Duration(-2); nudge <= 2; nudge++ {
				synctest.Test(t, func(t *testing.T) {
					limiter := alone(t, ratelimit.Every(1, window))
					time.Sleep(part*(window/16) + nudge)
					first := allowAlone(t, limiter, "alice")
					denied := allowAlone(t, limiter, "alice")
					time.Sleep(denied.RetryAfter)
					second := allowAlone(t, limiter, "alice")
					if apart := second.At.Sub(first.At); !first.Allowed || denied.Allowed || !second.Allowed || apart < window || apart > window+late(window) {
						t.Fatalf("%v, part %d%+d: admitted %v apart", window, part, nudge, apart)
					}
				})
			}
		}
	}
}

// count is how many of times lie in the window (now-window, now].
func count(times []time.Time, now time.Time, window time.Duration) (n int) {
	for i := len(times) - 1; i >= 0 && times[i].After(now.Add(-window)); i-- {
		n++
	}
	return n
}

// Keys do not share, and a used one stays so while others come and go.
func TestLocal_keys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := alone(t, ratelimit.PerMinute(1))
		for i := range 20_000 {
			if key := strconv.Itoa(i); !allowAlone(t, limiter, key).Allowed || allowAlone(t, limiter, key).Allowed {
				t.Fatalf("key %d: want one admitted", i)
			}
		}
		time.Sleep(59 * time.Second)
		for i := range 20_000 {
			if allowAlone(t, limiter, strconv.Itoa(i)).Allowed {
				t.Fatalf("key %d: forgotten within the window", i)
			}
		}
		time.Sleep(6 * time.Second)
		for i := range 20_000 {
			if !allowAlone(t, limiter, strconv.Itoa(i)).Allowed {
				t.Fatalf("key %d: remembered beyond the window", i)
			}
		}
	})
}

// A flood of keys, or of long ones, in an outage does not fill the memory, and
// does not make the stand-in forget a key that is in use.
//
// Red when ringsOf does not turn at localKeys, or when the user's own key is kept
// in place of its digest.
func TestLocal_memory(t *testing.T) {
	limiter := alone(t, ratelimit.PerHour(2))
	before := heap()
	long := strings.Repeat("x", 100_000)
	for i := range 2000 {
		allowAlone(t, limiter, long+strconv.Itoa(i))
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("2000 long keys: the heap grew by %d MiB; want at most 32", grown>>20)
	}
	for i := range 200_000 {
		allowAlone(t, limiter, strconv.Itoa(i))
		if i%10_000 == 0 && allowAlone(t, limiter, "alice").Allowed != (i < 20_000) {
			t.Fatalf("after %d other keys alice, who keeps asking, is forgotten", i)
		}
	}
	if grown := heap() - before; grown > 32<<20 {
		t.Errorf("200000 keys: the heap grew by %d MiB; want at most 32", grown>>20)
	}
	runtime.KeepAlive(limiter)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// WithFailOpen admits everything, and says so truthfully.
func TestLimiter_failOpen(t *testing.T) {
	t.Parallel()
	limiter := alone(t, ratelimit.PerHour(2), ratelimit.WithFailOpen())
	for range 10 {
		if got := allowAlone(t, limiter, "alice"); !got.Allowed || got.Remaining != 2 || got.ResetAfter != 0 || got.Limit.Requests() != 2 {
			t.Errorf("%s; want allowed, 2 remaining", show(got))
		}
	}
}
