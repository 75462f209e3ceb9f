package ratelimit_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// siege is what each of several processes does to one key while Redis comes and
// goes.
type siege struct {
	Spec, Prefix          string
	Limit, Instances      int
	Window                time.Duration
	Before, During, After pace
	// Fail, Back and End are instants, in ns since 1970.
	Fail, Back, End int64
	// Late is for how long the last process asks nothing once Redis is back.
	Late time.Duration
}

// pace is how often a process asks, over all its goroutines; 0 is as often as four
// of them can, with a millisecond between.
type pace struct{ Every time.Duration }

// siegeSpan is an admission, and who admitted it.
type siegeSpan struct {
	span
	Alone bool
	Child int
}

func init() { testkit.Role("siege", runSiege) }

func runSiege(ctx context.Context, args []string) error {
	var s siege
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	client, err := testkit.Connect(s.Spec)
	if err != nil {
		return err
	}
	defer client.Close()
	// A budget that a loaded machine keeps: a process that alone hears nothing admits
	// its part beside what Redis gives to the others.
	limiter, err := ratelimit.New(client, ratelimit.Every(s.Limit, s.Window), ratelimit.WithPrefix(s.Prefix), ratelimit.WithInstances(s.Instances),
		ratelimit.WithTimeout(300*time.Millisecond))
	if err != nil {
		return err
	}
	if _, err := limiter.Peek(ctx, "victim"); err != nil {
		return err
	}
	const goroutines = 4
	errs := make([]error, goroutines)
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() { errs[i] = s.run(ctx, limiter, goroutines) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *siege) run(ctx context.Context, limiter *ratelimit.Limiter, goroutines int) error {
	for sent := time.Now().UnixNano(); sent < s.End && ctx.Err() == nil; sent = time.Now().UnixNano() {
		at := s.Before
		switch {
		case sent >= s.Back:
			at = s.After
		case sent >= s.Fail:
			at = s.During
		}
		if sent >= s.Back && sent < s.Back+int64(s.Late) && testkit.RoleIndex() == s.Instances-1 {
			pause(10 * time.Millisecond)
			continue
		}
		result, err := limiter.Allow(ctx, "victim")
		if err != nil {
			return err
		}
		if result.Allowed {
			testkit.Emit(siegeSpan{span{sent, time.Now().UnixNano()}, result.Standin != nil, testkit.RoleIndex()})
		}
		pause(max(time.Millisecond, at.Every*time.Duration(goroutines)))
	}
	return nil
}

// Several processes attack one key while Redis fails for more than two windows and
// comes back: no window of all, before, during, across and after, has more than
// the limit and one for each process, and in the midst of the outage hardly any
// admission is wasted.
//
// Red when a process that comes back does not keep to its part until the others
// have, too (hold returns false), when what it admits then is not counted (the
// condition on pending, or own in account.count), when the call that notices
// Redis's return is decided by Redis (probe returns nil for errBack), when what
// others had used at the failure is not taken off (others in room), or when
// nothing is written back (repay returns nil).
func TestLimiter_outage(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	const window = time.Second
	down := []time.Duration{0, window * 26 / 10} // down, up, down, up, …
	flaps := []time.Duration{0, 700 * time.Millisecond, 900 * time.Millisecond, 1400 * time.Millisecond, 1600 * time.Millisecond, window * 26 / 10}
	tests := []*struct {
		name      string
		kill      bool
		processes int
		limit     int
		before    pace
		late      time.Duration
		changes   []time.Duration // since it failed first

		server   *testkit.Backend
		children *testkit.Processes
	}{
		{name: "paused", processes: 2, limit: 100, changes: down},
		{name: "paused when half is used, one returns late", processes: 4, limit: 100, before: pace{80 * time.Millisecond}, late: time.Second, changes: down},
		{name: "killed", kill: true, processes: 4, limit: 60, changes: down},
		{name: "killed when half is used, one returns late", kill: true, processes: 2, limit: 100, before: pace{40 * time.Millisecond}, late: 300 * time.Millisecond, changes: down},
		{name: "flaps", processes: 3, limit: 90, before: pace{60 * time.Millisecond}, changes: flaps},
	}
	for _, tt := range tests {
		tt.server = testkit.Server(t)
	}
	// All at a time: it is waiting, mostly.
	fail := time.Now().Add(time.Second + window*3/2)
	back := fail.Add(down[1])
	type change struct {
		at time.Duration
		do func()
	}
	var changes []change
	for _, tt := range tests {
		args, err := json.Marshal(siege{
			Spec: tt.server.Spec(), Prefix: tt.server.Prefix(t), Limit: tt.limit, Instances: tt.processes, Window: window, Before: tt.before,
			Fail: fail.UnixNano(), Back: back.UnixNano(), End: back.Add(9 * window / 2).UnixNano(), Late: tt.late,
		})
		if err != nil {
			t.Fatal(err)
		}
		tt.children = testkit.Spawn(t, tt.processes, "siege", string(args))
		for i, at := range tt.changes {
			do := [2]func(){tt.server.Pause, tt.server.Resume}[i%2]
			if tt.kill {
				do = [2]func(){tt.server.Kill, func() { tt.server.Restart(t) }}[i%2]
			}
			changes = append(changes, change{at, do})
		}
	}
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.at, b.at) })
	for _, c := range changes {
		pause(time.Until(fail.Add(c.at)))
		c.do()
	}
	returned := time.Now()
	for _, tt := range tests {
		spans := testkit.Decode[siegeSpan](t, tt.children.Wait())
		t.Run(tt.name, func(t *testing.T) {
			judgeSiege(t, spans, tt.limit, tt.processes, window, fail, returned, len(tt.changes) > 2)
		})
	}
}

func judgeSiege(t *testing.T, spans []siegeSpan, limit, processes int, window time.Duration, failed, returned time.Time, flaps bool) {
	t.Helper()
	var all []span
	alone, lastAlone, after := 0, int64(0), 0
	// Shares are used up at once, and come back a window and a 16th later.
	from := failed.Add(window + window/10).UnixNano()
	to := min(from+int64(window*5/4), returned.UnixNano())
	for _, s := range spans {
		all = append(all, s.span)
		if s.Alone {
			lastAlone = max(lastAlone, s.Sent)
			if s.Sent >= from && s.Sent < to {
				alone++
			}
		} else if s.Sent > returned.UnixNano() {
			after++
		}
	}
	if got := most(all, window); got > limit+processes {
		t.Errorf("%d admissions in one window of %v; want at most %d and one for each of %d processes", got, window, limit, processes)
	}
	if !flaps && alone*100 < limit*80 {
		t.Errorf("in the midst of the outage %d were admitted in a window; want at least 80%% of %d", alone, limit)
	}
	if after < limit {
		t.Errorf("Redis admitted %d in 4½ windows after its return; want at least %d", after, limit)
	}
	t.Logf("at most %d of %d in a window; %d in the midst of the outage, %d by Redis afterwards, the last alone %v after its return",
		most(all, window), limit, alone, after, time.Unix(0, lastAlone).Sub(returned).Round(time.Millisecond))
	if testing.Verbose() && t.Failed() {
		t.Log(histogram(spans, failed))
	}
}

// histogram tells who admitted how many, by tenths of a second around the failure.
func histogram(spans []siegeSpan, failed time.Time) (text string) {
	counts := map[[2]int64]int{}
	for _, s := range spans {
		alone := int64(0)
		if s.Alone {
			alone = 1
		}
		counts[[2]int64{(s.Sent - failed.UnixNano()) / 1e8, alone}]++
	}
	for i := int64(-20); i < 80; i++ {
		if r, a := counts[[2]int64{i, 0}], counts[[2]int64{i, 1}]; r+a > 0 {
			text += fmt.Sprintf("\n%+.1fs: %d by Redis, %d alone", float64(i)/10, r, a)
		}
	}
	return text
}

// Several processes in faked time, at random: Redis fails and comes back, with what
// it knew or without, at once again or after long; the processes ask, each at its
// own times. No window ever has more than the limit and one for each process.
//
// Before a failure all have just heard how the key stands, in it all notice, and
// where Redis loses what it knew it has been silent for longer than a window: see
// the package's page on what cannot be promised else.
//
// Red for each of the lines that TestLimiter_outage names but the one on pending;
// and when own is left to one process's part of others in hear.
func TestLimiter_outage_atRandom(t *testing.T) {
	t.Parallel()
	seeds := uint64(8)
	if testing.Short() {
		seeds = 6
	}
	for seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			random := rand.New(rand.NewPCG(9, seed))
			window := []time.Duration{time.Second, 7 * time.Second, time.Minute}[random.IntN(3)]
			limit := 1 + random.IntN(40)
			memory := testkit.Memory(t)
			limiters, faults := processes(t, memory, 1+random.IntN(5), ratelimit.Every(limit, window))
			loses := random.IntN(3) == 0
			var all []time.Time
			ask := func(i int) {
				cost := 1
				if random.IntN(4) == 0 {
					cost = 1 + random.IntN(limit)
				}
				got, err := limiters[i].AllowN(t.Context(), "alice", cost)
				if err != nil {
					t.Fatal(err)
				}
				if !got.Allowed {
					return
				}
				for range cost {
					all = append(all, time.Now())
				}
				if n := count(all, time.Now(), window); n > limit+len(limiters) {
					t.Fatalf("seed %d: %d in a window, of %d for %d processes (%v)", seed, n, limit, len(limiters), got.Source)
				}
			}
			asks := func(d time.Duration) {
				for end := time.Now().Add(d); time.Now().Before(end); {
					ask(random.IntN(len(limiters)))
					time.Sleep(time.Duration(random.Int64N(int64(min(window, d) / 8))))
				}
			}
			for range 12 {
				asks(time.Duration(random.Int64N(int64(3 * window))))
				for _, l := range limiters { // all have heard
					if _, err := l.Peek(t.Context(), "alice"); err != nil {
						t.Fatal(err)
					}
				}
				silence := func(d time.Duration) {
					for _, f := range faults {
						f.down.Store(true)
					}
					for range 5 {
						for i := range limiters {
							ask(i)
						}
						time.Sleep(time.Duration(1+random.IntN(50)) * time.Millisecond)
					}
					asks(d)
					for _, f := range faults {
						f.down.Store(false)
					}
				}
				if loses {
					silence(window + window/16 + time.Duration(random.Int64N(int64(window))))
					memory.Miniredis().FlushAll()
				} else {
					for range 1 + random.IntN(3) {
						silence(time.Duration(1 + random.Int64N(int64(2*window))))
						if random.IntN(2) == 0 {
							break
						}
						asks(time.Duration(1 + random.Int64N(int64(time.Second))))
					}
				}
				// All notice within two seconds, each at its own time.
				begun, awake := time.Now(), make([]time.Duration, len(limiters))
				for i := range awake {
					awake[i] = time.Duration(random.Int64N(int64(2 * time.Second)))
				}
				for time.Since(begun) < 2800*time.Millisecond {
					if i := random.IntN(len(limiters)); time.Since(begun) > awake[i] {
						ask(i)
					}
					time.Sleep(time.Duration(random.Int64N(int64(60 * time.Millisecond))))
				}
			}
		})
	}
}

// One silence is a moment and no outage: the process goes on at once with all that
// Redis gives it, not with its part.
//
// Red when isOut says so after one silence, whenever the next answer comes.
func TestLimiter_oneSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiters, faults := processes(t, testkit.Memory(t), 4, ratelimit.PerHour(40))
		for i := range 40 {
			if i%10 == 5 { // heard, but the reply is lost
				faults[0].loses.Store(1)
			}
			got, err := limiters[0].Allow(t.Context(), "alice")
			if err != nil || i != 5 && !got.Allowed && got.Source == ratelimit.FromRedis && i < 30 {
				t.Fatalf("request %d: %+v, %v", i, got, err)
			}
			if want := i%10 == 5; want != (got.Standin != nil) {
				t.Errorf("request %d: %v; want the stand-in %v", i, got.Standin, want)
			}
			time.Sleep(10 * time.Millisecond)
		}
		got, err := limiters[1].Peek(t.Context(), "alice")
		if err != nil || got.Remaining != 0 {
			t.Errorf("%d remaining, %v; want 0: each counted once", got.Remaining, err)
		}
	})
}

// With the breaker open decisions cost no round trip but for the probes, start
// nothing that stays, and take next to no time.
//
// Red when decide does not ask Refuses first.
func TestLimiter_outage_costsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
	limiter := open(t, p.Client(t), "costs", ratelimit.PerHour(1<<20), ratelimit.WithTimeout(50*time.Millisecond))
	testkit.Eventually(t, "the first verdict", func() bool {
		got, err := limiter.Allow(t.Context(), "alice")
		return err == nil && got.Standin == nil
	})
	p.Hang()
	for range 6 {
		spend(t, limiter, "alice", 1)
	}
	before := p.Commands() + p.Connections()
	var begun time.Time
	var took []time.Duration
	for start := time.Now(); time.Since(start) < 700*time.Millisecond; {
		begun = time.Now()
		spend(t, limiter, "alice", 1)
		took = append(took, time.Since(begun))
	}
	// Three probes are due, or four; each may need a connection and its handshake.
	if n := p.Commands() + p.Connections() - before; n > 20 {
		t.Errorf("%d decisions sent %d commands; want those of three probes", len(took), n)
	}
	slices.Sort(took)
	if median := took[len(took)/2]; median > time.Millisecond {
		t.Errorf("a decision took %v; want less than 1ms", median)
	}
	t.Logf("%d decisions, the median took %v, the 99th percentile %v", len(took), took[len(took)/2], took[len(took)*99/100])
}

// An outage leaves no goroutine behind, nor one for each call.
func TestLimiter_outage_goroutines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiters, faults := processes(t, testkit.Memory(t), 1, ratelimit.PerHour(1000))
		spend(t, limiters[0], "alice", 1)
		back := outage(t, limiters, faults)
		for range 200 {
			spend(t, limiters[0], "alice", 1)
			time.Sleep(50 * time.Millisecond)
		}
		back()
		returned(t, limiters[0], "alice")
		synctest.Wait()
		if left := stacks("/internal/rdb.", "/ratelimit."); left != "" {
			t.Errorf("left behind:\n%s", left)
		}
	})
}

// stacks are those of this bubble's goroutines, but for the caller's, that are in
// functions of such names.
func stacks(names ...string) (all string) {
	buf := make([]byte, 1<<20)
	bubble := ""
	for i, s := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		head, _, _ := strings.Cut(s, "\n")
		_, number, _ := strings.Cut(head, "synctest bubble ")
		if i == 0 {
			bubble = number
		} else if number == bubble && slices.ContainsFunc(names, func(name string) bool { return strings.Contains(s, name) }) {
			all += "\n" + s
		}
	}
	return all
}

// On a Cluster one silent master is one master's silence: the others' keys are
// Redis's to decide, in full, before, while and after it is silent; and what was
// admitted of its own keys is written back.
//
// Red when a process has one outage for all servers: the keys of others are then
// held to its part.
func TestLimiter_outage_ofOneMaster(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	b := testkit.Shared(t, "cluster3")
	client, proxies := b.ProxiedClient(t)
	prefix := b.Prefix(t)
	limiter := open(t, client, prefix, ratelimit.PerHour(40), ratelimit.WithInstances(4), ratelimit.WithDenyCache(0), ratelimit.WithTimeout(200*time.Millisecond))
	all := make([]string, 24)
	for i := range all {
		all[i] = strconv.Itoa(i)
		testkit.Eventually(t, "a verdict", func() bool {
			got, err := limiter.Allow(t.Context(), all[i])
			return err == nil && got.Standin == nil
		})
	}
	first := true
	proxies.Each(func(p *testkit.Proxy) {
		if first {
			p.Hang()
			first = false
		}
	})
	var silent, heard []string
	for _, key := range all {
		if spend(t, limiter, key, 1).Standin == nil {
			heard = append(heard, key)
		} else {
			silent = append(silent, key)
		}
	}
	if len(silent) == 0 || len(heard) == 0 {
		t.Fatalf("%d keys' master is silent, %d are heard; want both", len(silent), len(heard))
	}
	alone := 0
	for range 6 {
		if spend(t, limiter, silent[0], 1).Allowed {
			alone++
		}
	}
	more := func(key string) {
		t.Helper()
		for range 12 {
			if got := spend(t, limiter, key, 1); !got.Allowed || got.Standin != nil {
				t.Fatalf("key %s, whose master is heard: %s, %v; want Redis's verdict", key, show(got), got.Standin)
			}
		}
	}
	more(heard[0])
	proxies.Each((*testkit.Proxy).Heal)
	returned(t, limiter, silent...)
	more(heard[0])
	got, err := limiter.Peek(t.Context(), silent[0])
	if err != nil || got.Standin != nil || got.Remaining > 40-2-alone {
		t.Errorf("%d remaining, %v, %v; want at most %d", got.Remaining, got.Standin, err, 40-2-alone)
	}
}
