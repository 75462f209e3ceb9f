package ratelimit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// weighty is an admission, by Redis's clock.
type weighty struct {
	at   time.Time
	cost int
}

// heaviest is the most that was admitted in one window (t-window, t], whatever t.
func heaviest(all []weighty, window time.Duration) (most int) {
	slices.SortFunc(all, func(a, b weighty) int { return a.at.Compare(b.at) })
	sum, first := 0, 0
	for _, a := range all {
		sum += a.cost
		for ; !all[first].at.After(a.at.Add(-window)); first++ {
			sum -= all[first].cost
		}
		most = max(most, sum)
	}
	return most
}

// Under load, with scripts flushed, keys persisted and overwritten by others all the
// time: no call fails, and no window has more than the limit.
//
// Red when refill puts in place of what it does not know a log that is empty.
func TestCompact_underFire(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	b := testkit.Server(t) // of its own: it is flushed
	client := b.Client(t)
	const limit, window = 3000, 250 * time.Millisecond
	prefix := b.Prefix(t)
	limiter := open(t, client, prefix, ratelimit.Every(limit, window), ratelimit.Every(2*limit, 4*window), ratelimit.WithDenyCache(0))
	keys := map[string]string{}
	for _, name := range []string{"flushed", "persisted", "overwritten"} {
		before := testkit.Keys(t, client, prefix)
		allow(t, limiter, name)
		for _, k := range testkit.Keys(t, client, prefix) {
			if !slices.Contains(before, k) {
				keys[name] = k
			}
		}
	}
	end := time.Now().Add(8 * window)
	var mu sync.Mutex
	admitted := map[string][]weighty{}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(4, uint64(i)))
			for n := 0; time.Now().Before(end); n++ {
				name := []string{"flushed", "persisted", "overwritten"}[n%3]
				cost := 1 + random.IntN(60)
				r, err := limiter.AllowN(t.Context(), name, cost)
				if err != nil || r.Standin != nil {
					t.Errorf("%s: %v, %v", name, err, r.Standin)
					return
				}
				if r.Allowed {
					mu.Lock()
					admitted[name] = append(admitted[name], weighty{r.At, cost})
					mu.Unlock()
				}
			}
		})
	}
	for i := 0; time.Now().Before(end); i++ {
		client.ScriptFlush(t.Context())
		client.Persist(t.Context(), keys["persisted"])
		if i%100 == 99 {
			client.Set(t.Context(), keys["overwritten"], "17", 0)
		}
		pause(5 * time.Millisecond)
	}
	wg.Wait()
	for name, all := range admitted {
		for w, most := range map[time.Duration]int{window: limit, 4 * window: 2 * limit} {
			if got := heaviest(all, w); got > most {
				t.Errorf("%s: %d in a window of %v; want at most %d", name, got, w, most)
			}
		}
		t.Logf("%s: %d admissions, at most %d and %d", name, len(all), heaviest(all, window), heaviest(all, 4*window))
	}
}

// A reply is lost, and before the request is made again, 60 others are admitted. If
// each request is kept by itself it is found, and counts once. In batches it is
// not, and counts twice: too few are admitted then, never too many.
//
// Red when seen looks at fewer than 60 members.
func TestCompact_lostReply(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ exact, remaining int }{"by itself": {1000, 939}, "in batches": {128, 938}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, "server")
			p := testkit.NewProxy(t, b.Addrs()[0])
			prefix := b.Prefix(t)
			var dials atomic.Int32
			again := make(chan struct{})
			client := p.Client(t, func(o *redis.Options) {
				o.PoolSize = 1
				o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
					if dials.Add(1) > 1 {
						<-again
					}
					return new(net.Dialer).DialContext(ctx, network, addr)
				}
			})
			limit, exact := ratelimit.PerHour(1000), ratelimit.WithExact(tt.exact)
			limiter, others := open(t, client, prefix, limit, exact), open(t, b.Client(t), prefix, limit, exact)
			allow(t, limiter, "bob")
			p.SwallowReply(1, "evalsha", testkit.ThenClose)
			done := make(chan ratelimit.Result)
			go func() {
				r, err := limiter.Allow(context.Background(), "alice")
				if err != nil || r.Standin != nil {
					t.Error(err, r.Standin)
				}
				done <- r
			}()
			testkit.Eventually(t, "the reply to be lost", func() bool { return p.Swallowed() == 1 })
			for range 60 {
				allow(t, others, "alice")
			}
			close(again)
			if got := <-done; !got.Allowed || got.Remaining != tt.remaining {
				t.Errorf("%s; want %d remaining", show(got), tt.remaining)
			}
		})
	}
}

// Four processes with sixteen goroutines each: a limit in batches, too, is never
// exceeded in any window, and hardly any of it is wasted.
//
// Red when merge gives a batch the time of its first part.
func TestCompact_overProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	b := testkit.Shared(t, "server")
	const limit, window = 5000, time.Second
	a := attack{Spec: b.Spec(), Prefix: b.Prefix(t), Limit: limit, Window: window, Goroutines: 16,
		Phases: twice(time.Now().Add(time.Second), window)}
	args, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	admissions := testkit.Decode[span](t, testkit.Spawn(t, 4, "attack", string(args)).Wait())
	checkFlood(t, admissions, limit, window, 2*limit, 98)
}

// twice asks for a window and a half: twice the limit is possible.
func twice(start time.Time, window time.Duration) []phase {
	return []phase{{From: start.UnixNano(), To: start.Add(window * 3 / 2).UnixNano()}}
}

// checkFlood holds what several processes have admitted to limit, as seen from
// outside. possible is how many could be; of that so many percent must be, unless the
// machine was too slow to ask for them.
func checkFlood(t *testing.T, admissions []span, limit int, window time.Duration, possible, percent int) {
	t.Helper()
	slices.SortFunc(admissions, func(a, b span) int { return int(a.Received - b.Received) })
	// In a window that begins with a sending are those that were sent since, and
	// received by its end. Of all windows those suffice which end with an answer.
	most := 0
	for i, last := range admissions {
		n := 0
		for j := i; j >= 0 && admissions[j].Received > last.Received-int64(window); j-- {
			if admissions[j].Sent >= last.Received-int64(window) {
				n++
			}
		}
		most = max(most, n)
	}
	if most > limit {
		t.Errorf("%d admissions in one window of %v; want at most %d", most, window, limit)
	}
	if len(admissions) < limit {
		t.Logf("%d admissions in all: the machine was too slow to tell about waste", len(admissions))
		return
	}
	filled := time.Duration(admissions[limit-1].Received - admissions[0].Sent)
	told := fmt.Sprintf("%d admissions of %d (%.1f%%), at most %d in one window of %v; the first %d took %v",
		len(admissions), possible, 100*float64(len(admissions))/float64(possible), most, window, limit, filled)
	if len(admissions)*100 < possible*percent && filled < window/3 {
		t.Errorf("%s; want at least %d%%", told, percent)
	}
	t.Log(told)
}
