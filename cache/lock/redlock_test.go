package lock_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/testkit"
)

// servers are several independent Redises, in the process.
type servers []*miniredis.Miniredis

func newServers(tb testing.TB, n int) servers {
	tb.Helper()
	all := make(servers, n)
	for i := range all {
		all[i] = testkit.Mini(tb).Miniredis()
	}
	return all
}

// locker is one process's, with clients of its own.
func (s servers) locker(tb testing.TB, options ...lock.Option) *lock.Locker {
	tb.Helper()
	clients := make([]redis.UniversalClient, len(s))
	for i, m := range s {
		client := redis.NewClient(&redis.Options{Addr: m.Addr()})
		tb.Cleanup(func() { client.Close() })
		clients[i] = client
	}
	l, err := lock.NewRedlock(clients, append([]lock.Option{lock.WithTimeout(relaxed)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// holds is how many servers have a lock of the key.
func (s servers) holds(key string) (n int) {
	for _, m := range s {
		if m.Exists("weir:lock:{" + key + "}") {
			n++
		}
	}
	return n
}

func (s servers) down(which ...int) {
	for _, i := range which {
		s[i].SetError("LOADING as it were")
	}
}

func (s servers) up() {
	for _, m := range s {
		m.SetError("")
	}
}

// empty takes a server's memory away.
func (s servers) empty(which ...int) {
	for _, i := range which {
		s[i].FlushAll()
	}
}

func TestRedlock_oneHolder(t *testing.T) {
	t.Parallel()
	s := newServers(t, 5)
	l, theirs := s.locker(t, lock.WithLabel("mine")), s.locker(t)
	lease := acquire(t, l, "a", long)
	if try(t, theirs, "a") {
		t.Error("the lock is had twice")
	}
	if n := s.holds("a"); n != 5 {
		t.Errorf("%d servers have the lock; want 5", n)
	}
	h, ok, err := theirs.Holder(t.Context(), "a")
	if err != nil || !ok || h.Token != lease.Token() || h.Label != "mine" {
		t.Errorf("holder: %+v, %v, %v", h, ok, err)
	}
	release(t, lease)
	if n := s.holds("a"); n != 0 {
		t.Errorf("after Release %d servers have the lock", n)
	}
	if !try(t, theirs, "a") {
		t.Error("the lock is taken after Release")
	}
}

// It works while fewer than half of the servers are down, and not without a majority;
// then nothing is left on the others.
func TestRedlock_majority(t *testing.T) {
	t.Parallel()
	s := newServers(t, 5)
	l, theirs := s.locker(t), s.locker(t)
	s.down(0, 1)
	lease := acquire(t, l, "a", long)
	if err := lease.Extend(t.Context(), long); err != nil {
		t.Errorf("extend with two down: %v", err)
	}
	if try(t, theirs, "a") {
		t.Error("the lock is had twice")
	}
	s.down(2)
	if err := lease.Extend(t.Context(), long); !errors.Is(err, lock.ErrUnavailable) || lease.Context().Err() != nil {
		t.Errorf("extend with three down: %v, %v; want ErrUnavailable, and the lease goes on", err, lease.Context().Err())
	}
	if _, _, err := theirs.TryAcquire(t.Context(), "b", long); !errors.Is(err, lock.ErrUnavailable) {
		t.Errorf("acquire with three down: %v; want ErrUnavailable", err)
	}
	if n := s.holds("b"); n != 0 {
		t.Errorf("%d servers have a lock that nobody got", n)
	}
	if err := lease.Release(t.Context()); !errors.Is(err, lock.ErrUnavailable) {
		t.Errorf("release with three down: %v; want ErrUnavailable", err)
	}
	s.up()
	if !try(t, theirs, "b") {
		t.Error("a lock is left behind")
	}
}

// A minority that is somebody's else is no hindrance; a majority is.
func TestRedlock_minorityOfAnother(t *testing.T) {
	t.Parallel()
	s := newServers(t, 3)
	l := s.locker(t)
	s[0].HSet("weir:lock:{a}", "owner", "x", "token", "1", "since", "1", "ttl", "1000", "label", "")
	lease := acquire(t, l, "a", long)
	release(t, lease)
	s[1].HSet("weir:lock:{a}", "owner", "x", "token", "1", "since", "1", "ttl", "1000", "label", "")
	if try(t, l, "a") {
		t.Error("the lock is had by a minority")
	}
	if n := s.holds("a"); n != 2 {
		t.Errorf("%d servers have a lock; want the two of the other holder", n)
	}
}

// Extend takes the lock on servers that have lost it, or were not there
// (redsync#186, #149), so that one restart after the other does not lose it.
//
// Red when extend runs extend.lua in place of adopt.lua.
func TestRedlock_extendTakesAgain(t *testing.T) {
	t.Parallel()
	s := newServers(t, 3)
	l, theirs := s.locker(t), s.locker(t)
	s.down(2)
	lease := acquire(t, l, "a", long)
	s.up()
	for i := range 6 {
		if err := lease.Extend(t.Context(), long); err != nil {
			t.Fatal(err)
		}
		if n := s.holds("a"); n != 3 {
			t.Fatalf("after Extend %d servers have the lock; want 3", n)
		}
		s.empty(i % 3)
		if try(t, theirs, "a") {
			t.Fatal("the lock is had twice")
		}
	}
	release(t, lease)
	// One that is lost for good is told so.
	lease = acquire(t, l, "a", long)
	s.empty(0, 1)
	other := acquire(t, theirs, "a", long)
	if err := lease.Extend(t.Context(), long); !errors.Is(err, lock.ErrLost) || context.Cause(lease.Context()) != lock.ErrLost {
		t.Errorf("extend: %v; want ErrLost", err)
	}
	if err := lease.Release(t.Context()); !errors.Is(err, lock.ErrLost) {
		t.Errorf("release: %v; want ErrLost", err)
	}
	if err := other.Extend(t.Context(), long); err != nil {
		t.Errorf("the next holder's extend: %v", err)
	}
}

// Tokens grow from one majority to the next, whichever servers are in it, though
// their clocks are hours apart.
//
// Red without the second round of quorum.acquire.
func TestRedlock_tokensGrow(t *testing.T) {
	t.Parallel()
	s := newServers(t, 3)
	for i, m := range s {
		m.ClockTTL(false)
		m.SetTime(time.Now().Add(time.Duration(i) * 10 * time.Hour))
	}
	l := s.locker(t)
	var last int64
	for i := range 12 {
		s.down([]int{0, 2, 1, 2, 0, 1}[i%6])
		lease := acquire(t, l, "a", long)
		if lease.Token() <= last {
			t.Fatalf("round %d: token %d after %d", i, lease.Token(), last)
		}
		last = lease.Token()
		release(t, lease)
		s.up()
		for _, m := range s {
			m.Del("weir:lock:{a}") // of one that was down when it was released
		}
	}
}

// Waiters of several processes take turns, and none is left waiting by votes that are
// split.
func TestRedlock_waitersTakeTurns(t *testing.T) {
	t.Parallel()
	s := newServers(t, 3)
	var (
		wg           sync.WaitGroup
		inside, done atomic.Int64
	)
	for range 4 {
		l := s.locker(t)
		for range 4 {
			wg.Go(func() {
				lease, err := l.Acquire(t.Context(), "a", long)
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d inside", n)
				}
				inside.Add(-1)
				done.Add(1)
				if err := lease.Release(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if done.Load() != 16 || s.holds("a") != 0 {
		t.Errorf("%d of 16 had their turn, %d locks are left", done.Load(), s.holds("a"))
	}
}

// A server that does not answer costs its budget, once, and what it runs later takes
// nothing.
func TestRedlock_blackHole(t *testing.T) {
	t.Parallel()
	var (
		clients []redis.UniversalClient
		proxies []*testkit.Proxy
	)
	for range 3 {
		p := testkit.NewProxy(t, testkit.Server(t).Addrs()[0])
		proxies = append(proxies, p)
		clients = append(clients, p.Client(t))
	}
	l, err := lock.NewRedlock(clients, lock.WithTimeout(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	release(t, acquire(t, l, "a", long))
	proxies[1].Hang()
	lease := acquire(t, l, "a", long)
	release(t, lease)
	proxies[1].Heal()
	proxies[2].SwallowReply(1, "evalsha", testkit.ThenSilence)
	release(t, acquire(t, l, "a", long))
	proxies[2].Heal()
	testkit.Eventually(t, "the lock to be free everywhere", func() bool {
		lease, ok, err := l.TryAcquire(t.Context(), "a", long)
		if ok {
			release(t, lease)
		}
		return ok && err == nil
	})
}

func TestNewRedlock_mistakes(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	_, err := lock.NewRedlock([]redis.UniversalClient{client, client}, lock.WithReplicaSync(1, time.Second))
	checkMistakes(t, err, "2 clients: must be at least 3", "client 2 is one of those before", "WithReplicaSync: leave it out")
	_, err = lock.NewRedlock([]redis.UniversalClient{client, nil, (*redis.Client)(nil)})
	checkMistakes(t, err, "client 2: client is nil", "client 3: client is nil")
}
