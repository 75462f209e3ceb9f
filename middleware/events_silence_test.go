package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// While Redis is silent what is open stays open, and nobody else is let in; when it is
// back a stream goes on where it was, and a topic with a resync.
//
// Red when confirmed waits for nothing.
func TestEvents_silence(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	bus, err := event.New(b.Client(t)) // with the budget of 50 ms
	if err != nil {
		t.Fatal(err)
	}
	s, topic := newStream(t, bus), newTopic(t, bus, "sales")
	quick := middleware.WithHeartbeat(50 * time.Millisecond)
	streams := eventSite(t, middleware.Events(middleware.FromStream(s), quick), false)
	topics := eventSite(t, middleware.Events(middleware.FromTopic(topic), quick), false)
	publish := func(n int) {
		testkit.Eventually(t, "a sale", func() bool {
			_, _, err := s.PublishOnce(t.Context(), string(rune('a'+n)), sale{N: n})
			return err == nil
		})
	}
	publish(0)
	open := openSoon(t, streams)
	live := openSoon(t, topics)

	b.Pause()
	// For more than 2 s, after which the link is known to be dead.
	for _, c := range []*source{open, live} {
		for seen := c.comments; c.comments < seen+60; {
			if dispatched, e, err := c.step(); dispatched || err != nil {
				t.Fatalf("%+v, %v; want comments", e, err)
			}
		}
	}
	begun := time.Now()
	connect(t, streams, open.last).isLater()
	connect(t, topics, live.last).isLater()
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("refused after %v; want 50 ms and 1 s", took)
	}
	refused := connect(t, streams, "", func(r *http.Request) { r.Header.Set("Accept", "*/*") })
	if got := refused.answer; got.StatusCode != 503 || got.Header.Get("Retry-After") == "" || got.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s, %v; want a problem with Retry-After", got.Status, got.Header)
	}

	b.Resume()
	live.hears("resync")
	publish(1)
	open.hears("1")

	// What Redis has forgotten is told.
	b.Kill()
	b.Restart(t)
	open.hears("resync")
	live.hears("resync")
	publish(2)
	open.hears("2")
}

// openSoon connects until there is a stream: on a busy machine 50 ms may pass.
func openSoon(t *testing.T, srv *httptest.Server) (c *source) {
	t.Helper()
	testkit.Eventually(t, "a stream", func() bool {
		c = connect(t, srv, "")
		for c.last == "" {
			if _, _, err := c.step(); err != nil {
				return false
			}
		}
		return true
	})
	return c
}
