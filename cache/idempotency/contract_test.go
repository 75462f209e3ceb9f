package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/testkit"
)

func TestStore_onceForAKey(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix)
		a := s.ask("k", "print", idempotency.Claimed)
		if d := time.Since(a.Since); d < -time.Hour || d > time.Hour {
			t.Errorf("claimed at %v", a.Since)
		}
		busy := s.ask("k", "print", idempotency.Busy)
		if busy.Left <= 0 || busy.Left > 10*time.Second || !busy.Since.Equal(a.Since) {
			t.Errorf("busy: %+v; want some of a lease of 10 s, since %v", busy, a.Since)
		}
		s.ask("k", "other print", idempotency.Differs)
		outcome := "\x00 any bytes \xff" + strings.Repeat("x", 100_000)
		s.finish(a.Claim, outcome)
		for range 2 {
			if kept := s.ask("k", "print", idempotency.Kept); kept.Outcome != outcome || !kept.Since.Equal(a.Since) {
				t.Errorf("kept %d bytes since %v; want %d since %v", len(kept.Outcome), kept.Since, len(outcome), a.Since)
			}
		}
		s.ask("k", "other print", idempotency.Differs)
		s.finish(s.ask("another k", "other print", idempotency.Claimed).Claim, "")
		if kept := s.ask("another k", "other print", idempotency.Kept); kept.Outcome != "" {
			t.Errorf("kept %q; want nothing", kept.Outcome)
		}
	})
}

func TestClaim_release(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix)
		c := s.claim("k")
		if err := c.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c.Context().Err() == nil {
			t.Error("the context lives on after Release")
		}
		for name, call := range map[string]func() error{
			"Release":   func() error { return c.Release(t.Context()) },
			"Interrupt": func() error { return c.Interrupt(t.Context()) },
			"Finish":    func() error { return c.Finish(t.Context(), nil) },
		} {
			if err := call(); !errors.Is(err, idempotency.ErrEnded) {
				t.Errorf("%s after Release: %v; want ErrEnded", name, err)
			}
		}
		s.claim("k")
	})
}

func TestClaim_interrupt(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s, again := open(t, client, prefix), open(t, client, prefix, idempotency.WithCrash(idempotency.Retry))
		for range 2 {
			if err := s.claim("k").Interrupt(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.ask("k", "", idempotency.Interrupted)
			s.ask("k", "other", idempotency.Differs)
			if a, err := s.Forget(t.Context(), "k"); err != nil || a.State != idempotency.Interrupted {
				t.Fatalf("forget: %+v, %v; want what was known", a, err)
			}
		}
		if err := s.claim("k").Interrupt(t.Context()); err != nil {
			t.Fatal(err)
		}
		again.finish(again.claim("k"), "done")
		s.ask("k", "", idempotency.Kept)
	})
}

func TestStore_lookAndForget(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix)
		look := func(want idempotency.State, outcome string) {
			t.Helper()
			a, err := s.Look(t.Context(), "k")
			if err != nil || a.State != want || a.Outcome != outcome || a.Since.IsZero() != (want == idempotency.Free) {
				t.Errorf("look: %+v, %v; want %q, %q", a, err, want, outcome)
			}
		}
		forget := func(want idempotency.State, outcome string) {
			t.Helper()
			if a, err := s.Forget(t.Context(), "k"); err != nil || a.State != want || a.Outcome != outcome {
				t.Errorf("forget: %+v, %v; want %q, %q", a, err, want, outcome)
			}
		}
		look(idempotency.Free, "")
		forget(idempotency.Free, "")
		c := s.claim("k")
		look(idempotency.Busy, "")
		forget(idempotency.Busy, "")
		s.ask("k", "", idempotency.Busy)
		s.finish(c, "done")
		look(idempotency.Kept, "done")
		forget(idempotency.Kept, "done")
		look(idempotency.Free, "")
		if err := s.claim("k").Interrupt(t.Context()); err != nil {
			t.Fatal(err)
		}
		look(idempotency.Interrupted, "")
	})
}

// A holder that stood still is dead when its lease has ended; one that works lives for
// as long as it takes.
//
// Red without the timer that Reserve starts (the second half), or if claim.lua does not
// look at r.ends.
func TestClaim_lease(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix, idempotency.WithLease(300*time.Millisecond))
		idempotency.StopRenewals(s.claim("dead"))
		begun := s.claim("alive")
		state := func(key string) idempotency.State {
			a, err := s.Look(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			return a.State
		}
		testkit.Eventually(t, "the lease to end", func() bool { return state("dead") == idempotency.Interrupted })
		s.ask("dead", "", idempotency.Interrupted)
		idempotency.StopRenewals(s.claim("dead later"))
		testkit.Eventually(t, "another lease to end", func() bool { return state("dead later") == idempotency.Interrupted })
		s.ask("alive", "", idempotency.Busy)
		s.finish(begun, "done")
		s.ask("alive", "", idempotency.Kept)
	})
}

// What a holder has to say counts only while the key is its own.
//
// Red without the comparison of r.id in finish.lua, release.lua, interrupt.lua or
// renew.lua.
func TestClaim_fenced(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix, idempotency.WithLease(100*time.Millisecond), idempotency.WithCrash(idempotency.Retry))
		ends := map[string]func(c *idempotency.Claim) error{
			"finish":    func(c *idempotency.Claim) error { return c.Finish(t.Context(), []byte("late")) },
			"release":   func(c *idempotency.Claim) error { return c.Release(t.Context()) },
			"interrupt": func(c *idempotency.Claim) error { return c.Interrupt(t.Context()) },
		}
		for name, end := range ends {
			first := s.claim(name)
			idempotency.StopRenewals(first)
			var second idempotency.Answer
			testkit.Eventually(t, "the key to be claimed anew", func() bool {
				second, _ = s.Reserve(t.Context(), name, "")
				return second.State == idempotency.Claimed
			})
			idempotency.Renew(first)
			if cause := context.Cause(first.Context()); !errors.Is(cause, idempotency.ErrLost) {
				t.Errorf("%s: the context ended with %v; want ErrLost", name, cause)
			}
			if err := end(first); !errors.Is(err, idempotency.ErrLost) {
				t.Errorf("%s by the first: %v; want ErrLost", name, err)
			}
			s.ask(name, "", idempotency.Busy)
			s.finish(second.Claim, "in time")
			if a := s.ask(name, "", idempotency.Kept); a.Outcome != "in time" {
				t.Errorf("%s: kept %q; want what the second said", name, a.Outcome)
			}
		}
	})
}

// A key that an operator has let go of is not its holder's any more.
func TestClaim_forgotten(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix, idempotency.WithLease(100*time.Millisecond))
		c := s.claim("k")
		idempotency.StopRenewals(c)
		testkit.Eventually(t, "the key to be forgotten", func() bool {
			a, err := s.Forget(t.Context(), "k")
			return err == nil && a.State == idempotency.Interrupted
		})
		if err := c.Finish(t.Context(), []byte("late")); !errors.Is(err, idempotency.ErrLost) {
			t.Errorf("%v; want ErrLost", err)
		}
		s.claim("k")
	})
}

// A holder whose lease has ended finishes what nobody else has begun.
func TestClaim_finishesLate(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		for _, policy := range []idempotency.Crash{idempotency.Block, idempotency.Retry} {
			key := fmt.Sprint("k ", policy)
			s := open(t, client, prefix, idempotency.WithLease(100*time.Millisecond), idempotency.WithCrash(policy))
			c := s.claim(key)
			idempotency.StopRenewals(c)
			testkit.Eventually(t, "the lease to end", func() bool {
				a, err := s.Look(t.Context(), key)
				return err == nil && a.State == idempotency.Interrupted
			})
			s.finish(c, "late")
			if a := s.ask(key, "", idempotency.Kept); a.Outcome != "late" {
				t.Errorf("kept %q; want late", a.Outcome)
			}
		}
	})
}

// Of all who reserve a key at once one has it.
//
// Red without the look at r.id in claim.lua.
func TestStore_oneOfMany(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix)
		for n := range 5 {
			var claims, kept, busy atomic.Int32
			var wg sync.WaitGroup
			for range 32 {
				wg.Go(func() {
					switch a, err := s.Reserve(t.Context(), fmt.Sprint("k", n), ""); {
					case err != nil:
						t.Error(err)
					case a.State == idempotency.Claimed:
						claims.Add(1)
						s.finish(a.Claim, "done")
					case a.State == idempotency.Kept && a.Outcome == "done":
						kept.Add(1)
					case a.State == idempotency.Busy:
						busy.Add(1)
					default:
						t.Errorf("%+v", a)
					}
				})
			}
			wg.Wait()
			if claims.Load() != 1 || kept.Load()+busy.Load() != 31 {
				t.Errorf("%d claims, %d kept, %d busy; want one, and 31", claims.Load(), kept.Load(), busy.Load())
			}
		}
	})
}

// Every key expires, whatever happens, and none shows what the caller has named it.
func TestStore_keys(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix, idempotency.WithTTL(time.Hour))
		secret := "alice@example.org {x} *"
		s.finish(s.claim(secret+"kept"), "outcome")
		s.claim(secret + "busy")
		if err := s.claim(secret + "interrupted").Interrupt(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.claim(secret + "released").Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		keys := testkit.Keys(t, client, prefix)
		if len(keys) != 4 {
			t.Errorf("%d keys: %v; want three records and a trace of a release", len(keys), keys)
		}
		for _, key := range keys {
			if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Hour {
				t.Errorf("%s lasts for %v", key, ttl)
			}
			if strings.Contains(key, "alice") {
				t.Errorf("%s shows its key", key)
			}
		}
		record := idempotency.Key(s.Store, secret+"kept")
		client.Persist(t.Context(), record)
		s.ask(secret+"kept", "", idempotency.Kept)
		if ttl := client.PTTL(t.Context(), record).Val(); ttl <= 0 {
			t.Errorf("a record without a lifetime has %v after it was asked for", ttl)
		}
	})
}

// What we did not write stays as it is.
func TestStore_corrupt(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix)
		record := idempotency.Key(s.Store, "k")
		for name, write := range map[string]func(){
			"string":       func() { client.Set(t.Context(), record, "x", time.Hour) },
			"list":         func() { client.RPush(t.Context(), record, "x") },
			"foreign hash": func() { client.HSet(t.Context(), record, "a", "b") },
			"no print":     func() { client.HSet(t.Context(), record, "id", "b") },
			"no number":    func() { client.HSet(t.Context(), record, "id", "b", "print", "", "since", "x", "until", "1") },
			"negative":     func() { client.HSet(t.Context(), record, "id", "b", "print", "", "since", "1", "until", "-1") },
		} {
			client.Del(t.Context(), record)
			write()
			before := client.Dump(t.Context(), record).Val()
			_, reserved := s.Reserve(t.Context(), "k", "")
			_, waited := s.Wait(t.Context(), "k", "", time.Second)
			_, looked := s.Look(t.Context(), "k")
			_, forgot := s.Forget(t.Context(), "k")
			for call, err := range map[string]error{"reserve": reserved, "wait": waited, "look": looked, "forget": forgot} {
				if !errors.Is(err, idempotency.ErrCorrupt) {
					t.Errorf("%s: %s: %v; want ErrCorrupt", name, call, err)
				}
			}
			if after := client.Dump(t.Context(), record).Val(); after != before {
				t.Errorf("%s was changed", name)
			}
		}
		c := s.claim("other")
		other := idempotency.Key(s.Store, "other")
		client.Del(t.Context(), other)
		client.Set(t.Context(), other, "x", time.Hour)
		if err := c.Finish(t.Context(), nil); !errors.Is(err, idempotency.ErrCorrupt) {
			t.Errorf("finish: %v; want ErrCorrupt", err)
		}
	})
}

// The scripts are sent again to a server that has forgotten them.
func TestStore_scriptFlush(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	client := b.Client(t)
	s := open(t, client, "p")
	flush := func() { client.ScriptFlush(t.Context()) }
	c := s.claim("k")
	flush()
	s.ask("k", "", idempotency.Busy)
	flush()
	s.finish(c, "done")
	flush()
	s.ask("k", "", idempotency.Kept)
}

func TestStore_emptyKey(t *testing.T) {
	t.Parallel()
	s := open(t, testkit.Mini(t).Client(t), "p")
	if _, err := s.Reserve(t.Context(), "", ""); !errors.Is(err, idempotency.ErrEmptyKey) {
		t.Errorf("%v; want ErrEmptyKey", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Reserve(ctx, "k", ""); err != context.Canceled {
		t.Errorf("%v; want context.Canceled itself", err)
	}
}

func TestNew_config(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)})
	t.Cleanup(func() { client.Close() })
	for _, tt := range []struct {
		option idempotency.Option
		says   string
	}{
		{nil, "option 1 is nil"},
		{idempotency.WithPrefix("{a}"), "WithPrefix"},
		{idempotency.WithTimeout(0), "WithTimeout(0s)"},
		{idempotency.WithTTL(time.Second), "WithTTL(1s)"},
		{idempotency.WithLease(time.Millisecond), "WithLease(1ms)"},
		{idempotency.WithLease(2 * time.Hour), "WithLease(2h0m0s)"},
		{idempotency.WithCrash(2), "WithCrash(2)"},
	} {
		_, err := idempotency.New(client, tt.option)
		if !errors.Is(err, idempotency.ErrConfig) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%v; want ErrConfig that says %s", err, tt.says)
		}
	}
	if _, err := idempotency.New(client, idempotency.WithTTL(time.Minute), idempotency.WithLease(time.Minute)); err == nil || !strings.Contains(err.Error(), "ten leases") {
		t.Errorf("%v; want a ttl of ten leases", err)
	}
	if _, err := idempotency.New(nil); !errors.Is(err, idempotency.ErrConfig) {
		t.Errorf("%v; want ErrConfig", err)
	}
}
