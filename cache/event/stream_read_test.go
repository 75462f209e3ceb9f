package event_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// reader is a running Follow and what it has been given.
type reader struct {
	tb testing.TB
	mu sync.Mutex
	// lines are the sales, and errors in their places.
	lines []string
	// sales and missed count.
	sales, missed int64
	last          string
	ended         chan struct{}
}

// follow starts a reader, which ends with the test. each is called for each entry.
func follow(tb testing.TB, s *event.Stream[sale], after string, each func(event.Entry[sale])) *reader {
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{tb: tb, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		for e, err := range s.Follow(ctx, after) {
			r.note(e, err)
			if each != nil && err == nil {
				each(e)
			}
		}
	}()
	tb.Cleanup(func() { cancel(); <-r.ended })
	return r
}

func (r *reader) note(e event.Entry[sale], err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var missed *event.Missed
	switch {
	case errors.As(err, &missed):
		r.missed += missed.Count
		r.lines = append(r.lines, fmt.Sprint("missed ", missed.Count))
	case errors.Is(err, event.ErrUnavailable):
		r.lines = append(r.lines, "unavailable")
	case errors.Is(err, event.ErrCorrupt):
		r.lines = append(r.lines, fmt.Sprintf("corrupt %s", e.Raw))
	case err != nil:
		r.lines = append(r.lines, err.Error())
	default:
		r.sales++
		r.last = e.ID
		r.lines = append(r.lines, fmt.Sprint(e.Value.N))
	}
}

func (r *reader) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lines)
}

func (r *reader) expect(lines ...string) {
	r.tb.Helper()
	testkit.Eventually(r.tb, fmt.Sprint("lines ", lines), func() bool { return len(r.told()) >= len(lines) })
	if got := r.told(); !slices.Equal(got, lines) {
		r.tb.Fatalf("told %q; want %q", got, lines)
	}
}

// Readers have all entries after their positions, and new ones as they come.
func TestFollow_positions(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		s := openStream(t, client, prefix)
		empty := follow(t, s, event.Oldest, nil)
		ids := sell(t, s, 0, 3)
		empty.expect("0", "1", "2")
		from := []*reader{follow(t, s, ids[0], nil), follow(t, s, ids[2], nil), follow(t, s, event.Newest, nil)}
		from[0].expect("1", "2")
		if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: prefix + ":stream:{sales}", Values: []string{"v", "what"}}).Err(); err != nil {
			t.Fatal(err)
		}
		from[0].expect("1", "2", "corrupt what")
		sell(t, s, 3, 4)
		from[0].expect("1", "2", "corrupt what", "3")
		from[1].expect("corrupt what", "3")
		empty.expect("0", "1", "2", "corrupt what", "3")
		follow(t, s, "1", nil).expect("event: follow: not a position in a stream")
	})
}

// A position that was trimmed is told once, at once, and what is left follows; one that
// was not is not. A reader that keeps up is told nothing, however much is trimmed
// behind it.
//
// Red when stream_read.lua always says 0, or follower forgets the last number.
func TestFollow_trimmed(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t), event.WithMaxLen(10))
		var ids []string
		keeps := follow(t, s, event.Oldest, nil)
		for n := range 400 {
			ids = append(ids, sell(t, s, n, n+1)...)
			if n%5 == 4 {
				testkit.Eventually(t, "the reader", func() bool { return len(keeps.told()) > n })
			}
		}
		if got := keeps.told(); keeps.missed != 0 || len(got) != 400 {
			t.Errorf("%d lines, %d missed; want 400 sales", len(got), keeps.missed)
		}
		page, err := s.Read(t.Context(), ids[0], 1000)
		if err != nil || !page.Missed || len(page.Entries) == 0 || page.Next != ids[399] {
			t.Fatalf("%+v, %v; want Missed, and what is left", page, err)
		}
		late := follow(t, s, ids[0], nil)
		testkit.Eventually(t, "what is left", func() bool { return len(late.told()) == 1+len(page.Entries) })
		if got := late.told(); got[0] != "missed -1" || late.missed != -1 || got[len(got)-1] != "399" {
			t.Errorf("told %q; want missed -1 once, then what is left", got)
		}
		if page, err := s.Read(t.Context(), ids[399], 10); err != nil || page.Missed || len(page.Entries) != 0 || page.Next != ids[399] {
			t.Errorf("%+v, %v; want nothing, and nothing missed", page, err)
		}
		if page, err := s.Read(t.Context(), "9999999999999-0", 10); err != nil || !page.Missed || len(page.Entries) == 0 {
			t.Errorf("a position of another life: %+v, %v; want Missed, and all there is", page, err)
		}
	})
}

// A reader that is slow is told exactly how many it has missed.
func TestFollow_slow(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t), event.WithMaxLen(50))
		proceed := make(chan struct{})
		slow := follow(t, s, event.Oldest, func(event.Entry[sale]) { <-proceed })
		sell(t, s, 0, 1)
		slow.expect("0")
		sell(t, s, 1, 1000)
		close(proceed)
		testkit.Eventually(t, "the last sale", func() bool { got := slow.told(); return got[len(got)-1] == "999" })
		if slow.sales+slow.missed != 1000 || slow.missed < 500 {
			t.Errorf("%d given, %d missed; want 1000 together", slow.sales, slow.missed)
		}
	})
}

// A reader that is cut off and comes back with the last id it has seen misses nothing
// and is given nothing twice.
//
// The long form, under make soak, disconnects 10,000 times instead of 1000.
func TestFollow_disconnects(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	s := openStream(t, b.Client(t), b.Prefix(t))
	times := campaign(1000, 10_000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for n := 0; ctx.Err() == nil; n++ {
			if _, err := s.Publish(ctx, sale{n}); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
		}
	}()
	last, next := event.Oldest, 0
	for range times {
		left := rand.IntN(4)
		for e, err := range s.Follow(ctx, last) {
			if err != nil || e.Value.N != next {
				t.Fatalf("sale %d, %v; want %d", e.Value.N, err, next)
			}
			last = e.ID
			next++
			if left--; left < 0 {
				break
			}
		}
	}
}

// Data lost, and silence, are told once each; then it goes on.
func TestFollow_faults(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	bus, err := event.New(client)
	if err != nil {
		t.Fatal(err)
	}
	s, err := event.NewStream[sale](bus, "sales")
	if err != nil {
		t.Fatal(err)
	}
	publish := func(n int) {
		testkit.Eventually(t, "a sale", func() bool {
			_, _, err := s.PublishOnce(t.Context(), fmt.Sprint(n), sale{n})
			return err == nil
		})
	}
	r := follow(t, s, event.Oldest, nil)
	publish(0)
	r.expect("0")
	b.Pause()
	r.expect("0", "unavailable")
	begun := time.Now()
	testkit.Eventually(t, "three seconds to pass", func() bool { return time.Since(begun) > 3*time.Second })
	b.Resume()
	publish(1)
	r.expect("0", "unavailable", "1")
	if err := client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "notice", func() bool { return len(r.told()) == 4 })
	publish(2)
	r.expect("0", "unavailable", "1", "missed -1", "2")
}

// A Bus that is shut down ends its streams' consumers and readers.
func TestStream_shutdown(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		bus, err := event.New(client, event.WithPrefix(b.Prefix(t)), event.WithTimeout(ample))
		if err != nil {
			t.Fatal(err)
		}
		s, err := event.NewStream[sale](bus, "sales")
		if err != nil {
			t.Fatal(err)
		}
		x := consume(t, s, nil)
		r := follow(t, s, event.Oldest, nil)
		sell(t, s, 0, 1)
		x.expect(0)
		r.expect("0")
		if err := bus.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Publish(t.Context(), sale{1}); !errors.Is(err, event.ErrClosed) {
			t.Errorf("publish: %v; want ErrClosed", err)
		}
		select {
		case <-x.ended:
		case <-time.After(ample):
			t.Fatal("the consumer goes on")
		}
		if x.err != nil {
			t.Error(x.err)
		}
		r.expect("0", "event: follow: closed")
		if err := s.Consume(t.Context(), "mail", func(context.Context, event.Entry[sale]) error { return nil }); !errors.Is(err, event.ErrClosed) {
			t.Errorf("consume: %v; want ErrClosed", err)
		}
	})
}

// Readers that stand side by side ask Redis together, and each is given everything.
//
// Red when shared has each ask for itself (2000 round trips and more).
func TestFollow_sideBySide(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	client, proxies := b.ProxiedClient(t)
	prefix := b.Prefix(t)
	s, direct := openStream(t, client, prefix), openStream(t, b.Client(t), prefix)
	var readers []*reader
	for range 100 {
		readers = append(readers, follow(t, s, event.Oldest, nil))
	}
	sell(t, direct, 0, 1)
	for _, r := range readers {
		r.expect("0")
	}
	proxies.Each((*testkit.Proxy).Reset)
	want := []string{"0"}
	begun := time.Now()
	for n := 1; n <= 20; n++ {
		sell(t, direct, n, n+1)
		want = append(want, fmt.Sprint(n))
		for _, r := range readers {
			r.expect(want...)
		}
	}
	if took, commands := time.Since(begun), proxies.Commands(); commands > 1000 || took > 15*time.Second {
		t.Errorf("20 sales to 100 readers took %d commands and %v; want a few for each sale", commands, took)
	}
}
