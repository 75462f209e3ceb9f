package bench

import (
	"context"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// BenchmarkCost counts what one decision takes of the network, of Redis and of
// the garbage collector, on a key that has been used before. Nothing here depends
// on how busy the machine is.
func BenchmarkCost(b *testing.B) {
	addr, admin := serve(b)
	of := entrants(inCost)
	s := limiterTables.sheet("what a decision takes, allowed / denied",
		"Redis commands", "round trips", "bytes up", "bytes down", "allocations")
	sides := []struct {
		limit limit
		want  bool
	}{{limit{1_000_000, time.Hour}, true}, {limit{1, time.Hour}, false}}
	for _, c := range of {
		var cells [5]string
		for _, side := range sides {
			for i, cell := range costs(b, c, addr, admin, side.limit, side.want) {
				if i < len(cells) && cells[i] != "" {
					cells[i] += " / "
				}
				cells[i] += cell
			}
			if err := admin.FlushAll(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
		}
		s.add(c.name, cells[:]...)
	}
	s.note("Commands are those that Redis ran, inside of scripts too, the EVALSHA included.")
	instead(b, float64(len(of)), "contestants")
}

// costs returns the cells of one verdict.
func costs(b *testing.B, c limiting, addr string, admin *redis.Client, l limit, want bool) [5]string {
	b.Helper()
	key := keysOf(c, 1)[0]
	return taken(b, addr, admin, func(addr string) func() {
		limiter := open(b, c, addr, 1, l)
		for range 2 { // the connection, the script, the first request of the key
			if _, err := limiter.allow(b.Context(), key); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
		}
		return func() {
			if allowed, err := limiter.allow(b.Context(), key); err != nil || allowed != want && !c.floor {
				b.Fatalf("%s: allowed %v, %v; want %v", c.name, allowed, err, want)
			}
		}
	})
}

// taken returns how many commands, round trips, bytes up, bytes down and
// allocations something takes. open makes it ready on one connection to addr, and
// returns what does it once.
func taken(b *testing.B, addr string, admin *redis.Client, open func(addr string) func()) [5]string {
	b.Helper()
	const times = 200
	proxy := testkit.NewProxy(b, addr)
	through := open(proxy.Addr())
	idle := traffic(b, admin, func() {})
	proxy.Reset()
	used := traffic(b, admin, func() {
		for range times {
			through()
		}
	})
	trips := proxy.RoundTrips()

	direct := open(addr)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range times {
		direct()
	}
	runtime.ReadMemStats(&after)

	return [...]string{
		part(used.commands-idle.commands, times),
		part(float64(trips), times),
		part(used.up-idle.up, times),
		part(used.down-idle.down, times),
		part(float64(after.Mallocs-before.Mallocs), times),
	}
}

// seen is what Redis counted.
type seen struct{ commands, up, down float64 }

// traffic is what Redis saw while f ran, and a little of the asking itself.
func traffic(b *testing.B, admin *redis.Client, f func()) (s seen) {
	b.Helper()
	ctx := context.Background()
	if err := admin.ConfigResetStat(ctx).Err(); err != nil {
		b.Fatal(err)
	}
	f()
	info, err := admin.InfoMap(ctx, "all").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, line := range info["Commandstats"] { // calls=200,usec=…
		calls, _, _ := strings.Cut(strings.TrimPrefix(line, "calls="), ",")
		s.commands += parse(b, calls)
	}
	s.up = parse(b, info["Stats"]["total_net_input_bytes"])
	s.down = parse(b, info["Stats"]["total_net_output_bytes"])
	return s
}

func parse(b *testing.B, number string) float64 {
	b.Helper()
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		b.Fatal(err)
	}
	return f
}
