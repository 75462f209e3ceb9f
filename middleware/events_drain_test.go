package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// pipes is a listener without sockets.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

// dial opens a connection and a stream on it.
func (p *pipes) dial() (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
	case <-p.done:
		return nil, net.ErrClosed
	}
	_, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: pipes\r\nAccept: text/event-stream\r\n\r\n")
	return client, err
}

// pipeSite serves a handler on pipes.
func pipeSite(tb testing.TB, updates *middleware.EventsHandler) (*http.Server, *pipes) {
	tb.Helper()
	p := newPipes()
	srv := &http.Server{Handler: updates, ErrorLog: log.New(io.Discard, "", 0)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(p)
	}()
	tb.Cleanup(func() {
		_ = updates.Close()
		_ = srv.Close()
		<-served
	})
	return srv, p
}

// heard is what one of many clients was given in all.
type heard struct {
	events  []string
	retries []int
	last    string // the id it comes back with
	err     error
}

// listen reads a stream to its end; opened is called when it has begun.
func listen(p *pipes, opened func()) (h heard) {
	conn, err := p.dial()
	if err != nil {
		return heard{err: err}
	}
	defer conn.Close()
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return heard{err: err}
	}
	events := newParser(answer.Body)
	for events.last == "" {
		if _, _, err := events.step(); err != nil {
			return heard{err: err}
		}
	}
	opened()
	for {
		e, err := events.next()
		if err == io.EOF { // the last chunk came
			return heard{h.events, events.retries, events.last, nil}
		}
		if err != nil {
			return heard{h.events, events.retries, events.last, err}
		}
		h.events = append(h.events, e.name+e.data)
	}
}

// stall opens a stream and then reads nothing more: on a pipe the next byte waits for
// that.
func stall(tb testing.TB, p *pipes) {
	tb.Helper()
	conn, err := p.dial()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { conn.Close() })
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		tb.Fatal(err)
	}
	for c := newParser(answer.Body); c.last == ""; {
		if _, _, err := c.step(); err != nil {
			tb.Fatal(err)
		}
	}
}

// At a shutdown thousands of streams end as streams should, each with a time of its own
// after which its client comes back; and nothing is left of them.
//
// Red when finish bids no farewell, or wait is no random time. The long form, under
// make soak, has 5,000 clients instead of 500.
func TestEvents_shutdown(t *testing.T) {
	// Not parallel: it counts goroutines.
	const least, most = 2 * time.Second, 20 * time.Second
	b := testkit.Shared(t, "server")
	client := b.Client(t)
	prefix := b.Prefix(t)
	s := newStream(t, newBus(t, client, prefix))
	before := runtime.NumGoroutine()
	var passed atomic.Int64
	count := middleware.WithFilter(func(*http.Request, sale) bool { passed.Add(1); return true })
	updates := middleware.Events(middleware.FromStream(s, count), middleware.WithRetry(least, most))
	srv, p := pipeSite(t, updates)
	clients := campaign(500, 5000)
	results := make(chan heard, clients)
	var open atomic.Int64
	for range clients {
		go func() { results <- listen(p, func() { open.Add(1) }) }()
	}
	testkit.Eventually(t, "the streams", func() bool { return open.Load() == int64(clients) })
	ids := sell(t, s, 0, 1)
	testkit.Eventually(t, "some to have the sale", func() bool { return passed.Load() > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	drained := make(chan error, 1)
	srv.RegisterOnShutdown(func() { drained <- updates.Shutdown(ctx) })
	begun := time.Now()
	if err := srv.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	var retries []int
	sales := 0
	for range clients {
		h := <-results
		if h.err != nil || len(h.retries) == 0 || len(h.events) > 1 {
			t.Fatalf("a client: %+v; want the sale or not, a time to come back, and a clean end", h)
		}
		if (h.last == ids[0]) != (len(h.events) == 1) {
			t.Fatalf("a client comes back with %q and has %q; want %q if it has the sale, and only then", h.last, h.events, ids[0])
		}
		sales += len(h.events)
		retries = append(retries, h.retries[len(h.retries)-1])
	}
	t.Logf("%d streams ended in %v; %d had the sale", clients, time.Since(begun), sales)
	slices.Sort(retries)
	if l, m := retries[0], retries[len(retries)-1]; l < 2000 || m > 20_000 || m-l < 12_000 {
		t.Errorf("they come back after %d to %d ms; want them spread from 2,000 to 20,000", l, m)
	}
	if distinct := len(slices.Compact(retries)); distinct < clients/2 {
		t.Errorf("%d times to come back for %d clients; want most to differ", distinct, clients)
	}
	listening(t, client, prefix+":stream:{sales}", 0)
	testkit.Eventually(t, "the goroutines to end", func() bool { return runtime.NumGoroutine() <= before+20 })
}

// While it drains nobody is let in, and those who come are told to come back.
//
// Red when Shutdown does not cancel, finish bids no farewell, enter lets in, or refuse
// answers 503 to an EventSource.
func TestEvents_draining(t *testing.T) {
	t.Parallel()
	s := miniStream(t)
	updates := middleware.Events(middleware.FromStream(s))
	srv := eventSite(t, updates, false)
	c := connect(t, srv, "").opened()
	if err := updates.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.hears("end")
	if len(c.retries) != 2 {
		t.Errorf("retry %v; want another at the end", c.retries)
	}
	connect(t, srv, "").isLater()
	later := connect(t, srv, "", func(r *http.Request) { r.Header.Del("Accept") })
	if later.answer.StatusCode != 503 || later.answer.Header.Get("Retry-After") == "" {
		t.Errorf("%s, Retry-After %q; want 503 and a time", later.answer.Status, later.answer.Header.Get("Retry-After"))
	}
	if err := updates.Shutdown(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
}

// A client that takes nothing is cut off when Shutdown's time is up.
//
// Red when Shutdown does not cut.
func TestEvents_shutdownStalled(t *testing.T) {
	t.Parallel()
	s := miniStream(t)
	updates := middleware.Events(middleware.FromStream(s))
	_, p := pipeSite(t, updates)
	stall(t, p)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := updates.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want that the time is up", err)
	}
	// Long before the 10 s of a write.
	begun := time.Now()
	gone(t, updates)
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("it is gone after %v; want at once", took)
	}
}

// A client that stops reading is disconnected, and delays no other: when it is sent an
// event, and when it is sent a comment.
//
// Red when write sets no deadline.
func TestEvents_stalled(t *testing.T) {
	t.Parallel()
	for name, heartbeat := range map[string]time.Duration{"event": time.Hour, "comment": 50 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := miniStream(t)
			var passed atomic.Int64 // to either of the two
			count := middleware.WithFilter(func(*http.Request, sale) bool { passed.Add(1); return true })
			updates := middleware.Events(middleware.FromStream(s, count), middleware.WithWriteTimeout(time.Second), middleware.WithHeartbeat(heartbeat))
			_, p := pipeSite(t, updates)
			stall(t, p)
			done, opened := make(chan heard, 1), make(chan struct{})
			go func() { done <- listen(p, func() { close(opened) }) }()
			select {
			case <-opened: // before that nobody knows where it begins
			case h := <-done:
				t.Fatalf("the other ended: %+v", h)
			}
			sell(t, s, 0, 1)
			testkit.Eventually(t, "the stalled one to end", func() bool { return updates.Streams() == 1 })
			sell(t, s, 1, 2)
			testkit.Eventually(t, "the other to have both", func() bool { return passed.Load() >= 3 })
			if err := updates.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if h := <-done; h.err != nil || !slices.Equal(h.events, []string{`{"N":0}`, `{"N":1}`}) {
				t.Errorf("the other: %+v; want both, and a clean end", h)
			}
		})
	}
}

// Over HTTP/2, too, a stalled client gives up its place.
func TestEvents_stalledHTTP2(t *testing.T) {
	t.Parallel()
	s := miniStream(t)
	large := middleware.WithEncoder(func(sale) (string, []byte, error) { return "", make([]byte, 1<<20), nil })
	updates := middleware.Events(middleware.FromStream(s, large), middleware.WithWriteTimeout(500*time.Millisecond))
	srv := eventSite(t, updates, true)
	c := connect(t, srv, "").opened()
	sell(t, s, 0, 20) // more than a client's window
	gone(t, updates)
	if c.answer.ProtoMajor != 2 {
		t.Errorf("%s; want HTTP/2", c.answer.Proto)
	}
}

// No more streams are open than may be; one that ends makes room.
//
// Red when enter does not count.
func TestEvents_maxStreams(t *testing.T) {
	t.Parallel()
	s := miniStream(t)
	for _, plain := range []bool{false, true} {
		options := []middleware.EventsOption{middleware.WithMaxStreams(2)}
		if plain {
			options = append(options, middleware.WithPlainRefusals())
		}
		updates := middleware.Events(middleware.FromStream(s), options...)
		srv := eventSite(t, updates, false)
		first := connect(t, srv, "").opened()
		connect(t, srv, "").opened()
		if third := connect(t, srv, ""); plain {
			if third.answer.StatusCode != 503 || third.answer.Header.Get("Retry-After") == "" {
				t.Errorf("%s; want 503 with Retry-After", third.answer.Status)
			}
		} else {
			third.isLater()
		}
		first.close()
		testkit.Eventually(t, "a place", func() bool { return updates.Streams() == 1 })
		connect(t, srv, "").opened()
	}
}

// A stream ends at its time, and its client comes back to where it was.
func TestEvents_lifetime(t *testing.T) {
	t.Parallel()
	s := miniStream(t)
	updates := middleware.Events(middleware.FromStream(s), middleware.WithLifetime(100*time.Millisecond))
	srv := eventSite(t, updates, false)
	ids := sell(t, s, 0, 1)
	c := connect(t, srv, "")
	c.hears("end")
	if len(c.retries) != 2 || c.last != ids[0] {
		t.Errorf("retry %v, id %q; want two, and %q", c.retries, c.last, ids[0])
	}
	sell(t, s, 1, 2)
	connect(t, srv, c.last).hears("1")
	gone(t, updates)
}

// A Bus that is shut down ends its streams, and their clients are told to come back.
func TestEvents_busShutdown(t *testing.T) {
	t.Parallel()
	bus := newBus(t, testkit.Mini(t).Client(t), "weir")
	streams := eventSite(t, middleware.Events(middleware.FromStream(newStream(t, bus))), false)
	topics := eventSite(t, middleware.Events(middleware.FromTopic(newTopic(t, bus, "sales")), middleware.WithOpenTimeout(ample)), false)
	open := []*source{connect(t, streams, "").opened(), connect(t, topics, "").opened()}
	if err := bus.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range open {
		c.hears("end")
		if len(c.retries) != 2 {
			t.Errorf("retry %v; want another at the end", c.retries)
		}
	}
	connect(t, topics, "").isLater()
}

// A writer that panics in a heartbeat ends its stream and not the process.
//
// Red when heartbeat does not recover.
func TestEvents_heartbeatPanics(t *testing.T) {
	t.Parallel()
	updates := middleware.Events(middleware.FromStream(miniStream(t)), middleware.WithHeartbeat(10*time.Millisecond))
	r := httptest.NewRequest("GET", "/", nil)
	w := &panicking{ResponseRecorder: httptest.NewRecorder()}
	updates.ServeHTTP(w, r)
	if !strings.HasPrefix(w.Body.String(), "retry: ") {
		t.Errorf("%q; want the beginning", w.Body)
	}
}

type panicking struct {
	*httptest.ResponseRecorder
	writes int
}

func (w *panicking) Write(p []byte) (int, error) {
	if w.writes++; w.writes > 1 {
		panic(fmt.Sprint("write ", w.writes))
	}
	return w.ResponseRecorder.Write(p)
}

// When clients are gone, nobody is subscribed for them.
//
// Red when a feed does not close its subscription.
func TestEvents_leavesNothing(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	bus := newBus(t, client, "weir")
	all, err := event.NewPattern[sale](bus, "sale.*")
	if err != nil {
		t.Fatal(err)
	}
	patient := middleware.WithOpenTimeout(ample)
	var open []*source
	for _, feed := range []middleware.EventFeed{
		middleware.FromStream(newStream(t, bus)),
		middleware.FromTopic(newTopic(t, bus, "sale.paid")),
		middleware.FromPattern(all),
	} {
		open = append(open, connect(t, eventSite(t, middleware.Events(feed, patient), false), "").opened())
	}
	listening(t, client, "weir:stream:{sales}", 1)
	listening(t, client, "weir:event:{sale.paid}", 1)
	for _, c := range open {
		c.close()
	}
	listening(t, client, "weir:stream:{sales}", 0)
	listening(t, client, "weir:event:{sale.paid}", 0)
	testkit.Eventually(t, "no pattern", func() bool {
		n, err := client.PubSubNumPat(t.Context()).Result()
		return err == nil && n == 0
	})
}
