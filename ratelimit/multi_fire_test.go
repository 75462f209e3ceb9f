package ratelimit_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

func init() { testkit.Role("attackByMulti", runAttackByMulti) }

// runAttackByMulti is runAttack by a Limiter without scripts.
func runAttackByMulti(ctx context.Context, args []string) error {
	var a attack
	if err := json.Unmarshal([]byte(args[0]), &a); err != nil {
		return err
	}
	client, err := testkit.Connect(a.Spec)
	if err != nil {
		return err
	}
	defer client.Close()
	limiter, err := ratelimit.New(client, ratelimit.Every(a.Limit, a.Window), ratelimit.WithPrefix(a.Prefix),
		ratelimit.WithTimeout(relaxed), ratelimit.WithoutScripts())
	if err != nil {
		return err
	}
	errs := make([]error, a.Goroutines)
	var wg sync.WaitGroup
	for i := range a.Goroutines {
		wg.Go(func() { errs[i] = a.run(ctx, limiter, i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Four processes with sixteen goroutines each, without scripts, from the first request
// on, of which each has to connect and to learn Redis's clock: no window has more
// than the limit, and little of it is wasted.
//
// Red when a quarter of the window is counted.
func TestMulti_overProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	b := testkit.Shared(t, "server")
	far := testkit.NewProxy(t, b.Addrs()[0])
	far.Delay(10 * time.Millisecond)
	for name, addr := range map[string]string{"near": b.Addrs()[0], "at a distance": far.Addr()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := attack{Spec: "server=" + addr, Prefix: b.Prefix(t), Limit: 100, Window: 2 * time.Second, Goroutines: 16,
				Phases: twice(time.Now().Add(time.Second), 2*time.Second)}
			args, err := json.Marshal(a)
			if err != nil {
				t.Fatal(err)
			}
			admissions := testkit.Decode[span](t, testkit.Spawn(t, 4, "attackByMulti", string(args)).Wait())
			checkFlood(t, admissions, a.Limit, a.Window, 2*a.Limit, 90)
		})
	}
}

// jumper is what was admitted, by a clock that is set: when that is back, what was
// admitted counts as admitted now, and before, at the same distances.
type jumper struct {
	now      time.Time
	admitted []time.Time
}

func (j *jumper) set(now time.Time) {
	if n := len(j.admitted); n > 0 && j.admitted[n-1].After(now) {
		back := j.admitted[n-1].Sub(now)
		for i := range j.admitted {
			j.admitted[i] = j.admitted[i].Add(-back)
		}
	}
	j.now = now
}

// within is how many are in (now-window, now].
func (j *jumper) within(window time.Duration) (n int) {
	for _, at := range j.admitted {
		if at.After(j.now.Add(-window)) {
			n++
		}
	}
	return n
}

// Redis's clock is set forward and back, by milliseconds and by days, while several
// processes have known it for long, and some of them wrongly: no window has more
// than the limit, and a window after the last leap there is room again.
//
// Red when transact takes an answer for good that does not fit, when what has left is
// removed in the transaction (by one who does not know yet that the clock was set
// back), or when setBack sees nothing (the room).
func TestMulti_clockLeaps(t *testing.T) {
	t.Parallel()
	const limit, window = 5, time.Second
	for seed := range uint64(4) {
		b := testkit.Mini(t)
		mini := b.Miniredis()
		mini.ClockTTL(false)
		var limiters []*ratelimit.Limiter
		for range 3 { // each has a clock of its own, as each process has
			limiters = append(limiters, byMulti(t, b.Client(t), "weir", ratelimit.Every(limit, window), ratelimit.Every(2*limit, 5*window)))
		}
		random := rand.New(rand.NewPCG(seed, 5))
		truth := jumper{now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
		for i := range 150 {
			leap := time.Duration(0)
			switch random.IntN(12) {
			case 0:
				leap = time.Duration(random.Int64N(int64(10 * time.Second)))
			case 1:
				leap = -time.Duration(random.Int64N(int64(10 * time.Second)))
			case 2:
				leap = -time.Duration(random.Int64N(int64(900 * time.Millisecond)))
			case 3:
				leap = 24 * time.Hour
			case 4:
				leap = -24 * time.Hour
			case 5, 6, 7:
				leap = time.Duration(random.IntN(300)) * time.Millisecond
			case 8:
				limiters[random.IntN(3)].Mislead(t.Context(), "alice", time.Duration(random.IntN(20_000)-10_000)*time.Millisecond)
			}
			truth.set(truth.now.Add(leap))
			mini.SetTime(truth.now)
			if got := allow(t, limiters[random.IntN(3)], "alice"); got.Allowed {
				truth.admitted = append(truth.admitted, truth.now)
			}
			if short, long := truth.within(window), truth.within(5*window); short > limit || long > 2*limit {
				t.Fatalf("seed %d, request %d: %d and %d admitted; want at most %d and %d", seed, i, short, long, limit, 2*limit)
			}
		}
		for i := range 3 { // the first may only find out
			truth.set(truth.now.Add(5*window + 2*time.Second))
			mini.SetTime(truth.now)
			if got := allow(t, limiters[i], "alice"); !got.Allowed && i > 0 {
				t.Errorf("seed %d: %s, long after the last leap", seed, show(got))
			}
		}
	}
}

// A reply that is lost admits nobody too many: what was added stays counted, and a
// removal has removed it.
//
// Red when count takes the lack of a reply for a log to be refilled.
func TestMulti_lostReplies(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	tests := []struct {
		name    string
		used    int // before, of 3
		match   string
		err     error
		counted int
	}{
		{"of an admission", 1, "exec", ratelimit.ErrUnavailable, 2},
		{"of a denial", 3, "exec", ratelimit.ErrUnavailable, 4},
		{"of what takes a denial back", 3, "zrem", nil, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := testkit.NewProxy(t, b.Addrs()[0])
			prefix := b.Prefix(t)
			limiter := byMulti(t, p.Client(t), prefix, ratelimit.PerHour(3), ratelimit.WithFailClosed())
			for range tt.used {
				allow(t, limiter, "alice")
			}
			p.SwallowReply(1, tt.match, testkit.ThenClose)
			got, err := limiter.Allow(t.Context(), "alice")
			if !errors.Is(err, tt.err) || got.Allowed || p.Swallowed() != 1 {
				t.Errorf("%s, %v, %d replies lost; want %v and one", show(got), err, p.Swallowed(), tt.err)
			}
			p.Heal()
			direct := b.Client(t)
			if n := len(testkit.Members(t, direct, testkit.OnlyKey(t, direct, prefix))); n != tt.counted {
				t.Errorf("%d counted; want %d", n, tt.counted)
			}
			admitted := tt.used
			for range 5 {
				if allow(t, limiter, "alice").Allowed {
					admitted++
				}
			}
			if want := max(tt.used, 3-(tt.counted-tt.used)); admitted != want {
				t.Errorf("%d admitted; want %d", admitted, want)
			}
		})
	}
}

// before calls f before each command of a name.
type before struct {
	name string
	f    func()
}

func (h before) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h before) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h before) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == h.name {
			h.f()
		}
		return next(ctx, cmd)
	}
}

// Redis goes silent between a denial and the command that takes it back: the caller
// has its verdict within the two budgets, and what stays counts until it has left the
// window, and no longer.
//
// Red when a failed undo is the call's error.
func TestMulti_silentUndo(t *testing.T) {
	t.Parallel()
	const window, budget = 500 * time.Millisecond, 100 * time.Millisecond
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	client := p.Client(t)
	prefix := b.Prefix(t)
	limiter := byMulti(t, client, prefix, ratelimit.Every(3, window), ratelimit.WithTimeout(budget), ratelimit.WithFailClosed())
	warm := byMulti(t, client, prefix, ratelimit.Every(3, window))
	for range 3 {
		allow(t, warm, "alice")
	}
	if _, err := limiter.Allow(t.Context(), "bob"); err != nil {
		t.Skipf("the machine is too slow for a budget of %v: %v", budget, err)
	}
	client.AddHook(before{"zrem", p.Hang})
	begun := time.Now()
	got, err := limiter.Allow(t.Context(), "alice")
	if took := time.Since(begun); took > window {
		t.Skipf("the machine slept: %v", took)
	}
	if err != nil || got.Allowed || got.RetryAfter <= 0 {
		t.Errorf("%s, %v; want the denial", show(got), err)
	}
	p.Heal()
	direct := b.Client(t)
	for _, key := range testkit.Keys(t, direct, prefix) {
		if n := len(testkit.Members(t, direct, key)); n > 4 {
			t.Errorf("%d counted; want at most one too many", n)
		}
	}
	others := byMulti(t, direct, prefix, ratelimit.Every(3, window))
	testkit.Eventually(t, "room", func() bool { return allow(t, others, "alice").Allowed })
}
