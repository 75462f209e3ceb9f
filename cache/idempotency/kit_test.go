package idempotency_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/testkit"
)

// relaxed is a budget for tests that are not about time.
const relaxed = 20 * time.Second

// shop is a Store with the calls that fail a test.
type shop struct {
	testing.TB
	*idempotency.Store
}

func open(tb testing.TB, client redis.UniversalClient, prefix string, options ...idempotency.Option) shop {
	tb.Helper()
	s, err := idempotency.New(client, append([]idempotency.Option{idempotency.WithPrefix(prefix), idempotency.WithTimeout(relaxed)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return shop{tb, s}
}

// each runs the contract's case on every kind of Redis, side by side.
func each(t *testing.T, run func(t *testing.T, client redis.UniversalClient, prefix string)) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		run(t, b.Client(t), b.Prefix(t))
	})
}

// ask reserves key, and fails the test unless it is told want.
func (s shop) ask(key, print string, want idempotency.State) idempotency.Answer {
	s.Helper()
	a, err := s.Reserve(context.Background(), key, print)
	if err != nil || a.State != want {
		s.Fatalf("reserve %s: %q, %v; want %q", key, a.State, err, want)
	}
	if (a.Claim != nil) != (want == idempotency.Claimed) {
		s.Fatalf("reserve %s: %q with claim %v", key, a.State, a.Claim)
	}
	return a
}

// claim reserves a key that is free. The claim ends with the test.
func (s shop) claim(key string) *idempotency.Claim {
	s.Helper()
	c := s.ask(key, "", idempotency.Claimed).Claim
	s.Cleanup(func() { _ = c.Release(context.Background()) })
	return c
}

func (s shop) finish(c *idempotency.Claim, outcome string) {
	s.Helper()
	if err := c.Finish(context.Background(), []byte(outcome)); err != nil {
		s.Fatal(err)
	}
}
