package event_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// A handler may take longer than others wait for a sign: its consumer gives one.
//
// Red when take gives no signs (sign is false): the other one handles it, too.
func TestConsume_longHandler(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		begun := make(chan struct{})
		long := func(context.Context, event.Entry[sale]) error {
			close(begun) // panics at a second delivery
			<-time.After(3 * time.Second)
			return nil
		}
		one := consume(t, s, long, event.WithClaimAfter(time.Second))
		sell(t, s, 0, 1)
		<-begun
		two := consume(t, s, nil, event.WithClaimAfter(time.Second))
		settled(t, s)
		if got := append(one.numbers(), two.numbers()...); len(got) != 1 {
			t.Errorf("handled %d times; want once", len(got))
		}
	})
}

// What waits for its next delivery is not claimed either, and its deliveries are
// counted on wherever it goes.
func TestConsume_countedOn(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		sell(t, s, 0, 1)
		for delivery := 1; delivery <= 3; delivery++ {
			x := consume(t, s, func(context.Context, event.Entry[sale]) error { return errors.New("no") },
				event.WithMaxDeliveries(3), event.WithBackoff(time.Hour, time.Hour), event.WithClaimAfter(time.Hour))
			testkit.Eventually(t, "the failure", func() bool {
				return len(x.told(event.NoticeFailed))+len(x.told(event.NoticeDead)) == 1
			})
			if err := x.end(); err != nil || len(x.got) != 1 || x.got[0].Delivery != delivery {
				t.Fatalf("%v, given %+v; want delivery %d", err, x.got, delivery)
			}
		}
		if dead := letters(t, s); len(dead) != 1 || dead[0].Entry.Delivery != 3 || dead[0].Reason != "no" {
			t.Errorf("%+v; want one letter, of delivery 3", dead)
		}
		settled(t, s)
	})
}

// With several workers, later entries pass one that waits.
func TestConsume_passing(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		var failed atomic.Int32
		x := consume(t, s, func(_ context.Context, e event.Entry[sale]) error {
			if e.Value.N%10 == 0 && e.Delivery == 1 {
				failed.Add(1)
				return errors.New("not yet")
			}
			return nil
		}, event.WithWorkers(3), event.WithBackoff(100*time.Millisecond, time.Second))
		sell(t, s, 0, 100)
		x.expectAll(0, 100)
		settled(t, s)
		if got := x.numbers(); len(got) != 110 || failed.Load() != 10 {
			t.Errorf("%d deliveries, %d failed; want 110 and 10", len(got), failed.Load())
		}
	})
}

// At the end of its context a consumer takes nothing more, and lets its handlers
// finish; their context stays.
//
// Red when handlers get Consume's own context, or end does not wait for them.
func TestConsume_drains(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		proceed := make(chan struct{})
		var disturbed atomic.Int32
		x := consume(t, s, func(ctx context.Context, _ event.Entry[sale]) error {
			<-proceed
			if ctx.Err() != nil {
				disturbed.Add(1)
			}
			return nil
		}, event.WithWorkers(2), event.WithClaimAfter(time.Hour))
		sell(t, s, 0, 10)
		testkit.Eventually(t, "two handlers", func() bool { return len(x.numbers()) == 2 })
		x.cancel()
		select {
		case <-x.ended:
			t.Fatal("did not wait for its handlers")
		case <-time.After(50 * time.Millisecond):
		}
		close(proceed)
		if err := x.end(); err != nil || len(x.numbers()) != 2 || disturbed.Load() != 0 {
			t.Errorf("%v, %v handled, %d disturbed; want two handled in peace", err, x.numbers(), disturbed.Load())
		}
		if g := groupOf(t, s); g.Pending != 0 || g.Consumers != 0 || g.Lag != 8 {
			t.Errorf("%+v; want nothing pending, nobody there, 8 to do", g)
		}
	})
}

// A handler that outlives its grace has its context ended. If it heeds that, its entry
// is another's at once, and the delivery does not count; if not, it is another's once
// it gives no more signs.
//
// Red when end hands nothing back (stream_leave.lua), or does not take the delivery
// off.
func TestConsume_grace(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		sell(t, s, 0, 1)
		heeds := consume(t, s, func(ctx context.Context, _ event.Entry[sale]) error {
			<-ctx.Done()
			return ctx.Err()
		}, event.WithGrace(10*time.Millisecond), event.WithClaimAfter(time.Hour))
		heeds.expect(0)
		block := make(chan struct{})
		defer close(block)
		deaf := consume(t, s, func(_ context.Context, e event.Entry[sale]) error {
			if e.Value.N == 0 {
				<-block
			}
			return nil
		}, event.WithGrace(10*time.Millisecond), event.WithClaimAfter(time.Hour))
		sell(t, s, 1, 2)
		deaf.expect(1)
		if err := heeds.end(); err != nil {
			t.Errorf("%v; want none", err)
		}
		deaf.expect(1, 0)
		if d := deaf.got[1].Delivery; d != 1 {
			t.Errorf("delivery %d; want 1: the first one was cut short", d)
		}
		if err := deaf.end(); !errors.Is(err, event.ErrUnfinished) {
			t.Errorf("%v; want ErrUnfinished", err)
		}
		if g := groupOf(t, s); g.Pending != 1 {
			t.Errorf("%+v; want one pending", g)
		}
		heir := consume(t, s, nil, event.WithClaimAfter(100*time.Millisecond))
		heir.expect(0)
		if d := heir.got[0].Delivery; d != 2 {
			t.Errorf("delivery %d; want 2", d)
		}
		settled(t, s)
	})
}

// A consumer with the name of one that died takes over at once; one with a similar
// name does not.
//
// Red when stream_join.lua leaves ARGV[7] out.
func TestConsume_sameName(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		sell(t, s, 0, 1)
		block := make(chan struct{})
		defer close(block)
		options := func(name string) []event.ConsumeOption {
			return []event.ConsumeOption{event.WithConsumer(name), event.WithClaimAfter(time.Hour), event.WithGrace(0)}
		}
		dead := consume(t, s, func(context.Context, event.Entry[sale]) error { <-block; return nil }, options("web-1")...)
		dead.expect(0)
		if err := dead.end(); !errors.Is(err, event.ErrUnfinished) {
			t.Fatal(err)
		}
		other := consume(t, s, nil, options("web")...)
		sell(t, s, 1, 2)
		other.expect(1)
		heir := consume(t, s, nil, options("web-1")...)
		heir.expect(0)
		if told := heir.told(event.NoticeClaimed); len(told) != 1 || told[0].Delivery != 2 {
			t.Errorf("told %+v; want one claimed, for delivery 2", told)
		}
		settled(t, s)
	})
}

// Consumers that are gone are forgotten, but never one that has something pending: its
// entry would be forgotten with it.
//
// Red when stream_join.lua deletes whoever is idle, whatever c.pending is.
func TestConsume_forgetsTheGone(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client, prefix := b.Client(t), b.Prefix(t)
			s := openStream(t, client, prefix)
			key := prefix + ":stream:{sales}"
			sell(t, s, 0, 1)
			if err := client.XGroupCreate(t.Context(), key, "mail", "0").Err(); err != nil {
				t.Fatal(err)
			}
			if err := client.XGroupCreateConsumer(t.Context(), key, "mail", "nothing to do").Err(); err != nil {
				t.Fatal(err)
			}
			if err := client.XReadGroup(t.Context(), &redis.XReadGroupArgs{Group: "mail", Consumer: "died", Streams: []string{key, ">"}}).Err(); err != nil {
				t.Fatal(err)
			}
			// Its one worker is busy: it claims nothing, but looks around.
			sell(t, s, 1, 2)
			block := make(chan struct{})
			busy := consume(t, s, func(_ context.Context, e event.Entry[sale]) error {
				if e.Value.N == 1 {
					<-block
				}
				return nil
			}, event.WithClaimAfter(200*time.Millisecond))
			names := func() (all []string) {
				consumers, err := client.XInfoConsumers(t.Context(), key, "mail").Result()
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range consumers {
					all = append(all, c.Name)
				}
				return all
			}
			testkit.Eventually(t, "the idle one to be forgotten", func() bool { return !slices.Contains(names(), "nothing to do") })
			if busy.numbers()[0] == 1 && !slices.Contains(names(), "died") {
				t.Error("one with a pending entry was deleted")
			}
			close(block)
			busy.expectAll(0, 2)
			testkit.Eventually(t, "the dead one to be forgotten", func() bool { return !slices.Contains(names(), "died") })
			settled(t, s)
		})
	}
}

// Consumers come and go while it is sold and published on: nothing is lost, nothing is
// left behind, no goroutine neither.
func TestConsume_comeAndGo(t *testing.T) {
	b := testkit.Server(t)
	client := b.Client(t)
	s := openStream(t, client, "weir")
	sell(t, s, 0, 1)
	before := runtime.NumGoroutine()
	const rounds, each = 40, 10
	all, finish := context.WithCancel(t.Context())
	defer finish()
	var mu sync.Mutex
	count := make(map[int]int)
	handled := func(e event.Entry[sale]) {
		mu.Lock()
		defer mu.Unlock()
		if count[e.Value.N]++; len(count) == rounds*each {
			finish()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 1; n < rounds*each; n++ {
			if _, err := s.Publish(t.Context(), sale{n}); err != nil {
				t.Error(err)
			}
		}
	})
	for range 4 {
		wg.Go(func() {
			for i := range rounds {
				ctx, cancel := context.WithCancel(all)
				var seen atomic.Int32
				err := s.Consume(ctx, "mail", func(_ context.Context, e event.Entry[sale]) error {
					handled(e)
					if int(seen.Add(1)) > i%5 {
						cancel()
					}
					return nil
				}, event.WithWorkers(1+i%3), event.WithClaimAfter(time.Hour))
				cancel()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Consume(ctx, "mail", func(_ context.Context, e event.Entry[sale]) error {
			handled(e)
			return nil
		})
	}()
	<-all.Done()
	settled(t, s)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for n := range rounds * each {
		if count[n] != 1 {
			t.Errorf("sale %d was handled %d times; want once", n, count[n])
		}
	}
	testkit.Eventually(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// A consumer that waits holds no connection of the pool, and leaves at once.
func TestConsume_idle(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	client := b.Client(t, func(o *redis.UniversalOptions) { o.PoolSize = 1 })
	s := openStream(t, client, b.Prefix(t))
	var all []*shop
	for i := range 20 {
		all = append(all, consumeAs(t, s, fmt.Sprint("group-", i), nil))
	}
	sell(t, s, 0, 3)
	for _, x := range all {
		x.expect(0, 1, 2)
	}
	begun := time.Now()
	for _, x := range all {
		if err := x.end(); err != nil {
			t.Error(err)
		}
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("20 consumers took %v to end", took)
	}
}

// Handlers that end their goroutine are handlers that fail.
func TestConsume_goexit(t *testing.T) {
	t.Parallel()
	s := openStream(t, testkit.Mini(t).Client(t), "weir")
	x := consume(t, s, func(context.Context, event.Entry[sale]) error {
		runtime.Goexit()
		return nil
	}, event.WithMaxDeliveries(2))
	sell(t, s, 0, 1)
	x.expect(0, 0)
	testkit.Eventually(t, "a letter", func() bool { return len(letters(t, s)) == 1 })
}

// A publisher wakes its consumers: a hundred hops to and fro take less than those looks
// that a consumer takes by itself would.
//
// Red when stream_add.lua does not PUBLISH.
func TestStream_woken(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	s := openStream(t, b.Client(t), b.Prefix(t))
	mail := consume(t, s, nil)
	sell(t, s, 0, 1)
	mail.expect(0)
	begun := time.Now()
	for n := 1; n <= 100; n++ {
		sell(t, s, n, n+1)
		testkit.Eventually(t, "the sale", func() bool { return len(mail.numbers()) > n })
	}
	if took := time.Since(begun); took > 40*time.Second {
		t.Errorf("took %v", took)
	}
}
