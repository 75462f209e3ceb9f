package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// A stream begins at once, and is what browsers and proxies know as one.
//
// Red when begin sends no id, write does not flush, or a frame is taken for that of
// another event.
func TestEvents_begin(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		s := miniStream(t)
		srv := eventSite(t, middleware.Events(middleware.FromStream(s)), http2)
		ids := sell(t, s, 0, 1)
		c := connect(t, srv, "").opened()
		for name, want := range map[string]string{
			"Content-Type":      "text/event-stream",
			"Cache-Control":     "no-cache, no-store, no-transform",
			"X-Accel-Buffering": "no",
		} {
			if got := c.answer.Header.Get(name); got != want {
				t.Errorf("%s: %q; want %q", name, got, want)
			}
		}
		if len(c.retries) != 1 || c.retries[0] < 2000 || c.retries[0] > 8000 || c.last != ids[0] {
			t.Errorf("retry %v, id %q; want 2 s to 8 s, and %s", c.retries, c.last, ids[0])
		}
		sell(t, s, 1, 3)
		c.hears("1", "2")
	})
}

// What is no request for a stream is told so.
func TestEvents_refusals(t *testing.T) {
	t.Parallel()
	updates := middleware.Events(middleware.FromStream(miniStream(t)))
	for _, c := range []struct {
		method, accept string
		status         int
	}{
		{"POST", "text/event-stream", 405},
		{"HEAD", "", 405},
		{"GET", "application/json", 406},
		{"GET", "text/event-stream;q=0, */*", 406},
		{"GET", "text/*", 200},
		{"GET", "*/*", 200},
		{"GET", "text/html;q=0.9, text/event-stream;q=0.1", 200},
		{"GET", "nonsense", 200},
		{"GET", "", 200},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, c.method, "/", nil)
		if c.accept != "" {
			r.Header.Set("Accept", c.accept)
		}
		w := &flushed{ResponseRecorder: httptest.NewRecorder(), then: cancel}
		updates.ServeHTTP(w, r)
		cancel()
		if w.Code != c.status || (c.status == 405) != (w.Header().Get("Allow") == "GET") {
			t.Errorf("%s, Accept %q: %d, Allow %q; want %d", c.method, c.accept, w.Code, w.Header().Get("Allow"), c.status)
		}
	}
	w := httptest.NewRecorder()
	updates.ServeHTTP(struct{ http.ResponseWriter }{w}, httptest.NewRequest("GET", "/", nil))
	if w.Code != 500 {
		t.Errorf("a writer that cannot flush: %d; want 500", w.Code)
	}
	if n := updates.Streams(); n != 0 {
		t.Errorf("%d streams; want none", n)
	}
}

// flushed does something when the first bytes are flushed.
type flushed struct {
	*httptest.ResponseRecorder
	then func()
}

func (w *flushed) FlushError() error {
	w.Flush()
	w.then()
	return nil
}

// All mistakes are told when it is mounted.
func TestEvents_mistakes(t *testing.T) {
	t.Parallel()
	defer func() {
		text, _ := recover().(string)
		for _, want := range []string{
			"FromStream(nil)", "feed's option 1", "WithFilter(nil)", "WithEncoder(nil)", "option 1 is nil", "WithHeartbeat(0s)", "WithWriteTimeout(-1s)",
			"WithOpenTimeout(0s)", "WithLifetime(0s)", "WithRetry(3s, 2s)", "WithMaxStreams(0)", "WithBuffer(0, …)", "WithBuffer(…, 9)",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not told in %q", want, text)
			}
		}
		if got := strings.Count(text, "middleware.Events: "); got != 13 {
			t.Errorf("%d mistakes; want 13: %s", got, text)
		}
	}()
	middleware.Events(
		middleware.FromStream[sale](nil, nil, middleware.WithFilter[sale](nil), middleware.WithEncoder[sale](nil)),
		nil, middleware.WithHeartbeat(0), middleware.WithWriteTimeout(-time.Second), middleware.WithOpenTimeout(0), middleware.WithLifetime(0),
		middleware.WithRetry(3*time.Second, 2*time.Second), middleware.WithMaxStreams(0), middleware.WithBuffer(0, 9),
	)
}

func TestEvents_emptyFeeds(t *testing.T) {
	t.Parallel()
	for name, feed := range map[string]middleware.EventFeed{
		"the feed is empty": {},
		"FromTopic(nil)":    middleware.FromTopic[sale](nil),
		"FromPattern(nil)":  middleware.FromPattern[sale](nil),
		"FromRequest(nil)":  middleware.FromRequest(nil),
	} {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, name) {
					t.Errorf("%q; want %q", text, name)
				}
			}()
			middleware.Events(feed)
		}()
	}
}

// Each request is given the feed it asks for, and an event only what it may see.
func TestEvents_chosen(t *testing.T) {
	t.Parallel()
	bus := newBus(t, testkit.Mini(t).Client(t), "weir")
	feed := middleware.FromStream(newStream(t, bus))
	srv := eventSite(t, middleware.Events(middleware.FromRequest(func(r *http.Request) (middleware.EventFeed, error) {
		switch r.URL.Path {
		case "/sales":
			return feed, nil
		case "/silent":
			return middleware.EventFeed{}, event.ErrUnavailable
		case "/broken":
			return middleware.EventFeed{}, errors.New("broken")
		case "/wrong":
			return middleware.FromTopic[sale](nil), nil
		}
		return middleware.EventFeed{}, nil
	})), false)
	for path, want := range map[string]int{"/sales": 200, "/none": 404, "/broken": 500, "/wrong": 500, "/silent": 200} {
		c := connect(t, srv, "", func(r *http.Request) { r.URL.Path = path })
		if c.answer.StatusCode != want {
			t.Errorf("%s: %s; want %d", path, c.answer.Status, want)
		}
		if path == "/silent" {
			c.isLater()
		}
		c.close()
	}
}

// What a client may not see it is not given, and does not count as missed: its id moves
// past that.
//
// Red when skip does nothing, or heartbeat sends no id.
func TestEvents_filter(t *testing.T) {
	t.Parallel()
	s := miniStream(t)
	calls := make(chan struct{}, 100)
	mine := middleware.WithFilter(func(r *http.Request, v sale) bool {
		calls <- struct{}{}
		return v.Owner == r.Header.Get("X-User")
	})
	srv := eventSite(t, middleware.Events(middleware.FromStream(s, mine), middleware.WithHeartbeat(20*time.Millisecond)), false)
	c := connect(t, srv, "", func(r *http.Request) { r.Header.Set("X-User", "alice") }).opened()
	var ids []string
	for n, owner := range []string{"alice", "bob", "alice", "bob"} {
		id, err := s.Publish(t.Context(), sale{n, owner})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for _, n := range []int{0, 2} {
		if e, err := c.next(); err != nil || e.data != fmt.Sprintf(`{"N":%d,"Owner":"alice"}`, n) || e.id != ids[n] {
			t.Fatalf("%+v, %v; want sale %d", e, err, n)
		}
	}
	for c.last != ids[3] {
		if dispatched, e, err := c.step(); dispatched || err != nil {
			t.Fatalf("%+v, %v; want the id %s alone", e, err, ids[3])
		}
	}
}

// A name and data are the encoder's; what cannot be told leaves a resync.
//
// Red when give leaves that out.
func TestEvents_encoder(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	client := b.Client(t)
	s := newStream(t, newBus(t, client, "weir"))
	encode := middleware.WithEncoder(func(v sale) (string, []byte, error) {
		switch v.N {
		case 1:
			return "a\ndata: forged", nil, nil
		case 2:
			return "", nil, errors.New("no words")
		}
		return "sold", []byte("one\r\ntwo\n\nevent: forged"), nil
	})
	srv := eventSite(t, middleware.Events(middleware.FromStream(s, encode)), false)
	c := connect(t, srv, "").opened()
	ids := sell(t, s, 0, 3)
	if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "weir:stream:{sales}", Values: []string{"v", "what"}}).Err(); err != nil {
		t.Fatal(err)
	}
	ids = append(ids, "")
	ids = append(ids, sell(t, s, 4, 5)...)
	for n, want := range []told{{"", "sold", "one\ntwo\n\nevent: forged"}, {"", "resync", "{}"}, {"", "resync", "{}"}, {"", "resync", "{}"}, {"", "sold", "one\ntwo\n\nevent: forged"}} {
		got, err := c.next()
		if id := got.id; n != 3 && id != ids[n] || id == "" {
			t.Errorf("event %d has id %q; want %q", n, id, ids[n])
		}
		if got.id = ""; got != want || err != nil {
			t.Errorf("event %d: %q, %v; want %q", n, got, err, want)
		}
	}
}

// Clients of topics and patterns hear what is published while they are there. One that
// comes back is told that it may have missed something, exactly once.
//
// Red when serve begins without that.
func TestEvents_topics(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		client, prefix := b.Client(t), b.Prefix(t)
		bus := newBus(t, client, prefix)
		paid := newTopic(t, bus, "sale.paid")
		all, err := event.NewPattern[sale](bus, "sale.*")
		if err != nil {
			t.Fatal(err)
		}
		patient := middleware.WithOpenTimeout(ample)
		topics := eventSite(t, middleware.Events(middleware.FromTopic(paid), patient), false)
		patterns := eventSite(t, middleware.Events(middleware.FromPattern(all), patient), false)
		publish := func(n int) {
			if err := paid.Publish(t.Context(), sale{N: n}); err != nil {
				t.Fatal(err)
			}
		}
		one, many := connect(t, topics, "").opened(), connect(t, patterns, "").opened()
		publish(1)
		one.hears("1")
		many.hears("sale.paid")
		one.close()
		publish(2)
		many.hears("sale.paid") // on a Cluster it would still be under way
		one = connect(t, topics, one.last)
		one.hears("resync")
		publish(3)
		one.hears("3")
		many.hears("sale.paid")
		if err := client.Publish(t.Context(), prefix+":event:{sale.paid}", "what").Err(); err != nil {
			t.Fatal(err)
		}
		one.hears("resync")
		many.hears("resync")
		publish(4)
		one.hears("4")
	})
}

// A page that knows up to where its content reaches says so in the URL; what its browser
// knows later counts more.
func TestEvents_positionParameter(t *testing.T) {
	t.Parallel()
	s := miniStream(t)
	ids := sell(t, s, 0, 3)
	srv := eventSite(t, middleware.Events(middleware.FromStream(s), middleware.WithPositionParameter("after")), false)
	after := func(id string) func(*http.Request) {
		return func(r *http.Request) { r.URL.RawQuery = "after=" + id }
	}
	connect(t, srv, "", after(ids[0])).hears("1", "2")
	connect(t, srv, ids[1], after(ids[0])).hears("2")
	connect(t, srv, "", after("nonsense")).hears("resync")
	srv = eventSite(t, middleware.Events(middleware.FromStream(s)), false)
	if c := connect(t, srv, "", after(ids[0])).opened(); c.last != ids[2] {
		t.Errorf("id %q; want that the parameter is not looked at", c.last)
	}
}

// Comments keep a quiet stream.
func TestEvents_heartbeat(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		srv := eventSite(t, middleware.Events(middleware.FromStream(miniStream(t)), middleware.WithHeartbeat(20*time.Millisecond)), http2)
		c := connect(t, srv, "")
		for c.comments < 3 {
			if dispatched, e, err := c.step(); dispatched || err != nil {
				t.Fatalf("%+v, %v; want comments", e, err)
			}
		}
	})
}

// A server's timeouts, which are for requests, do not end a stream.
//
// Red when write leaves its deadline (HTTP/2); ReadTimeout is net/http's own care.
func TestEvents_serverTimeouts(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		s := miniStream(t)
		updates := middleware.Events(middleware.FromStream(s), middleware.WithWriteTimeout(150*time.Millisecond))
		srv := httptest.NewUnstartedServer(updates)
		srv.Config.ReadTimeout = 150 * time.Millisecond
		srv.Config.WriteTimeout = 150 * time.Millisecond
		if srv.EnableHTTP2 = http2; http2 {
			srv.StartTLS()
		} else {
			srv.Start()
		}
		t.Cleanup(func() { _ = updates.Close(); srv.Close() })
		c := connect(t, srv, "").opened()
		for n := range 3 {
			time.Sleep(300 * time.Millisecond) // twice what would end it
			sell(t, s, n, n+1)
			c.hears(fmt.Sprint(n))
		}
	})
}

// Within the other middlewares of this package it streams as it does alone: Cache keeps
// nothing of it, and holds nothing back.
func TestEvents_chain(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		client := testkit.Mini(t).Client(t)
		s := newStream(t, newBus(t, client, "weir"))
		limiter, err := ratelimit.New(client, ratelimit.PerHour(100), ratelimit.WithTimeout(ample))
		if err != nil {
			t.Fatal(err)
		}
		responses, err := cache.New(client, cache.WithTimeout(ample))
		if err != nil {
			t.Fatal(err)
		}
		updates := middleware.Events(middleware.FromStream(s), middleware.WithWriteTimeout(time.Second))
		srv := eventSite(t, updates, http2,
			middleware.RateLimit(limiter, middleware.KeyByIP),
			middleware.Session(newSessions(t, client)),
			middleware.Cache(responses),
		)
		plain := func(r *http.Request) { r.Header.Del("Cache-Control") }
		first, second := connect(t, srv, "", plain).opened(), connect(t, srv, "", plain).opened()
		sell(t, s, 0, 1)
		first.hears("0")
		second.hears("0")
		sell(t, s, 1, 2)
		third := connect(t, srv, "", plain).opened()
		sell(t, s, 2, 3)
		third.hears("2")
		if got := third.answer.Header.Get("Cache-Status"); !strings.Contains(got, "fwd") || third.answer.Header.Get("RateLimit") == "" {
			t.Errorf("Cache-Status %q, RateLimit %q; want both", got, third.answer.Header.Get("RateLimit"))
		}
		first.hears("1", "2")
		second.hears("1", "2")
		if err := updates.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		first.hears("end")
		second.hears("end")
	})
}

// A stream that has come to its end is not given to the next client from a cache.
//
// Red when the header lets it be stored.
func TestEvents_notStored(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	s := newStream(t, newBus(t, client, "weir"))
	responses, err := cache.New(client, cache.WithTimeout(ample))
	if err != nil {
		t.Fatal(err)
	}
	updates := middleware.Events(middleware.FromStream(s), middleware.WithLifetime(50*time.Millisecond))
	srv := eventSite(t, updates, false, middleware.Cache(responses))
	plain := func(r *http.Request) { r.Header.Del("Cache-Control") }
	for n := range 3 {
		ids := sell(t, s, n, n+1)
		c := connect(t, srv, "", plain)
		c.hears("end")
		if c.last != ids[0] {
			t.Errorf("id %q; want %q, of now", c.last, ids[0])
		}
	}
}

// A panic of the user's costs its stream, and no place.
//
// Red when leave is not deferred.
func TestEvents_panic(t *testing.T) {
	t.Parallel()
	s := miniStream(t)
	updates := middleware.Events(middleware.FromStream(s, middleware.WithFilter(func(*http.Request, sale) bool { panic(http.ErrAbortHandler) })))
	srv := eventSite(t, updates, false)
	c := connect(t, srv, "").opened()
	sell(t, s, 0, 1)
	if _, err := c.next(); err != io.ErrUnexpectedEOF {
		t.Errorf("%v; want that the stream breaks off", err)
	}
	gone(t, updates)
}
