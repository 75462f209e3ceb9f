package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// told is an event as a browser dispatches it.
type told struct{ id, name, data string }

// parser reads an event stream as WHATWG HTML section 9.2.6 says.
type parser struct {
	r        *bufio.Reader
	first    bool // the first line was read
	afterCR  bool
	id       string // the buffer
	last     string // the last event id of the source
	data     strings.Builder
	hasData  bool
	name     string
	retries  []int
	comments int
}

func newParser(r io.Reader) *parser { return &parser{r: bufio.NewReader(r)} }

// next returns the next event that is dispatched.
func (p *parser) next() (told, error) {
	for {
		dispatched, e, err := p.step()
		if err != nil || dispatched {
			return e, err
		}
	}
}

// step reads a line.
func (p *parser) step() (dispatched bool, e told, err error) {
	line, err := p.line()
	if err != nil {
		return false, told{}, err // what is not ended by an empty line is dropped
	}
	if !p.first {
		line = strings.TrimPrefix(line, "\ufeff")
		p.first = true
	}
	if line == "" {
		return p.dispatch()
	}
	field, value, colon := strings.Cut(line, ":")
	if field == "" && colon {
		p.comments++
		return false, told{}, nil
	}
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "event":
		p.name = value
	case "data":
		p.data.WriteString(value + "\n")
		p.hasData = true
	case "id":
		if !strings.Contains(value, "\x00") {
			p.id = value
		}
	case "retry":
		if n, err := strconv.Atoi(value); err == nil && strings.Trim(value, "0123456789") == "" {
			p.retries = append(p.retries, n)
		}
	}
	return false, told{}, nil
}

func (p *parser) dispatch() (bool, told, error) {
	p.last = p.id
	e := told{p.last, p.name, strings.TrimSuffix(p.data.String(), "\n")}
	has := p.hasData
	p.data.Reset()
	p.name, p.hasData = "", false
	return has, e, nil
}

// line reads up to CR, LF or both, which it leaves out, and decodes UTF-8.
func (p *parser) line() (string, error) {
	var line []byte
	for {
		b, err := p.r.ReadByte()
		if err != nil {
			return "", err
		}
		skip := p.afterCR && b == '\n'
		p.afterCR = b == '\r'
		switch {
		case skip:
		case b == '\r', b == '\n':
			return asUTF8(line), nil
		default:
			line = append(line, b)
		}
	}
}

// asUTF8 has U+FFFD for what is none.
func asUTF8(b []byte) string { return string([]rune(string(b))) }

// sale is what the tests publish.
type sale struct {
	N     int
	Owner string `json:",omitempty"`
}

// ample is a budget for tests that are not about time.
const ample = 20 * time.Second

// campaign is how long a random campaign is: long under make soak.
func campaign(short, long int) int {
	if os.Getenv("WEIR_SOAK") != "" {
		return long
	}
	return short
}

func newBus(tb testing.TB, client redis.UniversalClient, prefix string) *event.Bus {
	tb.Helper()
	bus, err := event.New(client, event.WithPrefix(prefix), event.WithTimeout(ample))
	if err != nil {
		tb.Fatal(err)
	}
	return bus
}

func newStream(tb testing.TB, bus *event.Bus, options ...event.StreamOption) *event.Stream[sale] {
	tb.Helper()
	s, err := event.NewStream[sale](bus, "sales", options...)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newTopic(tb testing.TB, bus *event.Bus, name string) *event.Topic[sale] {
	tb.Helper()
	topic, err := event.NewTopic[sale](bus, name)
	if err != nil {
		tb.Fatal(err)
	}
	return topic
}

// miniStream is a stream on a Redis of its own.
func miniStream(tb testing.TB, options ...event.StreamOption) *event.Stream[sale] {
	tb.Helper()
	return newStream(tb, newBus(tb, testkit.Mini(tb).Client(tb), "weir"), options...)
}

// sell publishes sales from to to-1.
func sell(tb testing.TB, s *event.Stream[sale], from, to int) (ids []string) {
	tb.Helper()
	for n := from; n < to; n++ {
		id, err := s.Publish(context.Background(), sale{N: n})
		if err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// eventSite serves a handler; its streams end before the server does.
func eventSite(tb testing.TB, updates *middleware.EventsHandler, http2 bool, wrap ...middleware.Middleware) *httptest.Server {
	tb.Helper()
	srv := httptest.NewUnstartedServer(middleware.Chain(wrap...)(updates))
	srv.EnableHTTP2 = http2
	if http2 {
		srv.StartTLS()
	} else {
		srv.Start()
	}
	tb.Cleanup(func() {
		_ = updates.Close()
		srv.Close()
	})
	return srv
}

// source is one connection of an EventSource.
type source struct {
	tb     testing.TB
	answer *http.Response
	cancel context.CancelFunc
	*parser
}

// connect opens a stream as an EventSource does.
func connect(tb testing.TB, srv *httptest.Server, lastID string, set ...func(*http.Request)) *source {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	tb.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
	if err != nil {
		tb.Fatal(err)
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Cache-Control", "no-cache")
	if lastID != "" {
		r.Header.Set("Last-Event-ID", lastID)
	}
	for _, f := range set {
		f(r)
	}
	answer, err := srv.Client().Do(r)
	if err != nil {
		tb.Fatal(err)
	}
	return &source{tb: tb, answer: answer, cancel: cancel, parser: newParser(answer.Body)}
}

// opened reads up to the client's first id.
func (s *source) opened() *source {
	s.tb.Helper()
	for s.last == "" {
		if dispatched, e, err := s.step(); err != nil || dispatched {
			s.tb.Fatalf("%+v, %v; want an id", e, err)
		}
	}
	return s
}

func (s *source) close() {
	s.cancel()
	_ = s.answer.Body.Close()
}

// word is the next event in a word: a sale's number, "resync", or what ended it.
func (s *source) word() string {
	e, err := s.next()
	switch {
	case errors.Is(err, io.EOF):
		return "end"
	case err != nil:
		return err.Error()
	case e.name != "":
		return e.name
	}
	return strings.TrimSuffix(strings.TrimPrefix(e.data, `{"N":`), "}")
}

// hears checks what comes next.
func (s *source) hears(want ...string) {
	s.tb.Helper()
	var got []string
	for range want {
		got = append(got, s.word())
	}
	if !slices.Equal(got, want) {
		s.tb.Fatalf("heard %q; want %q", got, want)
	}
}

// isLater checks that an answer only says when to come back.
func (s *source) isLater() {
	s.tb.Helper()
	if got := s.answer.Header.Get("Content-Type"); s.answer.StatusCode != http.StatusOK || got != "text/event-stream" {
		s.tb.Fatalf("%s of %s; want a stream", s.answer.Status, got)
	}
	s.hears("end")
	if len(s.retries) != 1 || s.last != "" {
		s.tb.Errorf("retry %v, id %q; want when to come back, and no id", s.retries, s.last)
	}
	s.close()
}

// gone waits until no stream is open.
func gone(tb testing.TB, updates *middleware.EventsHandler) {
	tb.Helper()
	testkit.Eventually(tb, "the streams to end", func() bool { return updates.Streams() == 0 })
}

// listening checks how many listen to the channels of a prefix.
func listening(tb testing.TB, client redis.UniversalClient, channel string, want int64) {
	tb.Helper()
	testkit.Eventually(tb, fmt.Sprint(want, " subscriptions of ", channel), func() bool {
		n, err := client.PubSubNumSub(context.Background(), channel).Result()
		return err == nil && n[channel] == want
	})
}
