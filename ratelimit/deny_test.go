package ratelimit_test

import (
	"runtime"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// A denied key is refused without a round trip until the very instant at which it
// is free, with numbers that go on being true; another key, and another limit, are
// asked about.
//
// Red when keep does not keep, or until is later than the instant told.
func TestDenyCache(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client, proxies := b.ProxiedClient(t)
			limiter := open(t, client, b.Prefix(t), ratelimit.Every(2, 700*time.Millisecond), ratelimit.PerHour(1000))
			allow(t, limiter, "alice")
			allow(t, limiter, "alice")
			first := allow(t, limiter, "alice")
			proxies.Each((*testkit.Proxy).Reset)
			free := first.At.Add(first.RetryAfter)
			var last ratelimit.Result
			for range 1000 {
				last = allow(t, limiter, "alice")
				if last.Allowed || last.Source != ratelimit.FromMemory || last.Limit != first.Limit || last.Remaining != 0 || last.RetryAfter > first.RetryAfter {
					t.Fatalf("%s, source %v; want the denial remembered", show(last), last.Source)
				}
				// From when it was asked, which was up to a round trip earlier.
				if at := last.At.Add(last.RetryAfter); at.Sub(free).Abs() > 2*time.Microsecond {
					t.Fatalf("free at %v; want %v", at, free)
				}
			}
			if trips := proxies.RoundTrips(); trips != 0 {
				t.Errorf("1000 denials took %d round trips; want none", trips)
			}
			full := 0
			for s := range last.All() {
				if full++; !s.Full || s.Limit != first.Limit {
					t.Errorf("%v: full %v", s.Limit, s.Full)
				}
			}
			if full != 1 {
				t.Errorf("%d limits told as full; want one", full)
			}
			if got := allow(t, limiter, "bob"); !got.Allowed {
				t.Errorf("another key: %s", show(got))
			}
			if got := allow(t, with(t, limiter, ratelimit.Every(3, 700*time.Millisecond)), "alice"); !got.Allowed {
				t.Errorf("another limit: %s", show(got))
			}
			if got, err := limiter.Peek(t.Context(), "alice"); err != nil || got.Source != ratelimit.FromRedis {
				t.Errorf("peek: source %v, %v; want Redis's", got.Source, err)
			}
		})
	}
}

// It is never late: from the instant on Redis is asked.
func TestDenyCache_ends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := open(t, testkit.Memory(t).Client(t), "weir", ratelimit.Every(1, 900*time.Millisecond))
		for range 10 {
			allow(t, limiter, "alice")
			denied := allow(t, limiter, "alice")
			time.Sleep(denied.RetryAfter - time.Microsecond)
			if got := allow(t, limiter, "alice"); got.Allowed || got.Source != ratelimit.FromMemory || got.RetryAfter != time.Microsecond {
				t.Fatalf("1 µs early: %s", show(got))
			}
			time.Sleep(time.Microsecond)
			if got := allow(t, limiter, "alice"); !got.Allowed {
				t.Fatalf("at the instant told: %s", show(got))
			}
			time.Sleep(time.Second)
		}
	})
}

// Redis is asked again after the longest time, so that what another process has
// freed is seen.
//
// Red when keep does not cap.
func TestDenyCache_longest(t *testing.T) {
	t.Parallel()
	for longest, options := range map[time.Duration][]ratelimit.Option{
		time.Second: nil, 3 * time.Second: {ratelimit.WithDenyCache(3 * time.Second)}, 0: {ratelimit.WithDenyCache(0)},
	} {
		synctest.Test(t, func(t *testing.T) {
			client := testkit.Memory(t).Client(t)
			limiter, other := open(t, client, "weir", ratelimit.PerHour(1), options...), open(t, client, "weir", ratelimit.PerHour(1))
			allow(t, limiter, "alice")
			allow(t, limiter, "alice")
			if err := other.Reset(t.Context(), "alice"); err != nil {
				t.Fatal(err)
			}
			if longest > 0 {
				time.Sleep(longest - time.Microsecond)
				if got := allow(t, limiter, "alice"); got.Allowed {
					t.Errorf("%v: asked earlier", longest)
				}
				time.Sleep(time.Microsecond)
			}
			if got := allow(t, limiter, "alice"); !got.Allowed {
				t.Errorf("%v: %s; want the reset seen", longest, show(got))
			}
		})
	}
}

// A refusal from memory allocates nothing.
func TestDenyCache_allocatesNothing(t *testing.T) {
	limiter := open(t, testkit.Mini(t).Client(t), "weir", ratelimit.PerHour(1), ratelimit.WithDenyCache(time.Hour))
	allow(t, limiter, "alice")
	allow(t, limiter, "alice")
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		if got, err := limiter.Allow(ctx, "alice"); err != nil || got.Allowed {
			t.Error("want denied")
		}
	}); n != 0 {
		t.Errorf("%v allocations; want none", n)
	}
}

// However many keys are denied, what is remembered of them is bounded.
//
// Red when a shard may grow once more.
func TestDenyCache_memory(t *testing.T) {
	limiter := open(t, testkit.Mini(t).Client(t), "weir", ratelimit.PerHour(1), ratelimit.WithDenyCache(time.Hour))
	const keys = 1_000_000
	before := heap()
	for i := range keys {
		limiter.RememberDenied("key " + strconv.Itoa(i))
	}
	grown := heap() - before
	remembered := 0
	for i := 0; i < keys; i += 1000 {
		if got, err := limiter.Allow(t.Context(), "key "+strconv.Itoa(i)); err == nil && got.Source == ratelimit.FromMemory {
			remembered++
		}
	}
	t.Logf("a million denied keys: %d bytes, %d of 1000 remembered", grown, remembered)
	if grown > 64_000_000 || remembered < 700 {
		t.Errorf("a million denied keys take %d bytes, and %d of 1000 are remembered; want at most 64 MB, and 700", grown, remembered)
	}
	for i := range keys / 10 { // and ever more of them no more
		limiter.RememberDenied("another " + strconv.Itoa(i))
	}
	if more := heap() - before; more > 64_000_000 {
		t.Errorf("1.1 million denied keys take %d bytes; want at most 64 MB", more)
	}
	runtime.KeepAlive(limiter)
}

// What is remembered of a costly request's denial is what the limit had left, and
// it ends when somebody takes that.
//
// Red when result says 0, or decide does not forget.
func TestDenyCache_costs(t *testing.T) {
	t.Parallel()
	limiter := open(t, testkit.Mini(t).Client(t), "weir", ratelimit.PerHour(5))
	allowN(t, limiter, "alice", 3)
	for i, step := range []struct {
		cost, remaining int
		allowed         bool
		source          ratelimit.Source
	}{
		{3, 2, false, ratelimit.FromRedis}, {3, 2, false, ratelimit.FromMemory}, {4, 2, false, ratelimit.FromRedis},
		{1, 1, true, ratelimit.FromRedis}, {3, 1, false, ratelimit.FromRedis}, {3, 1, false, ratelimit.FromMemory},
		{5, 1, false, ratelimit.FromRedis}, {6, 1, false, ratelimit.FromRedis}, {1, 0, true, ratelimit.FromRedis},
	} {
		if got := allowN(t, limiter, "alice", step.cost); got.Allowed != step.allowed || got.Remaining != step.remaining || got.Source != step.source {
			t.Errorf("step %d, cost %d: %s, source %v; want %+v", i+1, step.cost, show(got), got.Source, step)
		}
	}
}

// What is remembered tells both instants: when Remaining grows, and when the
// request fits, which is later for a costly one.
//
// Red when result says the one for the other.
func TestDenyCache_costlyWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := open(t, testkit.Memory(t).Client(t), "weir", ratelimit.Every(10, 10*time.Second))
		for range 10 {
			allow(t, limiter, "alice")
			time.Sleep(100 * time.Millisecond)
		}
		asked := allowN(t, limiter, "alice", 5)
		time.Sleep(300 * time.Millisecond)
		got := allowN(t, limiter, "alice", 5)
		const later = 300 * time.Millisecond
		if got.Source != ratelimit.FromMemory || got.RetryAfter != asked.RetryAfter-later || got.ResetAfter != asked.ResetAfter-later || got.RetryAfter <= got.ResetAfter {
			t.Errorf("%s\nfrom memory, 300ms later: %s, source %v", show(asked), show(got), got.Source)
		}
	})
}

// A remembered ban tells of the limit and its end, as Redis does.
func TestDenyCache_ban(t *testing.T) {
	t.Parallel()
	limiter := open(t, testkit.Mini(t).Client(t), "weir", ratelimit.PerHour(5), ratelimit.WithBan(9, time.Hour, time.Hour))
	if err := limiter.Ban(t.Context(), "alice", time.Hour); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		got := allow(t, limiter, "alice")
		tiers := 0
		for s := range got.All() {
			if tiers++; s.Limit != ratelimit.PerHour(5) {
				t.Errorf("%v", s)
			}
		}
		if !got.Banned || tiers != 1 || got.RetryAfter < 59*time.Minute || (got.Source == ratelimit.FromMemory) != (i == 1) {
			t.Errorf("answer %d: %s, banned %v, source %v, %d limits", i+1, show(got), got.Banned, got.Source, tiers)
		}
	}
}
