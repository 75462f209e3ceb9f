package event_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// ample is a budget for tests that are not about time.
const ample = 20 * time.Second

// sale is what the tests publish.
type sale struct{ N int }

// openStream returns a Stream with keys of the test's own and a budget that a loaded
// machine cannot exceed.
func openStream(tb testing.TB, client redis.UniversalClient, prefix string, options ...event.StreamOption) *event.Stream[sale] {
	tb.Helper()
	bus, err := event.New(client, event.WithPrefix(prefix), event.WithTimeout(ample), event.WithOnceWindow(24*time.Hour))
	if err != nil {
		tb.Fatal(err)
	}
	s, err := event.NewStream[sale](bus, "sales", options...)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// eachStream runs the contract's case on every kind of Redis, side by side.
func eachStream(t *testing.T, run func(t *testing.T, b *testkit.Backend, client redis.UniversalClient)) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		run(t, b, b.Client(t))
	})
}

// sell publishes sales from to to-1.
func sell(tb testing.TB, s *event.Stream[sale], from, to int) (ids []string) {
	tb.Helper()
	for n := from; n < to; n++ {
		id, err := s.Publish(context.Background(), sale{n})
		if err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// shop is a running consumer and what it has been given.
type shop struct {
	tb     testing.TB
	cancel context.CancelFunc
	ended  chan struct{}
	err    error

	mu      sync.Mutex
	got     []event.Entry[sale]
	notices []event.Notice
}

// consume starts a consumer of group "mail" whose handler is handle, after taking note
// of the entry; nil is one that is always content. It ends with the test.
func consume(tb testing.TB, s *event.Stream[sale], handle func(context.Context, event.Entry[sale]) error, options ...event.ConsumeOption) *shop {
	tb.Helper()
	return consumeAs(tb, s, "mail", handle, options...)
}

func consumeAs(tb testing.TB, s *event.Stream[sale], group string, handle func(context.Context, event.Entry[sale]) error, options ...event.ConsumeOption) *shop {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	x := &shop{tb: tb, cancel: cancel, ended: make(chan struct{})}
	options = append([]event.ConsumeOption{event.WithBackoff(time.Millisecond, time.Millisecond), event.WithNotice(x.note)}, options...)
	go func() {
		defer close(x.ended)
		x.err = s.Consume(ctx, group, func(ctx context.Context, e event.Entry[sale]) error {
			x.mu.Lock()
			x.got = append(x.got, e)
			x.mu.Unlock()
			if handle == nil {
				return nil
			}
			return handle(ctx, e)
		}, options...)
	}()
	tb.Cleanup(func() {
		cancel()
		<-x.ended
	})
	return x
}

func (x *shop) note(n event.Notice) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.notices = append(x.notices, n)
}

// numbers are those of the sales given so far, in their order.
func (x *shop) numbers() (all []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.got {
		all = append(all, e.Value.N)
	}
	return all
}

// told are the notices of one kind so far.
func (x *shop) told(kind event.NoticeKind) (some []event.Notice) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, n := range x.notices {
		if n.Kind == kind {
			some = append(some, n)
		}
	}
	return some
}

// end ends the consumer and returns its error.
func (x *shop) end() error {
	x.tb.Helper()
	x.cancel()
	select {
	case <-x.ended:
	case <-time.After(30 * time.Second):
		x.tb.Fatal("the consumer has not ended in 30 s")
	}
	return x.err
}

// expect waits until the sales given are numbers, in that order.
func (x *shop) expect(numbers ...int) {
	x.tb.Helper()
	testkit.Eventually(x.tb, fmt.Sprint("sales ", numbers), func() bool { return len(x.numbers()) >= len(numbers) })
	if got := x.numbers(); !slices.Equal(got, numbers) {
		x.tb.Fatalf("sales %v; want %v", got, numbers)
	}
}

// expectAll waits until each of the sales from to to-1 was given, in whatever order.
func (x *shop) expectAll(from, to int) {
	x.tb.Helper()
	testkit.Eventually(x.tb, fmt.Sprintf("all of %d to %d", from, to), func() bool {
		got := x.numbers()
		slices.Sort(got)
		return slices.Equal(slices.Compact(got), upTo(from, to))
	})
}

func upTo(from, to int) (all []int) {
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

// group is what Groups tells of "mail".
func groupOf(tb testing.TB, s *event.Stream[sale]) event.Group {
	tb.Helper()
	groups, err := s.Groups(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	for _, g := range groups {
		if g.Name == "mail" {
			return g
		}
	}
	return event.Group{}
}

// settled waits until the group has handled all there is.
func settled(tb testing.TB, s *event.Stream[sale]) {
	tb.Helper()
	testkit.Eventually(tb, "nothing to be pending", func() bool {
		g := groupOf(tb, s)
		return g.Name != "" && g.Pending == 0 && g.Lag == 0
	})
}

// letters are the dead ones.
func letters(tb testing.TB, s *event.Stream[sale]) []event.DeadLetter[sale] {
	tb.Helper()
	all, err := s.Dead(context.Background(), event.Oldest, 1000)
	if err != nil {
		tb.Fatal(err)
	}
	return all
}
