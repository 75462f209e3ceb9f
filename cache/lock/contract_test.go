package lock_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/testkit"
)

func TestLocker_oneHolder(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		mine, theirs := open(t, client, prefix, lock.WithLabel("mine")), open(t, b.Client(t), prefix)
		lease := acquire(t, mine, "a", long)
		if try(t, theirs, "a") || try(t, mine, "a") {
			t.Error("the lock is had twice")
		}
		if !try(t, theirs, "b") {
			t.Error("another lock is taken")
		}
		h, ok, err := theirs.Holder(t.Context(), "a")
		if err != nil || !ok || h.Token != lease.Token() || h.Label != "mine" || !h.Since.Equal(lease.Since()) || h.Left <= 0 || h.Left > long {
			t.Errorf("holder: %+v, %v, %v", h, ok, err)
		}
		if lease.Key() != "a" || time.Until(lease.Until()) > long*9/10 {
			t.Errorf("the lease of %q lasts until %v", lease.Key(), lease.Until())
		}
		release(t, lease)
		if err := lease.Context().Err(); err != context.Canceled {
			t.Errorf("after Release: %v; want context.Canceled", err)
		}
		release(t, lease) // again, without another word
		if _, ok, err := theirs.Holder(t.Context(), "a"); ok || err != nil {
			t.Errorf("after Release there is a holder: %v", err)
		}
		if !try(t, theirs, "a") {
			t.Error("the lock is taken after Release")
		}
	})
}

// Five Lockers, each with a client of its own and eight goroutines, take turns.
func TestLocker_waitersTakeTurns(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		var (
			wg     sync.WaitGroup
			mu     sync.Mutex // of what is below; the lock is what is tested
			inside int
			last   int64
			done   int
		)
		for range 5 {
			l := open(t, b.Client(t), prefix)
			for range 8 {
				wg.Go(func() {
					lease, err := l.Acquire(t.Context(), "a", long)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					inside++
					if inside > 1 || lease.Token() <= last {
						t.Errorf("%d inside, token %d after %d", inside, lease.Token(), last)
					}
					last = lease.Token()
					mu.Unlock()
					mu.Lock()
					inside--
					done++
					mu.Unlock()
					if err := lease.Release(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if done != 40 {
			t.Errorf("%d of 40 had their turn", done)
		}
	})
}

// Tokens grow when the lock has expired, was deleted, when the counter was lost, and
// when it is ahead of the clock.
//
// Red without "token + 1" (ahead), and without the time (lost).
func TestLocker_tokensGrow(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		ctx, prefix := t.Context(), b.Prefix(t)
		l := open(t, client, prefix)
		key := prefix + ":lock:{a}"
		var last int64
		next := func(after string) {
			t.Helper()
			lease := acquire(t, l, "a", long)
			if lease.Token() <= last {
				t.Errorf("after %s: token %d; the last was %d", after, lease.Token(), last)
			}
			last = lease.Token()
			if after != "release" { // the one that is to come is another reason
				client.Del(ctx, key)
				return
			}
			release(t, lease)
		}
		next("nothing")
		next("deletion")
		next("release")
		client.Del(ctx, key+":token")
		next("loss of the counter")
		ahead := time.Now().Add(time.Hour).UnixMicro()
		client.Set(ctx, key+":token", ahead, time.Hour)
		last = ahead
		next("a clock set back")
		next("the same again")
	})
}

// Every key expires, and is where the page says it is.
//
// Red without PEXPIRE in lock.lua, or PX at the counter.
func TestLocker_everyKeyExpires(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		ctx, prefix := t.Context(), b.Prefix(t)
		l := open(t, client, prefix)
		acquire(t, l, "a", long)
		acquire(t, l, strings.Repeat("long", 100)+"{}", 10*time.Hour)
		keys := testkit.Keys(t, client, prefix)
		if len(keys) != 4 {
			t.Fatalf("keys: %q; want a lock and a counter each", keys)
		}
		for _, key := range keys {
			ttl, err := client.PTTL(ctx, key).Result()
			least, most := long-time.Minute, 10*time.Hour
			if strings.HasSuffix(key, ":token") {
				least, most = 59*time.Minute, 100*time.Hour
			}
			if err != nil || ttl < least || ttl > most {
				t.Errorf("%s: %v, %v; want from %v to %v", key, ttl, err, least, most)
			}
		}
	})
}

func TestLease_extend(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		ctx, prefix := t.Context(), b.Prefix(t)
		l := open(t, client, prefix)
		lease := acquire(t, l, "a", time.Minute)
		key := prefix + ":lock:{a}"
		if err := lease.Extend(ctx, long); err != nil {
			t.Fatal(err)
		}
		if left := time.Until(lease.Until()); left < 3*time.Minute || left > long*9/10 {
			t.Errorf("extended, the lease has %v", left)
		}
		if ttl := client.PTTL(ctx, key).Val(); ttl < 4*time.Minute {
			t.Errorf("extended, the key has %v", ttl)
		}
		// Red without "if left(l) >= ttl" in lock.lua, and without the comparison in
		// Lease.holds.
		if err := lease.Extend(ctx, time.Minute); err != nil {
			t.Fatal(err)
		}
		if left, ttl := time.Until(lease.Until()), client.PTTL(ctx, key).Val(); left < 3*time.Minute || ttl < 4*time.Minute {
			t.Errorf("Extend has shortened the lease to %v, the key's life to %v", left, ttl)
		}
		release(t, lease)
		if err := lease.Extend(ctx, long); !errors.Is(err, lock.ErrLost) {
			t.Errorf("after Release: %v; want ErrLost", err)
		}
	})
}

// Who has lost the lock neither frees nor prolongs that of the next holder, and is
// told.
//
// Red without the owner's comparison in release.lua, or in extend.lua.
func TestLease_lostToAnother(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		ctx, prefix := t.Context(), b.Prefix(t)
		l, theirs := open(t, client, prefix), open(t, b.Client(t), prefix)
		for _, how := range []string{"release", "extend"} {
			lease := acquire(t, l, "a", long)
			client.Del(ctx, prefix+":lock:{a}") // as if it had expired
			other := acquire(t, theirs, "a", time.Minute)
			if how == "extend" {
				if err := lease.Extend(ctx, long); !errors.Is(err, lock.ErrLost) {
					t.Errorf("extend: %v; want ErrLost", err)
				}
				if err := lease.Context().Err(); err == nil || context.Cause(lease.Context()) != lock.ErrLost {
					t.Errorf("the context: %v, because of %v; want ErrLost", err, context.Cause(lease.Context()))
				}
			}
			if err := lease.Release(ctx); !errors.Is(err, lock.ErrLost) {
				t.Errorf("release: %v; want ErrLost", err)
			}
			if h, ok, err := theirs.Holder(ctx, "a"); err != nil || !ok || h.Token != other.Token() || h.Left > time.Minute {
				t.Errorf("%s: %+v, %v, %v; want the second holder, for a minute", how, h, ok, err)
			}
			release(t, other)
		}
	})
}

// A lock whose lifetime was taken off is free one ttl after somebody asked for it.
//
// Red without the branch for -1 in lock.lua: this test then waits in vain.
func TestLocker_withoutLifetime(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		ctx, prefix := t.Context(), b.Prefix(t)
		l, theirs := open(t, client, prefix), open(t, b.Client(t), prefix)
		const ttl = time.Second
		lease := acquire(t, l, "a", ttl)
		client.Persist(ctx, prefix+":lock:{a}")
		if h, ok, err := l.Holder(ctx, "a"); err != nil || !ok || h.Left >= 0 {
			t.Errorf("%+v, %v, %v; want less than nothing left", h, ok, err)
		}
		if try(t, theirs, "a") {
			t.Error("the lock was free")
		}
		if left := client.PTTL(ctx, prefix+":lock:{a}").Val(); left <= 0 || left > ttl {
			t.Errorf("the key has %v; want up to %v", left, ttl)
		}
		other := acquire(t, theirs, "a", long)
		if lease.Context().Err() == nil {
			t.Error("two leases are valid")
		}
		release(t, other)

		// The holder's own extend gives it a lifetime as well.
		lease = acquire(t, l, "a", long)
		client.Persist(ctx, prefix+":lock:{a}")
		if err := lease.Extend(ctx, long); err != nil {
			t.Fatal(err)
		}
		if left := client.PTTL(ctx, prefix+":lock:{a}").Val(); left <= 0 {
			t.Errorf("after Extend the key has %v", left)
		}
	})
}

// What this package did not write is refused, and stays as it is.
func TestLocker_corrupt(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		ctx, prefix := t.Context(), b.Prefix(t)
		l := open(t, client, prefix)
		set := func(key string) { client.Set(ctx, key, "12x", time.Minute) }
		list := func(key string) { client.LPush(ctx, key, "x") }
		hash := func(fields ...any) func(string) {
			return func(key string) { client.HSet(ctx, key, fields...) }
		}
		tests := []struct {
			name  string
			write func(key string)
			part  string
		}{
			{"string", set, ""},
			{"list", list, ""},
			{"hash of somebody", hash("name", "x"), ""},
			{"no token", hash("owner", "x", "ttl", "1000", "since", "1", "label", ""), ""},
			{"no ttl", hash("owner", "x", "token", "3", "since", "1", "label", ""), ""},
			{"fractions", hash("owner", "x", "token", "3.5", "ttl", "1000", "since", "1", "label", ""), ""},
			{"counter of no number", set, ":token"},
			{"counter of another type", list, ":token"},
		}
		for _, tt := range tests {
			key := prefix + ":lock:{" + strings.ReplaceAll(tt.name, " ", "-") + "}" + tt.part
			name := strings.ReplaceAll(tt.name, " ", "-")
			tt.write(key)
			before := client.Dump(ctx, key).Val()
			if _, err := l.Acquire(ctx, name, long); !errors.Is(err, lock.ErrCorrupt) {
				t.Errorf("%s: acquire: %v; want ErrCorrupt", tt.name, err)
			}
			if _, _, err := l.TryAcquire(ctx, name, long); !errors.Is(err, lock.ErrCorrupt) {
				t.Errorf("%s: try: %v; want ErrCorrupt", tt.name, err)
			}
			if tt.part == "" {
				if _, _, err := l.Holder(ctx, name); !errors.Is(err, lock.ErrCorrupt) {
					t.Errorf("%s: holder: %v; want ErrCorrupt", tt.name, err)
				}
			}
			if b.Name() != "mini" && client.Dump(ctx, key).Val() != before {
				t.Errorf("%s: the key was changed", tt.name)
			}
			if n := client.Exists(ctx, prefix+":lock:{"+name+"}").Val(); tt.part != "" && n != 0 {
				t.Errorf("%s: a lock was written", tt.name)
			}
		}
		lease := acquire(t, l, "a", long)
		client.Del(ctx, prefix+":lock:{a}")
		set(prefix + ":lock:{a}")
		if err := lease.Extend(ctx, long); !errors.Is(err, lock.ErrCorrupt) {
			t.Errorf("extend: %v; want ErrCorrupt", err)
		}
		if err := lease.Release(ctx); !errors.Is(err, lock.ErrCorrupt) {
			t.Errorf("release: %v; want ErrCorrupt", err)
		}
		if got := client.Get(ctx, prefix+":lock:{a}").Val(); got != "12x" {
			t.Errorf("the key is %q now", got)
		}
	})
}

func TestLocker_badInput(t *testing.T) {
	t.Parallel()
	l := open(t, testkit.Mini(t).Client(t), "p")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		name string
		ctx  context.Context
		key  string
		ttl  time.Duration
		want error
	}{
		{"no key", t.Context(), "", long, lock.ErrEmptyKey},
		{"no ttl", t.Context(), "a", 0, lock.ErrTTL},
		{"short ttl", t.Context(), "a", lock.MinTTL - 1, lock.ErrTTL},
		{"negative ttl", t.Context(), "a", -1, lock.ErrTTL},
		{"long ttl", t.Context(), "a", lock.MaxTTL + 1, lock.ErrTTL},
		{"over", ctx, "a", long, context.Canceled},
	}
	for _, tt := range tests {
		if lease, err := l.Acquire(tt.ctx, tt.key, tt.ttl); lease != nil || !errors.Is(err, tt.want) {
			t.Errorf("%s: acquire: %v, %v; want %v", tt.name, lease, err, tt.want)
		}
		if lease, ok, err := l.TryAcquire(tt.ctx, tt.key, tt.ttl); lease != nil || ok || !errors.Is(err, tt.want) {
			t.Errorf("%s: try: %v, %v, %v; want %v", tt.name, lease, ok, err, tt.want)
		}
	}
	if _, _, err := l.Holder(t.Context(), ""); !errors.Is(err, lock.ErrEmptyKey) {
		t.Errorf("holder: %v; want ErrEmptyKey", err)
	}
	if lease := acquire(t, l, "a", long); !errors.Is(lease.Extend(t.Context(), 0), lock.ErrTTL) {
		t.Error("a ttl of 0 is taken")
	}
	if _, err := l.Acquire(ctx, "a", long); err != context.Canceled {
		t.Errorf("the caller's own error came as %#v", err)
	}
}

// The wait ends at its bound or with ctx, and leaves nothing behind.
func TestLocker_waitEnds(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		l, brief := open(t, client, prefix), open(t, client, prefix, lock.WithMaxWait(20*time.Millisecond))
		lease := acquire(t, l, "a", long)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { // one of them is the head, others queue behind it
				if _, err := brief.Acquire(t.Context(), "a", long); !errors.Is(err, lock.ErrTaken) {
					t.Errorf("got %v; want ErrTaken", err)
				}
			})
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
				defer cancel()
				if _, err := l.Acquire(ctx, "a", long); err != context.DeadlineExceeded {
					t.Errorf("got %v; want context.DeadlineExceeded", err)
				}
			})
		}
		wg.Wait()
		for _, l := range []*lock.Locker{l, brief} {
			if n := lock.Gates(l); n != 0 {
				t.Errorf("%d gates are left", n)
			}
		}
		release(t, lease)
		if !try(t, l, "a") {
			t.Error("one that gave up has the lock")
		}
	})
}

func TestFromContext(t *testing.T) {
	t.Parallel()
	l := open(t, testkit.Mini(t).Client(t), "p")
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	if _, ok := lock.FromContext(ctx); ok {
		t.Error("there is a lease in a context without one")
	}
	outer, err := l.Acquire(ctx, "a", long)
	if err != nil {
		t.Fatal(err)
	}
	inner, err := l.Acquire(outer.Context(), "b", long)
	if err != nil {
		t.Fatal(err)
	}
	child, cancel := context.WithCancel(inner.Context())
	defer cancel()
	if got, ok := lock.FromContext(child); !ok || got != inner {
		t.Error("the innermost lease is not found")
	}
	if got, ok := lock.FromContext(outer.Context()); !ok || got != outer {
		t.Error("the outer lease is not found")
	}
	if child.Value(key{}) != "value" {
		t.Error("the caller's values are gone")
	}
	release(t, outer)
	<-child.Done()
	// Its parent's end is the lease's, too; it still has to be given back.
	if err := inner.Extend(t.Context(), long); err != context.Canceled {
		t.Errorf("extend: %v; want the caller's own error", err)
	}
	release(t, inner)
	if !try(t, l, "b") {
		t.Error("the lock was not given back")
	}
}
