package idempotency_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/testkit"
)

// proxied is a Store whose way to Redis can be broken, and one that has its own way.
func proxied(t *testing.T, options ...idempotency.Option) (s, direct shop, p *testkit.Proxy) {
	t.Helper()
	b := testkit.Shared(t, "server")
	p = testkit.NewProxy(t, b.Addrs()[0])
	prefix := b.Prefix(t)
	s, direct = open(t, p.Client(t), prefix, options...), open(t, b.Client(t), prefix)
	// So that the server knows the scripts, and a reply that is lost is not NOSCRIPT.
	direct.finish(direct.claim("warm"), "")
	if err := errors.Join(direct.claim("warm 2").Release(t.Context()), direct.claim("warm 3").Interrupt(t.Context())); err != nil {
		t.Fatal(err)
	}
	return s, direct, p
}

// A reply that is lost after the script ran makes nobody a stranger to their own claim,
// and changes no outcome.
//
// Red if the scripts are made by NewScript, if claim.lua does not know its own id, and if
// release.lua does not look at ARGV[4].
func TestStore_replySwallowed(t *testing.T) {
	t.Parallel()
	s, direct, p := proxied(t)
	swallow := func(then testkit.Then, call func() error) {
		t.Helper()
		p.SwallowReply(1, "evalsha", then)
		if err := call(); err != nil {
			t.Error(err)
		}
	}
	var a idempotency.Answer
	swallow(testkit.ThenClose, func() (err error) {
		a, err = s.Reserve(t.Context(), "k", "")
		return err
	})
	if a.State != idempotency.Claimed {
		t.Fatalf("%+v; want the claim that was made", a)
	}
	swallow(testkit.ThenClose, func() error { return a.Claim.Finish(t.Context(), []byte("done")) })
	if a := direct.ask("k", "", idempotency.Kept); a.Outcome != "done" {
		t.Errorf("kept %q", a.Outcome)
	}
	c := s.claim("let go")
	swallow(testkit.ThenClose, func() error { return c.Release(t.Context()) })
	direct.claim("let go")
	c = s.claim("interrupted")
	swallow(testkit.ThenClose, func() error { return c.Interrupt(t.Context()) })
	direct.ask("interrupted", "", idempotency.Interrupted)
}

// A claim whose reply never comes is given back: its caller does no work, and the next
// one must not be told that somebody may have.
//
// Red without the giveUp in ask.
func TestStore_claimGivenBack(t *testing.T) {
	t.Parallel()
	s, direct, p := proxied(t, idempotency.WithTimeout(300*time.Millisecond))
	testkit.Eventually(t, "a first answer", func() bool { _, err := s.Look(t.Context(), "x"); return err == nil })
	p.SwallowReply(1, "evalsha", testkit.ThenSilence)
	if a, err := s.Reserve(t.Context(), "k", ""); !errors.Is(err, idempotency.ErrUnavailable) {
		t.Fatalf("%+v, %v; want ErrUnavailable", a, err)
	}
	direct.claim("k")
}

// A claim that arrives when it has been given up claims nothing.
//
// Red without the look at KEYS[2] in claim.lua.
func TestStore_claimComesLate(t *testing.T) {
	each(t, func(t *testing.T, client redis.UniversalClient, prefix string) {
		s := open(t, client, prefix)
		if got := idempotency.LateClaim(s.Store, "k"); got != "gone" {
			t.Errorf("told %q; want gone", got)
		}
		s.claim("k")
	})
}

// A server that stood still does not claim for those who have left, when it goes on.
//
// Red without the comparison with the deadline in claim.lua.
func TestStore_pausedServer(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	b := testkit.Server(t)
	s := open(t, b.Client(t), "p", idempotency.WithTimeout(50*time.Millisecond))
	direct := open(t, b.Client(t), "p")
	testkit.Eventually(t, "a first claim", func() bool {
		a, err := s.Reserve(t.Context(), "warm", "")
		if err == nil && a.Claim != nil {
			s.finish(a.Claim, "")
		}
		return err == nil
	})
	const requests = 16
	b.Pause()
	var wg sync.WaitGroup
	for n := range requests {
		wg.Go(func() {
			begun := time.Now()
			if a, err := s.Reserve(t.Context(), fmt.Sprint("k", n), ""); !errors.Is(err, idempotency.ErrUnavailable) {
				t.Errorf("%+v, %v; want ErrUnavailable", a, err)
			}
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("took %v; want two budgets of 50 ms", took)
			}
		})
	}
	wg.Wait()
	<-time.After(200 * time.Millisecond) // so that what comes now is late
	b.Resume()
	testkit.Eventually(t, "Redis to be back", func() bool { _, err := direct.Look(t.Context(), "x"); return err == nil })
	<-time.After(300 * time.Millisecond) // for what was under way
	for n := range requests {
		direct.claim(fmt.Sprint("k", n))
	}
}

// A claim is not late for good when the clock of Redis has leapt.
//
// Red without the second call of claim in ask.
func TestStore_clockLeaps(t *testing.T) {
	t.Parallel()
	s := open(t, testkit.Shared(t, "server").Client(t), testkit.Shared(t, "server").Prefix(t))
	s.claim("a")
	idempotency.SetClock(s.Store, -time.Hour)
	s.claim("b")
	idempotency.SetClock(s.Store, time.Hour)
	s.claim("c")
}

// A claim is not lost with the renewals that fail, if the work ends before anybody else
// may have the key: under Block, nobody may.
func TestClaim_outlivesAnOutage(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	b := testkit.Server(t)
	options := []idempotency.Option{idempotency.WithLease(300 * time.Millisecond), idempotency.WithTimeout(50 * time.Millisecond)}
	s := open(t, b.Client(t), "p", options...)
	retry := open(t, b.Client(t), "p", append(options, idempotency.WithCrash(idempotency.Retry))...)
	var block, again *idempotency.Claim
	testkit.Eventually(t, "a claim", func() bool {
		a, err := s.Reserve(t.Context(), "block", "")
		block = a.Claim
		return err == nil
	})
	testkit.Eventually(t, "a claim", func() bool {
		a, err := retry.Reserve(t.Context(), "retry", "")
		again = a.Claim
		return err == nil
	})
	b.Pause()
	<-again.Context().Done()
	if cause := context.Cause(again.Context()); !errors.Is(cause, idempotency.ErrLost) {
		t.Errorf("under Retry the context ended with %v; want ErrLost", cause)
	}
	b.Resume()
	if err := block.Context().Err(); err != nil {
		t.Errorf("under Block the context ended with %v", err)
	}
	testkit.Eventually(t, "the lease to be back", func() bool {
		a, err := s.Look(t.Context(), "block")
		return err == nil && a.State == idempotency.Busy
	})
	if err := block.Finish(t.Context(), []byte("done")); err != nil {
		t.Error(err)
	}
	if err := again.Finish(t.Context(), []byte("done")); err != nil {
		t.Errorf("nobody else had it: %v", err)
	}
	direct := open(t, b.Client(t), "p")
	direct.ask("block", "", idempotency.Kept)
}

// One round trip to claim, one to finish, one to be told.
func TestStore_roundTrips(t *testing.T) {
	t.Parallel()
	s, _, p := proxied(t)
	s.claim("a connection")
	trips := func(call func()) int {
		p.Reset()
		call()
		return p.RoundTrips()
	}
	var c *idempotency.Claim
	if n := trips(func() { c = s.claim("k") }); n != 1 {
		t.Errorf("%d round trips for a claim; want 1", n)
	}
	if n := trips(func() { s.finish(c, "done") }); n != 1 {
		t.Errorf("%d round trips to finish; want 1", n)
	}
	if n := trips(func() { s.ask("k", "", idempotency.Kept) }); n != 1 {
		t.Errorf("%d round trips to be told; want 1", n)
	}
}

// No renewal is under way when a claim has ended.
//
// Red without the Wait in close.
func TestClaim_waitsForItsRenewal(t *testing.T) {
	t.Parallel()
	s := open(t, testkit.Mini(t).Client(t), "p")
	c := s.claim("k")
	end := idempotency.BeginRenewal(c)
	finished := make(chan error)
	go func() { finished <- c.Finish(context.Background(), nil) }()
	select {
	case err := <-finished:
		t.Errorf("Finish did not wait: %v", err)
		end()
		return
	case <-time.After(50 * time.Millisecond):
	}
	end()
	if err := <-finished; err != nil {
		t.Error(err)
	}
}

// No goroutine, timer or command outlives the end of a claim.
func TestClaim_leavesNothing(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	s := open(t, p.Client(t), b.Prefix(t), idempotency.WithLease(100*time.Millisecond))
	for n := range 20 {
		c := s.claim(fmt.Sprint("k", n))
		testkit.Eventually(t, "a renewal", func() bool { p.Reset(); <-time.After(40 * time.Millisecond); return p.Commands() > 0 })
		s.finish(c, "done")
	}
	p.Reset()
	<-time.After(300 * time.Millisecond)
	if n := p.Commands(); n != 0 {
		t.Errorf("%d commands after all claims have ended", n)
	}
}

func TestStore_refusedByServer(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	client := b.Client(t)
	b.Miniredis().RequireAuth("secret")
	s := open(t, client, "p")
	if _, err := s.Reserve(t.Context(), "k", ""); err == nil || errors.Is(err, idempotency.ErrUnavailable) {
		t.Errorf("%v; want NOAUTH", err)
	}
	if _, err := open(t, redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)}), "p").Reserve(t.Context(), "k", ""); !errors.Is(err, idempotency.ErrUnavailable) {
		t.Errorf("%v; want ErrUnavailable", err)
	}
}
