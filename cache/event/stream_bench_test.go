package event_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

func BenchmarkStream_publish(b *testing.B) {
	for _, callers := range []int{1, 16} {
		b.Run(fmt.Sprint("callers=", callers), func(b *testing.B) {
			backend := testkit.Shared(b, "server")
			s := openStream(b, backend.Client(b), backend.Prefix(b))
			b.SetParallelism(max(1, callers/2)) // times GOMAXPROCS, which is 2 where this is measured
			b.ReportAllocs()
			if callers == 1 {
				for b.Loop() {
					sell(b, s, 0, 1)
				}
				return
			}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					sell(b, s, 0, 1)
				}
			})
		})
	}
}

// An operation is one entry, from the time it is there to its acknowledgement.
func BenchmarkConsume(b *testing.B) {
	for _, workers := range []int{1, 16, 128} {
		b.Run(fmt.Sprint("workers=", workers), func(b *testing.B) {
			backend := testkit.Shared(b, "server")
			s := openStream(b, backend.Client(b), backend.Prefix(b), event.WithMaxLen(10_000_000))
			sell(b, s, 0, b.N)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			handled := make(chan struct{}, b.N)
			b.ReportAllocs()
			b.ResetTimer()
			ended := make(chan error, 1)
			go func() {
				ended <- s.Consume(ctx, "mail", func(context.Context, event.Entry[sale]) error {
					handled <- struct{}{}
					return nil
				}, event.WithWorkers(workers))
			}()
			for range b.N {
				<-handled
			}
			cancel()
			if err := <-ended; err != nil {
				b.Error(err)
			}
		})
	}
}

// The wait from a Publish to the handler that it wakes.
func BenchmarkConsume_wake(b *testing.B) {
	backend := testkit.Shared(b, "server")
	s := openStream(b, backend.Client(b), backend.Prefix(b))
	handled := make(chan struct{})
	mail := consume(b, s, func(context.Context, event.Entry[sale]) error {
		handled <- struct{}{}
		return nil
	})
	sell(b, s, 0, 1)
	<-handled
	for b.Loop() {
		sell(b, s, 0, 1)
		<-handled
	}
	mail.cancel()
}

func BenchmarkFollow(b *testing.B) {
	backend := testkit.Shared(b, "server")
	s := openStream(b, backend.Client(b), backend.Prefix(b), event.WithMaxLen(10_000_000))
	sell(b, s, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	n := 0
	for _, err := range s.Follow(b.Context(), event.Oldest) {
		if err != nil {
			b.Fatal(err)
		}
		if n++; n == b.N {
			break
		}
	}
}
