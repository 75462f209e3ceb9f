package ratelimit_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// fault is a client's hook that makes its Redis silent.
type fault struct {
	down  atomic.Bool
	loses atomic.Int32 // so many more scripts it runs, and its replies are lost
	late  atomic.Int64 // for how long, in ns, at most it keeps a reply
	calls atomic.Int32 // how often it was asked, heard or not
	hangs atomic.Bool  // for as long as the caller waits
	panic atomic.Bool  // it is a user's hook with a mistake
}

var errGone = errors.New("gone")

func (f *fault) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *fault) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return f.pass(ctx, []redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (f *fault) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return f.pass(ctx, cmds, func() error { return next(ctx, cmds) })
	}
}

func (f *fault) pass(ctx context.Context, cmds []redis.Cmder, next func() error) error {
	f.calls.Add(1)
	if f.panic.Load() {
		panic("a hook's mistake")
	}
	if f.hangs.Load() {
		<-ctx.Done()
	}
	if !f.down.Load() {
		err := next()
		if late := f.late.Load(); late > 0 {
			time.Sleep(time.Duration(rand.Int64N(late)))
		}
		if err != nil || !strings.HasPrefix(cmds[0].Name(), "eval") || f.loses.Add(-1) < 0 {
			return err
		}
	}
	for _, cmd := range cmds {
		cmd.SetErr(errGone)
	}
	return errGone
}

// processes are n limiters as in n processes: each with a client of its own, whose
// Redis can be made silent.
func processes(tb testing.TB, b *testkit.Backend, n int, limit ratelimit.Limit, options ...ratelimit.Option) (limiters []*ratelimit.Limiter, faults []*fault) {
	tb.Helper()
	for range n {
		client, f := b.Client(tb), new(fault)
		client.AddHook(f)
		all := append([]ratelimit.Option{ratelimit.WithInstances(n), ratelimit.WithDenyCache(0)}, options...)
		limiters = append(limiters, open(tb, client, "weir", limit, all...))
		faults = append(faults, f)
	}
	return limiters, faults
}

// outage is one of Redis for several processes, each of which notices.
func outage(tb testing.TB, limiters []*ratelimit.Limiter, faults []*fault) (end func()) {
	tb.Helper()
	for i, f := range faults {
		f.down.Store(true)
		for range 5 {
			if got, err := limiters[i].Peek(context.Background(), "nobody"); err != nil || got.Standin == nil {
				tb.Fatalf("process %d: %+v, %v; want the stand-in", i, got, err)
			}
		}
	}
	return func() {
		for _, f := range faults {
			f.down.Store(false)
		}
		time.Sleep(250 * time.Millisecond) // the next call finds out
	}
}

// spend is a decision by whomever.
func spend(tb testing.TB, limiter *ratelimit.Limiter, key string, cost int) ratelimit.Result {
	tb.Helper()
	got, err := limiter.AllowN(context.Background(), key, cost)
	if err != nil {
		tb.Fatal(err)
	}
	return got
}

// returned has limiter notice that Redis is back and write what it owes.
func returned(tb testing.TB, limiter *ratelimit.Limiter, keys ...string) {
	tb.Helper()
	for _, key := range keys {
		for i := 0; ; i++ {
			got, err := limiter.Peek(context.Background(), key)
			if err != nil || i == 20 {
				tb.Fatalf("%q: %+v, %v; want Redis's verdict", key, got, err)
			}
			if got.Standin == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// What a process admits by itself is in Redis after its return, exactly once, be it
// that the reply to the first attempt is lost; for every kind of limit.
//
// Red when repay returns nil, when restore.lua does not look for what is known
// ("not known[id]", the find in ids), when a note's or a loan's id changes from one
// attempt to the next, or when a flight is not added.
func TestDebt_writtenBackOnce(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limit ratelimit.Limit
		more  []ratelimit.Option
		costs []int
	}{
		"sliding":              {limit: ratelimit.PerHour(30), costs: []int{1, 1, 5, 1}},
		"two windows":          {limit: ratelimit.PerHour(30), more: []ratelimit.Option{ratelimit.PerMinute(20)}, costs: []int{2, 1, 1}},
		"smooth":               {limit: ratelimit.PerHour(30).Smooth(20), costs: []int{3, 1, 1}},
		"in flight":            {limit: ratelimit.AtOnce(20, time.Hour), costs: []int{1, 1, 1, 1}},
		"all":                  {limit: ratelimit.PerHour(30), more: []ratelimit.Option{ratelimit.PerHour(40).Smooth(25), ratelimit.AtOnce(20, time.Hour)}, costs: []int{1, 1, 1, 1, 1, 1}},
		"with a ban":           {limit: ratelimit.PerHour(30), more: []ratelimit.Option{ratelimit.WithBan(5, time.Hour, time.Hour)}, costs: []int{1, 1}},
		"in batches":           {limit: ratelimit.PerHour(3000), more: []ratelimit.Option{ratelimit.WithExact(1)}, costs: []int{100, 1, 7}},
		"more than are apart":  {limit: ratelimit.PerHour(3000), costs: ones(500)},
		"smooth and very many": {limit: ratelimit.PerHour(3000).Smooth(2000), costs: ones(500)},
	}
	for name, tt := range tests {
		for lost := range 3 {
			t.Run(name+", "+strconv.Itoa(lost)+" replies lost", func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					limiters, faults := processes(t, testkit.Memory(t), 1, tt.limit, tt.more...)
					before := spend(t, limiters[0], "alice", 2)
					back := outage(t, limiters, faults)
					total := 0
					for _, cost := range tt.costs {
						if got := spend(t, limiters[0], "alice", cost); !got.Allowed || got.Source != ratelimit.FromStandin {
							t.Fatalf("cost %d: %s", cost, show(got))
						}
						total += cost
					}
					back()
					faults[0].loses.Store(int32(lost))
					returned(t, limiters[0], "alice")
					returned(t, limiters[0], "alice") // a second time changes nothing
					got, err := limiters[0].Peek(t.Context(), "alice")
					if err != nil || got.Standin != nil {
						t.Fatalf("%+v, %v", got, err)
					}
					was := map[string]int{}
					for s := range before.All() {
						was[s.Limit.Name()] = s.Remaining
					}
					for s := range got.All() {
						want := was[s.Limit.Name()] - total
						if s.Limit.Kind() == ratelimit.InFlight {
							want = was[s.Limit.Name()] - len(tt.costs)
						}
						if off := s.Remaining - want; off != 0 && (s.Limit.Kind() != ratelimit.Smooth || off > 1 || off < 0) {
							t.Errorf("%v: %d remaining; want %d", s.Limit, s.Remaining, want)
						}
					}
				})
			})
		}
	}
}

func ones(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = 1
	}
	return all
}

// After an outage of several windows only what is still in one is counted, and not
// all of it as of now: a key that was used evenly has half of its room back after
// half a window.
//
// Red when merge puts together what is further apart than a 32nd of a window, or
// does not drop what has left all windows.
func TestDebt_ofALongOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit, window = 960, time.Minute
		limiters, faults := processes(t, testkit.Memory(t), 1, ratelimit.Every(limit, window))
		limiter := limiters[0]
		back := outage(t, limiters, faults)
		for range 5 * limit * 3 / 4 { // 3/4 of the limit in each of five windows
			spend(t, limiter, "alice", 1)
			time.Sleep(window / (limit * 3 / 4))
		}
		back()
		returned(t, limiter, "alice")
		for quarters := range 4 {
			got, err := limiter.Peek(t.Context(), "alice")
			want := limit - limit*3/4*(4-quarters)/4
			if err != nil || got.Standin != nil || got.Remaining < want-limit/25 || got.Remaining > want+limit/25 {
				t.Errorf("%d quarters of a window after: %d remaining, %v, %v; want %d", quarters, got.Remaining, got.Standin, err, want)
			}
			time.Sleep(window / 4)
		}
	})
}

// What is owed of keys that nobody asks this process about again goes along with
// other keys' decisions.
//
// Red when due looks at the key itself only.
func TestDebt_goesAlong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiters, faults := processes(t, testkit.Memory(t), 2, ratelimit.PerHour(8))
		back := outage(t, limiters, faults)
		for i := range 60 {
			spend(t, limiters[0], strconv.Itoa(i), 3)
		}
		back()
		for range 20 {
			spend(t, limiters[0], "busy", 1)
			time.Sleep(20 * time.Millisecond)
		}
		returned(t, limiters[1], "busy")
		for i := range 60 {
			if got, err := limiters[1].Peek(t.Context(), strconv.Itoa(i)); err != nil || got.Standin != nil || got.Remaining != 5 {
				t.Errorf("key %d at the other process: %d remaining, %v, %v; want 5", i, got.Remaining, got.Standin, err)
			}
		}
	})
}

// A caller who leaves, and a panic of the user's own hook, lose no debt.
//
// Red when a debt is taken out before it is written, and put back afterwards.
func TestDebt_isNotLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiters, faults := processes(t, testkit.Memory(t), 1, ratelimit.PerHour(8))
		limiter, fault := limiters[0], faults[0]
		back := outage(t, limiters, faults)
		spend(t, limiter, "alice", 3)
		back()
		fault.loses.Store(1)
		spend(t, limiter, "alice", 0) // back, but what is owed stays: the reply is lost
		time.Sleep(150 * time.Millisecond)

		fault.panic.Store(true)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the hook's panic does not reach the caller")
				}
			}()
			_, _ = limiter.Allow(t.Context(), "alice")
		}()
		fault.panic.Store(false)

		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := limiter.Allow(gone, "alice"); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller who has left: %v; want context.Canceled", err)
		}
		brief, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		fault.hangs.Store(true)
		if got, err := limiter.Allow(brief, "alice"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller who leaves: %s, %v; want context.DeadlineExceeded", show(got), err)
		}
		fault.hangs.Store(false)
		returned(t, limiter, "alice")
		if got, err := limiter.Peek(t.Context(), "alice"); err != nil || got.Standin != nil || got.Remaining != 5 {
			t.Errorf("%d remaining, %v, %v; want 5", got.Remaining, got.Standin, err)
		}
	})
}

// What was admitted without Redis is taken back without Redis; once it may have been
// written, by Redis.
//
// Red when cancel also takes a loan that was tried: the first refund then says yes
// and Redis keeps counting; or when a batch can be refunded.
func TestDebt_refund(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiters, faults := processes(t, testkit.Memory(t), 1, ratelimit.PerHour(200), ratelimit.PerHour(200).Smooth(200))
		limiter := limiters[0]
		back := outage(t, limiters, faults)
		refund := func(r ratelimit.Result) bool {
			t.Helper()
			ok, err := limiter.Refund(t.Context(), "alice", r.Ticket())
			if err != nil && !errors.Is(err, ratelimit.ErrUnavailable) {
				t.Fatal(err)
			}
			return ok
		}
		first := spend(t, limiter, "alice", 5)
		if !refund(first) || refund(first) {
			t.Error("in the outage: want one refund")
		}
		if got := spend(t, limiter, "alice", 1); got.Remaining != 199 {
			t.Errorf("after the refund %d remaining; want 199", got.Remaining)
		}
		var tickets []ratelimit.Result
		for range 150 {
			tickets = append(tickets, spend(t, limiter, "alice", 1))
		}
		if refund(tickets[0]) || !refund(tickets[149]) {
			t.Error("of 150 in the outage the latest can be refunded, the first, which was put together with others, not")
		}
		var others []ratelimit.Result
		for range 150 {
			others = append(others, spend(t, limiter, "bob", 1))
		}
		left := 50
		for _, r := range others {
			if ok, _ := limiter.Refund(t.Context(), "bob", r.Ticket()); ok {
				left++
			}
		}
		if got, _ := limiter.Peek(t.Context(), "bob"); left < 82 || left > 146 || got.Remaining != left {
			t.Errorf("%d remaining after %d refunds of 150, which left 50", got.Remaining, left-50)
		}
		back()
		returned(t, limiter, "alice")
		before, _ := limiter.Peek(t.Context(), "alice")
		if !refund(tickets[148]) || refund(tickets[148]) {
			t.Error("after it was written: want one refund by Redis")
		}
		after, err := limiter.Peek(t.Context(), "alice")
		if err != nil || before.Remaining != 50 || after.Remaining != 51 {
			t.Errorf("%d remaining, and %d after the refund, %v; want 50 and 51", before.Remaining, after.Remaining, err)
		}
	})
}

// Reset in an outage forgets what the process knows, debts included.
//
// Red when forget leaves the debts.
func TestDebt_reset(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiters, faults := processes(t, testkit.Memory(t), 1, ratelimit.PerHour(8))
		back := outage(t, limiters, faults)
		spend(t, limiters[0], "alice", 8)
		if err := limiters[0].Reset(t.Context(), "alice"); !errors.Is(err, ratelimit.ErrUnavailable) {
			t.Errorf("Reset: %v; want ErrUnavailable", err)
		}
		if got := spend(t, limiters[0], "alice", 2); !got.Allowed {
			t.Error("after Reset: denied")
		}
		back()
		returned(t, limiters[0], "alice")
		if got, err := limiters[0].Peek(t.Context(), "alice"); err != nil || got.Remaining != 6 {
			t.Errorf("%d remaining, %v; want 6", got.Remaining, err)
		}
	})
}

// A request in flight that was admitted in an outage holds its place in Redis
// afterwards, for all processes, until it is released or its lease ends.
//
// Red when flights are not written back, or when their places are given free as
// those of requests that were not admitted.
func TestDebt_placesInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiters, faults := processes(t, testkit.Memory(t), 2, ratelimit.AtOnce(8, 10*time.Minute))
		for _, f := range faults {
			f.loses.Store(2) // Redis gives places, and nobody hears of it
		}
		var held []ratelimit.Result
		for _, l := range limiters {
			held = append(held, spend(t, l, "alice", 1), spend(t, l, "alice", 1))
		}
		back := outage(t, limiters, faults)
		for i, l := range limiters {
			held = append(held, spend(t, l, "alice", 1), spend(t, l, "alice", 3))
			if got := spend(t, l, "alice", 1); got.Allowed {
				t.Errorf("process %d: the fifth of four: %s", i, show(got))
			}
		}
		back()
		left := func() int {
			t.Helper()
			got, err := limiters[0].Peek(t.Context(), "alice")
			if err != nil || got.Standin != nil {
				t.Fatalf("%v, %v; want Redis's verdict", got.Standin, err)
			}
			return got.Remaining
		}
		for range 20 {
			returned(t, limiters[0], "alice")
			returned(t, limiters[1], "alice")
			if n := left(); n != 0 {
				t.Fatalf("%d places; want none: 8 are held", n)
			}
			time.Sleep(time.Second / 2)
		}
		for i, r := range held {
			if err := limiters[i%2].Release(t.Context(), "alice", r.Ticket()); err != nil || !r.Allowed {
				t.Errorf("releasing request %d: %v (%s)", i, err, show(r))
			}
			if n := left(); n != i+1 {
				t.Errorf("%d places after %d were released", n, i+1)
			}
		}
	})
}
