package event_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// A subscriber that does not keep up: what is dropped is told in its place, with its
// number, once.
func TestWithBuffer(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	for name, c := range map[string]struct {
		policy event.Overflow
		want   []string
		stats  event.Stats
	}{
		// Red when makeRoom does not count, or leaves the count behind.
		"oldest":     {event.DropOldest, []string{"gap 4", "5", "6", "7"}, event.Stats{Received: 7, Dropped: 4}},
		"newest":     {event.DropNewest, []string{"1", "2", "3", "gap 4"}, event.Stats{Received: 7, Dropped: 4}},
		"disconnect": {event.Disconnect, []string{"1", "2", "3", event.ErrSlow.Error(), event.ErrSlow.Error()}, event.Stats{Received: 4, Dropped: 1}},
		"coalesce":   {event.Coalesce, []string{"gap 1", "5", "6", "7"}, event.Stats{Received: 7, Dropped: 1, Coalesced: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Keys: 1:b 2:b 3:c 4:c 5:c 6:d 7:e. Of a key the latest is kept, in its place.
			keys := "?bbcccde"
			bus := openBus(t, b.Client(t), b.Prefix(t))
			orders := topic(t, bus, "orders").KeyedBy(func(o order) string { return keys[o.N : o.N+1] })
			s := hear(t, orders, event.WithBuffer(3, c.policy))
			tell(t, orders, 1, 2, 3, 4, 5, 6, 7)
			received(t, s, c.stats.Received)
			hears(t, s, c.want...)
			if got := s.Stats(); got != c.stats {
				t.Errorf("stats: got %+v; want %+v", got, c.stats)
			}
			if c.policy == event.Disconnect {
				return
			}
			// It goes on, and what fits is not touched.
			tell(t, orders, 1, 3, 6)
			hears(t, s, "1", "3", "6")
		})
	}
}

// A gap between two events that are dropped, too, is one gap with them; an event never
// takes a place before a gap that it came after.
func TestGap_place(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	bus := openBus(t, client, "a")
	orders := topic(t, bus, "orders").KeyedBy(func(order) string { return "same" })
	oldest := hear(t, orders, event.WithBuffer(2, event.DropOldest))
	newest := hear(t, orders, event.WithBuffer(2, event.DropNewest))
	latest := hear(t, orders, event.WithBuffer(2, event.Coalesce))
	all := []*event.Subscription[order]{oldest, newest, latest}
	cut := func(n uint64) {
		t.Helper()
		if err := client.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			testkit.Eventually(t, "the gap", func() bool { return s.Stats().Gaps == n })
		}
	}
	tell(t, orders, 1)
	for _, s := range all {
		received(t, s, 1)
	}
	cut(1)
	cut(2)
	tell(t, orders, 2, 3)
	for _, s := range all {
		received(t, s, 3)
	}
	hears(t, oldest, "gap link 1", "2", "3")
	hears(t, newest, "1", "gap link", "2", "gap 1")
	// Red when miss does not forget the keys.
	hears(t, latest, "1", "gap link", "3")
}

// One that never takes anything delays no other.
func TestSubscription_slowOneAlone(t *testing.T) {
	t.Parallel()
	const n = 2000
	b := testkit.Server(t)
	bus := openBus(t, b.Client(t), "a")
	orders := topic(t, bus, "orders")
	slow := hear(t, orders)
	quick := hear(t, orders, event.WithBuffer(n, event.DropOldest))
	for i := range n {
		tell(t, orders, i)
	}
	for i := range n {
		if got := next(t, quick); got != fmt.Sprint(i) {
			t.Fatalf("got %s; want %d", got, i)
		}
	}
	received(t, slow, n)
	if got := slow.Stats(); got.Dropped != n-256 || got.Waiting != 256 {
		t.Errorf("the slow one: got %+v; want 256 waiting and the rest dropped", got)
	}
	hears(t, slow, fmt.Sprint("gap ", n-256), fmt.Sprint(n-256))
}

// A context's end ends Next at once, whether it waits or could go on; the buffer stays.
func TestSubscription_Next_contextEnds(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	bus := openBus(t, b.Client(t), "a")
	orders := topic(t, bus, "orders")
	s := hear(t, orders)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	go func() { _, err := s.Next(ctx); ended <- err }()
	go func() {
		for e, err := range s.All(ctx) {
			t.Errorf("got %v, %v", e, err)
		}
		ended <- ctx.Err()
	}()
	cancel()
	for range 2 {
		if err := <-ended; err != context.Canceled {
			t.Errorf("got %v; want %v", err, context.Canceled)
		}
	}
	tell(t, orders, 1)
	received(t, s, 1)
	if _, err := s.Next(ctx); err != context.Canceled {
		t.Errorf("with an event waiting: got %v; want %v", err, context.Canceled)
	}
	hears(t, s, "1")
}

// Several that call Next share the events: each is given once.
func TestSubscription_Next_shared(t *testing.T) {
	t.Parallel()
	const n, readers = 2000, 8
	b := testkit.Server(t)
	bus := openBus(t, b.Client(t), "a")
	orders := topic(t, bus, "orders")
	s := hear(t, orders, event.WithBuffer(n, event.DropOldest))
	var mu sync.Mutex
	seen := make(map[int]int)
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for e, err := range s.All(t.Context()) {
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				seen[e.Value.N]++
				full := len(seen) == n
				mu.Unlock()
				if full {
					s.Close() // ends all of them
				}
			}
		})
	}
	for i := range n {
		tell(t, orders, i)
	}
	wg.Wait()
	for i := range n {
		if seen[i] != 1 {
			t.Errorf("%d was given %d times", i, seen[i])
		}
	}
}

// Subscribers are given what they have, then the end; Shutdown waits for that.
func TestBus_Shutdown(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	bus := openBus(t, client, "a")
	orders := topic(t, bus, "orders")
	busy, idle, left := hear(t, orders), hear(t, orders), hear(t, orders)
	tell(t, orders, 1, 2, 3)
	for _, s := range []*event.Subscription[order]{busy, idle, left} {
		received(t, s, 3)
	}
	hears(t, idle, "1", "2", "3")
	waiting := make(chan string, 1)
	go func() { waiting <- next(t, idle) }()

	down := make(chan error, 1)
	go func() { down <- bus.Shutdown(t.Context()) }()
	if got := <-waiting; got != event.ErrClosed.Error() {
		t.Errorf("a waiting one: got %s; want ErrClosed", got)
	}
	if err := orders.Publish(t.Context(), order{}); !errors.Is(err, event.ErrClosed) {
		t.Errorf("publish: got %v; want ErrClosed", err)
	}
	if _, err := orders.Subscribe(); !errors.Is(err, event.ErrClosed) {
		t.Errorf("subscribe: got %v; want ErrClosed", err)
	}
	hears(t, busy, "1", "2", "3")
	select {
	case err := <-down:
		t.Fatalf("Shutdown returned %v before the last event was handled", err)
	default:
	}
	hears(t, busy, event.ErrClosed.Error())
	left.Close() // without having taken anything
	if err := <-down; err != nil {
		t.Errorf("Shutdown: got %v; want nil", err)
	}
	if err := bus.Shutdown(t.Context()); err != nil {
		t.Errorf("again: got %v; want nil", err)
	}
	testkit.Eventually(t, "the connection's end", func() bool {
		n, err := client.PubSubNumSub(t.Context(), "a:event:{orders}").Result()
		return err == nil && n["a:event:{orders}"] == 0
	})
}

func TestBus_Shutdown_outOfPatience(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	bus := openBus(t, b.Client(t), "a")
	orders := topic(t, bus, "orders")
	s := hear(t, orders)
	tell(t, orders, 1)
	received(t, s, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := bus.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("got %v; want %v", err, context.DeadlineExceeded)
	}
	hears(t, s, event.ErrClosed.Error())
	if err := bus.Close(); err != nil {
		t.Errorf("Close: got %v", err)
	}
	if err := bus.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown after Close: got %v", err)
	}
}

// Under -race: everything against everything, and then nothing is left.
func TestBus_concurrentClose(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	for range 20 {
		bus := openBus(t, client, "a")
		orders := topic(t, bus, "orders")
		all, err := event.NewPattern[order](bus, "*")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for {
					if err := orders.Publish(t.Context(), order{N: i}); err != nil {
						if !errors.Is(err, event.ErrClosed) {
							t.Error(err)
						}
						return
					}
				}
			})
			wg.Go(func() {
				for {
					var f from = orders
					if i%2 == 0 {
						f = all
					}
					s, err := f.Subscribe(event.WithBuffer(2, event.Overflow(i)))
					if err != nil {
						return
					}
					for _, err := range s.All(t.Context()) {
						if err == nil {
							break
						}
					}
					s.Close()
				}
			})
		}
		wg.Go(func() {
			s, err := orders.Subscribe()
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				s.Next(t.Context())
			}
			s.Close()
			if err := bus.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
	}
	testkit.Eventually(t, "the connections' end", func() bool {
		all, err := client.PubSubChannels(t.Context(), "*").Result()
		return err == nil && len(all) == 0
	})
}
