package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
)

// answerCallers is how many requests are under way at a time, each on a connection.
const answerCallers = 32

func init() { testkit.Role("answer", runAnswer) }

// task is what a process is to answer.
type task struct {
	Contestant, Redis string
	Size              int
}

// listening is where it does, and where it tells what it took.
type listening struct{ Addr, Told string }

// spent is what answers took of the memory, and of the handler, since the begin.
type spent struct {
	Allocations, Bytes uint64
	Calls              int64
}

// runAnswer is the life of a process that answers.
func runAnswer(ctx context.Context, args []string) error {
	var t task
	if err := json.Unmarshal([]byte(args[0]), &t); err != nil {
		return err
	}
	for _, c := range answerers {
		if c.name == t.Contestant {
			return answer(ctx, c, t)
		}
	}
	return fmt.Errorf("no contestant is named %q", t.Contestant)
}

func answer(ctx context.Context, c answering, t task) error {
	client := c.dial(t.Redis, pool)
	defer client.Close()
	p := newPage(t.Size, c.open.noStore)
	h, err := c.open.wrap(client, p)
	if err != nil {
		return err
	}
	var addrs [2]string
	for i, handler := range [...]http.Handler{h, tell(p)} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := &http.Server{Handler: handler}
		defer server.Close()
		go func() { _ = server.Serve(listener) }() // until Close
		addrs[i] = listener.Addr().String()
	}
	testkit.Emit(listening{Addr: addrs[0], Told: addrs[1]})
	<-ctx.Done()
	return nil
}

func tell(p *page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = json.NewEncoder(w).Encode(spent{m.Mallocs, m.TotalAlloc, p.calls.Load()})
	})
}

// answerer is a contestant that runs.
type answerer struct {
	answering
	size   int
	binary string        // of a program
	admin  *redis.Client // of its Redis; nil for a program
	pids   []int         // whose CPU time it takes
	spent  func() spent
	wires  chan *wire
	asked  atomic.Int64 // makes URLs that were never asked for
}

// errMissing says that a contestant is not installed.
var errMissing = errors.New("is not installed: NOT MEASURED")

// serving starts a contestant, and asks until what it is to keep is kept.
func serving(tb testing.TB, c answering, size int) (*answerer, error) {
	tb.Helper()
	a := &answerer{answering: c, size: size, wires: make(chan *wire, answerCallers)}
	addr, err := a.start(tb)
	if err != nil {
		return nil, err
	}
	for range answerCallers {
		w, err := dialWire(addr)
		if err != nil {
			return nil, err
		}
		tb.Cleanup(func() { w.conn.Close() })
		a.wires <- w
	}
	if c.open.misses() {
		return a, a.times(200)
	}
	testkit.Eventually(tb, c.name+" to answer from the cache", func() bool {
		calls, scripts := a.spent().Calls, a.scripts(tb)
		if err := a.times(2 * answerCallers); err != nil {
			tb.Fatal(err)
		}
		return a.spent().Calls == calls && (!c.open.near || a.scripts(tb) == scripts)
	})
	return a, nil
}

// start starts it in processes of its own, and returns where it listens.
func (a *answerer) start(tb testing.TB) (addr string, err error) {
	if a.open.program != nil {
		return a.proxy(tb)
	}
	redisAddr := testkit.Server(tb).Addrs()[0]
	a.admin = redis.NewClient(&redis.Options{Addr: redisAddr})
	tb.Cleanup(func() { a.admin.Close() })
	info, err := a.admin.InfoMap(tb.Context(), "server").Result()
	if err != nil {
		return "", err
	}
	redisVersion = info["Server"]["redis_version"]
	said, err := json.Marshal(task{a.name, redisAddr, a.size})
	if err != nil {
		return "", err
	}
	child := testkit.Spawn(tb, 1, "answer", string(said))
	at := testkit.Decode[listening](tb, []testkit.Line{child.Next()})[0]
	a.pids = []int{child.PID(0)}
	a.spent = func() (s spent) {
		resp, err := http.Get("http://" + at.Told)
		if err != nil {
			tb.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
			tb.Fatal(err)
		}
		return s
	}
	_, err = cpuOf(a.pids[0])
	return at.Addr, err
}

// proxy starts it before an origin in this process.
func (a *answerer) proxy(tb testing.TB) (addr string, err error) {
	p := a.open.program
	binary, err := exec.LookPath(p.binary)
	if err != nil {
		binary, err = exec.LookPath("/usr/sbin/" + p.binary) // which is on root's PATH only
	}
	if err != nil {
		return "", fmt.Errorf("%s %w. Remedy: apt-get install -y --no-install-recommends %s", p.binary, errMissing, p.debian)
	}
	a.binary = binary
	content := newPage(a.size, false)
	origin := httptest.NewServer(content)
	tb.Cleanup(origin.Close)
	a.spent = func() spent { return spent{Calls: content.calls.Load()} }
	started := testkit.Start(tb, func(dir, addr string) (*exec.Cmd, error) {
		return p.command(binary, dir, addr, origin.Listener.Addr().String())
	})
	a.pids, err = familyOf(started.PID())
	return started.Addr(), err
}

// ask asks once.
func (a *answerer) ask(context.Context, int) (right bool, err error) {
	path := "/page"
	if a.open.fresh {
		path += "?" + strconv.FormatInt(a.asked.Add(1), 10)
	}
	w := <-a.wires
	size, err := w.get(path)
	a.wires <- w
	return size == a.size, err
}

func (a *answerer) times(n int) error {
	for range n {
		if right, err := a.ask(context.Background(), 0); err != nil || !right {
			return fmt.Errorf("%s: right %v, %w", a.name, right, err)
		}
	}
	return nil
}

// scripts is how many of them its Redis was sent so far.
func (a *answerer) scripts(tb testing.TB) float64 {
	tb.Helper()
	if a.admin == nil {
		return 0
	}
	return scriptsOf(tb, a.admin)
}

// scriptsOf is how many scripts a Redis was sent so far: each is a round trip.
func scriptsOf(tb testing.TB, admin *redis.Client) float64 {
	tb.Helper()
	stats, err := admin.InfoMap(context.Background(), "commandstats").Result()
	if err != nil {
		tb.Fatal(err)
	}
	calls, _, _ := strings.Cut(strings.TrimPrefix(stats["Commandstats"]["cmdstat_evalsha"], "calls="), ",")
	n, _ := strconv.ParseFloat(calls, 64) // none was sent yet
	return n
}

// redisCPU is what its Redis has used.
func (a *answerer) redisCPU(b *testing.B) time.Duration {
	b.Helper()
	if a.admin == nil {
		return 0
	}
	return time.Duration(busy(b, a.admin) * 1e9)
}

// cpu is what its processes have used.
func (a *answerer) cpu(tb testing.TB) (sum time.Duration) {
	tb.Helper()
	for _, pid := range a.pids {
		used, err := cpuOf(pid)
		if err != nil {
			tb.Fatalf("%s: %v", a.name, err)
		}
		sum += used
	}
	return sum
}

// measured are the columns of one contestant.
type measured struct {
	cpu, redis    []float64 // a request, in ns, of each turn
	asked         int
	calls         int64
	scripts       float64
	bytes, allocs float64 // all turns'
}

// turn has a asked for a while.
func (m *measured) turn(b *testing.B, a *answerer, d time.Duration) tally {
	b.Helper()
	before, scripts, redisBefore, cpu := a.spent(), a.scripts(b), a.redisCPU(b), a.cpu(b)
	t := ask(d, answerCallers, []int{0}, true, a.ask)
	requests := float64(max(1, t.verdicts))
	m.cpu = append(m.cpu, float64(a.cpu(b)-cpu)/requests)
	m.redis = append(m.redis, float64(a.redisCPU(b)-redisBefore)/requests)
	after := a.spent()
	m.scripts += a.scripts(b) - scripts
	m.asked += t.verdicts
	m.calls += after.Calls - before.Calls
	m.bytes += float64(after.Bytes - before.Bytes)
	m.allocs += float64(after.Allocations - before.Allocations)
	if a.open.fresh {
		// Many turns' answers would fill the memory.
		if err := a.admin.FlushAll(b.Context()).Err(); err != nil {
			b.Fatal(err)
		}
	}
	return t
}

// check fails b if answers came from elsewhere than the contestant says.
func (m *measured) check(b *testing.B, a *answerer) {
	b.Helper()
	if want := int64(m.asked); a.open.misses() && m.calls < want || !a.open.misses() && m.calls > want/1000 {
		b.Errorf("%s: the handler answered %d of %d requests", a.name, m.calls, m.asked)
	}
	// At the begin of a turn a near tier may not know yet that it is current.
	if a.open.near && m.scripts > float64(m.asked)/20 {
		b.Errorf("%s: Redis was asked %.0f times in %d requests", a.name, m.scripts, m.asked)
	}
}

// BenchmarkResponse is what an answer over HTTP takes of the CPU, by where it comes
// from and how long it is.
func BenchmarkResponse(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) { compareResponses(b, size) })
	}
}

func compareResponses(b *testing.B, size int) {
	s := responseTables.sheet(fmt.Sprintf("%d KiB over HTTP: CPU time per request", size>>10),
		"CPU, µs", "× bare", "Redis's CPU, µs", "requests/s", "time × bare", "round trips", "bytes", "allocations")
	var of []answering
	var running []*answerer
	for _, c := range answerers {
		a, err := serving(b, c, size)
		if errors.Is(err, errMissing) {
			s.note("%s: %v", c.name, err)
			fmt.Fprintf(os.Stderr, "*** %s %v\n", c.name, err)
			continue
		}
		if err != nil {
			b.Fatalf("%s: %v", c.name, err)
		}
		of, running = append(of, c), append(running, a)
		if p := c.open.program; p != nil {
			said, _ := exec.Command(a.binary, p.version).CombinedOutput() // without it, it is just not told
			version, _, _ := strings.Cut(string(said), "\n")
			s.note("%s is %s.", c.name, version)
		}
	}
	rounds, length := pace(15, 300*time.Millisecond)
	columns := make([]measured, len(of))
	rows := compare(b, of, answererReferences, turns(rounds, len(of), func(i int) tally {
		return columns[i].turn(b, running[i], length)
	}))
	cpus := make([]compared, len(of))
	for i, row := range rows {
		m := &columns[i]
		m.check(b, running[i])
		middle, spread := ratio(m.cpu, columns[0].cpu)
		cpus[i].spread = spread
		cells := []string{number(median(m.cpu) / 1e3), times(middle), number(median(m.redis) / 1e3), fmt.Sprintf("%.0f", 1e9/row.each), times(row.times[0])}
		memory := []string{none, none, none}
		if of[i].open.wrap != nil {
			asked := float64(m.asked)
			memory = []string{part(m.scripts, asked), part(m.bytes, asked), part(m.allocs, asked)}
		}
		s.add(of[i].name, append(cells, memory...)...)
		if of[i].name == weirNearAnswer.name {
			instead(b, middle, "weir-cpu/bare")
		}
	}
	s.noise(cpus, rounds, "CPU × bare")
	s.noise(rows, rounds, "time × bare")
	s.failed(names(of), rows, "over HTTP")
	s.note("Weir means to take at most 1.3 × the bare handler's CPU for a hit in the near tier.")
	s.note("%d connections of a client that shares the %d cores; CPU is that of the answering processes alone, user and system.", answerCallers, runtime.GOMAXPROCS(0))
}

// Each contestant answers as it says: from the cache, or from the handler.
func TestAnswerers(t *testing.T) {
	for _, c := range answerers {
		t.Run(c.name, func(t *testing.T) {
			a, err := serving(t, c, 3<<10)
			if errors.Is(err, errMissing) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			const asked = 100
			calls := a.spent().Calls
			if err := a.times(asked); err != nil {
				t.Fatal(err)
			}
			want := int64(0)
			if c.open.misses() {
				want = asked
			}
			if got := a.spent().Calls - calls; got != want {
				t.Errorf("the handler answered %d of %d requests; want %d", got, asked, want)
			}
			if before := a.cpu(t); before <= 0 {
				t.Errorf("CPU time %v; want some", before)
			}
		})
	}
}
