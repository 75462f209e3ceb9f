package lock_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/testkit"
)

// bubble runs a test where only time matters, with a Redis of its own whose keys
// expire by the bubble's clock.
func bubble(t *testing.T, run func(t *testing.T, b *testkit.Backend)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { run(t, testkit.Memory(t)) })
}

// The context ends a tenth of the ttl and 2 ms before the lock does.
//
// Red without the margin in Locker.lease.
func TestLease_endsBeforeTheLock(t *testing.T) {
	bubble(t, func(t *testing.T, b *testkit.Backend) {
		l, theirs := open(t, b.Client(t), "p"), open(t, b.Client(t), "p")
		lease := acquire(t, l, "a", 10*time.Second)
		time.Sleep(8998*time.Millisecond - time.Nanosecond)
		synctest.Wait()
		if err := lease.Context().Err(); err != nil {
			t.Errorf("before its end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		select {
		case <-lease.Context().Done():
		default:
			t.Error("the context goes on")
		}
		if cause := context.Cause(lease.Context()); cause != lock.ErrLost {
			t.Errorf("it ended by %v; want ErrLost", cause)
		}
		if try(t, theirs, "a") {
			t.Error("the lock is free at once; want a margin")
		}
		if err := lease.Extend(t.Context(), time.Minute); !errors.Is(err, lock.ErrLost) {
			t.Errorf("extend: %v; want ErrLost: what is over stays over", err)
		}
		if err := lease.Release(t.Context()); !errors.Is(err, lock.ErrLost) {
			t.Errorf("release: %v; want ErrLost", err)
		}
		if !try(t, theirs, "a") {
			t.Error("Release did not free the lock that was left")
		}
	})
}

// A process that was stopped finds out by Err, whatever its timers do.
//
// Red without the look at the clock in leaseContext.Err.
func TestLease_errLooksAtTheClock(t *testing.T) {
	t.Parallel()
	l := open(t, testkit.Mini(t).Client(t), "p")
	lease := acquire(t, l, "a", long)
	lock.StopTimers(lease)
	lock.Age(lease, long)
	if err := lease.Context().Err(); err != context.Canceled || context.Cause(lease.Context()) != lock.ErrLost {
		t.Errorf("got %v, %v; want the end", err, context.Cause(lease.Context()))
	}
}

func TestLocker_autoExtend(t *testing.T) {
	bubble(t, func(t *testing.T, b *testkit.Backend) {
		const ttl, most = 3 * time.Second, time.Minute
		l, theirs := open(t, b.Client(t), "p", lock.WithAutoExtend(most)), open(t, b.Client(t), "p")
		lease := acquire(t, l, "a", ttl)
		for range 59 {
			time.Sleep(time.Second)
			if lease.Context().Err() != nil || try(t, theirs, "a") {
				t.Fatal("the lease was not renewed")
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if cause := context.Cause(lease.Context()); cause != lock.ErrLost {
			t.Errorf("after the maximum hold: %v; want ErrLost", cause)
		}
		time.Sleep(ttl)
		other := acquire(t, theirs, "a", ttl)
		time.Sleep(10 * ttl)
		if !try(t, l, "a") {
			t.Error("a lease that is not renewed goes on")
		}
		if err := other.Release(t.Context()); !errors.Is(err, lock.ErrLost) {
			t.Errorf("release: %v; want ErrLost", err)
		}
	})
}

// Renewal ends with the caller's context: the lock of who forgot it gets free.
func TestLocker_autoExtendEndsWithTheCaller(t *testing.T) {
	bubble(t, func(t *testing.T, b *testkit.Backend) {
		l := open(t, b.Client(t), "p", lock.WithAutoExtend(time.Hour))
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := l.Acquire(ctx, "a", time.Second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if try(t, l, "a") {
			t.Error("the lease was not renewed")
		}
		cancel()
		time.Sleep(time.Second)
		if !try(t, l, "a") {
			t.Error("the lease is renewed for nobody")
		}
	})
}

// A renewal that fails is tried again while there is time, and the lease ends where
// there is none.
func TestLocker_autoExtendOverAnOutage(t *testing.T) {
	bubble(t, func(t *testing.T, b *testkit.Backend) {
		l := open(t, b.Client(t), "p", lock.WithAutoExtend(time.Hour), lock.WithTimeout(50*time.Millisecond))
		lease := acquire(t, l, "a", 10*time.Second)
		for _, outage := range []time.Duration{5 * time.Second, 20 * time.Second} {
			b.Miniredis().SetError("LOADING as it were")
			time.Sleep(outage)
			b.Miniredis().SetError("")
			time.Sleep(2 * time.Second)
			if lost := lease.Context().Err() != nil; lost != (outage > 10*time.Second) {
				t.Errorf("after %v without Redis: lost %v", outage, lost)
			}
		}
	})
}

// A waiter has the lock when its ttl ends, without anybody's word, and not before the
// lease of the one before is over.
func TestLocker_waitsForTheEnd(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		l, theirs := open(t, client, prefix), open(t, b.Client(t), prefix)
		const ttl = 500 * time.Millisecond
		begun := time.Now()
		lease, err := l.Acquire(t.Context(), "a", ttl)
		if err != nil {
			t.Fatal(err)
		}
		other := acquire(t, theirs, "a", long)
		if d := time.Since(begun); d < ttl {
			t.Errorf("had the lock after %v; want %v", d, ttl)
		}
		if lease.Context().Err() == nil {
			t.Error("two leases are valid")
		}
		release(t, other)
	})
}

// No renewal is sent after Release has returned (Redisson#7272).
//
// Red without renewals.Wait in giveBack. (A renewal that begins later finds the state,
// and the context's end: two lines of which one suffices.)
func TestLease_noRenewalAfterRelease(t *testing.T) {
	t.Parallel()
	rounds := soak(t, 500, 100_000)
	b := testkit.Mini(t)
	hook := &counting{what: "extend"}
	client := b.Client(t)
	client.AddHook(hook)
	// A renewal is due at a third of the ttl: Renew is what the timer calls.
	l := open(t, client, "p", lock.WithAutoExtend(time.Hour))
	for round := range rounds {
		lease := acquire(t, l, "a", long)
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { lock.Renew(lease) })
		}
		for spin := 0; spin < 20*(round%8) && hook.open.Load() == 0; spin++ {
			runtime.Gosched()
		}
		release(t, lease)
		sent := hook.sent.Load()
		if n := hook.open.Load(); n != 0 {
			t.Fatalf("%d renewals are under way after Release", n)
		}
		wg.Wait()
		lock.Renew(lease)
		if n := hook.sent.Load(); n != sent {
			t.Fatalf("%d renewals were sent after Release", n-sent)
		}
	}
	if hook.sent.Load() == 0 {
		t.Error("no renewal came before a Release: the race was not run")
	}
}

// No goroutine is left of leases, released or lost, and of waits.
func TestLocker_leavesNoGoroutine(t *testing.T) {
	// Not parallel: it counts. And not on miniredis, which has goroutines of its own.
	b := testkit.Shared(t, "server")
	l := open(t, b.Client(t), b.Prefix(t), lock.WithAutoExtend(time.Hour))
	release(t, acquire(t, l, "a", long)) // the pool's own
	before := runtime.NumGoroutine()
	for range soak(t, 1000, 100_000) {
		release(t, acquire(t, l, "a", long))
	}
	lease := acquire(t, l, "a", long)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			other, err := l.Acquire(t.Context(), "a", long)
			if err == nil {
				err = other.Release(t.Context())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	testkit.Eventually(t, "a waiter", func() bool { return lock.Gates(l) == 1 })
	release(t, lease)
	wg.Wait()
	testkit.Eventually(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

// counting counts the commands that are sent through a client.
type counting struct {
	what       string // the scripts so named; "" for all scripts
	sent, open atomic.Int64
}

func (h *counting) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.what != "" && !lock.IsScript(cmd.Args(), h.what) || !strings.HasPrefix(cmd.Name(), "eval") {
			return next(ctx, cmd)
		}
		h.sent.Add(1)
		h.open.Add(1)
		defer h.open.Add(-1)
		return next(ctx, cmd)
	}
}

func (h *counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
