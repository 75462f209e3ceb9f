package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// sink is a client that takes everything and counts the events.
type sink struct {
	header http.Header
	events chan struct{}
	begun  chan struct{}
	writes int
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(int)     {}
func (s *sink) FlushError() error   { return nil }

func (s *sink) SetWriteDeadline(time.Time) error { return nil }

func (s *sink) Write(p []byte) (int, error) {
	if s.writes++; s.writes == 1 {
		close(s.begun)
	} else {
		s.events <- struct{}{}
	}
	return len(p), nil
}

// What one event costs for each client beside the first: it is decoded, filtered, and
// written; encoding is done once. One publication is a part of it.
func BenchmarkEvents_deliver(b *testing.B) {
	for _, clients := range []int{1, 100} {
		for _, kind := range []string{"topic", "stream"} {
			b.Run(fmt.Sprintf("%s to %d", kind, clients), func(b *testing.B) {
				bus := newBus(b, testkit.Shared(b, "server").Client(b), testkit.Shared(b, "server").Prefix(b))
				s, topic := newStream(b, bus), newTopic(b, bus, "sales")
				feed := middleware.FromTopic(topic)
				if kind == "stream" {
					feed = middleware.FromStream(s)
				}
				updates := middleware.Events(feed, middleware.WithOpenTimeout(ample))
				defer func() { gone(b, updates) }()
				ctx, cancel := context.WithCancel(b.Context())
				defer cancel()
				events := make(chan struct{}, clients)
				for range clients {
					w := &sink{header: make(http.Header), events: events, begun: make(chan struct{})}
					r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
					go updates.ServeHTTP(w, r)
					<-w.begun
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := publishTo(s, topic, kind); err != nil {
						b.Fatal(err)
					}
					for range clients {
						<-events
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*clients), "ns/client")
			})
		}
	}
}

func publishTo(s *event.Stream[sale], topic *event.Topic[sale], kind string) error {
	if kind == "topic" {
		return topic.Publish(context.Background(), sale{N: 1})
	}
	_, err := s.Publish(context.Background(), sale{N: 1})
	return err
}
