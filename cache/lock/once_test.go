package lock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// The script runs, its reply is lost and the connection cut: the caller has what was
// done, once. The client is a default one, which has retries.
//
// Red when acquire.lua does not know its own id (taken by itself), when scripts are
// made by rdb.NewScript (ErrUnavailable), or when release.lua is not told of its
// second run (ErrLost).
func TestLocker_lostReply(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client, proxies := b.ProxiedClient(t)
			l, theirs := open(t, client, b.Prefix(t)), open(t, b.Client(t), b.Prefix(t))
			warm := acquire(t, l, "a", long)
			if err := warm.Extend(t.Context(), long); err != nil {
				t.Fatal(err)
			}
			release(t, warm)
			swallow := func() {
				proxies.Each(func(p *testkit.Proxy) { p.Reset(); p.SwallowReply(1, "evalsha", testkit.ThenClose) })
			}
			healed := func(what string) {
				t.Helper()
				if proxies.Swallowed() == 0 {
					t.Fatalf("%s: no reply was lost", what)
				}
				proxies.Each((*testkit.Proxy).Heal)
			}
			swallow()
			lease, ok, err := l.TryAcquire(t.Context(), "a", long)
			healed("acquire")
			if err != nil || !ok {
				t.Fatalf("acquire: %v, %v; want the lock", ok, err)
			}
			swallow()
			err = lease.Extend(t.Context(), 2*long)
			healed("extend")
			if err != nil {
				t.Fatal(err)
			}
			swallow()
			err = lease.Release(t.Context())
			healed("release")
			if err != nil {
				t.Errorf("release: %v", err)
			}
			if !try(t, theirs, "a") {
				t.Error("the lock is left behind")
			}
		})
	}
}

// Replies are lost and the connection stays silent, again and again: a caller who
// waits through that has its own lock.
//
// Red when each attempt has an id of its own: the lock is then taken by itself, for
// five minutes.
func TestLocker_waitsThroughSilence(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	prefix := b.Prefix(t)
	l := open(t, p.Client(t), prefix, lock.WithTimeout(300*time.Millisecond), lock.WithOutageWait())
	release(t, acquire(t, l, "a", long))
	p.SwallowReply(3, "evalsha", testkit.ThenSilence)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	lease, err := l.Acquire(ctx, "a", long)
	if err != nil || p.Swallowed() != 3 {
		t.Fatalf("%v, with %d replies lost; want the lock after 3", err, p.Swallowed())
	}
	p.Heal()
	release(t, lease)
	if !try(t, open(t, b.Client(t), prefix), "a") {
		t.Error("the lock is left behind")
	}
}

// Who gives up because its reply was lost leaves no lock behind.
//
// Red without giveUp in TryAcquire, or in Locker.wait.
func TestLocker_lostReplyLeavesNoLock(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	prefix := b.Prefix(t)
	l, theirs := open(t, p.Client(t), prefix, lock.WithTimeout(300*time.Millisecond)), open(t, b.Client(t), prefix)
	release(t, acquire(t, l, "a", long))
	ask := map[string]func(context.Context) error{
		"acquire": func(ctx context.Context) error { _, err := l.Acquire(ctx, "a", long); return err },
		"try":     func(ctx context.Context) error { _, _, err := l.TryAcquire(ctx, "a", long); return err },
	}
	for name, call := range ask {
		p.SwallowReply(1, "evalsha", testkit.ThenSilence)
		begun := time.Now()
		err := call(t.Context())
		if !errors.Is(err, lock.ErrUnavailable) || time.Since(begun) > 10*time.Second {
			t.Errorf("%s: %v after %v; want ErrUnavailable within the budget", name, err, time.Since(begun))
		}
		p.Heal()
		if !try(t, theirs, "a") {
			t.Errorf("%s: the lock is left behind", name)
		}
		// The caller's context ends while the reply is on its way.
		p.Delay(100 * time.Millisecond)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		if err := call(ctx); err != context.DeadlineExceeded {
			t.Errorf("%s: %v; want context.DeadlineExceeded", name, err)
		}
		cancel()
		p.Heal()
		if !try(t, theirs, "a") {
			t.Errorf("%s: the lock of a caller who left is left behind", name)
		}
	}
}

// An acquire that Redis runs only after its caller gave up, and gave back, takes
// nothing: a stopped server finds both on its sockets. It mostly takes them in the
// order in which they came; that of the other order nothing is left either is what
// "late acquire" in TestMutants looks at.
func TestLocker_lateAcquire(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	// Budgets of their own, as silence opens the breaker: a client a round.
	theirs := open(t, b.Client(t), "p")
	if !try(t, theirs, "a") {
		t.Fatal("taken")
	}
	for range soak(t, 12, 200) {
		client := b.Client(t)
		l := open(t, client, "p", lock.WithTimeout(40*time.Millisecond))
		testkit.Eventually(t, "connections", func() bool {
			_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error { p.Ping(t.Context()); return nil })
			_, _, lockErr := l.Holder(t.Context(), "a")
			return err == nil && lockErr == nil
		})
		b.Pause()
		_, _, err := l.TryAcquire(t.Context(), "a", long)
		if !errors.Is(err, lock.ErrUnavailable) {
			t.Errorf("%v; want ErrUnavailable", err)
		}
		b.Resume()
		// What was left behind has run when a later command on each connection has.
		testkit.Eventually(t, "the late commands", func() bool {
			_, ok, err := theirs.Holder(t.Context(), "a")
			return err == nil && !ok
		})
		client.Close()
	}
}

// While Redis is silent calls fail within the budget, soon at once, and a lease that
// was had before ends at its time.
func TestLocker_silence(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	l, err := lock.New(b.Client(t), lock.WithTimeout(100*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	var lease *lock.Lease
	testkit.Eventually(t, "a lock", func() bool {
		lease, err = l.Acquire(t.Context(), "a", time.Second)
		return err == nil
	})
	b.Pause()
	begun := time.Now()
	for range 10 {
		if _, err := l.Acquire(t.Context(), "b", long); !errors.Is(err, lock.ErrUnavailable) {
			t.Errorf("acquire: %v; want ErrUnavailable", err)
		}
		if _, _, err := l.TryAcquire(t.Context(), "b", long); !errors.Is(err, lock.ErrUnavailable) {
			t.Errorf("try: %v; want ErrUnavailable", err)
		}
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("20 calls took %v; want the breaker to open", d)
	}
	if _, _, err := l.Holder(t.Context(), "a"); !errors.Is(err, lock.ErrUnavailable) {
		t.Errorf("holder: %v; want ErrUnavailable", err)
	}
	if err := lease.Extend(t.Context(), long); err == nil {
		t.Error("extend: no error")
	}
	testkit.Eventually(t, "the lease's end", func() bool { return lease.Context().Err() != nil })
	if cause := context.Cause(lease.Context()); cause != lock.ErrLost {
		t.Errorf("it ended by %v; want ErrLost", cause)
	}
	if err := lease.Release(t.Context()); !errors.Is(err, lock.ErrLost) {
		t.Errorf("release: %v; want ErrLost", err)
	}
	b.Resume()
	testkit.Eventually(t, "a lock", func() bool {
		lease, err := l.Acquire(t.Context(), "b", long)
		return err == nil && lease.Release(t.Context()) == nil
	})
}

// A request that has met Redis's silence does not ask it again; but what it holds it
// renews and gives back, once Redis answers.
//
// Red when detached keeps the memory of silence.
func TestLease_outlivesARememberedSilence(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	brief, err := lock.New(client, lock.WithTimeout(100*time.Millisecond), lock.WithPrefix("p"))
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, client, "p", lock.WithAutoExtend(time.Hour))
	ctx := context.WithValue(t.Context(), rdb.MemoryKey(), new(rdb.Memory))
	lease, err := l.Acquire(ctx, "a", long)
	if err != nil {
		t.Fatal(err)
	}
	b.Pause()
	_, err = brief.Acquire(ctx, "b", long)
	b.Resume()
	rdb.Remember(ctx, err)
	if _, _, err := l.TryAcquire(ctx, "b", long); !errors.Is(err, lock.ErrUnavailable) {
		t.Errorf("the request asks again: %v", err)
	}
	until := lease.Until()
	lock.Renew(lease)
	if !lease.Until().After(until) {
		t.Error("the lease was not renewed")
	}
	if err := lease.Release(ctx); err != nil {
		t.Errorf("release: %v", err)
	}
	if !try(t, l, "a") {
		t.Error("the lock was not given back")
	}
}

// Who may neither publish nor subscribe has waiters that look for themselves, four
// times a second at least.
//
// Red with redis.call in place of pcall at PUBLISH (Release fails), and when pace does
// not mind that nothing is heard.
func TestLocker_withoutChannels(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	admin := b.Client(t)
	if err := admin.Do(t.Context(), "acl", "setuser", "mute", "on", ">secret", "~*", "+@all", "resetchannels").Err(); err != nil {
		t.Fatal(err)
	}
	mute := func(o *redis.UniversalOptions) { o.Username, o.Password = "mute", "secret" }
	l, theirs := open(t, b.Client(t, mute), "p"), open(t, b.Client(t, mute), "p")
	for range 3 {
		lease := acquire(t, l, "a", long)
		had := make(chan *lock.Lease)
		go func() {
			lease, err := theirs.Acquire(t.Context(), "a", long)
			if err != nil {
				t.Error(err)
			}
			had <- lease
		}()
		testkit.Eventually(t, "the waiter", func() bool { return admin.HExists(t.Context(), "p:lock:{a}", "waits").Val() })
		begun := time.Now()
		release(t, lease)
		if lease = <-had; lease == nil {
			return
		}
		if d := time.Since(begun); d > 3*time.Second {
			t.Errorf("the handover took %v; want a quarter of a second at most", d)
		}
		release(t, lease)
	}
}

// Commands per handover, with a hundred waiters: of one process, the release and the
// next one's acquire; of several, an acquire for each. The link's own commands are not
// counted: its PING and echo come by the second.
//
// Red without the announcement in release.lua (5 s a handover), or when all waiters
// ask Redis (hundreds of commands). Without g.taken in Locker.insist it is 3 in place
// of 2, which is too many here.
func TestLocker_commandsPerHandover(t *testing.T) {
	t.Parallel()
	const waiters = 100
	for _, tt := range []struct {
		processes int
		most      float64
	}{{1, 2.7}, {4, 8}} {
		t.Run(fmt.Sprint(tt.processes), func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, "server")
			prefix, hook := b.Prefix(t), new(counting)
			lockers := make([]*lock.Locker, tt.processes)
			for i := range lockers {
				client := b.Client(t)
				client.AddHook(hook)
				lockers[i] = open(t, client, prefix)
			}
			lease := acquire(t, lockers[0], "a", long)
			leases := make(chan *lock.Lease)
			for i := range waiters {
				go func() {
					lease, err := lockers[i%tt.processes].Acquire(t.Context(), "a", long)
					if err != nil {
						t.Error(err)
					}
					leases <- lease
				}()
			}
			testkit.Eventually(t, "all to wait", func() bool {
				behind := 0
				for _, l := range lockers {
					behind += lock.Waiting(l, "a")
				}
				return behind == waiters-tt.processes
			})
			before, begun := hook.sent.Load(), time.Now()
			for range waiters {
				pause(t, 2*time.Millisecond) // the work, in which nobody needs to ask
				release(t, lease)
				if lease = <-leases; lease == nil {
					return
				}
			}
			each := float64(hook.sent.Load()-before) / waiters
			t.Logf("%.2f commands and %v a handover", each, time.Since(begun)/waiters)
			if each > tt.most {
				t.Errorf("%.2f commands a handover; want at most %v", each, tt.most)
			}
			if d := time.Since(begun) / waiters; d > time.Second {
				t.Errorf("%v a handover; want it to be announced", d)
			}
			release(t, lease)
		})
	}
}
