package event_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// An entry that another consumer has taken over is not this one's to bury.
//
// Red when stream_bury.lua does not look whose it is.
func TestConsume_rejectedElsewhere(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		s := openStream(t, client, prefix)
		ids := sell(t, s, 0, 1)
		proceed := make(chan struct{})
		x := consume(t, s, func(context.Context, event.Entry[sale]) error {
			<-proceed
			return event.ErrReject
		}, event.WithClaimAfter(time.Hour))
		x.expect(0)
		claim := redis.XClaimArgs{Stream: prefix + ":stream:{sales}", Group: "mail", Consumer: "another", Messages: ids}
		if err := client.XClaim(t.Context(), &claim).Err(); err != nil {
			t.Fatal(err)
		}
		close(proceed)
		testkit.Eventually(t, "notice", func() bool { return len(x.told(event.NoticeLost)) == 1 })
		if dead := letters(t, s); len(dead) != 0 {
			t.Errorf("%+v; want no letter", dead)
		}
		if g := groupOf(t, s); g.Pending != 1 {
			t.Errorf("%+v; want one pending", g)
		}
	})
}

// An entry whose consumers all die of it is a dead letter after as many deliveries as
// one that fails.
//
// Red when start delivers it whatever its count.
func TestConsume_killsItsConsumer(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		sell(t, s, 0, 2)
		block := make(chan struct{})
		defer close(block)
		options := []event.ConsumeOption{event.WithGrace(0), event.WithClaimAfter(100 * time.Millisecond), event.WithMaxDeliveries(3)}
		handle := func(_ context.Context, e event.Entry[sale]) error {
			if e.Value.N == 0 {
				<-block
			}
			return nil
		}
		for delivery := 1; delivery <= 3; delivery++ {
			x := consume(t, s, handle, options...)
			testkit.Eventually(t, "the delivery", func() bool { return slices.Contains(x.numbers(), 0) })
			if err := x.end(); !errors.Is(err, event.ErrUnfinished) {
				t.Fatal(err)
			}
		}
		x := consume(t, s, handle, options...)
		testkit.Eventually(t, "a letter", func() bool { return len(letters(t, s)) == 1 })
		if d := letters(t, s)[0]; d.Entry.Delivery != 3 || d.Entry.Value.N != 0 || d.Reason != "no consumer has lived to tell how its handler ended" {
			t.Errorf("%+v", d)
		}
		settled(t, s)
		if slices.Contains(x.numbers(), 0) {
			t.Error("delivered a fourth time")
		}
	})
}

// Redis knows of each delivery before the handler does, of the later ones, too: should
// the process die, the next consumer counts on.
//
// Red when stream_retry.lua sets no RETRYCOUNT.
func TestConsume_retriesCounted(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		sell(t, s, 0, 1)
		block := make(chan struct{})
		defer close(block)
		dies := consume(t, s, func(_ context.Context, e event.Entry[sale]) error {
			if e.Delivery < 3 {
				return errors.New("not yet")
			}
			<-block
			return nil
		}, event.WithGrace(0), event.WithClaimAfter(100*time.Millisecond))
		dies.expect(0, 0, 0)
		if err := dies.end(); !errors.Is(err, event.ErrUnfinished) {
			t.Fatal(err)
		}
		heir := consume(t, s, nil, event.WithClaimAfter(100*time.Millisecond))
		heir.expect(0)
		if d := heir.got[0].Delivery; d != 4 {
			t.Errorf("delivery %d; want 4", d)
		}
		settled(t, s)
	})
}

// onDelivery is a hook that calls back when Redis has delivered something.
type onDelivery func()

func (onDelivery) DialHook(next redis.DialHook) redis.DialHook { return next }

func (onDelivery) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f onDelivery) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if _, isTake := turnOf(cmd); isTake && err == nil && delivered(cmd) > 0 {
			f()
		}
		return err
	}
}

// What arrives when the consumer is to end is handed on at once, and no handler has had
// it: that delivery does not count.
//
// Red when start leaves Delivery as it is, or begins it.
func TestConsume_arrivesLate(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		hooked := b.Client(t)
		late := make(chan *shop, 1)
		hooked.AddHook(onDelivery(func() { (<-late).cancel() }))
		x := consume(t, openStream(t, hooked, prefix), nil, event.WithClaimAfter(time.Hour))
		late <- x
		s := openStream(t, client, prefix)
		sell(t, s, 0, 1)
		<-x.ended
		heir := consume(t, s, nil, event.WithClaimAfter(time.Hour))
		heir.expect(0)
		if len(x.numbers()) != 0 || x.err != nil || heir.got[0].Delivery != 1 {
			t.Errorf("%v handled, %v, then delivery %d; want none, nil and 1", x.numbers(), x.err, heir.got[0].Delivery)
		}
		settled(t, s)
	})
}

// What needs no handler takes no time: a turn follows at once, not with the next look.
//
// Red when turn does not come back at once for graves (50 of them take 50 s).
func TestConsume_withoutDelay(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	s := openStream(t, client, "weir")
	for range 50 {
		if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: "weir:stream:{sales}", Values: []string{"v", "what"}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	sell(t, s, 0, 1)
	consume(t, s, nil).expect(0)
}
