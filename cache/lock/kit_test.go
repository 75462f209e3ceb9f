package lock_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/testkit"
)

// relaxed is a budget for tests that are not about time, and long a ttl that does
// not end in one.
const (
	relaxed = 20 * time.Second
	long    = 5 * time.Minute
)

// open returns a Locker with keys of the test's own.
func open(tb testing.TB, client redis.UniversalClient, prefix string, options ...lock.Option) *lock.Locker {
	tb.Helper()
	l, err := lock.New(client, append([]lock.Option{lock.WithPrefix(prefix), lock.WithTimeout(relaxed)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// each runs the contract's case on every kind of Redis, side by side.
func each(t *testing.T, run func(t *testing.T, b *testkit.Backend, client redis.UniversalClient)) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		run(t, b, b.Client(t))
	})
}

// acquire fails the test unless the lock is had.
func acquire(tb testing.TB, l *lock.Locker, key string, ttl time.Duration) *lock.Lease {
	tb.Helper()
	lease, err := l.Acquire(context.Background(), key, ttl)
	if err != nil {
		tb.Fatal(err)
	}
	if err := lease.Context().Err(); err != nil {
		tb.Fatalf("a new lease: %v", err)
	}
	return lease
}

func release(tb testing.TB, lease *lock.Lease) {
	tb.Helper()
	if err := lease.Release(context.Background()); err != nil {
		tb.Fatal(err)
	}
}

// try asks once, and reports whether the lock was free. It gives it back.
func try(tb testing.TB, l *lock.Locker, key string) bool {
	tb.Helper()
	lease, ok, err := l.TryAcquire(context.Background(), key, long)
	if err != nil {
		tb.Fatal(err)
	}
	if (lease != nil) != ok {
		tb.Fatalf("lease %v, ok %v", lease, ok)
	}
	if ok {
		release(tb, lease)
	}
	return ok
}

// soak is how often a campaign runs: short here, long under WEIR_SOAK=1.
func soak(tb testing.TB, short, long int) int {
	tb.Helper()
	if os.Getenv("WEIR_SOAK") == "1" {
		return long
	}
	if testing.Short() {
		return max(1, short/10)
	}
	return short
}
