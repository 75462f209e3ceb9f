package event_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// order is what the tests of topics publish.
type order struct {
	N   int
	Key string `json:",omitempty"`
}

// campaign is how long a random campaign is: long under make soak.
func campaign(short, long int) int {
	if os.Getenv("WEIR_SOAK") != "" {
		return long
	}
	return short
}

// openBus returns a Bus with channels of the test's own, and a budget that a loaded
// machine cannot exceed.
func openBus(tb testing.TB, client redis.UniversalClient, prefix string, options ...event.Option) *event.Bus {
	tb.Helper()
	bus, err := event.New(client, append([]event.Option{event.WithPrefix(prefix), event.WithTimeout(20 * time.Second)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { bus.Close() })
	return bus
}

func topic(tb testing.TB, bus *event.Bus, name string) *event.Topic[order] {
	tb.Helper()
	t, err := event.NewTopic[order](bus, name)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// from is a topic or a pattern.
type from interface {
	Subscribe(...event.SubscribeOption) (*event.Subscription[order], error)
}

// hear subscribes, and waits until that is confirmed.
func hear(tb testing.TB, f from, options ...event.SubscribeOption) *event.Subscription[order] {
	tb.Helper()
	s, err := f.Subscribe(options...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	select {
	case <-s.Ready():
	case <-time.After(30 * time.Second):
		tb.Fatal("the subscription is not confirmed")
	}
	return s
}

func tell(tb testing.TB, t *event.Topic[order], numbers ...int) {
	tb.Helper()
	for _, n := range numbers {
		if err := t.Publish(context.Background(), order{N: n}); err != nil {
			tb.Fatalf("publish %d: %v", n, err)
		}
	}
}

// next is what a subscription gives next, in a word: the event's number, "gap 2",
// "gap link", "gap link 2", "corrupt", or the error.
func next(tb testing.TB, s *event.Subscription[order]) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return word(s.Next(ctx))
}

func word(e event.Event[order], err error) string {
	var gap *event.Gap
	switch {
	case err == nil:
		return fmt.Sprint(e.Value.N)
	case errors.As(err, &gap):
		w := "gap"
		if gap.Link {
			w += " link"
		}
		if gap.Dropped > 0 {
			w += fmt.Sprint(" ", gap.Dropped)
		}
		return w
	case errors.Is(err, event.ErrCorrupt):
		return "corrupt"
	default:
		return err.Error()
	}
}

func hears(tb testing.TB, s *event.Subscription[order], want ...string) {
	tb.Helper()
	var got []string
	for range want {
		got = append(got, next(tb, s))
	}
	if !slices.Equal(got, want) {
		tb.Errorf("heard %q; want %q", got, want)
	}
}

// received waits until n messages have come in, taken or not.
func received(tb testing.TB, s *event.Subscription[order], n uint64) {
	tb.Helper()
	testkit.Eventually(tb, fmt.Sprint(n, " messages"), func() bool { return s.Stats().Received == n })
}
