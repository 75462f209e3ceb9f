package bench

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// keeperCallers is how many requests are under way at a time.
var keeperCallers = []int{1, 16}

// BenchmarkSessionRequest is what a request takes, by what its handler does with
// the session: time on loopback by the number of goroutines, and what it takes of
// the network, of Redis and of the garbage collector.
func BenchmarkSessionRequest(b *testing.B) {
	goals := newGoals()
	for _, d := range deeds {
		b.Run(strings.ReplaceAll(d.name, ", ", "/"), func(b *testing.B) {
			addr, admin := serve(b)
			s := sessionTables.sheet(d.name + ": time per request")
			cells := make([][]string, len(keepers))
			opened, visitors := make([]keeper, len(keepers)), make([][]*visitor, len(keepers))
			for i, c := range keepers {
				opened[i] = keep(b, c, addr, pool)
				var err error
				if visitors[i], err = d.visitors(opened[i], crowd()); err != nil {
					b.Fatalf("%s: %v", c.name, err)
				}
				ask(warmUp, keeperCallers[1], visitors[i], true, d.on(opened[i]))
			}
			for _, callers := range keeperCallers {
				b.Run(fmt.Sprint(callers), func(b *testing.B) {
					used := make([][]float64, len(keepers)) // Redis's CPU time a request, in ns
					// Many and short, as with one goroutine a core's sleep comes and goes
					// within seconds, and doubles all times.
					rounds, length := pace(25, 30*time.Millisecond)
					results := turns(rounds, len(keepers), func(i int) tally {
						before := busy(b, admin)
						t := ask(length, callers, visitors[i], true, d.on(opened[i]))
						used[i] = append(used[i], (busy(b, admin)-before)*1e9/float64(max(1, t.verdicts)))
						return t
					})
					rows := compare(b, keepers, keeperReferences, results)
					at := plural(callers, "goroutine")
					s.columns = append(s.columns, at+", µs", "× scs")
					last := callers == keeperCallers[len(keeperCallers)-1]
					if last {
						s.columns = append(s.columns, "of it Redis's CPU, µs")
					}
					for i, row := range rows {
						cells[i] = append(cells[i], number(row.each/1e3), times(row.times[0]))
						if last {
							cells[i] = append(cells[i], number(median(used[i])/1e3))
						}
						goals.time(keepers[i].name, d.name, row)
						if keepers[i].name == weirKeeper.name {
							instead(b, row.times[0], "weir/scs")
						}
					}
					s.noise(rows, rounds, at)
					s.failed(names(keepers), rows, at)
				})
			}
			s.columns = append(s.columns, "commands", "round trips", "bytes up", "bytes down", "allocations")
			for i, c := range keepers {
				cost := requestCosts(b, c, d, addr, admin)
				goals.allocations(c.name, d.name, cost[len(cost)-1])
				s.add(c.name, append(cells[i], cost[:]...)...)
			}
			if d.renews {
				s.note("Allocations hold four of the browser's, which takes its new cookie.")
			}
		})
	}
	goals.write()
}

// crowd is how many sessions there are.
func crowd() int {
	if brief {
		return 64
	}
	return 256
}

// requestCosts returns the cells of one contestant.
func requestCosts(b *testing.B, c keeping, d deed, addr string, admin *redis.Client) [5]string {
	b.Helper()
	return taken(b, addr, admin, func(addr string) func() {
		k := keep(b, c, addr, 1)
		visitors, err := d.visitors(k, 1)
		if err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
		do := d.on(k)
		once := func() {
			if right, err := do(context.Background(), visitors[0]); err != nil || !right && !c.floor {
				b.Fatalf("%s: right %v, %v", c.name, right, err)
			}
		}
		once()
		return once
	})
}

// goals is the table of what Weir means to reach.
type goals map[string]map[string][]string // contestant, column, figures

// The columns of goals.
const (
	goalRead        = "read, × scs: ≤ 0.60"
	goalModified    = "modified, × scs: ≤ 1.20"
	goalUntouched   = "untouched, µs: ≤ 12"
	goalAllocations = "allocations: ≤ 35"
)

func newGoals() goals {
	return goals{weirKeeper.name: {}, weirKeeperDeadline.name: {}}
}

func (g goals) note(contestant, column, figure string) {
	if figures, of := g[contestant]; of {
		figures[column] = append(figures[column], figure)
	}
}

// time notes what one number of goroutines came to.
func (g goals) time(contestant, deed string, row compared) {
	switch deed {
	case "read":
		g.note(contestant, goalRead, fmt.Sprintf("%s ±%.0f%%", times(row.times[0]), 100*row.spread))
	case "modified":
		g.note(contestant, goalModified, fmt.Sprintf("%s ±%.0f%%", times(row.times[0]), 100*row.spread))
	case "untouched":
		g.note(contestant, goalUntouched, number(row.each/1e3))
	}
}

func (g goals) allocations(contestant, deed, figure string) {
	if deed == "untouched" {
		g.note(contestant, goalAllocations, figure)
	}
}

// write adds the table to the report, if anything was measured.
func (g goals) write() {
	columns := []string{goalRead, goalModified, goalUntouched, goalAllocations}
	if len(g[weirKeeper.name]) == 0 {
		return
	}
	s := sessionTables.sheet("what Weir means to reach", columns...)
	for _, name := range []string{weirKeeper.name, weirKeeperDeadline.name} {
		var cells []string
		for _, column := range columns {
			cell := strings.Join(g[name][column], " / ")
			if cell == "" {
				cell = none
			}
			cells = append(cells, cell)
		}
		s.add(name, cells...)
	}
	s.note("Times with %d / %d goroutines, of ratios with how far the middle half of the rounds was from them at most;\n"+
		"untouched with a cookie. Times and allocations hold those of the harness, which are the first row of the\n"+
		"table of untouched requests.", keeperCallers[0], keeperCallers[1])
}
