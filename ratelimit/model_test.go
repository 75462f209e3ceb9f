package ratelimit_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// relaxed is a budget for tests that are not about time: on a loaded machine the
// stand-in must not decide in place of the Redis that is being tested.
const relaxed = 20 * time.Second

// model is the specification in its plainest form: all admissions there ever
// were, and for each question a count of those inside the window (now-W, now].
type model struct {
	limits   []ratelimit.Limit // shortest window first
	admitted []time.Time
}

// decide is the verdict that the Limiter owes at now.
func (m *model) decide(now time.Time) ratelimit.Result {
	want := ratelimit.Result{Allowed: true, At: now}
	rooms := make([]int, len(m.limits))
	for i, limit := range m.limits {
		in := m.within(now, limit.Window())
		rooms[i] = limit.Requests() - len(in)
		if rooms[i] > 0 {
			continue
		}
		wait := in[len(in)-limit.Requests()].Add(limit.Window()).Sub(now)
		if want.Allowed || wait > want.RetryAfter {
			want.Allowed, want.Limit, want.RetryAfter, want.ResetAfter = false, limit, wait, wait
		}
	}
	if !want.Allowed {
		return want
	}
	m.admitted = append(m.admitted, now)
	least := slices.Index(rooms, slices.Min(rooms))
	want.Limit, want.Remaining = m.limits[least], rooms[least]-1
	want.ResetAfter = m.within(now, want.Limit.Window())[0].Add(want.Limit.Window()).Sub(now)
	return want
}

func (m *model) within(now time.Time, window time.Duration) (in []time.Time) {
	for _, at := range m.admitted {
		if at.After(now.Add(-window)) {
			in = append(in, at)
		}
	}
	return in
}

// open returns a Limiter with keys of the test's own and a budget that a loaded
// machine cannot exceed.
func open(tb testing.TB, client redis.UniversalClient, prefix string, limit ratelimit.Limit, options ...ratelimit.Option) *ratelimit.Limiter {
	tb.Helper()
	options = append([]ratelimit.Option{ratelimit.WithPrefix(prefix), ratelimit.WithTimeout(relaxed)}, options...)
	limiter, err := ratelimit.New(client, limit, options...)
	if err != nil {
		tb.Fatal(err)
	}
	return limiter
}

// allow returns the verdict of Redis, and of nobody else.
func allow(tb testing.TB, limiter *ratelimit.Limiter, key string) ratelimit.Result {
	tb.Helper()
	result, err := limiter.Allow(context.Background(), key)
	if err != nil || result.Standin != nil {
		tb.Fatalf("Allow(%q) = %v, %v; want Redis's verdict", key, result.Standin, err)
	}
	return result
}

// show is what of a Result the model speaks of.
func show(r ratelimit.Result) string {
	return fmt.Sprintf("allowed %v, %v, %d remaining, reset after %v, retry after %v", r.Allowed, r.Limit, r.Remaining, r.ResetAfter, r.RetryAfter)
}

// each runs the contract's case on every kind of Redis, side by side.
func each(t *testing.T, run func(t *testing.T, b *testkit.Backend, client redis.UniversalClient)) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		run(t, b, b.Client(t))
	})
}
