package ratelimit_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

func refund(tb testing.TB, limiter *ratelimit.Limiter, key string, ticket ratelimit.Ticket) bool {
	tb.Helper()
	given, err := limiter.Refund(tb.Context(), key, ticket)
	if err != nil {
		tb.Fatalf("Refund(%q): %v", key, err)
	}
	return given
}

// A refund takes back exactly one request's entry, once, whoever asks: the
// instants of the others stay, and so does what they cost.
//
// Red when the script does not compare ids, or leaves the sums of later entries.
func TestLimiter_refund(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.PerHour(10))
		other := open(t, client, prefix, ratelimit.PerHour(10)) // as in another process
		var tickets []ratelimit.Ticket
		for _, cost := range []int{1, 3, 2, 4} {
			tickets = append(tickets, allowN(t, limiter, "alice", cost).Ticket())
		}
		if got := allow(t, limiter, "alice"); got.Allowed {
			t.Fatal("admitted beyond the limit")
		}
		if refund(t, other, "bob", tickets[1]) {
			t.Error("refunded to another key")
		}
		for i, want := range []bool{true, false} {
			if got := refund(t, other, "alice", tickets[1]); got != want {
				t.Errorf("refund %d: %v; want %v", i+1, got, want)
			}
		}
		peek := func(want int) {
			t.Helper()
			if got, err := limiter.Peek(t.Context(), "alice"); err != nil || got.Remaining != want {
				t.Errorf("%s, %v; want %d remaining", show(got), err, want)
			}
		}
		peek(3)
		if !refund(t, limiter, "alice", tickets[3]) { // the latest
			t.Error("the latest is not refunded")
		}
		peek(7)
		if got := allowN(t, limiter, "alice", 7); !got.Allowed || got.Remaining != 0 {
			t.Errorf("after the refunds: %s; want allowed, 0 remaining", show(got))
		}
		for _, i := range []int{0, 2} {
			refund(t, limiter, "alice", tickets[i])
		}
		peek(3)
		if refund(t, limiter, "alice", "") {
			t.Error("refunded without a ticket")
		}
	})
}

// What this process remembers of a denial ends with its refund.
//
// Red when Refund does not forget the denial.
func TestLimiter_refundFreesAtOnce(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(1))
		ticket := allow(t, limiter, "alice").Ticket()
		for range 3 {
			if allow(t, limiter, "alice").Allowed {
				t.Fatal("admitted beyond the limit")
			}
		}
		refund(t, limiter, "alice", ticket)
		if got := allow(t, limiter, "alice"); !got.Allowed {
			t.Errorf("after the refund: %s", show(got))
		}
	})
}

// A refund after the window has rolled over does nothing, least of all to others'
// entries.
func TestLimiter_refundTooLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		limiter := open(t, testkit.Memory(t).Client(t), "weir", ratelimit.PerMinute(3))
		late := allow(t, limiter, "alice").Ticket()
		time.Sleep(59 * time.Second)
		allow(t, limiter, "alice")
		time.Sleep(time.Second)
		if refund(t, limiter, "alice", late) {
			t.Error("refunded what has left the window")
		}
		if got := allow(t, limiter, "alice"); got.Remaining != 1 {
			t.Errorf("%s; want 1 remaining", show(got))
		}
	})
}

// A thousand requests at the same time, of which some are refunded, some of those
// twice: what remains is the limit less those that were kept.
func TestLimiter_refundsAtOnce(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		const limit, n = 60, 1000
		limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(limit))
		var kept, twice atomic.Int64
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				random := rand.New(rand.NewPCG(4, uint64(g)))
				for range n / 8 {
					got := allow(t, limiter, "alice")
					if !got.Allowed {
						continue
					}
					if random.IntN(30) == 0 {
						kept.Add(1)
						continue
					}
					if !refund(t, limiter, "alice", got.Ticket()) {
						t.Error("an admission was not refunded")
					}
					if random.IntN(3) == 0 && refund(t, limiter, "alice", got.Ticket()) {
						twice.Add(1)
					}
				}
			})
		}
		wg.Wait()
		got, err := limiter.Peek(t.Context(), "alice")
		if err != nil || got.Remaining != limit-int(kept.Load()) || twice.Load() > 0 {
			t.Errorf("%s, %v; want %d - %d remaining, none of %d refunded twice", show(got), err, limit, kept.Load(), twice.Load())
		}
	})
}

// A refund whose reply is lost is asked for again, and takes back one entry.
func TestLimiter_refundOnce(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t)
	limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(10), ratelimit.PerHour(10).Smooth(10))
	ticket := allow(t, limiter, "alice").Ticket()
	allow(t, limiter, "alice")
	refund(t, limiter, "bob", ticket) // the script is known
	proxies.Each(func(p *testkit.Proxy) { p.SwallowReply(1, "evalsha", testkit.ThenClose) })
	refund(t, limiter, "alice", ticket)
	got, err := limiter.Peek(t.Context(), "alice")
	if err != nil || got.Remaining != 9 {
		t.Errorf("%s, %v; want 9 remaining", show(got), err)
	}
}

// Refunds of a smooth limit lower its level, once.
func TestLimiter_refundSmooth(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		limiter := open(t, client, b.Prefix(t), ratelimit.PerHour(1).Smooth(5))
		ticket := allowN(t, limiter, "alice", 3).Ticket()
		allow(t, limiter, "alice")
		if !refund(t, limiter, "alice", ticket) || refund(t, limiter, "alice", ticket) {
			t.Error("want one refund")
		}
		if got := allow(t, limiter, "alice"); got.Remaining != 3 {
			t.Errorf("%s; want 3 remaining", show(got))
		}
	})
}

// A ticket stands for one admission wherever it is taken, and nothing else is one.
func TestTicket(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	limiter := open(t, b.Client(t), "weir", ratelimit.PerHour(10))
	ticket := allow(t, limiter, "alice").Ticket()
	if len(ticket) == 0 || len(ticket) > 60 {
		t.Errorf("ticket %q; want up to 60 characters", ticket)
	}
	for _, bad := range []ratelimit.Ticket{"x", "!!!!", "AAAAAAAAAAAAAAAA", ticket + "A", ticket[:10], ratelimit.Ticket(make([]byte, 200))} {
		if given, err := limiter.Refund(t.Context(), "alice", bad); given || err != nil && !errors.Is(err, ratelimit.ErrTicket) {
			t.Errorf("ticket %q: %v, %v; want ErrTicket, or nothing given", bad, given, err)
		}
	}
	for name, err := range map[string]error{
		"Refund":  func() error { _, err := limiter.Refund(t.Context(), "", ticket); return err }(),
		"Release": limiter.Release(t.Context(), "", ticket),
		"Renew":   func() error { _, err := limiter.Renew(t.Context(), "", ticket); return err }(),
		"Reset":   limiter.Reset(t.Context(), ""),
	} {
		if !errors.Is(err, ratelimit.ErrEmptyKey) {
			t.Errorf("%s without a key: %v; want ErrEmptyKey", name, err)
		}
	}
}

// Whatever is handed in as a ticket, nothing but an entry of the key goes.
func FuzzTicket(f *testing.F) {
	b := testkit.Mini(f)
	limiter := open(f, b.Client(f), "weir", ratelimit.PerHour(1000))
	real := allow(f, limiter, "alice").Ticket()
	f.Add(string(real))
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		given, err := limiter.Refund(t.Context(), "bob", ratelimit.Ticket(s))
		if given || err != nil && !errors.Is(err, ratelimit.ErrTicket) {
			t.Errorf("%q: %v, %v", s, given, err)
		}
	})
}

// Reset forgets all of a key and nothing of another.
func TestLimiter_reset(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		limiter := open(t, client, prefix, ratelimit.PerHour(2), ratelimit.PerHour(1).Smooth(3),
			ratelimit.AtOnce(2, time.Hour), ratelimit.WithBan(2, time.Hour, time.Hour))
		for _, key := range []string{"alice", "bob"} {
			for range 4 {
				allow(t, limiter, key)
			}
		}
		if got := allow(t, limiter, "alice"); !got.Banned {
			t.Fatalf("%s; want a ban", show(got))
		}
		if err := limiter.Reset(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if got := allow(t, limiter, "alice"); !got.Allowed || got.Remaining != 1-i {
				t.Errorf("after the reset: %s; want allowed, %d remaining", show(got), 1-i)
			}
		}
		if got := allow(t, limiter, "bob"); !got.Banned {
			t.Errorf("another key: %s; want it banned still", show(got))
		}
		for _, key := range []string{"alice", "bob"} {
			if err := limiter.Reset(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
		if keys := testkit.Keys(t, client, prefix); len(keys) != 0 {
			t.Errorf("left: %q", keys)
		}
	})
}
