package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// BenchmarkDistance is how many decisions a second 64 goroutines get, each on a
// key of its own, when Redis is as far away as in the same or another region.
// With as many connections as callers a decision in one trip takes the trip's
// time; go-redis's default pool is what most services have.
func BenchmarkDistance(b *testing.B) {
	const callers = 64
	pools := []struct {
		name string
		size int
	}{{"a connection each", callers}, {"default pool", 0}}
	for _, delay := range []time.Duration{time.Millisecond, 10 * time.Millisecond} {
		b.Run(delay.String(), func(b *testing.B) {
			addr, _ := serve(b)
			of := entrants(inDistance)
			s := limiterTables.sheet(fmt.Sprintf("allowed, %d callers on %d keys, Redis %v away: decisions per second", callers, callers, delay))
			cells := make([][]string, len(of))
			for _, pool := range pools {
				b.Run(pool.name, func(b *testing.B) {
					proxy := testkit.NewProxy(b, addr)
					limiters, keys := make([]limiter, len(of)), make([][]string, len(of))
					for i, c := range of {
						limiters[i], keys[i] = open(b, c, proxy.Addr(), pool.size, limit{1_000_000, time.Second}), keysOf(c, callers)
						ask(warmUp, callers, keys[i], true, limiters[i].allow)
					}
					proxy.Delay(delay)
					rounds, length := pace(3, 300*time.Millisecond) // few, as one that queues its callers takes seconds
					rows := compare(b, of, references, turns(rounds, len(of), func(i int) tally {
						return ask(length, callers, keys[i], true, limiters[i].allow)
					}))
					s.columns = append(s.columns, pool.name)
					for _, name := range references {
						s.columns = append(s.columns, "× "+name)
					}
					for i, row := range rows {
						rate := 0.0
						if row.each > 0 {
							rate = 1e9 / row.each
						}
						cells[i] = append(cells[i], number(rate))
						for _, ratio := range row.times {
							cells[i] = append(cells[i], times(ratio))
						}
						if of[i].name == weir.name {
							instead(b, row.times[0], "weir/redis_rate")
						}
					}
					s.noise(rows, rounds, pool.name)
					s.failed(names(of), rows, pool.name)
				})
			}
			s.note("Default pool: 10 connections per core, and 10 more for those that send pipelines.")
			s.note("One trip a decision and no other cost would be %.0f a second with a connection each.", callers/delay.Seconds())
			for i, c := range of {
				s.add(c.name, cells[i]...)
			}
		})
	}
}
