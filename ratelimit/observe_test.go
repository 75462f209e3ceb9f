package ratelimit_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit"
)

// Each decision is told once, by whoever decides; what only looks is not.
//
// Red when AllowN does not call the observer for denials from memory or for
// errors.
func TestWithObserver(t *testing.T) {
	t.Parallel()
	var events []ratelimit.Event
	limiter := open(t, testkit.Mini(t).Client(t), "weir", ratelimit.PerHour(1),
		ratelimit.WithObserver(func(_ context.Context, e ratelimit.Event) { events = append(events, e) }))
	allow(t, limiter, "alice")
	allow(t, limiter, "alice")
	allow(t, limiter, "alice")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, _ = limiter.Allow(gone, "bob")
	_, _ = limiter.Peek(t.Context(), "alice")
	want := []struct {
		key     string
		allowed bool
		source  ratelimit.Source
		err     error
	}{
		{"alice", true, ratelimit.FromRedis, nil}, {"alice", false, ratelimit.FromRedis, nil},
		{"alice", false, ratelimit.FromMemory, nil}, {"bob", false, 0, context.Canceled},
	}
	if len(events) != len(want) {
		t.Fatalf("%d events; want %d", len(events), len(want))
	}
	for i, w := range want {
		if e := events[i]; e.Key != w.key || e.Result.Allowed != w.allowed || e.Result.Source != w.source || e.Err != w.err || e.Took < 0 || e.Took > time.Minute {
			t.Errorf("event %d: %+v; want %+v", i+1, e, w)
		}
	}
}

// In shadow nobody is kept out, and what is told is what would be: the limit is
// kept, and what would have been denied is not counted.
//
// Red when AllowN does not say Shadowed, or the script counts a denied request.
func TestWithShadow(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		denied := 0
		limiter := open(t, client, prefix, ratelimit.PerHour(2), ratelimit.WithShadow(),
			ratelimit.WithObserver(func(_ context.Context, e ratelimit.Event) {
				if e.Result.Shadowed {
					denied++
				}
			}))
		for i := range 5 {
			got := allow(t, limiter, "alice")
			if !got.Allowed || got.Shadowed != (i >= 2) || (got.Ticket() == "") != (i >= 2) {
				t.Errorf("request %d: %s, shadowed %v", i+1, show(got), got.Shadowed)
			}
		}
		if denied != 3 {
			t.Errorf("%d would have been denied; want 3", denied)
		}
		if got := len(testkit.Members(t, client, testkit.OnlyKey(t, client, prefix))); got != 2 {
			t.Errorf("%d counted; want 2", got)
		}
	})
}

// Nor is anybody kept out by an error.
func TestWithShadow_errors(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)})
	defer client.Close()
	limiter, err := ratelimit.New(client, ratelimit.PerHour(1), ratelimit.WithShadow(), ratelimit.WithFailClosed())
	if err != nil {
		t.Fatal(err)
	}
	got, err := limiter.Allow(t.Context(), "alice")
	if !got.Allowed || !errors.Is(err, ratelimit.ErrUnavailable) {
		t.Errorf("%s, %v; want allowed, and ErrUnavailable", show(got), err)
	}
}
