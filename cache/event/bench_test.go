package event_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// One Publish on a real server over loopback, from 1 and from 16 callers, beside
// go-redis's PUBLISH of the same bytes. "once" remembers an id for each.
func BenchmarkPublish(b *testing.B) {
	server := testkit.Shared(b, "server")
	client := server.Client(b, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true })
	bus := openBus(b, client, server.Prefix(b), event.WithOnceWindow(time.Minute))
	orders := topic(b, bus, "orders")
	ctx := context.Background()
	for name, call := range map[string]func(i int) error{
		"topic": func(i int) error { return orders.Publish(ctx, order{N: i}) },
		"once":  func(i int) error { _, err := orders.PublishOnce(ctx, fmt.Sprint(i), order{N: i}); return err },
		"bare":  func(i int) error { return client.Publish(ctx, "bare", `{"N":1}`).Err() },
	} {
		for _, callers := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) {
				b.ReportAllocs()
				b.SetParallelism((callers + 1) / 2) // times GOMAXPROCS, which is 2 in CI
				if callers == 1 {
					for i := range b.N {
						if err := call(i); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for i := 0; pb.Next(); i++ {
						if err := call(i); err != nil {
							b.Error(err)
						}
					}
				})
			})
		}
	}
}

// What one event costs from Redis to the subscriber, decoded, when they come as fast as
// they can; by how many subscribers share the topic. Beside it go-redis's own Receive
// and Channel, which do not decode, and drop without a word.
func BenchmarkDeliver(b *testing.B) {
	server := testkit.Shared(b, "server")
	ctx := context.Background()
	const batch = 500
	for _, subscribers := range []int{1, 10} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			client := server.Client(b)
			prefix := server.Prefix(b)
			bus := openBus(b, client, prefix)
			var subs []*event.Subscription[order]
			for range subscribers {
				subs = append(subs, hear(b, topic(b, bus, "orders"), event.WithBuffer(2*batch, event.DropOldest)))
			}
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; left -= batch {
				flood(b, client, prefix+":event:{orders}", min(left, batch))
				for _, s := range subs {
					for range min(left, batch) {
						if _, err := s.Next(ctx); err != nil {
							b.Fatal(err)
						}
					}
				}
			}
		})
	}
	b.Run("go-redis", func(b *testing.B) {
		client := server.Client(b)
		ps := client.Subscribe(ctx, "bare")
		defer ps.Close()
		if _, err := ps.Receive(ctx); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.ResetTimer()
		for left := b.N; left > 0; left -= batch {
			flood(b, client, "bare", min(left, batch))
			for range min(left, batch) {
				if _, err := ps.ReceiveMessage(ctx); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
}

// flood publishes n messages in one pipeline.
func flood(b *testing.B, client redis.UniversalClient, channel string, n int) {
	b.Helper()
	pipe := client.Pipeline()
	for range n {
		pipe.Publish(context.Background(), channel, "weir1 KJ4Q2XVFZ7N3AB5CDEFGHIJKLM 1700000000000000 \n{\"N\":1}")
	}
	if _, err := pipe.Exec(context.Background()); err != nil {
		b.Fatal(err)
	}
}

// How long an event is under way: from the call of Publish until the subscriber has it.
func BenchmarkRoundTrip(b *testing.B) {
	server := testkit.Shared(b, "server")
	client := server.Client(b, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true })
	bus := openBus(b, client, server.Prefix(b))
	orders := topic(b, bus, "orders")
	s := hear(b, orders)
	ctx := context.Background()
	for i := range b.N {
		if err := orders.Publish(ctx, order{N: i}); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Next(ctx); err != nil {
			b.Fatal(err)
		}
	}
}
