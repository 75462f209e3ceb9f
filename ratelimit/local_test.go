package ratelimit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// silent is a client whose Redis is gone: it fails at once.
type silent struct{ redis.UniversalClient }

func (*silent) Process(_ context.Context, cmd redis.Cmder) error {
	err := errors.New("gone")
	cmd.SetErr(err)
	return err
}

// Pipeline is that of a client that reaches nobody.
func (*silent) Pipeline() redis.Pipeliner { return unreachable.Pipeline() }

var unreachable = redis.NewClient(&redis.Options{
	Dialer:     func(context.Context, string, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED },
	MaxRetries: -1,
})

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
// Red when accountOf does not turn at localKeys, or when the user's own key is kept
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

// What Redis said before it fell silent counts: of what was left each process admits
// its part, whatever it costs and under whichever limit; and whoever waits for the
// time told is admitted, and nobody a nanosecond earlier.
//
// Red when room leaves out sent, others or own, when others never end, when grows
// leaves out the instant at which they do, or adds a nanosecond.
func TestLocal_knowsWhatRedisSaid(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(17, seed))
			window := []time.Duration{time.Second, 1001 * time.Microsecond, time.Hour}[random.IntN(3)]
			n, limit := 1+random.IntN(4), 4+random.IntN(60)
			limiters, faults := processes(t, testkit.Memory(t), n, ratelimit.Every(limit, window))
			for range random.IntN(limit) {
				spend(t, limiters[random.IntN(n)], "alice", 1)
				time.Sleep(time.Duration(random.Int64N(int64(window) / 20)))
			}
			var left int
			for _, l := range limiters {
				got, err := l.Peek(t.Context(), "alice")
				if err != nil {
					t.Fatal(err)
				}
				left = got.Remaining
			}
			heard := time.Now()
			outage(t, limiters, faults)
			if got, err := limiters[0].Peek(t.Context(), "alice"); err != nil || got.Remaining > max(min(1, left), left/n) {
				t.Fatalf("seed %d: of %d left to %d processes one has %d, %v", seed, left, n, got.Remaining, err)
			}
			share := max(1, limit/n)
			for range 60 {
				cost := 1 + random.IntN(share)
				got := spend(t, limiters[0], "alice", cost)
				if got.Allowed || got.Never {
					continue
				}
				time.Sleep(got.RetryAfter - time.Nanosecond)
				if early := spend(t, limiters[0], "alice", cost); early.Allowed || early.RetryAfter != time.Nanosecond {
					t.Fatalf("seed %d: 1 ns before the instant told: %s", seed, show(early))
				}
				time.Sleep(time.Nanosecond)
				if again := spend(t, limiters[0], "alice", cost); !again.Allowed {
					t.Fatalf("seed %d: at the instant told, %v after Redis was heard: %s", seed, time.Since(heard), show(again))
				}
			}
		})
	}
}

// A request that costs more than a process's part waits for Redis, one that costs
// more than the limit never comes through.
func TestLocal_costs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, limit := range map[string]ratelimit.Limit{"sliding": ratelimit.PerHour(40), "smooth": ratelimit.PerHour(1).Smooth(40)} {
			limiter := alone(t, limit, ratelimit.WithInstances(4))
			for _, tt := range []struct {
				cost           int
				allowed, never bool
				least, most    time.Duration
			}{
				{11, false, false, time.Second, time.Second},
				{40, false, false, time.Second, time.Second},
				{41, false, true, 0, 0},
				{10, true, false, 0, 0},
				{1, false, false, time.Hour, 5 * time.Hour},
			} {
				got := spend(t, limiter, "alice", tt.cost)
				if got.Allowed != tt.allowed || got.Never != tt.never || got.RetryAfter < tt.least || got.RetryAfter > tt.most {
					t.Errorf("%s, cost %d of 40 by 4: %s, never %v; want allowed %v, never %v", name, tt.cost, show(got), got.Never, tt.allowed, tt.never)
				}
			}
		}
	})
}

// An even rate is kept without Redis, too, by each process at its part of it, from
// the level that Redis told; the time told is true to a microsecond.
//
// Red when saw does not take the level over, or when an idle key is forgotten before
// its level has sunk (lifetime of Smooth).
func TestLocal_smooth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n, burst = 2, 20
		limiters, faults := processes(t, testkit.Memory(t), n, ratelimit.PerHour(60).Smooth(burst))
		spend(t, limiters[0], "alice", 10)
		if got, _ := limiters[1].Peek(t.Context(), "alice"); got.Remaining != 10 {
			t.Fatal(show(got))
		}
		outage(t, limiters, faults)
		for i, l := range limiters {
			if got := spend(t, l, "alice", 5); !got.Allowed || got.Remaining != 0 {
				t.Errorf("process %d: %s; want 5 of the 10 that were left", i, show(got))
			}
		}
		for range 30 {
			got := spend(t, limiters[0], "alice", 1)
			if got.Allowed || got.RetryAfter < time.Minute || got.RetryAfter > 2*time.Minute {
				t.Fatalf("%s; want half of one a minute", show(got))
			}
			time.Sleep(got.RetryAfter - time.Microsecond)
			if early := spend(t, limiters[0], "alice", 1); early.Allowed {
				t.Fatalf("early: %s", show(early))
			}
			time.Sleep(time.Microsecond)
			if again := spend(t, limiters[0], "alice", 1); !again.Allowed {
				t.Fatalf("at the instant told: %s", show(again))
			}
		}
	})
}

// Requests in flight hold their places while Redis is silent, be they admitted by
// Redis or not, until they are released or their leases end.
//
// Red when a key is forgotten after the longest window, of which there is none here
// (lifetime of InFlight); or when turn does not look for leases that have ended.
func TestLocal_atOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const lease = 10 * time.Minute
		limiters, faults := processes(t, testkit.Memory(t), 2, ratelimit.AtOnce(8, lease))
		limiter := limiters[0]
		held := []ratelimit.Result{spend(t, limiter, "alice", 1), spend(t, limiter, "alice", 3)}
		outage(t, limiters, faults)
		held = append(held, spend(t, limiter, "alice", 1), spend(t, limiter, "alice", 7))
		for i, r := range held {
			if !r.Allowed {
				t.Fatalf("request %d: %s", i, show(r))
			}
		}
		for range 5 {
			if got := spend(t, limiter, "alice", 1); got.Allowed || got.RetryAfter != 0 || got.Remaining != 0 {
				t.Fatalf("the fifth of four: %s", show(got))
			}
			spend(t, limiter, "other", 1)
			time.Sleep(time.Minute)
		}
		_ = limiter.Release(t.Context(), "alice", held[0].Ticket())
		_ = limiter.Release(t.Context(), "alice", held[3].Ticket())
		for i := range 3 {
			if got := spend(t, limiter, "alice", 1); got.Allowed != (i < 2) {
				t.Errorf("request %d after two releases: %s", i, show(got))
			}
		}
		time.Sleep(lease - 5*time.Minute + lease/16 + time.Millisecond)
		for i := range 3 {
			if got := spend(t, limiter, "alice", 1); got.Allowed != (i < 2) {
				t.Errorf("request %d after two leases: %s", i, show(got))
			}
		}
	})
}

// Plans count the same usage without Redis as well: what was admitted under one
// counts under the others, also such as come later.
//
// Red when count adds to the limiter's own windows only, or teach is not called.
func TestLocal_plans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		base := alone(t, ratelimit.PerHour(100))
		var plans []*ratelimit.Limiter
		for _, limit := range []ratelimit.Limit{ratelimit.PerSecond(5), ratelimit.PerMinute(8), ratelimit.PerHour(8)} {
			plan, err := base.With(limit)
			if err != nil {
				t.Fatal(err)
			}
			plans = append(plans, plan)
		}
		for range 5 {
			if got := spend(t, plans[0], "alice", 1); !got.Allowed {
				t.Fatal(show(got))
			}
		}
		for range 2 {
			if got := spend(t, plans[1], "alice", 1); !got.Allowed {
				t.Fatal(show(got))
			}
		}
		for i, want := range []int{0, 1, 1} {
			if got, err := plans[i].Peek(t.Context(), "alice"); err != nil || got.Remaining != want {
				t.Errorf("plan %d: %s, %v; want %d remaining", i, show(got), err, want)
			}
		}
	})
}

// Plans with ever new windows, and requests that never end, do not fill the memory.
//
// Red when tierOf appends without a bound.
func TestLocal_memory_ofPlans(t *testing.T) {
	limiter := alone(t, ratelimit.PerHour(1<<20))
	before := heap()
	for i := range 20_000 {
		plan, err := limiter.With(ratelimit.Every(1<<20, time.Hour-time.Duration(i)*time.Microsecond))
		if err != nil {
			t.Fatal(err)
		}
		if got := spend(t, plan, "alice", 1); !got.Allowed || got.Remaining > 1<<20-i-1 {
			t.Fatalf("plan %d: %s", i, show(got))
		}
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("20000 plans of one key: the heap grew by %d KiB; want at most 4096", grown>>10)
	}
	if got := spend(t, limiter, "alice", 1); !got.Allowed {
		t.Error(show(got))
	}
}
