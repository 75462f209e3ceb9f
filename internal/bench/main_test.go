package bench

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// brief is -short: fewer and shorter rounds, fewer keys. Testkit takes it to mean
// miniredis, which is nothing to measure; so it is not told.
var brief bool

func TestMain(m *testing.M) {
	// Each benchmark is a whole comparison: once is enough.
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		panic(err)
	}
	flag.Parse()
	brief = testing.Short()
	if err := flag.Set("test.short", "false"); err != nil {
		panic(err)
	}
	testkit.AtExit(report)
	testkit.Main(m)
}

// What the benchmarks found, for the report at the end. They do not run side by
// side.
var (
	limiterTables = &comparison{
		title:    "Rate limiters",
		each:     "decision",
		modules:  func(path string) bool { return !sessionModule(path) && !lockModule(path) && !dataModule(path) },
		column:   "under attack",
		about:    fmt.Sprintf("Under attack: the most that were admitted within one window, where %d are right, and how many in all.", attackLimit),
		verdicts: map[string]string{}, // see BenchmarkExactness
	}
	sessionTables = &comparison{
		title:   "Sessions",
		each:    "request",
		modules: sessionModule,
		column:  "kept, dead",
		about: fmt.Sprintf("Kept, dead: how many of %d changes survive that were made at a time, and whether a session stays dead\n"+
			"that was logged out while a request was under way.", raceWrites),
		verdicts: map[string]string{}, // see BenchmarkSessionRace
	}
	lockTables = &comparison{
		title:   "Locks",
		each:    "lock and unlock",
		modules: lockModule,
	}
	dataTables = &comparison{
		title:    "Data caches",
		each:     "read",
		modules:  dataModule,
		column:   "loads per cold key",
		about:    fmt.Sprintf("Loads per cold key: how often the source is asked when two instances of %d goroutines ask for it at a time.", stampedeCallers),
		verdicts: map[string]string{}, // see BenchmarkDataStampede
	}
	responseTables = &comparison{
		title:   "Response caches",
		each:    "request",
		modules: func(string) bool { return false },
	}
	redisVersion string
)

// sessionModule tells the modules of one comparison from those of the other.
func sessionModule(path string) bool {
	return slices.ContainsFunc([]string{"alexedwards/scs", "gomodule/redigo", "gorilla/", "rbcervilla/"}, func(start string) bool {
		return strings.HasPrefix(path, start)
	})
}

func lockModule(path string) bool {
	return strings.HasPrefix(path, "go-redsync/") || strings.HasPrefix(path, "bsm/redislock")
}

func dataModule(path string) bool {
	return strings.HasPrefix(path, "go-redis/cache/") || strings.HasPrefix(path, "eko/gocache/")
}

func report() {
	setting := fmt.Sprintf("redis-server %s, go-redis %s, %s, %d cores.", redisVersion, redis.Version(), runtime.Version(), runtime.GOMAXPROCS(0))
	for _, c := range []*comparison{limiterTables, sessionTables, dataTables, lockTables, responseTables} {
		c.write(os.Stdout, setting, peers())
	}
}

// peers are the modules that go.mod requires, with their versions.
func peers() []string {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		return nil
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || !strings.HasPrefix(fields[1], "v") || strings.Contains(line, "go-weir/") || strings.Contains(line, "redis/go-redis/") {
			continue
		}
		found = append(found, strings.TrimPrefix(fields[0], "github.com/")+" "+fields[1])
	}
	return found
}

// serve starts a redis-server of b's own.
func serve(b *testing.B) (addr string, admin *redis.Client) {
	b.Helper()
	addr = testkit.Server(b).Addrs()[0]
	admin = redis.NewClient(&redis.Options{Addr: addr})
	b.Cleanup(func() { admin.Close() })
	info, err := admin.InfoMap(b.Context(), "server").Result()
	if err != nil {
		b.Fatal(err)
	}
	redisVersion = info["Server"]["redis_version"]
	return addr, admin
}

// open opens a limiter on a client of its own, which is closed when b ends.
func open(b *testing.B, c limiting, addr string, pool int, l limit) limiter {
	b.Helper()
	client := c.dial(addr, pool)
	b.Cleanup(func() { client.Close() })
	limiter, err := c.open(client, l)
	if err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	return limiter
}

// keep opens a keeper of sessions as open does a limiter.
func keep(b *testing.B, c keeping, addr string, pool int) keeper {
	b.Helper()
	client := c.dial(addr, pool)
	b.Cleanup(func() { client.Close() })
	k, err := c.open(client)
	if err != nil {
		b.Fatalf("%s: %v", c.name, err)
	}
	if k.close != nil {
		b.Cleanup(func() { k.close() })
	}
	return k
}

// instead reports a benchmark's own figure in place of the time it ran.
func instead(b *testing.B, figure float64, unit string) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(figure, unit)
}

// turns runs rounds in which every contestant has its turn, and returns for each
// what came of them. Each round begins with another one.
func turns(rounds, contestants int, turn func(contestant int) tally) [][]tally {
	results := make([][]tally, contestants)
	for round := range rounds {
		for i := range contestants {
			at := (i + round) % contestants
			results[at] = append(results[at], turn(at))
		}
	}
	return results
}

// compared are the columns of one table: the time per decision, and how it
// compares with the references.
type compared struct {
	each   float64   // ns
	times  []float64 // to each reference
	spread float64   // of the first ratio
	total  tally
}

// compare reads the results of contestants that took turns. It fails b if one
// gave another verdict than the case is about: its time would mean nothing.
func compare[Open any](b *testing.B, of []contestant[Open], references []string, results [][]tally) []compared {
	b.Helper()
	times := make([][]float64, len(of))
	rows := make([]compared, len(of))
	for i := range of {
		for _, t := range results[i] {
			times[i] = append(times[i], t.each())
			rows[i].total.add(t)
		}
		rows[i].each = median(times[i])
		if wrong := rows[i].total.wrong; wrong > 0 && !of[i].floor {
			b.Errorf("%s: %d of %d verdicts are not what this case is about", of[i].name, wrong, rows[i].total.verdicts)
		}
	}
	for r, name := range references {
		reference := times[slices.Index(names(of), name)]
		for i := range of {
			middle, spread := ratio(times[i], reference)
			rows[i].times = append(rows[i].times, middle)
			if r == 0 {
				rows[i].spread = spread
			}
		}
	}
	return rows
}

// noise says how far apart the rounds were, and when that is too far.
func (s *sheet) noise(rows []compared, rounds int, where string) {
	var spreads []float64
	for _, row := range rows {
		spreads = append(spreads, row.spread)
	}
	s.note("%s: the middle half of %d rounds lies within ±%.0f%% of the ratio for half of the contestants, ±%.0f%% for all.",
		where, rounds, 100*median(spreads), 100*slices.Max(spreads))
	if median(spreads) > 0.5 || slices.Max(spreads) > 2 {
		s.note("%s: DISTURBED. Something else ran on this machine; these columns say nothing. Run it again.", where)
	}
}

// failed says whose decisions failed, and how.
func (s *sheet) failed(of []string, rows []compared, where string) {
	for i, row := range rows {
		if t := row.total; t.failures > 0 {
			s.note("%s: %s failed in %.1f%% of what it was asked, first with: %v", where, of[i],
				100*float64(t.failures)/float64(t.failures+t.verdicts), t.first)
		}
	}
}
