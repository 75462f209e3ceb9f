package bench

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// BenchmarkDecision is how long a decision takes on loopback, by the number of
// goroutines that ask at a time.
func BenchmarkDecision(b *testing.B) {
	many := 10_000
	if brief {
		many = 1000
	}
	cases := []struct {
		name  string
		in    table
		keys  int
		limit limit
		want  bool
	}{
		// A limit of everyday size, which no key reaches.
		{"allowed, many keys", inAllowed, many, limit{100, 10 * time.Second}, true},
		// A limit that one key can keep below at any speed.
		{"allowed, one key", inAllowed, 1, limit{1_000_000, time.Second}, true},
		{"denied, many keys", inDenied, many, limit{1, time.Hour}, false},
		{"denied, one key", inDenied, 1, limit{1, time.Hour}, false},
	}
	for _, c := range cases {
		b.Run(strings.ReplaceAll(c.name, ", ", "/"), func(b *testing.B) {
			addr, admin := serve(b)
			of := entrants(c.in)
			limiters, keys := make([]limiter, len(of)), make([][]string, len(of))
			for i, contestant := range of {
				limiters[i], keys[i] = open(b, contestant, addr, pool, c.limit), keysOf(contestant, c.keys)
				// Opens connections, loads scripts, and spends what is to be denied.
				if n := visit(pool, keys[i], limiters[i].allow); n > 0 {
					b.Fatalf("%s: %d of the first %d decisions failed", contestant.name, n, c.keys)
				}
				ask(warmUp, pool, keys[i], c.want, limiters[i].allow)
			}
			s := limiterTables.sheet(fmt.Sprintf("%s: time per decision", strings.Replace(c.name, "many", strconv.Itoa(c.keys), 1)))
			cells := make([][]string, len(of))
			for _, callers := range []int{1, 16, 128} {
				b.Run(strconv.Itoa(callers), func(b *testing.B) {
					used := make([][]float64, len(of)) // Redis's CPU time a verdict, in ns
					rounds, length := pace(13, 60*time.Millisecond)
					results := turns(rounds, len(of), func(i int) tally {
						before := busy(b, admin)
						t := ask(length, callers, keys[i], c.want, limiters[i].allow)
						used[i] = append(used[i], (busy(b, admin)-before)*1e9/float64(max(1, t.verdicts)))
						return t
					})
					rows := compare(b, of, references, results)
					at := plural(callers, "caller")
					s.columns = append(s.columns, at+", µs")
					for _, name := range references {
						s.columns = append(s.columns, "× "+name)
					}
					if callers == 128 {
						s.columns = append(s.columns, "of it Redis's CPU, µs")
					}
					for i, row := range rows {
						cells[i] = append(cells[i], number(row.each/1e3))
						for _, ratio := range row.times {
							cells[i] = append(cells[i], times(ratio))
						}
						if callers == 128 {
							cells[i] = append(cells[i], number(median(used[i])/1e3))
						}
						if of[i].name == weir.name {
							instead(b, row.times[0], "weir/redis_rate")
						}
					}
					s.noise(rows, rounds, at)
					s.failed(names(of), rows, at)
				})
			}
			for i, contestant := range of {
				s.add(contestant.name, cells[i]...)
			}
		})
	}
}

const (
	// pool is room for every caller, so that waiting for a connection is no part
	// of the time.
	pool   = 128
	warmUp = 50 * time.Millisecond
)

// pace is how many rounds there are and how long a turn is.
func pace(rounds int, length time.Duration) (int, time.Duration) {
	if brief {
		return (rounds + 2) / 3, length / 3
	}
	return rounds, length
}

// busy is the CPU time that Redis has used, in seconds.
func busy(b *testing.B, admin *redis.Client) (seconds float64) {
	b.Helper()
	info, err := admin.InfoMap(context.Background(), "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
		f, err := strconv.ParseFloat(info["CPU"][field], 64)
		if err != nil {
			b.Fatal(err)
		}
		seconds += f
	}
	return seconds
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
