package middleware_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// A client that is disconnected at any moment, and comes back with the last id that it
// has seen, misses nothing and is given nothing twice. Not before its first event
// either.
//
// Red when replay follows from the end of the stream. The long form, under make soak, disconnects
// 1,000 times instead of 100.
func TestEvents_disconnects(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		b := testkit.Shared(t, "server")
		s := newStream(t, newBus(t, b.Client(t), b.Prefix(t)))
		updates := middleware.Events(middleware.FromStream(s))
		srv := eventSite(t, updates, http2)
		sell(t, s, -1, 0) // the stream is not empty: see TestEvents_unknownID
		c := connect(t, srv, "").opened()
		c.close()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var given atomic.Int64
		published := make(chan struct{})
		go func() {
			defer close(published)
			for n := 0; ctx.Err() == nil; n++ {
				// At times the client is up to date, at times it has pages to catch up with.
				for lead := rand.IntN(400); n%20 == 0 && int64(n-lead) > given.Load() && ctx.Err() == nil; {
					time.Sleep(time.Millisecond)
				}
				if _, err := s.Publish(ctx, sale{N: n}); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
			}
		}()
		last, next := c.last, 0
		for range campaign(100, 1000) {
			c := connect(t, srv, last)
			if rand.IntN(5) == 0 {
				c.opened() // and gone, before there is anything to hear
			}
			for range rand.IntN(100) {
				e, err := c.next()
				if err != nil || e.data != fmt.Sprintf(`{"N":%d}`, next) {
					t.Fatalf("%+v, %v; want sale %d", e, err, next)
				}
				next++
				given.Store(int64(next))
			}
			if c.last != "" {
				last = c.last
			}
			c.close()
		}
		cancel()
		<-published
		gone(t, updates)
	})
}

// An id that is kept no longer, or never was, is one resync, and then the live stream:
// the page loads what was before.
//
// Red when first takes no notice of Missed, gives what is left as well, or accepts Oldest.
func TestEvents_unknownID(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		client, prefix := b.Client(t), b.Prefix(t)
		bus := newBus(t, client, prefix)
		s := newStream(t, bus, event.WithMaxLen(10))
		srv := eventSite(t, middleware.Events(middleware.FromStream(s)), false)
		empty := connect(t, srv, "").opened()
		empty.close()
		ids := sell(t, s, 0, 300)
		var sources []*source
		for _, id := range []string{ids[0], empty.last, "9999999999999-0", "nonsense", "0", "$", "1-1\x01", strings.Repeat("9", 5000)} {
			c := connect(t, srv, strings.ReplaceAll(id, "\x01", ";"))
			c.hears("resync")
			if c.last != ids[299] {
				t.Errorf("%.20q: id %q; want that of the newest entry", id, c.last)
			}
			sources = append(sources, c)
		}
		sell(t, s, 300, 301)
		for _, c := range sources {
			c.hears("300")
		}
		// What everybody has lost is a resync for everybody.
		if err := client.Del(t.Context(), prefix+":stream:{sales}", prefix+":stream:{sales}:meta").Err(); err != nil {
			t.Fatal(err)
		}
		for _, c := range sources {
			c.hears("resync")
		}
		sell(t, s, 301, 302)
		for _, c := range sources {
			c.hears("301")
		}
	})
}

// A client that is too slow for what the stream keeps is told so, once, and goes on with
// what is new.
//
// Red when follow goes on with what is left.
func TestEvents_slow(t *testing.T) {
	t.Parallel()
	s := miniStream(t, event.WithMaxLen(50))
	var holding atomic.Bool
	proceed := make(chan struct{})
	slow := middleware.WithFilter(func(_ *http.Request, v sale) bool {
		if v.N == 0 {
			holding.Store(true)
			<-proceed // as a client that does not read
		}
		return true
	})
	srv := eventSite(t, middleware.Events(middleware.FromStream(s, slow)), false)
	c := connect(t, srv, "").opened()
	sell(t, s, 0, 1)
	testkit.Eventually(t, "the client to be busy", holding.Load)
	ids := sell(t, s, 1, 1000)
	close(proceed)
	c.hears("0", "resync")
	if c.last != ids[998] {
		t.Errorf("id %q; want %q, the newest", c.last, ids[998])
	}
	sell(t, s, 1000, 1001)
	c.hears("1000")
}

// A slow client of a topic is told what its buffer has dropped, or is disconnected.
//
// Red when serve leaves out the resync for a gap.
func TestEvents_slowTopic(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy event.Overflow
		want   []string
	}{
		"oldest":     {event.DropOldest, []string{"0", "resync", "8", "9"}},
		"disconnect": {event.Disconnect, []string{"0", "1", "2", "end"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, newBus(t, testkit.Mini(t).Client(t), "weir"), "sales")
			var holding atomic.Bool
			proceed := make(chan struct{})
			slow := middleware.WithFilter(func(_ *http.Request, v sale) bool {
				if v.N == 0 {
					holding.Store(true)
					<-proceed
				}
				return true
			})
			beside, err := topic.Subscribe()
			if err != nil {
				t.Fatal(err)
			}
			defer beside.Close()
			srv := eventSite(t, middleware.Events(middleware.FromTopic(topic, slow), middleware.WithBuffer(2, c.policy), middleware.WithOpenTimeout(ample)), false)
			client := connect(t, srv, "").opened()
			for n := range 10 {
				if err := topic.Publish(t.Context(), sale{N: n}); err != nil {
					t.Fatal(err)
				}
				if n == 0 {
					testkit.Eventually(t, "the client to be busy", holding.Load)
				}
			}
			// The link gives each message to all before the next.
			testkit.Eventually(t, "the events", func() bool { return beside.Stats().Received == 10 })
			close(proceed)
			client.hears(c.want...)
			if c.policy == event.Disconnect && len(client.retries) != 2 {
				t.Errorf("retry %v; want one at the end", client.retries)
			}
		})
	}
}

// A heartbeat during a replay tells no id of an event that is not yet sent: the client
// might go before it is.
//
// Red when pass, and not flush, sets the id that heartbeats tell.
func TestEvents_heartbeatInReplay(t *testing.T) {
	t.Parallel()
	s := miniStream(t)
	ids := sell(t, s, 0, 4)
	proceed := make(chan struct{})
	slow := middleware.WithFilter(func(_ *http.Request, v sale) bool {
		if v.N == 3 {
			<-proceed
		}
		return true
	})
	srv := eventSite(t, middleware.Events(middleware.FromStream(s, slow), middleware.WithHeartbeat(20*time.Millisecond)), false)
	c := connect(t, srv, ids[0]).opened()
	for range 10 { // lines: comments, or ids
		if dispatched, e, err := c.step(); dispatched || err != nil || c.last != ids[0] {
			t.Fatalf("%+v, %v, id %q; want comments, and the id %q", e, err, c.last, ids[0])
		}
	}
	close(proceed)
	c.hears("1", "2", "3")
}
