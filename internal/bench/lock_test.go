package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// Each contestant's lock has one holder at a time.
func TestLockers(t *testing.T) {
	t.Parallel()
	addr := testkit.Server(t).Addrs()[0]
	seen := map[string]bool{}
	for _, c := range lockers {
		if seen[c.name] {
			t.Errorf("two contestants are named %q", c.name)
		}
		seen[c.name] = true
		client := c.dial(addr, 0)
		t.Cleanup(func() { client.Close() })
		l, err := c.open(client)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var inside atomic.Int64
		for range 4 {
			wg.Go(func() {
				release, err := l.acquire(t.Context(), "a")
				if err != nil {
					t.Errorf("%s: %v", c.name, err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%s: %d inside", c.name, n)
				}
				inside.Add(-1)
				if err := release(t.Context()); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
			})
		}
		wg.Wait()
	}
	for _, name := range lockerReferences {
		if !seen[name] {
			t.Errorf("%s is compared with, but no contestant", name)
		}
	}
}

// BenchmarkLock is how long it takes to lock and unlock what nobody else wants, and
// how long a handover takes to one that waits, and to each of a hundred.
func BenchmarkLock(b *testing.B) {
	const many = 10_000
	keys := make([]string, many)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%09d", i)
	}
	uncontended := func(callers int, length time.Duration) func(locker) tally {
		return func(l locker) tally { return ask(length, callers, keys, true, l.cycle) }
	}
	handover := func(waiters int, _ time.Duration) func(locker) tally {
		return func(l locker) tally { return l.handOver(context.Background(), waiters) }
	}
	cases := []struct {
		name, what string
		callers    []int
		rounds     int
		turn       func(callers int, length time.Duration) func(locker) tally
	}{
		{"uncontended", "goroutine", []int{1, 16}, 13, uncontended},
		{"handover", "waiter", []int{1, 100}, 9, handover},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			addr, admin := serve(b)
			opened := make([]locker, len(lockers))
			for i, contestant := range lockers {
				opened[i] = openLocker(b, contestant, addr)
				ask(warmUp, 16, keys, true, opened[i].cycle)
			}
			s := lockTables.sheet(c.name + ": time per lock and unlock")
			cells := make([][]string, len(lockers))
			for _, callers := range c.callers {
				b.Run(fmt.Sprint(callers), func(b *testing.B) {
					used := make([][]float64, len(lockers)) // commands each
					rounds, length := pace(c.rounds, 60*time.Millisecond)
					turn := c.turn(callers, length)
					results := turns(rounds, len(lockers), func(i int) tally {
						before := processed(b, admin)
						t := turn(opened[i])
						used[i] = append(used[i], float64(processed(b, admin)-before)/float64(max(1, t.verdicts)))
						return t
					})
					rows := compare(b, lockers, lockerReferences, results)
					at := plural(callers, c.what)
					s.columns = append(s.columns, at+", µs", "× redsync", "× redislock", "commands")
					for i, row := range rows {
						cells[i] = append(cells[i], number(row.each/1e3), times(row.times[0]), times(row.times[1]), number(median(used[i])))
						if lockers[i].name == weirLocker.name {
							instead(b, row.times[0], "weir/redsync")
						}
					}
					s.noise(rows, rounds, at)
					s.failed(names(lockers), rows, at)
				})
			}
			for i, contestant := range lockers {
				s.add(contestant.name, cells[i]...)
			}
		})
	}
}

// openLocker opens a locker as open does a limiter.
func openLocker(b *testing.B, c locking, addr string) locker {
	b.Helper()
	client := c.dial(addr, pool)
	b.Cleanup(func() { client.Close() })
	l, err := c.open(client)
	if err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	return l
}

// processed is how many commands Redis has run, those inside of scripts not counted
// but INFO itself.
func processed(b *testing.B, admin *redis.Client) (n int64) {
	b.Helper()
	text, err := admin.InfoMap(context.Background(), "stats").Result()
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(text["Stats"]["total_commands_processed"], &n); err != nil {
		b.Fatal(err)
	}
	return n
}
