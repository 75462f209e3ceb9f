package ratelimit_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

func with(tb testing.TB, limiter *ratelimit.Limiter, limits ...ratelimit.Limit) *ratelimit.Limiter {
	tb.Helper()
	other, err := limiter.With(limits...)
	if err != nil {
		tb.Fatal(err)
	}
	return other
}

// Other limits hold from the next decision on, up and down, and what was counted
// under any of them counts under all.
//
// Red when find does not compare the limits' checksums: the raised limit is denied
// from memory.
func TestLimiter_With(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		base := open(t, client, b.Prefix(t), ratelimit.PerHour(3))
		steps := []struct {
			limiter *ratelimit.Limiter
			allowed bool
			remain  int
		}{
			{base, true, 2},
			{with(t, base, ratelimit.PerHour(1)), false, 0},
			{with(t, base, ratelimit.PerHour(5)), true, 3},
			{base, true, 0},
			{base, false, 0},
			{with(t, base, ratelimit.PerHour(4)), true, 0},
			{with(t, base, ratelimit.PerHour(1000)), true, 995},
			{with(t, base, ratelimit.PerMinute(6), ratelimit.PerSecond(100)), true, 0},
			{with(t, base, ratelimit.PerMinute(6)), false, 0},
			{base, false, 0},
		}
		for i, s := range steps {
			if got := allow(t, s.limiter, "alice"); got.Allowed != s.allowed || got.Remaining != s.remain {
				t.Errorf("step %d, %v: %s; want allowed %v, %d remaining", i+1, s.limiter.Limits(), show(got), s.allowed, s.remain)
			}
		}
		denied := allow(t, base, "alice")
		if free := denied.RetryAfter; free < 59*time.Minute {
			t.Errorf("seven of three used, and the next in %v; want near an hour", free)
		}
	})
}

func TestLimiter_With_mistakes(t *testing.T) {
	t.Parallel()
	base := open(t, testkit.Mini(t).Client(t), "weir", ratelimit.PerHour(3))
	for want, limits := range map[string][]ratelimit.Limit{
		"no limit":                            nil,
		"would not count for the other plans": {ratelimit.PerHour(1).Smooth(2), ratelimit.AtOnce(1, time.Hour)},
		"AtOnce has no rate to be Smooth":     {ratelimit.PerHour(1), ratelimit.AtOnce(1, time.Hour).Smooth(2)},
		"24h0m0s is longer than 1h0m0s":       {ratelimit.Every(1, 24*time.Hour)},
		"at least 1":                          {ratelimit.PerHour(0)},
		"have one window":                     {ratelimit.PerHour(1), ratelimit.PerHour(2)},
		"are both named":                      {ratelimit.PerHour(1).Named("a"), ratelimit.PerMinute(2).Named("A")},
		"burst must be from 1":                {ratelimit.PerHour(1).Smooth(0)},
		"begin with a letter":                 {ratelimit.PerHour(1).Named("1 a")},
		"are both AtOnce":                     {ratelimit.AtOnce(1, time.Hour), ratelimit.AtOnce(2, time.Minute)},
		"lease of 0s must be from 1ms":        {ratelimit.AtOnce(1, 0)},
		"Named(\"\")":                         {ratelimit.PerHour(1).Named("")},
		"requests must be at most 2147483647": {ratelimit.PerHour(1 << 31)},
		"window of 999µs must be from 1ms":    {ratelimit.Every(1, time.Millisecond-1)},
		"burst must be from 1 to 2147483647":  {ratelimit.PerHour(1).Smooth(1 << 31)},
		"9 limits: keep at most 8":            nineLimits(),
	} {
		_, err := base.With(limits...)
		if !errors.Is(err, ratelimit.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v; want …%s…", limits, err, want)
		}
	}
}

func nineLimits() (limits []ratelimit.Limit) {
	for i := range 9 {
		limits = append(limits, ratelimit.Every(i+1, time.Duration(i+1)*time.Minute))
	}
	return limits
}

func TestLimit_Name(t *testing.T) {
	t.Parallel()
	for want, limit := range map[string]ratelimit.Limit{
		"per-second":        ratelimit.PerSecond(1),
		"per-hour":          ratelimit.Every(1, 60*time.Minute),
		"per-day":           ratelimit.Every(1, 24*time.Hour),
		"per-2s":            ratelimit.Every(1, 2*time.Second),
		"per-1.5ms":         ratelimit.Every(1, 1500*time.Microsecond),
		"smooth-per-minute": ratelimit.PerMinute(1).Smooth(2),
		"at-once":           ratelimit.AtOnce(1, time.Hour),
		"burst":             ratelimit.PerSecond(1).Named("burst"),
	} {
		if got := limit.Name(); got != want {
			t.Errorf("%v: name %q; want %q", limit, got, want)
		}
	}
}

// A ban begins with the n-th denial within its window, not before, and ends by
// itself; what is denied while banned does not count towards the next.
//
// Red when the denial cache is asked before a ban, or strikes are counted without
// a window.
func TestLimiter_ban(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client := b.Client(t)
			prefix := b.Prefix(t)
			limiter := open(t, client, prefix, ratelimit.Every(2, 100*time.Millisecond), ratelimit.WithBan(3, time.Hour, 500*time.Millisecond))
			other := open(t, client, prefix, ratelimit.Every(2, 100*time.Millisecond), ratelimit.WithBan(3, time.Hour, 500*time.Millisecond))
			strikes := 0
			var got ratelimit.Result
			for !got.Banned {
				got = allow(t, limiter, "alice")
				if !got.Allowed {
					strikes++
				}
			}
			if strikes != 3 || got.RetryAfter != 500*time.Millisecond || got.Allowed {
				t.Errorf("banned by denial %d: %s; want the third, for 500ms", strikes, show(got))
			}
			for range 5 {
				if got := allow(t, other, "alice"); !got.Banned || got.RetryAfter > 500*time.Millisecond {
					t.Errorf("elsewhere: %s; want the ban", show(got))
				}
			}
			if got := allow(t, limiter, "bob"); got.Banned {
				t.Error("another key is banned")
			}
			pause(got.RetryAfter)
			if got := allow(t, limiter, "alice"); got.Banned || !got.Allowed {
				t.Errorf("after the ban: %s, banned %v", show(got), got.Banned)
			}
		})
	}
}

// Ban refuses a key at once, everywhere, until Reset.
func TestLimiter_Ban(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		option := ratelimit.WithBan(1000, time.Hour, time.Hour)
		limiter, other := open(t, client, prefix, ratelimit.PerHour(5), option), open(t, client, prefix, ratelimit.PerHour(5), option)
		allow(t, other, "alice")
		if err := limiter.Ban(t.Context(), "alice", time.Minute); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got := allow(t, other, "alice"); !got.Banned || got.Allowed || got.RetryAfter > time.Minute || got.RetryAfter < time.Second {
				t.Errorf("%s, banned %v; want a ban of a minute", show(got), got.Banned)
			}
		}
		if got, err := limiter.Peek(t.Context(), "alice"); err != nil || !got.Banned || got.Allowed {
			t.Errorf("peek: %s, banned %v, %v", show(got), got.Banned, err)
		}
		if err := other.Reset(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		if got := allow(t, other, "alice"); got.Banned || !got.Allowed {
			t.Errorf("after Reset: %s", show(got))
		}
	})
}

func TestLimiter_Ban_mistakes(t *testing.T) {
	t.Parallel()
	limiter := open(t, testkit.Mini(t).Client(t), "weir", ratelimit.PerHour(5))
	err := limiter.Ban(t.Context(), "alice", 0)
	if !errors.Is(err, ratelimit.ErrConfig) || !strings.Contains(err.Error(), "WithBan") || !strings.Contains(err.Error(), "from 1ms") {
		t.Errorf("%v; want both mistakes", err)
	}
}
