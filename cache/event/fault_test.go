package event_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// While Redis is silent, Publish fails within the budget, and then at once; the error
// says whether the event may have been sent.
func TestTopic_Publish_silence(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	const budget = 100 * time.Millisecond
	bus := openBus(t, client, "a", event.WithTimeout(budget))
	orders := topic(t, bus, "orders")
	testkit.Eventually(t, "a first publish, which connects", func() bool { return orders.Publish(t.Context(), order{}) == nil })
	s := hear(t, orders)
	b.Pause()
	begun := time.Now()
	err := orders.Publish(t.Context(), order{N: 1})
	if !errors.Is(err, event.ErrUnavailable) || !errors.Is(err, event.ErrMaybeSent) || time.Since(begun) > 20*budget {
		t.Errorf("hung: got %v after %v; want ErrUnavailable, ErrMaybeSent within %v", err, time.Since(begun), budget)
	}
	if _, err := orders.PublishOnce(t.Context(), "id", order{N: 2}); !errors.Is(err, event.ErrUnavailable) || !errors.Is(err, event.ErrMaybeSent) {
		t.Errorf("once: got %v; want ErrUnavailable, ErrMaybeSent", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := orders.Publish(ctx, order{N: 3}); err != context.DeadlineExceeded {
		t.Errorf("the caller's end: got %v; want it untouched", err)
	}
	// The breaker opens: not asked, and so not sent.
	testkit.Eventually(t, "a refusal at once", func() bool {
		err := orders.Publish(t.Context(), order{N: 4})
		return errors.Is(err, event.ErrUnavailable) && !errors.Is(err, event.ErrMaybeSent)
	})
	testkit.Eventually(t, "the subscription's doubt", func() bool { return !s.Live() })
	b.Resume()
	var repeated bool
	testkit.Eventually(t, "a publish after the silence", func() bool {
		repeated, err = orders.PublishOnce(t.Context(), "id", order{N: 2})
		return err == nil
	})
	// It may have been sent before, and then is not sent again: see below for proof.
	t.Logf("the id was repeated: %v", repeated)

	refused := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t), DialerRetries: 1, MaxRetries: -1})
	t.Cleanup(func() { refused.Close() })
	err = topic(t, openBus(t, refused, "a"), "orders").Publish(t.Context(), order{})
	if !errors.Is(err, event.ErrUnavailable) || errors.Is(err, event.ErrMaybeSent) {
		t.Errorf("refused: got %v; want ErrUnavailable alone", err)
	}
}

// A lost reply: the event is sent once, whatever is repeated. Red when announce is
// replayable, and when lua/publish.lua does not keep the id, or not the request.
func TestTopic_Publish_lostReply(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]testkit.Then{"closed": testkit.ThenClose, "silent": testkit.ThenSilence} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Server(t)
			p := testkit.NewProxy(t, b.Addrs()[0])
			s := hear(t, topic(t, openBus(t, b.Client(t), "a"), "orders"))
			orders := topic(t, openBus(t, p.Client(t), "a", event.WithTimeout(500*time.Millisecond)), "orders")
			testkit.Eventually(t, "a first publish", func() bool { return orders.Publish(t.Context(), order{N: 0}) == nil })
			hears(t, s, "0")

			p.SwallowReply(1, "evalsha", then)
			if err := orders.Publish(t.Context(), order{N: 1}); !errors.Is(err, event.ErrUnavailable) || !errors.Is(err, event.ErrMaybeSent) {
				t.Errorf("Publish: got %v; want ErrUnavailable, ErrMaybeSent", err)
			}
			p.SwallowReply(1, "evalsha", then)
			repeated, err := orders.PublishOnce(t.Context(), "id", order{N: 2})
			if then == testkit.ThenClose && (repeated || err != nil) {
				t.Errorf("PublishOnce: got %v, %v; want false: both runs are one request's", repeated, err)
			}
			if then == testkit.ThenSilence && !errors.Is(err, event.ErrMaybeSent) {
				t.Errorf("PublishOnce: got %v; want ErrMaybeSent", err)
			}
			if repeated, err := orders.PublishOnce(t.Context(), "id", order{N: 3}); !repeated || err != nil {
				t.Errorf("again: got %v, %v; want true", repeated, err)
			}
			// A transaction that is carried out twice: the event is one.
			client := b.Client(t)
			client.AddHook(twice{})
			if _, err := client.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
				_, err := orders.PublishIn(t.Context(), tx, "", order{N: 4})
				return err
			}); err != nil {
				t.Errorf("PublishIn: %v", err)
			}
			if err := orders.Publish(t.Context(), order{N: 5}); err != nil {
				t.Error(err)
			}
			hears(t, s, "1", "2", "4", "5")
		})
	}
}

// twice is a hook that sends each pipeline twice.
type twice struct{}

func (twice) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (twice) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (twice) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := next(ctx, cmds); err != nil {
			return err
		}
		return next(ctx, cmds)
	}
}

// A server that is restarted on its port, empty: one gap, and then everything works as
// before, the script included.
func TestBus_serverRestarted(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	bus := openBus(t, b.Client(t), "a")
	orders := topic(t, bus, "orders")
	s := hear(t, orders)
	tell(t, orders, 1)
	hears(t, s, "1")
	b.Kill()
	testkit.Eventually(t, "the subscription's doubt", func() bool { return !s.Live() })
	b.Restart(t)
	testkit.Eventually(t, "a live subscription", s.Live)
	testkit.Eventually(t, "a publish", func() bool { return orders.Publish(t.Context(), order{N: 2}) == nil })
	hears(t, s, "gap link", "2")
	if err := b.Client(t).ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	tell(t, orders, 3)
	hears(t, s, "3")
}

// The id's key holds something else: the event is not sent, and nothing is changed.
func TestTopic_PublishOnce_wrongType(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		client, prefix := b.Client(t), b.Prefix(t)
		orders := topic(t, openBus(t, client, prefix), "orders")
		s := hear(t, orders)
		if _, err := orders.PublishOnce(t.Context(), "id", order{N: 1}); err != nil {
			t.Fatal(err)
		}
		key := testkit.OnlyKey(t, client, prefix)
		if err := client.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
		if err := client.LPush(t.Context(), key, "x").Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := orders.PublishOnce(t.Context(), "id", order{N: 2}); !errors.Is(err, event.ErrCorrupt) {
			t.Errorf("got %v; want ErrCorrupt", err)
		}
		tell(t, orders, 3)
		hears(t, s, "1", "3")
	})
}

// The safety claim of the package: whatever happens to the connection, of numbered
// events each hole in what a subscriber is given has exactly one Gap in it, and there
// are no more Gaps than there were losses. Red when link.confirm does not call Gap, and
// when go-redis is left to reconnect by itself (see internal/rdb).
//
// The long form is 10,000 kills: WEIR_SOAK=1.
func TestGap_everyLoss(t *testing.T) {
	t.Parallel()
	kills := campaign(100, 10_000)
	b := testkit.Server(t)
	proxy := testkit.NewProxy(t, b.Addrs()[0])
	publisher := topic(t, openBus(t, b.Client(t), "a"), "orders")
	bus := openBus(t, proxy.Client(t), "a")
	orders := topic(t, bus, "orders")
	glob, err := event.NewPattern[order](bus, "ord*")
	if err != nil {
		t.Fatal(err)
	}
	roomy := event.WithBuffer(1_000_000, event.DropOldest)
	subs := map[string]*event.Subscription[order]{
		"roomy":   hear(t, orders, roomy),
		"pattern": hear(t, glob, roomy),
		"oldest":  hear(t, orders, event.WithBuffer(4, event.DropOldest)),
		"newest":  hear(t, orders, event.WithBuffer(4, event.DropNewest)),
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var publishing, reading sync.WaitGroup
	sent := 0
	publishing.Go(func() {
		for ; ctx.Err() == nil; sent++ {
			if err := publisher.Publish(context.WithoutCancel(ctx), order{N: sent}); err != nil {
				t.Errorf("publish %d: %v", sent, err)
				return
			}
		}
	})
	results := make(map[string]*audit)
	for name, s := range subs {
		a := &audit{last: -1}
		results[name] = a
		reading.Go(func() {
			for e, err := range s.All(context.Background()) {
				a.see(e, err)
				if strings.HasSuffix(name, "est") && e.Value.N%500 == 0 {
					time.Sleep(time.Millisecond) // slow, so that its buffer overflows
				}
			}
		})
	}

	admin := b.Client(t)
	for i := range kills {
		if i%10 > 0 { // else it does not even come back in between
			testkit.Eventually(t, "the link", subs["roomy"].Live)
		}
		time.Sleep(rand.N(50 * time.Millisecond))
		if i%2 == 0 {
			admin.ClientKillByFilter(t.Context(), "TYPE", "pubsub")
		} else {
			proxy.Cut()
		}
		if i%500 == 499 { // silence instead of an end
			proxy.Hang()
			testkit.Eventually(t, "the doubt", func() bool { return !subs["roomy"].Live() })
			proxy.Heal()
		}
	}
	testkit.Eventually(t, "the last return", subs["roomy"].Live)
	stop()
	publishing.Wait()
	gaps := subs["roomy"].Stats().Gaps
	if gaps == 0 || gaps > uint64(kills+kills/500) {
		t.Errorf("got %d gaps for %d kills", gaps, kills)
	}
	// The very last event was heard by all that had room, or is told as missed.
	testkit.Eventually(t, "the rest", func() bool { return subs["roomy"].Stats().Waiting == 0 })
	if err := bus.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	reading.Wait()
	for name, a := range results {
		for _, fault := range a.faults[:min(10, len(a.faults))] {
			t.Errorf("%s: %s", name, fault)
		}
		t.Logf("%s: of %d sent %d heard, %d holes, %d gaps, %d losses of the link", name, sent, a.heard, a.holes, a.gaps, subs[name].Stats().Gaps)
		if a.holes > a.gaps || a.links > subs[name].Stats().Gaps {
			t.Errorf("%s: %d holes, %d gaps, %d of them for %d losses", name, a.holes, a.gaps, a.links, subs[name].Stats().Gaps)
		}
	}
	if a := results["roomy"]; a.holes == 0 {
		t.Error("nothing was ever missed: the campaign proves nothing")
	}
}

// audit checks what a subscriber is given.
type audit struct {
	last               int        // number of the last event
	open               *event.Gap // since
	heard, holes, gaps int
	links              uint64 // of gaps, those of the link
	faults             []string
}

func (a *audit) see(e event.Event[order], err error) {
	if errors.Is(err, event.ErrGap) {
		var gap *event.Gap
		errors.As(err, &gap)
		a.gaps++
		if gap.Link {
			a.links++
		}
		// A second one before the next event is of another loss: one of the link that
		// came after the first was told, or events that were dropped after that.
		if a.open != nil && !a.open.Link && !gap.Link {
			a.faults = append(a.faults, fmt.Sprintf("after %d two gaps: %v; %v", a.last, a.open, gap))
		}
		a.open = gap
		return
	}
	if err != nil {
		a.faults = append(a.faults, err.Error())
		return
	}
	switch n := e.Value.N; {
	case n <= a.last:
		a.faults = append(a.faults, fmt.Sprintf("%d after %d", n, a.last))
	case n > a.last+1:
		a.holes++
		if a.open == nil {
			a.faults = append(a.faults, fmt.Sprintf("%d to %d are missing, and no gap says so", a.last+1, n-1))
		}
	}
	a.heard++
	a.last, a.open = e.Value.N, nil
}

// One publish is one round trip.
func TestTopic_oneRoundTrip(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	p := testkit.NewProxy(t, b.Addrs()[0])
	orders := topic(t, openBus(t, p.Client(t), "a"), "orders")
	tell(t, orders, 1) // connects, and brings the script
	for name, publish := range map[string]func() error{
		"Publish":     func() error { return orders.Publish(t.Context(), order{}) },
		"PublishOnce": func() error { _, err := orders.PublishOnce(t.Context(), "id", order{}); return err },
	} {
		p.Reset()
		if err := publish(); err != nil {
			t.Fatal(err)
		}
		if got := p.RoundTrips(); got != 1 {
			t.Errorf("%s: got %d round trips; want 1", name, got)
		}
	}
}

// An id that has lost its end gets a new one: it is not remembered for ever.
func TestTopic_PublishOnce_persisted(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		client, prefix := b.Client(t), b.Prefix(t)
		orders := topic(t, openBus(t, client, prefix), "orders")
		for range 2 {
			if _, err := orders.PublishOnce(t.Context(), "id", order{}); err != nil {
				t.Fatal(err)
			}
			key := testkit.OnlyKey(t, client, prefix)
			if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > 10*time.Minute {
				t.Errorf("%s lives %v; want at most 10 minutes", key, ttl)
			}
			if err := client.Persist(t.Context(), key).Err(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Nothing is left of a Bus that was closed.
func TestBus_Close_leavesNothing(t *testing.T) {
	b := testkit.Server(t)
	client := b.Client(t)
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	for range 10 {
		bus := openBus(t, client, "a")
		orders := topic(t, bus, "orders")
		hear(t, orders)
		if _, err := orders.Subscribe(); err != nil { // and forgotten
			t.Fatal(err)
		}
		tell(t, orders, 1)
		bus.Close()
	}
	testkit.Eventually(t, "the goroutines' end", func() bool { return runtime.NumGoroutine() <= before })
}
