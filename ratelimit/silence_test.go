package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// slack is what a call may take beyond its budget on a machine that runs other
// tests as well. Without the budget a default client waits for 5 s and more.
const slack = 500 * time.Millisecond

// answer is one call under load.
type answer struct {
	result ratelimit.Result
	err    error
	took   time.Duration
}

// underLoad has 32 goroutines ask limiter for as long as it lasts.
func underLoad(limiter *ratelimit.Limiter, last time.Duration) (all []answer) {
	end := time.Now().Add(last)
	answers := make([][]answer, 32)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			for time.Now().Before(end) {
				begun := time.Now()
				result, err := limiter.Allow(context.Background(), "alice")
				answers[i] = append(answers[i], answer{result, err, time.Since(begun)})
				pause(200 * time.Microsecond)
			}
		})
	}
	wg.Wait()
	return slices.Concat(answers...)
}

// With Redis silent under load, nobody waits longer than the budget; each way of
// standing in does what it says; and Redis decides again once it is back.
//
// Red when New opens the rdb.Conn with a budget of 5 s, or sets another stand-in
// than the one asked for, or when the local one does not divide by the instances.
func TestLimiter_silence(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	const limit, budget = 100, 50 * time.Millisecond
	silences := []struct {
		name       string
		begin, end func(t *testing.T, b *testkit.Backend)
	}{
		{"paused", func(_ *testing.T, b *testkit.Backend) { b.Pause() }, func(_ *testing.T, b *testkit.Backend) { b.Resume() }},
		{"killed", func(_ *testing.T, b *testkit.Backend) { b.Kill() }, func(t *testing.T, b *testkit.Backend) { b.Restart(t) }},
	}
	standins := []struct {
		name     string
		option   ratelimit.Option
		admitted func(n, asked int) bool
		fails    bool
	}{
		{"local", ratelimit.WithInstances(1), func(n, _ int) bool { return n == limit }, false},
		{"local, a quarter", ratelimit.WithInstances(4), func(n, _ int) bool { return n == limit/4 }, false},
		{"local, less than one each", ratelimit.WithInstances(1000), func(n, _ int) bool { return n == 1 }, false},
		{"open", ratelimit.WithFailOpen(), func(n, asked int) bool { return n == asked }, false},
		{"closed", ratelimit.WithFailClosed(), func(n, _ int) bool { return n == 0 }, true},
	}
	for _, silence := range silences {
		t.Run(silence.name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Server(t)
			limiters := make([]*ratelimit.Limiter, len(standins))
			for i, s := range standins {
				limiters[i] = open(t, b.Client(t), b.Prefix(t), ratelimit.PerHour(limit), ratelimit.WithTimeout(budget), s.option)
				testkit.Eventually(t, "the first verdict", func() bool {
					got, err := limiters[i].Allow(t.Context(), "warm")
					return err == nil && got.Standin == nil
				})
			}
			silence.begin(t, b)
			for i, s := range standins {
				answers := underLoad(limiters[i], 300*time.Millisecond)
				admitted := 0
				var longest time.Duration
				for _, a := range answers {
					longest = max(longest, a.took)
					if a.result.Allowed {
						admitted++
					}
					if a.result.Remaining < 0 || a.result.Allowed && a.result.RetryAfter != 0 || a.result.Allowed && a.err != nil {
						t.Fatalf("%s: %+v, %v", s.name, a.result, a.err)
					}
					told := a.result.Standin
					if s.fails {
						told = a.err
					} else if a.err != nil {
						t.Fatalf("%s: %v", s.name, a.err)
					}
					if !errors.Is(told, ratelimit.ErrUnavailable) {
						t.Fatalf("%s: Standin %v, error %v; want ErrUnavailable", s.name, a.result.Standin, a.err)
					}
				}
				if longest > budget+slack {
					t.Errorf("%s: a call took %v; want at most the budget of %v", s.name, longest, budget)
				}
				if !s.admitted(admitted, len(answers)) {
					t.Errorf("%s: admitted %d of %d, at a limit of %d", s.name, admitted, len(answers), limit)
				}
				t.Logf("%s: %d of %d admitted, the longest call took %v", s.name, admitted, len(answers), longest.Round(time.Microsecond))
			}
			silence.end(t, b)
			for i, s := range standins {
				asked := 0
				testkit.Eventually(t, s.name+": Redis's verdict after it is back", func() bool {
					asked++ // another key each time: what is admitted meanwhile counts afterwards
					got, err := limiters[i].Allow(t.Context(), "after "+strconv.Itoa(asked))
					return err == nil && got.Standin == nil && got.Allowed
				})
			}
		})
	}
}

// A Limiter may be made while Redis is down.
func TestNew_withoutRedis(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)})
	defer client.Close()
	limiter, err := ratelimit.New(client, ratelimit.PerHour(3))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		got, err := limiter.Allow(t.Context(), "alice")
		if err != nil || got.Allowed != (i < 3) || !errors.Is(got.Standin, ratelimit.ErrUnavailable) {
			t.Errorf("request %d = %+v, %v; want the stand-in's three", i+1, got, err)
		}
	}
}

// The caller's own end is no silence of Redis: it passes as it is, and nobody
// stands in.
func TestLimiter_callersEnd(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testkit.HungServer(t)})
	defer client.Close()
	limiter, err := ratelimit.New(client, ratelimit.PerHour(3), ratelimit.WithTimeout(relaxed))
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if got, err := limiter.Allow(gone, "alice"); err != context.Canceled || got.Allowed {
		t.Errorf("cancelled before: %+v, %v; want context.Canceled itself", got, err)
	}
	brief, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if got, err := limiter.Allow(brief, "alice"); err != context.DeadlineExceeded || got.Allowed {
		t.Errorf("its deadline: %+v, %v; want context.DeadlineExceeded itself", got, err)
	}
	if took := time.Since(begun); took > slack {
		t.Errorf("it took %v; want 20ms", took)
	}
}

// What Redis refuses is no silence either: admitting by a local count would hide
// a mistake in its configuration for ever. (Without scripts there is MULTI, but not
// without sorted sets.)
func TestLimiter_refused(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	admin := b.Client(t)
	if err := admin.Do(t.Context(), "ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-@scripting", "-zadd").Err(); err != nil {
		t.Fatal(err)
	}
	client := b.Client(t, func(o *redis.UniversalOptions) { o.Username, o.Password = "weak", "pw" })
	limiter := open(t, client, "weir", ratelimit.PerHour(3))
	got, err := limiter.Allow(t.Context(), "alice")
	if err == nil || errors.Is(err, ratelimit.ErrUnavailable) || got.Allowed || got.Standin != nil {
		t.Errorf("= %+v, %v; want the refusal", got, err)
	}
	if text := fmt.Sprint(err); !strings.HasPrefix(text, "ratelimit: allow: ") || !strings.Contains(text, "NOPERM") || !strings.Contains(text, "EXECABORT") {
		t.Errorf("error %q; want ratelimit: allow: …NOPERM…EXECABORT…", text)
	}
}

// A plan that needs scripts, made before the server was seen to forbid them, is
// refused: MULTI would keep another limit than the one asked for.
//
// Red when ask does not look whether the limits are sliding.
func TestLimiter_planWithoutScripts(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	if err := b.Client(t).Do(t.Context(), "ACL", "SETUSER", "weak", "on", ">pw", "~*", "+@all", "-@scripting").Err(); err != nil {
		t.Fatal(err)
	}
	client := b.Client(t, func(o *redis.UniversalOptions) { o.Username, o.Password = "weak", "pw" })
	limiter := open(t, client, "weir", ratelimit.PerHour(3))
	plan := with(t, limiter, ratelimit.PerHour(3), ratelimit.PerHour(3).Smooth(1))
	if got := allow(t, limiter, "alice"); !got.Allowed {
		t.Errorf("%s; want MULTI's verdict", show(got))
	}
	if got, err := plan.Allow(t.Context(), "alice"); err == nil || got.Allowed || !strings.Contains(err.Error(), "without scripts") {
		t.Errorf("the plan: %s, %v; want the refusal", show(got), err)
	}
	if _, err := limiter.With(ratelimit.PerHour(3), ratelimit.AtOnce(1, time.Hour)); !errors.Is(err, ratelimit.ErrConfig) {
		t.Errorf("a plan made now: %v; want ErrConfig", err)
	}
}
