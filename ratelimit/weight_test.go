package ratelimit_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

func allowN(tb testing.TB, limiter *ratelimit.Limiter, key string, cost int) ratelimit.Result {
	tb.Helper()
	result, err := limiter.AllowN(tb.Context(), key, cost)
	if err != nil || result.Standin != nil {
		tb.Fatalf("AllowN(%q, %d) = %v, %v; want Redis's verdict", key, cost, result.Standin, err)
	}
	return result
}

// Costs add up; what does not fit is denied and changes nothing; what can never
// fit says so, and names no time.
//
// Red when the script compares used with the limit and leaves the cost out.
func TestLimiter_costs(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limits := map[string]ratelimit.Limit{"sliding": ratelimit.PerHour(5), "smooth": ratelimit.PerHour(1).Smooth(5)}
		for name, limit := range limits {
			limiter := open(t, client, b.Prefix(t), limit)
			steps := []struct {
				cost, remaining int
				allowed, never  bool
			}{
				{0, 5, true, false}, // a peek
				{2, 3, true, false}, {2, 1, true, false}, {6, 1, false, true}, {2, 1, false, false},
				{1, 0, true, false}, {0, 0, false, false}, {10, 0, false, true}, {1, 0, false, false},
			}
			for i, s := range steps {
				got := allowN(t, limiter, "alice", s.cost)
				if got.Allowed != s.allowed || got.Remaining != s.remaining || got.Never != s.never {
					t.Errorf("%s, step %d, cost %d: %s, never %v; want allowed %v, %d remaining, never %v",
						name, i+1, s.cost, show(got), got.Never, s.allowed, s.remaining, s.never)
				}
				if waits := got.RetryAfter > 0; waits == (s.allowed || s.never) {
					t.Errorf("%s, step %d: retry after %v", name, i+1, got.RetryAfter)
				}
				if told := got.Ticket() != ""; told != (s.allowed && s.cost > 0) {
					t.Errorf("%s, step %d: ticket %q", name, i+1, got.Ticket())
				}
			}
		}
	})
}

func TestLimiter_costMistakes(t *testing.T) {
	t.Parallel()
	limiter := open(t, testkit.Mini(t).Client(t), "weir", ratelimit.PerHour(5))
	for _, cost := range []int{-1, -1 << 40, 1 << 31} {
		if got, err := limiter.AllowN(t.Context(), "alice", cost); !errors.Is(err, ratelimit.ErrCost) || got.Allowed {
			t.Errorf("cost %d: %+v, %v; want ErrCost", cost, got, err)
		}
	}
	if got := allowN(t, limiter, "alice", 1<<31-1); got.Allowed || !got.Never {
		t.Errorf("the highest cost: %s; want never", show(got))
	}
}

// weighed is the specification of limits with costs: all admissions there ever
// were.
type weighed struct {
	limits   []ratelimit.Limit
	admitted []spent
}

type spent struct {
	at   time.Time
	cost int
}

// used is what limit has in its window at now.
func (w *weighed) used(limit ratelimit.Limit, now time.Time) (n int) {
	for _, s := range w.admitted {
		if s.at.After(now.Add(-limit.Window())) {
			n += s.cost
		}
	}
	return n
}

func (w *weighed) fits(cost int, now time.Time) bool {
	for _, l := range w.limits {
		if w.used(l, now)+cost > l.Requests() {
			return false
		}
	}
	return true
}

// Random costs under several limits, for simulated days, are decided as the model
// decides: no more, no fewer, with the right numbers for every limit; and a denied
// request is admitted at the instant it was told, and not 1 µs before.
//
// Red when reaches returns a neighbour, or down counts one request less.
func TestLimiter_costsFollowTheModel(t *testing.T) {
	t.Parallel()
	tiers := map[string][]ratelimit.Limit{
		"one":   {ratelimit.PerMinute(20)},
		"three": {ratelimit.PerSecond(5), ratelimit.PerMinute(40), ratelimit.PerHour(120)},
	}
	for name, limits := range tiers {
		synctest.Test(t, func(t *testing.T) {
			client := testkit.Memory(t).Client(t)
			limiter := open(t, client, "weir", limits[0], asOptions(limits[1:])...)
			m := &weighed{limits: limits}
			random := rand.New(rand.NewPCG(3, uint64(len(limits))))
			for range 1500 {
				cost := 1 + random.IntN(6)
				got := allowN(t, limiter, "alice", cost)
				fits := m.fits(cost, got.At)
				if got.Allowed != fits {
					t.Fatalf("%s: cost %d at %v: %s; want allowed %v", name, cost, got.At, show(got), fits)
				}
				if fits {
					m.admitted = append(m.admitted, spent{got.At, cost})
					m.admitted = m.admitted[max(0, len(m.admitted)-130):] // what an hour can hold
				}
				if got.Source == ratelimit.FromRedis {
					for s := range got.All() {
						if want := s.Limit.Requests() - m.used(s.Limit, got.At); s.Remaining != want {
							t.Fatalf("%s: cost %d: %v: %d remaining; want %d", name, cost, s.Limit, s.Remaining, want)
						}
					}
				}
				if free := got.At.Add(got.RetryAfter); !fits && !got.Never && got.Source == ratelimit.FromRedis {
					if !m.fits(cost, free) || m.fits(cost, free.Add(-time.Microsecond)) {
						t.Fatalf("%s: cost %d is told to come back at %v, when it is %v; 1 µs earlier it is %v",
							name, cost, free, m.fits(cost, free), m.fits(cost, free.Add(-time.Microsecond)))
					}
				}
				switch random.IntN(6) {
				case 0:
					time.Sleep(time.Duration(random.Int64N(int64(30 * time.Second))))
				case 1:
					time.Sleep(got.RetryAfter)
				case 2:
					time.Sleep(got.ResetAfter)
				}
			}
		})
	}
}

// Peek tells what Allow would, and leaves nothing in Redis.
//
// Red when the script commits at a cost of 0.
func TestLimiter_peek(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.PerHour(2), ratelimit.PerHour(60).Smooth(3), ratelimit.AtOnce(2, time.Hour))
		for range 3 {
			got, err := limiter.Peek(t.Context(), "alice")
			if err != nil || !got.Allowed || got.Remaining != 2 || got.Ticket() != "" {
				t.Errorf("peek: %s, %v; want allowed, 2 remaining", show(got), err)
			}
		}
		if keys := testkit.Keys(t, client, prefix); len(keys) != 0 {
			t.Errorf("peeking left %q", keys)
		}
		allow(t, limiter, "alice")
		allow(t, limiter, "alice")
		denied := allow(t, limiter, "alice")
		got, err := limiter.Peek(t.Context(), "alice")
		if err != nil || got.Allowed || denied.Allowed || got.RetryAfter <= 0 || got.RetryAfter > denied.RetryAfter {
			t.Errorf("peek when full: %s, %v; want denied, as %s", show(got), err, show(denied))
		}
	})
}
