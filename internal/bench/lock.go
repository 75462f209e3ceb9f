package bench

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// locking is a contestant that gives out locks.
type locking = contestant[func(*redis.Client) (locker, error)]

// locker is what a lock is taken with, and given back. acquire waits until it has the
// lock; it is called from many goroutines.
type locker struct {
	acquire func(ctx context.Context, key string) (release func(context.Context) error, err error)
}

// lockTTL is what every contestant is asked for: longer than any hold here.
const lockTTL = 10 * time.Second

// lockers are in the order of the tables' rows. To add one, write its file and name
// it here.
var lockers = []locking{
	weirLocker,
	weirLockerDeadline,
	redsyncLocker,
	redislockLocker,
}

// Locks are compared with both peers.
var lockerReferences = []string{redsyncLocker.name, redislockLocker.name}

// cycle takes a lock and gives it back.
func (l locker) cycle(ctx context.Context, key string) (bool, error) {
	release, err := l.acquire(ctx, key)
	if err != nil {
		return false, err
	}
	return true, release(ctx)
}

// handOver has one goroutine hold a lock while others come to wait for it, and returns
// how long it takes, from the first release on, until each has had it once.
func (l locker) handOver(ctx context.Context, waiters int) tally {
	var t tally
	fail := func(err error) {
		if err != nil {
			t.failures++
			t.first = err
		}
	}
	release, err := l.acquire(ctx, "handover")
	if err != nil {
		fail(err)
		return t
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		last time.Time
	)
	for range waiters {
		wg.Go(func() {
			release, err := l.acquire(ctx, "handover")
			at := time.Now()
			if err == nil {
				err = release(ctx)
			}
			mu.Lock()
			defer mu.Unlock()
			fail(err)
			last = at
			t.verdicts++
		})
	}
	time.Sleep(holding + rand.N(spread)) // the work, while all begin to wait
	begun := time.Now()
	err = release(ctx)
	wg.Wait()
	fail(err)
	t.took = last.Sub(begun)
	return t
}

// holding is how long a lock is held before it is handed over: longer than any peer
// takes to ask a second time.
// It varies, so that nobody's pauses fit it.
const (
	holding = 300 * time.Millisecond
	spread  = 250 * time.Millisecond
)
