package ratelimit_test

import (
	"math/rand/v2"
	"sort"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// ledger is what was admitted, by Redis's own instants: the truth that a limiter
// is held to.
type ledger struct {
	at  []time.Time // in order
	sum []int       // of all costs before the one of that index
}

func (l *ledger) add(at time.Time, cost int) {
	if len(l.at) == 0 {
		l.sum = []int{0}
	}
	l.at = append(l.at, at)
	l.sum = append(l.sum, l.sum[len(l.sum)-1]+cost)
}

// used is what was admitted in (now-window, now], for a now that is not before the
// latest.
func (l *ledger) used(window time.Duration, now time.Time) int {
	if len(l.at) == 0 {
		return 0
	}
	first := sort.Search(len(l.at), func(i int) bool { return l.at[i].After(now.Add(-window)) })
	return l.sum[len(l.at)] - l.sum[first]
}

// check holds a verdict to the truth: each limit may count at most lax more than
// was admitted, and never less.
func (l *ledger) check(t *testing.T, r ratelimit.Result, cost int, lax func(ratelimit.Limit) int) {
	t.Helper()
	full := false
	for s := range r.All() {
		used, limit := l.used(s.Limit.Window(), r.At), s.Limit.Requests()
		switch {
		case r.Allowed && used+cost > limit:
			t.Fatalf("%v: admitted %d, making %d in one window, after %d admissions", s.Limit, cost, used+cost, len(l.at))
		case s.Full && used+cost+lax(s.Limit) <= limit:
			t.Fatalf("%v: denied %d beside %d in the window, after %d admissions; want at most %d wasted", s.Limit, cost, used, len(l.at), lax(s.Limit))
		case !r.Allowed && !s.Full && used+cost > limit:
			t.Fatalf("%v: has room for %d beside %d", s.Limit, cost, used)
		}
		remaining := limit - used
		if r.Allowed {
			remaining -= cost
		}
		if s.Remaining > max(0, remaining) || s.Remaining < remaining-lax(s.Limit) {
			t.Fatalf("%v: %d remaining; want %d, or at most %d less", s.Limit, s.Remaining, remaining, lax(s.Limit))
		}
		full = full || s.Full
	}
	if full == r.Allowed {
		t.Fatalf("%s, but a limit that is full: %v", show(r), full)
	}
	if r.Allowed && cost > 0 {
		l.add(r.At, cost)
	}
}

// laxity is what WithExact promises of a limit: 1/56 of it, which is less than 2 %.
func laxity(exact int) func(ratelimit.Limit) int {
	return func(l ratelimit.Limit) int {
		if l.Requests() <= exact {
			return 0
		}
		return l.Requests() / 56
	}
}

// Through simulated hours, under every kind of traffic, a limit above the
// threshold never admits more than it says, in whatever window, and denies nothing
// that would leave more than 1/56 of it free. Up to the threshold it errs by
// nothing. The same holds for each of several limits that share a key.
//
// Red when merge gives a batch the time of its first part (over), or takes its
// quantum twice (waste), or divides no request (members); red for several limits when
// quantum is that of the longest window, or merge divides a batch (waste that grows).
func TestCompact_followsTheTruth(t *testing.T) {
	t.Parallel()
	short := ratelimit.PerMinute
	tests := []struct {
		name    string
		traffic string
		asked   int
		exact   int
		limits  []ratelimit.Limit
	}{
		{"129", "steady", 800, 128, []ratelimit.Limit{short(129)}},
		{"10,000", "steady", 700, 128, []ratelimit.Limit{short(10_000)}},
		{"10,000", "halves", 500, 128, []ratelimit.Limit{short(10_000)}},
		{"1,000,000", "bursts", 700, 128, []ratelimit.Limit{short(1_000_000)}},
		{"1,000,000", "weights", 700, 128, []ratelimit.Limit{short(1_000_000)}},
		{"2,147,483,647", "weights", 600, 128, []ratelimit.Limit{short(1<<31 - 1)}},
		{"128, exact", "bursts", 400, 128, []ratelimit.Limit{short(128)}},
		{"1,000, exact", "weights", 600, 1000, []ratelimit.Limit{short(1000)}},
		{"exact and batches", "steady", 700, 128, []ratelimit.Limit{ratelimit.PerSecond(10), ratelimit.Every(1000, 2*time.Minute)}},
		{"three", "weights", 900, 128, []ratelimit.Limit{ratelimit.PerSecond(100), short(800), ratelimit.Every(4000, 10*time.Minute)}},
		{"close ones", "steady", 800, 128, []ratelimit.Limit{short(1000), ratelimit.PerHour(1500)}},
		{"of one order", "brim", 2000, 128, []ratelimit.Limit{short(200), ratelimit.Every(790, 4*time.Minute)}},
	}
	for _, tt := range tests {
		t.Run(tt.name+"/"+tt.traffic, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				options := append(asOptions(tt.limits[1:]), ratelimit.WithExact(tt.exact), ratelimit.WithDenyCache(0))
				client := bubble(t)
				limiter := open(t, client, "weir", tt.limits[0], options...)
				source := traffics[tt.traffic](tt.limits, rand.New(rand.NewPCG(7, uint64(tt.asked))))
				var truth ledger
				for range tt.asked {
					cost, wait := source()
					truth.check(t, allowN(t, limiter, "alice", cost), cost, laxity(tt.exact))
					time.Sleep(wait)
				}
				if n := len(testkit.Members(t, client, testkit.OnlyKey(t, client, "weir"))); len(tt.limits) == 1 && tt.limits[0].Requests() > tt.exact && n > 57+48 {
					t.Errorf("%d members; want at most 57 batches and 48 requests", n)
				}
				if n := len(truth.at); n < tt.asked/5 || n > tt.asked*9/10 {
					t.Errorf("%d of %d were admitted: the requests tell little", n, tt.asked)
				}
			})
		})
	}
}

// bubble is a client of a Redis in the test's own time.
func bubble(t *testing.T) redis.UniversalClient {
	return testkit.Memory(t).Client(t, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true })
}

// traffics make sources of requests that say what one costs, and how long it is
// until the next.
var traffics = map[string]func(limits []ratelimit.Limit, random *rand.Rand) func() (cost int, wait time.Duration){
	// Three times what the limits allow.
	"steady": func(limits []ratelimit.Limit, random *rand.Rand) func() (int, time.Duration) {
		mean, cost := spending(limits)
		return func() (int, time.Duration) { return cost, time.Duration(random.Int64N(int64(2 * mean / 3))) }
	},
	// A little more than they allow.
	"brim": func(limits []ratelimit.Limit, random *rand.Rand) func() (int, time.Duration) {
		mean, cost := spending(limits)
		return func() (int, time.Duration) { return cost, time.Duration(random.Int64N(int64(3 * mean / 2))) }
	},
	// Of which two are more than a batch holds.
	"halves": func(limits []ratelimit.Limit, random *rand.Rand) func() (int, time.Duration) {
		return func() (int, time.Duration) {
			return limits[0].Requests() / 110, time.Duration(random.Int64N(int64(limits[0].Window() / 120)))
		}
	},
	// Many within a microsecond, then none for long.
	"bursts": func(limits []ratelimit.Limit, random *rand.Rand) func() (int, time.Duration) {
		mean, cost := spending(limits)
		left := 0
		return func() (int, time.Duration) {
			if left--; left > 0 {
				return cost, 0
			}
			left = 1 + random.IntN(700)
			return cost, time.Duration(left) * mean / 2
		}
	},
	"weights": func(limits []ratelimit.Limit, random *rand.Rand) func() (int, time.Duration) {
		mean, cost := spending(limits)
		return func() (int, time.Duration) {
			c := 1 + random.IntN(2*cost)
			if random.IntN(40) == 0 { // sometimes a heavy one
				c = min(1+cost*random.IntN(90), limits[0].Requests())
			}
			return c, time.Duration(random.Int64N(int64(mean)))
		}
	},
}

// spending is a time between requests, and their cost, that spend the limit which
// allows least.
func spending(limits []ratelimit.Limit) (mean time.Duration, cost int) {
	cost = max(1, limits[0].Requests()/300)
	for _, l := range limits {
		mean = max(mean, l.Window()/time.Duration(l.Requests()/cost))
	}
	return mean, cost
}

// Of a key in batches, too, whoever waits as told is admitted if nobody else came,
// and nobody is 1 µs earlier; and what remains grows at the instant told, and not
// before.
//
// Red when reaches returns a neighbour of the entry it looks for.
func TestCompact_tellsTheTruth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := open(t, bubble(t), "weir", ratelimit.PerMinute(5000), ratelimit.Every(20_000, 7*time.Minute), ratelimit.WithDenyCache(0))
		random := rand.New(rand.NewPCG(8, 8))
		for denials := 0; denials < 120; {
			cost := 1 + random.IntN(400)
			got := allowN(t, limiter, "alice", cost)
			if got.Allowed {
				time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
				continue
			}
			if denials++; denials%2 == 0 {
				before := allowN(t, limiter, "alice", 0)
				time.Sleep(before.ResetAfter - time.Microsecond)
				if early := allowN(t, limiter, "alice", 0); early.Remaining != before.Remaining || early.ResetAfter != time.Microsecond {
					t.Errorf("1 µs before the instant told: %s; want %d remaining", show(early), before.Remaining)
				}
				time.Sleep(time.Microsecond)
				if late := allowN(t, limiter, "alice", 0); late.Remaining <= before.Remaining {
					t.Errorf("at the instant told: %s; want more than %d remaining", show(late), before.Remaining)
				}
				continue
			}
			time.Sleep(got.RetryAfter - time.Microsecond)
			if early := allowN(t, limiter, "alice", cost); early.Allowed || early.RetryAfter != time.Microsecond {
				t.Errorf("cost %d, 1 µs before the instant told: %s; want denied for 1µs", cost, show(early))
			}
			time.Sleep(time.Microsecond)
			if late := allowN(t, limiter, "alice", cost); !late.Allowed {
				t.Errorf("cost %d, at the instant told: %s", cost, show(late))
			}
		}
	})
}

// Plans on both sides of the threshold, and of other windows, count one usage,
// whichever asks when: all that was admitted counts for each, and each errs by a
// batch of the largest at most.
//
// Red when merge puts all that has left the asking plan's windows into one batch.
func TestCompact_plansAcrossTheThreshold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 6000
		large := open(t, bubble(t), "weir", ratelimit.PerMinute(most), ratelimit.WithDenyCache(0))
		plans := []*ratelimit.Limiter{
			large, with(t, large, ratelimit.PerMinute(2500)), with(t, large, ratelimit.PerSecond(200)),
			with(t, large, ratelimit.PerMinute(100)), with(t, large, ratelimit.PerMinute(3000), ratelimit.PerSecond(90)),
		}
		random := rand.New(rand.NewPCG(9, 9))
		var truth ledger
		for i := range 900 {
			cost := 1 + random.IntN(10)
			truth.check(t, allowN(t, plans[(i/60)%len(plans)], "alice", cost), cost, func(ratelimit.Limit) int { return most / 56 })
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		}
	})
}
