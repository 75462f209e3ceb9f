package idempotency_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/testkit"
)

// told is what a waiter got.
type told struct {
	idempotency.Answer
	err error
}

// waiters have n wait for k, and return once the holder knows that somebody does.
func (s shop) waiters(client redis.UniversalClient, n int) <-chan told {
	s.Helper()
	answers := make(chan told, n)
	for range n {
		go func() {
			a, err := s.Wait(context.Background(), "k", "", time.Minute)
			answers <- told{a, err}
		}()
	}
	testkit.Eventually(s, "somebody to wait", func() bool {
		return client.HExists(context.Background(), idempotency.Key(s.Store, "k"), "waits").Val()
	})
	return answers
}

func TestStore_wait(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix)
		c := s.claim("k")
		answers := s.waiters(client, 8)
		if a, err := s.Wait(t.Context(), "k", "", time.Millisecond); err != nil || a.State != idempotency.Busy {
			t.Errorf("%+v, %v; want busy after 1 ms", a, err)
		}
		if a, err := s.Wait(t.Context(), "k", "other", time.Minute); err != nil || a.State != idempotency.Differs {
			t.Errorf("%+v, %v; want differs at once", a, err)
		}
		s.finish(c, "done")
		for range 8 {
			if a := <-answers; a.err != nil || a.State != idempotency.Kept || a.Outcome != "done" {
				t.Errorf("%+v, %v; want what was kept", a.Answer, a.err)
			}
		}
	})
}

// A waiter is woken by the end of the claim, and asks rarely until then.
//
// Red without the case of wake in Wait, which then asks after 5 s.
func TestStore_waitIsWoken(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	prefix := b.Prefix(t)
	direct := open(t, b.Client(t), prefix, idempotency.WithLease(10*time.Minute))
	c := direct.claim("k")
	answers := open(t, p.Client(t), prefix).waiters(b.Client(t), 1)
	channel := idempotency.Key(direct.Store, "k") + ":done"
	testkit.Eventually(t, "the subscription", func() bool {
		return b.Client(t).PubSubNumSub(t.Context(), channel).Val()[channel] == 1
	})
	<-time.After(300 * time.Millisecond) // for the question that follows it
	p.Reset()
	<-time.After(500 * time.Millisecond)
	if n := p.Commands(); n > 4 { // the link has its own
		t.Errorf("%d commands in half a second of waiting", n)
	}
	finished := time.Now()
	direct.finish(c, "done")
	if a := <-answers; a.err != nil || a.State != idempotency.Kept {
		t.Errorf("%+v, %v; want kept", a.Answer, a.err)
	}
	if took := time.Since(finished); took > 3*time.Second {
		t.Errorf("woken after %v", took)
	}
}

// One of those that wait goes on when the first has done nothing.
func TestStore_waitForRelease(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix)
		c := s.claim("k")
		answers := s.waiters(client, 4)
		if err := c.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		claimed := 0
		for range 4 {
			a := <-answers
			if a.State == idempotency.Claimed {
				claimed++
				s.finish(a.Claim, "done")
			} else if a.err != nil || a.State != idempotency.Kept {
				t.Errorf("%+v, %v; want kept", a.Answer, a.err)
			}
		}
		if claimed != 1 {
			t.Errorf("%d were let go on; want 1", claimed)
		}
	})
}

// Those that wait for a holder that dies are told when its lease ends.
func TestStore_waitForTheDead(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix, idempotency.WithLease(300*time.Millisecond))
		c := s.claim("k")
		answers := s.waiters(client, 2)
		idempotency.StopRenewals(c)
		for range 2 {
			if a := <-answers; a.err != nil || a.State != idempotency.Interrupted {
				t.Errorf("%+v, %v; want interrupted", a.Answer, a.err)
			}
		}
	})
}

func TestStore_waiterLeaves(t *testing.T) {
	t.Parallel()
	s := open(t, testkit.Mini(t).Client(t), "p")
	s.claim("k")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if a, err := s.Wait(ctx, "k", "", time.Minute); err != context.DeadlineExceeded || a.Claim != nil {
		t.Errorf("%+v, %v; want context.DeadlineExceeded itself", a, err)
	}
}
