package lock_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/testkit"
)

// bench is where a safety check takes place: a server with a proxy before it, and
// Lockers with or without a mistake.
type bench struct {
	t      *testing.T
	b      *testkit.Backend
	proxy  *testkit.Proxy
	client redis.UniversalClient // goes round the proxy
	prefix string
	mutate func(*testing.T, *lock.Locker)
}

func (x *bench) locker(client redis.UniversalClient, options ...lock.Option) *lock.Locker {
	l := open(x.t, client, x.prefix, options...)
	if x.mutate != nil {
		x.mutate(x.t, l)
	}
	return l
}

// pair are the Lockers of two processes.
func (x *bench) pair() (a, b *lock.Locker) {
	return x.locker(x.proxy.Client(x.t)), x.locker(x.b.Client(x.t))
}

func (x *bench) drop(part string) { x.client.Del(x.t.Context(), x.prefix+":lock:{a}"+part) }

// soon acquires the lock within a time that is ample, but short of every ttl that is
// not about to end.
func (x *bench) soon(l *lock.Locker) (*lock.Lease, error) {
	ctx, cancel := context.WithCancel(x.t.Context()) // the lease's, too
	defer time.AfterFunc(4*time.Second, cancel).Stop()
	lease, err := l.Acquire(ctx, "a", long)
	if err != nil {
		return nil, fmt.Errorf("the lock is not had in 4 s: %w", err)
	}
	return lease, nil
}

// The safety checks. Each returns what it has found wrong, nil if nothing.
var checks = map[string]func(x *bench) error{
	"exclusion": func(x *bench) error {
		l, theirs := x.pair()
		acquire(x.t, l, "a", long)
		if _, ok, err := theirs.TryAcquire(x.t.Context(), "a", long); ok || err != nil {
			return fmt.Errorf("the lock is had twice, %v", err)
		}
		return nil
	},
	"stale release": func(x *bench) error {
		l, theirs := x.pair()
		lease := acquire(x.t, l, "a", long)
		x.drop("")
		acquire(x.t, theirs, "a", long)
		lease.Release(x.t.Context())
		if _, ok, _ := l.TryAcquire(x.t.Context(), "a", long); ok {
			return errors.New("one holder has freed the lock of the next")
		}
		return nil
	},
	"stale extend": func(x *bench) error {
		l, theirs := x.pair()
		lease := acquire(x.t, l, "a", long)
		x.drop("")
		next := acquire(x.t, theirs, "a", long)
		if err := lease.Extend(x.t.Context(), long); err == nil || lease.Context().Err() == nil && next.Context().Err() == nil {
			return fmt.Errorf("the lock of the next holder was extended, %v", err)
		}
		return nil
	},
	"crashed holder": func(x *bench) error {
		l, theirs := x.pair()
		acquire(x.t, l, "a", 300*time.Millisecond)
		_, err := x.soon(theirs)
		return err
	},
	"lifetime": func(x *bench) error {
		l, _ := x.pair()
		acquire(x.t, l, "a", long)
		for _, part := range []string{"", ":token"} {
			if ttl := x.client.PTTL(x.t.Context(), x.prefix+":lock:{a}"+part).Val(); ttl <= 0 {
				return fmt.Errorf("%q has the lifetime %v", part, ttl)
			}
		}
		return nil
	},
	"without lifetime": func(x *bench) error {
		l, theirs := x.pair()
		acquire(x.t, l, "a", 300*time.Millisecond)
		x.client.Persist(x.t.Context(), x.prefix+":lock:{a}")
		_, err := x.soon(theirs)
		return err
	},
	"slow reply": func(x *bench) error {
		// Two leases and two clocks: Redis's, and that of this process.
		l, theirs := x.pair()
		release(x.t, acquire(x.t, l, "a", long))
		x.proxy.Delay(400 * time.Millisecond)
		const ttl = time.Second
		slow, err := l.Acquire(x.t.Context(), "a", ttl)
		x.proxy.Heal()
		if err != nil {
			x.t.Logf("not decided: %v", err) // a very slow machine
			return nil
		}
		next, err := x.soon(theirs)
		if err == nil && slow.Until().After(time.Now()) && next.Context().Err() == nil {
			err = fmt.Errorf("two leases are valid, the first for %v more", time.Until(slow.Until()))
		}
		return err
	},
	"margin": func(x *bench) error {
		l, _ := x.pair()
		begun := time.Now()
		lease := acquire(x.t, l, "a", long)
		if over := lease.Until().Sub(time.Now().Add(long * 9 / 10)); over > 0 {
			return fmt.Errorf("acquired at %v, the lease lasts %v too long", begun, over)
		}
		return nil
	},
	"late acquire": func(x *bench) error {
		l, _ := x.pair()
		if lock.LateAcquire(x.t, l, "a", long) {
			return errors.New("an acquire that came late has taken the lock for nobody")
		}
		return nil
	},
	"stalled acquire": func(x *bench) error {
		l, _ := x.pair()
		if lock.StalledAcquire(x.t, l, "a", long) {
			return errors.New("a server that stood still has given the lock to nobody")
		}
		return nil
	},
	"a clock set forward": func(x *bench) error {
		l, _ := x.pair()
		release(x.t, acquire(x.t, l, "a", long))
		lock.ForgetTime(l, time.Hour)
		_, err := x.soon(l)
		return err
	},
	"majority": func(x *bench) error {
		s := newServers(x.t, 5)
		l, theirs := s.locker(x.t), s.locker(x.t)
		if x.mutate != nil {
			x.mutate(x.t, l)
			x.mutate(x.t, theirs)
		}
		s.down(0, 1)
		acquire(x.t, l, "a", long)
		s.up()
		if _, ok, err := theirs.TryAcquire(x.t.Context(), "a", long); ok || err != nil {
			return fmt.Errorf("the lock is had twice, %v", err)
		}
		return nil
	},
	"stale adopt": func(x *bench) error {
		s := newServers(x.t, 3)
		l, theirs := s.locker(x.t), s.locker(x.t)
		if x.mutate != nil {
			x.mutate(x.t, l)
		}
		lease := acquire(x.t, l, "a", long)
		s.empty(0, 1, 2)
		acquire(x.t, theirs, "a", long)
		if err := lease.Extend(x.t.Context(), long); !errors.Is(err, lock.ErrLost) {
			return fmt.Errorf("the lock of the next holder was extended, %v", err)
		}
		return nil
	},
	"repeated acquire": func(x *bench) error {
		l, theirs := x.pair()
		lease := acquire(x.t, l, "a", 200*time.Millisecond)
		if err := lease.Extend(x.t.Context(), long); err != nil {
			return nil // a very slow machine
		}
		lock.RepeatAcquire(x.t, lease, 200*time.Millisecond)
		if h, ok, err := theirs.Holder(x.t.Context(), "a"); !ok || err != nil || h.Left < time.Second {
			return fmt.Errorf("a repeated acquire has shortened the lock to %v (%v, %v)", h.Left, ok, err)
		}
		return nil
	},
	"lost reply": func(x *bench) error {
		l, theirs := x.pair()
		release(x.t, acquire(x.t, l, "a", long))
		x.proxy.SwallowReply(1, "evalsha", testkit.ThenClose)
		lease, err := x.soon(l)
		if err != nil {
			return fmt.Errorf("taken by itself: %w", err)
		}
		x.proxy.SwallowReply(1, "evalsha", testkit.ThenClose)
		if err := lease.Release(x.t.Context()); err != nil {
			return fmt.Errorf("release: %w", err)
		}
		_, err = x.soon(theirs)
		return err
	},
	"silent replies": func(x *bench) error {
		l := x.locker(x.proxy.Client(x.t), lock.WithTimeout(300*time.Millisecond), lock.WithOutageWait())
		release(x.t, acquire(x.t, l, "a", long))
		x.proxy.SwallowReply(1, "evalsha", testkit.ThenSilence)
		_, err := x.soon(l)
		return err
	},
	"given up": func(x *bench) error {
		l := x.locker(x.proxy.Client(x.t), lock.WithTimeout(300*time.Millisecond))
		release(x.t, acquire(x.t, l, "a", long))
		x.proxy.SwallowReply(1, "evalsha", testkit.ThenSilence)
		if _, err := l.Acquire(x.t.Context(), "a", long); !errors.Is(err, lock.ErrUnavailable) {
			return fmt.Errorf("got %v; want ErrUnavailable", err)
		}
		_, err := x.soon(x.locker(x.b.Client(x.t)))
		return err
	},
	"wake-up": func(x *bench) error {
		l, _ := x.pair()
		client, hook := x.b.Client(x.t), new(counting)
		client.AddHook(hook)
		theirs := x.locker(client)
		first := acquire(x.t, l, "a", long)
		had := make(chan error, 1)
		go func() {
			lease, err := theirs.Acquire(x.t.Context(), "a", long)
			if err == nil {
				err = lease.Release(x.t.Context())
			}
			had <- err
		}()
		// Who hears asks every 5 s, who does not every 250 ms at least.
		sent, at := int64(0), time.Now()
		testkit.Eventually(x.t, "the waiter to hear", func() bool {
			if n := hook.sent.Load(); n != sent {
				sent, at = n, time.Now()
			}
			return sent > 0 && time.Since(at) > time.Second
		})
		release(x.t, first)
		begun := time.Now()
		if err := <-had; err != nil {
			return err
		}
		if d := time.Since(begun); d > 2500*time.Millisecond {
			return fmt.Errorf("the waiter had the lock after %v", d)
		}
		return nil
	},
	"tokens": func(x *bench) error {
		l, _ := x.pair()
		var last int64
		ahead := time.Now().Add(time.Hour).UnixMicro()
		steps := []struct {
			after string
			do    func()
		}{
			{"nothing", func() {}},
			{"expiry", func() { x.drop("") }},
			{"loss of the counter", func() { x.drop(""); x.drop(":token") }},
			{"a clock set back", func() {
				x.drop("")
				x.client.Set(x.t.Context(), x.prefix+":lock:{a}:token", ahead, time.Hour)
				last = ahead
			}},
			{"the same again", func() { x.drop("") }},
		}
		for _, s := range steps {
			s.do()
			lease := acquire(x.t, l, "a", long)
			if lease.Token() <= last {
				return fmt.Errorf("after %s: token %d; the last was %d", s.after, lease.Token(), last)
			}
			last = lease.Token()
		}
		if ttl := x.client.PTTL(x.t.Context(), x.prefix+":lock:{a}:token").Val(); ttl < 10*long {
			return fmt.Errorf("the counter lasts for %v; want ten ttls", ttl)
		}
		return nil
	},
	"foreign key": func(x *bench) error {
		l, _ := x.pair()
		x.client.HSet(x.t.Context(), x.prefix+":lock:{a}", "name", "alice")
		if _, _, err := l.TryAcquire(x.t.Context(), "a", long); !errors.Is(err, lock.ErrCorrupt) {
			return fmt.Errorf("somebody else's key: %v; want ErrCorrupt", err)
		}
		return nil
	},
}

// mutants are the mistakes, and the check that finds each.
var mutants = []struct {
	name           string
	file, old, new string             // a script's
	code           func(*lock.Locker) // or the code's
	by             string
}{
	{name: "no NX", file: "acquire", old: "if l.owner then", new: "if false then", by: "exclusion"},
	{name: "no owner check on release", file: "release", old: "if l.owner ~= ARGV[1] then", new: "if not l.owner then", by: "stale release"},
	{name: "no owner check on extend", file: "extend", old: "if l.owner ~= ARGV[1] then", new: "if not l.owner then", by: "stale extend"},
	{name: "no PEXPIRE", file: "lock", old: "  redis.call('PEXPIRE', KEYS[1], digits(ttl))\n  if waits", new: "  if waits", by: "lifetime"},
	{name: "PERSIST blocks for ever", file: "lock", old: "if ms == -1 then", new: "if false then", by: "without lifetime"},
	{name: "extend may shorten", file: "lock", old: "if left(l) >= ttl then return end", new: "", by: "repeated acquire"},
	{name: "its own id unknown", file: "acquire", old: "if l.owner == ARGV[1] then", new: "if false then", by: "lost reply"},
	{name: "second release told lost", file: "release", old: "ARGV[4] and 'freed' or 'lost'", new: "'lost'", by: "lost reply"},
	{name: "given up, not noted", file: "release", old: "if ARGV[3] ~= '0' then", new: "if false then", by: "late acquire"},
	{name: "given up, not looked for", file: "acquire", old: "if l.gone then", new: "if false then", by: "late acquire"},
	{name: "late, and not refused", file: "acquire", old: "if latest > 0 and now > latest then", new: "if false then", by: "stalled acquire"},
	{name: "Redlock: one is enough", code: lock.Minority, by: "majority"},
	{name: "Redlock: no owner check on extend", file: "adopt", old: "if l.owner and l.owner ~= ARGV[1] then", new: "if false then", by: "stale adopt"},
	{name: "no announcement", file: "release", old: "redis.pcall('PUBLISH', ARGV[2], digits(l.token))", new: "", by: "wake-up"},
	{name: "waiters not noted", file: "acquire", old: "if waits > 0 and not l.waits then", new: "if false then", by: "wake-up"},
	{name: "token used again", file: "acquire", old: "math.max(token + 1, now)", new: "math.max(token, now)", by: "tokens"},
	{name: "counter without time", file: "acquire", old: "math.max(token + 1, now)", new: "token + 1", by: "tokens"},
	{name: "time without counter", file: "acquire", old: "math.max(token + 1, now)", new: "now", by: "tokens"},
	{name: "counter not written", file: "lock", old: "redis.call('SET', KEYS[2], digits(count), 'PX', digits(lifetime))", new: "", by: "tokens"},
	{name: "counter dies with the lock", file: "lock", old: "digits(count), 'PX', digits(lifetime)", new: "digits(count), 'PX', digits(ttl)", by: "tokens"},
	{name: "foreign keys overwritten", file: "lock", old: "if redis.call('EXISTS', KEYS[1]) == 1 then", new: "if false then", by: "foreign key"},
	{name: "validity from the reply", code: lock.CountFromReply, by: "slow reply"},
	{name: "no margin", code: lock.NoMargin, by: "margin"},
	{name: "a new id for each attempt", code: lock.NewIDs, by: "silent replies"},
	{name: "what was given up is not given back", code: lock.NoDoubt, by: "given up"},
}

// Every check finds nothing wrong, and each mistake is found by its check: what
// protects is what the checks look at.
func TestMutants(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	run := func(t *testing.T, check string, mutate func(*testing.T, *lock.Locker)) error {
		t.Helper()
		return checks[check](&bench{
			t: t, b: b, proxy: testkit.NewProxy(t, b.Addrs()[0]), client: b.Client(t), prefix: b.Prefix(t), mutate: mutate,
		})
	}
	for name := range checks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := run(t, name, nil); err != nil {
				t.Error(err)
			}
		})
	}
	for _, m := range mutants {
		t.Run("mutant: "+m.name, func(t *testing.T) {
			t.Parallel()
			err := run(t, m.by, func(t *testing.T, l *lock.Locker) {
				if m.code != nil {
					m.code(l)
					return
				}
				lock.Mutate(t, l, m.file, m.old, m.new)
			})
			if err == nil {
				t.Errorf("%q is not found by the check %q", m.name, m.by)
			} else {
				t.Logf("found: %v", err)
			}
		})
	}
}
