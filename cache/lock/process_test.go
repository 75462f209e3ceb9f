package lock_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/testkit"
)

func init() { testkit.Role("holder", holder) }

// section is one hold, on the clock that all processes share. Begin was read after
// Acquire had returned, End before a look at the context that found it alive: all
// between is what a holder does who honours the context, wherever it is stopped.
type section struct {
	Begin, End time.Duration
	Token      int64
	Refused    int // writes that the register refused, of those that ignored the context
	Error      string
}

// register is what a lock protects: it keeps the highest token, refuses lower ones,
// and notes all that it has accepted.
var register = redis.NewScript(`
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
if tonumber(ARGV[1]) < last then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', 600000)
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('PEXPIRE', KEYS[2], 600000)
return 1`)

// A holder takes the lock again and again, through a proxy that the parent breaks,
// and writes to the register, which it reaches directly. It has args: the lock's
// server, the register's, the prefix, the ttl in ms.
func holder(ctx context.Context, args []string) error {
	through, err := testkit.Connect(args[0])
	if err != nil {
		return err
	}
	defer through.Close()
	direct, err := testkit.Connect(args[1])
	if err != nil {
		return err
	}
	defer direct.Close()
	prefix := args[2]
	ms, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	options := []lock.Option{lock.WithPrefix(prefix), lock.WithTimeout(100 * time.Millisecond), lock.WithOutageWait()}
	if testkit.RoleIndex()%2 == 1 {
		options = append(options, lock.WithAutoExtend(time.Second))
	}
	l, err := lock.New(through, options...)
	if err != nil {
		return err
	}
	testkit.Emit(section{}) // it lives
	for ctx.Err() == nil {
		lease, err := l.Acquire(ctx, "a", time.Duration(ms)*time.Millisecond)
		if err != nil {
			if ctx.Err() == nil {
				testkit.Emit(section{Error: err.Error()})
			}
			continue
		}
		testkit.Emit(hold(lease, direct, prefix))
		_ = lease.Release(ctx) // lost, or silent: both are part of the game
	}
	return nil
}

// hold works under a lease for a while.
func hold(lease *lock.Lease, direct redis.UniversalClient, prefix string) section {
	keys := []string{prefix + ":register:{a}", prefix + ":accepted:{a}"}
	write := func() bool {
		n, err := register.Run(context.Background(), direct, keys, lease.Token()).Int()
		return err != nil || n == 1
	}
	s := section{Begin: clock(), Token: lease.Token()}
	until := s.Begin + rand.N(300*time.Millisecond)
	for {
		now := clock()
		if lease.Context().Err() != nil || now > until {
			break
		}
		s.End = now
		write()
		time.Sleep(rand.N(2 * time.Millisecond)) // the work
	}
	if !write() { // it should not, and is refused if somebody else has begun
		s.Refused++
	}
	return s
}

// checkSections fails the test if two holds overlap, or if tokens do not grow in their
// order. It returns how many there were.
func checkSections(t *testing.T, all []section) (n int) {
	t.Helper()
	all = slices.DeleteFunc(all, func(s section) bool { return s.End == 0 })
	slices.SortFunc(all, func(a, b section) int { return cmp.Compare(a.Begin, b.Begin) })
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if b.Begin < a.End {
			t.Errorf("two holders for %v: %+v and %+v", min(a.End, b.End)-b.Begin, a, b)
		}
		if b.Token <= a.Token {
			t.Errorf("token %d after %d: %+v and %+v", b.Token, a.Token, a, b)
		}
	}
	return len(all)
}

// Processes that are stopped and go on (SIGSTOP), whose replies are lost, whose
// network is a black hole or slow, whose connections are killed: no two of them hold
// the lock at a time, tokens grow, and the register accepts no token after a higher
// one, though its writers do not look at the context first.
//
// Red with any of: validity from the reply, no owner check on release or extend, no
// NX (see TestMutants), and without the look at the clock in leaseContext.Err.
func TestLocker_processesUnderFaults(t *testing.T) {
	t.Parallel()
	const processes, ttl = 4, 300 * time.Millisecond
	b := testkit.Server(t)
	client, prefix := b.Client(t), b.Prefix(t)
	var proxies []*testkit.Proxy
	var children []*testkit.Processes
	for range processes {
		p := testkit.NewProxy(t, b.Addrs()[0])
		proxies = append(proxies, p)
		children = append(children, testkit.Spawn(t, 1, "holder", "server="+p.Addr(), b.Spec(), prefix, fmt.Sprint(ttl.Milliseconds())))
	}
	for _, c := range children {
		c.Next()
	}
	faults := []func(i int){
		func(i int) { children[i].Pause(0); pause(t, ttl*3/2); children[i].Resume(0) },
		func(i int) { children[i].Pause(0); pause(t, ttl/2); children[i].Resume(0) },
		func(i int) { proxies[i].SwallowReply(1+rand.IntN(3), "evalsha", testkit.ThenClose) },
		func(i int) {
			proxies[i].SwallowReply(1, "evalsha", testkit.ThenSilence)
			pause(t, ttl/3)
			proxies[i].Heal()
		},
		func(i int) { proxies[i].Hang(); pause(t, ttl); proxies[i].Heal() },
		func(i int) { proxies[i].Delay(rand.N(ttl)); pause(t, ttl); proxies[i].Delay(0) },
		func(i int) { proxies[i].Cut() },
		func(int) {
			client.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes")
			client.ClientKillByFilter(t.Context(), "TYPE", "pubsub")
		},
		func(int) { client.ScriptFlush(t.Context()) },
		func(int) { b.Pause(); pause(t, ttl/2); b.Resume() },
	}
	for range soak(t, 30, 3000) {
		faults[rand.IntN(len(faults))](rand.IntN(processes))
		pause(t, rand.N(ttl/3))
	}
	for _, p := range proxies {
		p.Heal()
	}
	var all []section
	refused := 0
	for _, c := range children {
		for _, s := range testkit.Decode[section](t, c.Stop()) {
			all = append(all, s)
			refused += s.Refused
			if s.Error != "" {
				t.Errorf("acquire: %s", s.Error)
			}
		}
	}
	n := checkSections(t, all)
	accepted := client.LRange(t.Context(), prefix+":accepted:{a}", 0, -1).Val()
	last := int64(0)
	for _, text := range accepted {
		token, err := strconv.ParseInt(text, 10, 64)
		if err != nil || token < last {
			t.Fatalf("the register has accepted %q after %d", text, last)
		}
		last = token
	}
	t.Logf("%d holds, %d writes accepted, %d late ones refused", n, len(accepted), refused)
	if n < 10 {
		t.Errorf("%d holds: nothing was tried", n)
	}
}

// pause lets time pass for others.
func pause(t *testing.T, d time.Duration) {
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}

// A failover while replicas confirm every acquire and extend: no two holders, tokens
// grow, and the lock is had again afterwards. (Without WithReplicaSync that is luck, as
// long as the replica does not lag. What it rests on, that an unconfirmed lock is none,
// is what TestLocker_replicaSync looks at.)
func TestLocker_failover(t *testing.T) {
	t.Parallel()
	b := testkit.Sentinel(t)
	const ttl = time.Second
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		all []section
	)
	ctx, cancel := context.WithCancel(t.Context())
	for range 3 {
		l := open(t, b.Client(t), "p", lock.WithTimeout(200*time.Millisecond), lock.WithReplicaSync(1, 100*time.Millisecond),
			lock.WithOutageWait(), lock.WithAutoExtend(2*time.Second))
		wg.Go(func() {
			for ctx.Err() == nil {
				lease, err := l.Acquire(ctx, "a", ttl)
				if err != nil {
					if ctx.Err() == nil {
						t.Error(err)
					}
					continue
				}
				s := section{Begin: clock(), Token: lease.Token()}
				for now := s.Begin; lease.Context().Err() == nil && now < s.Begin+200*time.Millisecond; now = clock() {
					s.End = now
					pause(t, time.Millisecond)
				}
				mu.Lock()
				all = append(all, s)
				mu.Unlock()
				_ = lease.Release(ctx)
			}
		})
	}
	holds := func() int { mu.Lock(); defer mu.Unlock(); return len(all) }
	for range soak(t, 1, 20) {
		before := holds()
		testkit.Eventually(t, "some holds", func() bool { return holds() > before+3 })
		for _, n := range b.Nodes()[:2] { // whichever is the master
			info := redis.NewClient(&redis.Options{Addr: n.Addr()})
			isMaster := info.Do(t.Context(), "role").Val().([]any)[0] == "master"
			info.Close()
			if !isMaster {
				continue
			}
			n.Kill()
			pause(t, 3*time.Second) // the sentinel needs half a second, and its time to elect
			n.Restart(t)
			break
		}
		before = holds()
		testkit.Eventually(t, "holds after the failover", func() bool { return holds() > before+3 })
	}
	cancel()
	wg.Wait()
	t.Logf("%d holds", checkSections(t, all))
}

// A lock that the replica has not confirmed is none, and is given back.
//
// Red without the comparison of confirmed in single.exec.
func TestLocker_replicaSync(t *testing.T) {
	t.Parallel()
	b := testkit.Sentinel(t)
	client := b.Client(t)
	l := open(t, client, "p", lock.WithReplicaSync(1, 100*time.Millisecond))
	var lease *lock.Lease
	testkit.Eventually(t, "a confirmed lock", func() bool {
		var err error
		lease, err = l.Acquire(t.Context(), "a", long)
		return err == nil
	})
	if err := lease.Extend(t.Context(), long); err != nil {
		t.Errorf("extend: %v", err)
	}
	release(t, lease)
	lease = acquire(t, l, "b", long)
	b.Nodes()[1].Pause()
	defer b.Nodes()[1].Resume()
	if _, _, err := l.TryAcquire(t.Context(), "a", long); !errors.Is(err, lock.ErrNotReplicated) || !errors.Is(err, lock.ErrUnavailable) {
		t.Errorf("acquire: %v; want ErrNotReplicated and ErrUnavailable", err)
	}
	if n := client.Exists(t.Context(), "p:lock:{a}").Val(); n != 0 {
		t.Error("the lock was not given back")
	}
	until := lease.Until()
	if err := lease.Extend(t.Context(), 2*long); !errors.Is(err, lock.ErrNotReplicated) || !lease.Until().Equal(until) {
		t.Errorf("extend: %v, until %v; want ErrNotReplicated, and %v as before", err, lease.Until(), until)
	}
}
