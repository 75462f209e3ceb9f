package event_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

// What is published is there in its order, for readers and for each group.
func TestStream_publishedIsThere(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		ids := sell(t, s, 0, 5)
		page, err := s.Read(t.Context(), event.Oldest, 100)
		if err != nil || len(page.Entries) != 5 || page.Next != ids[4] || page.Missed {
			t.Fatalf("%+v, %v; want five entries up to %s", page, err, ids[4])
		}
		for i, e := range page.Entries {
			if e.ID != ids[i] || e.Value.N != i || e.Err != nil || e.Delivery != 0 || time.Since(e.Time()).Abs() > time.Hour {
				t.Errorf("entry %d: %+v; want %s, sale %d", i, e, ids[i], i)
			}
		}
		mail := consume(t, s, nil)
		mail.expect(0, 1, 2, 3, 4)
		sell(t, s, 5, 6)
		mail.expect(0, 1, 2, 3, 4, 5)
		consumeAs(t, s, "stock", nil).expect(0, 1, 2, 3, 4, 5)
		now := consumeAs(t, s, "now", nil, event.WithFromNow())
		testkit.Eventually(t, "the third group", func() bool {
			groups, err := s.Groups(t.Context())
			return err == nil && len(groups) == 3
		})
		sell(t, s, 6, 7)
		now.expect(6)
		settled(t, s)
		if g := groupOf(t, s); g.Consumers != 1 {
			t.Errorf("%+v; want one consumer", g)
		}
		if err := mail.end(); err != nil {
			t.Error(err)
		}
		if g := groupOf(t, s); g.Consumers != 0 || g.Pending != 0 {
			t.Errorf("%+v; want none left", g)
		}
	})
}

// Every key expires, in the slot that the stream's name makes.
func TestStream_keys(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		s := openStream(t, client, prefix, event.WithRetention(time.Hour))
		if _, _, err := s.PublishOnce(t.Context(), "a payment", sale{1}); err != nil {
			t.Fatal(err)
		}
		for _, key := range testkit.Keys(t, client, prefix) { // before a consumer sees to it
			if ttl, err := client.PTTL(t.Context(), key).Result(); err != nil || ttl < time.Hour {
				t.Errorf("%s lives %v, %v", key, ttl, err)
			}
		}
		mail := consume(t, s, func(context.Context, event.Entry[sale]) error { return event.ErrReject })
		mail.expect(1)
		testkit.Eventually(t, "a dead letter", func() bool { return len(letters(t, s)) == 1 })
		most := map[string]time.Duration{"": 2 * time.Hour, ":meta": 2 * time.Hour, ":dead": 30 * 24 * time.Hour, ":id:": 24 * time.Hour}
		for _, key := range testkit.Keys(t, client, prefix) {
			part := strings.TrimPrefix(key, prefix+":stream:{sales}")
			if strings.HasPrefix(part, ":id:") {
				part = ":id:"
			}
			ttl, err := client.PTTL(t.Context(), key).Result()
			if want, known := most[part]; err != nil || !known || ttl > want || ttl < want-time.Minute {
				t.Errorf("%s lives %v, %v; want %v", key, ttl, err, want)
			}
			delete(most, part)
		}
		if len(most) > 0 {
			t.Errorf("no keys %v", most)
		}
	})
}

// The same id is one event, within its time and for its stream.
//
// Red when stream_publish.lua does not look KEYS[3] up.
func TestStream_publishOnce(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		first, repeated, err := s.PublishOnce(t.Context(), "order 1", sale{1})
		if err != nil || repeated {
			t.Fatal(repeated, err)
		}
		again, repeated, err := s.PublishOnce(t.Context(), "order 1", sale{2})
		if err != nil || !repeated || again != first {
			t.Errorf("%s, %v, %v; want %s, repeated", again, repeated, err, first)
		}
		if _, repeated, err := s.PublishOnce(t.Context(), "order 2", sale{3}); err != nil || repeated {
			t.Error(repeated, err)
		}
		if page, _ := s.Read(t.Context(), event.Oldest, 10); len(page.Entries) != 2 || page.Entries[0].Value.N != 1 {
			t.Errorf("%+v; want sales 1 and 3", page.Entries)
		}
		if _, _, err := s.PublishOnce(t.Context(), "", sale{}); !errors.Is(err, event.ErrEmptyID) {
			t.Errorf("%v; want ErrEmptyID", err)
		}
	})
}

// The window of an id ends: by Redis's clock, here miniredis's.
func TestStream_onceWindow(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	b.Miniredis().ClockTTL(false)
	bus, err := event.New(b.Client(t), event.WithOnceWindow(time.Minute), event.WithTimeout(ample))
	if err != nil {
		t.Fatal(err)
	}
	s, err := event.NewStream[sale](bus, "sales")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true, false} {
		if _, repeated, err := s.PublishOnce(t.Context(), "x", sale{i}); err != nil || repeated != want {
			t.Errorf("call %d: repeated %v, %v; want %v", i+1, repeated, err, want)
		}
		b.Miniredis().FastForward(time.Duration(i) * time.Minute)
	}
}

// An event in a transaction is there if the transaction is.
func TestStream_publishIn(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		s := openStream(t, client, prefix)
		state := prefix + ":order:{" + s.Name() + "}:17"
		mail := consume(t, s, nil)
		var told *redis.Cmd
		for range 2 { // the second time as go-redis would after a lost reply
			_, err := client.TxPipelined(t.Context(), func(tx redis.Pipeliner) (err error) {
				tx.Set(t.Context(), state, "paid", time.Minute)
				told, err = s.PublishIn(t.Context(), tx, "paid 17", sale{17})
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		mail.expect(17)
		if reply, err := told.Slice(); err != nil || len(reply) != 2 || reply[1] != int64(1) {
			t.Errorf("%v, %v; want an id and 1", reply, err)
		}
		// One that is not carried out.
		tx := client.TxPipeline()
		if _, err := s.PublishIn(t.Context(), tx, "", sale{18}); err != nil {
			t.Fatal(err)
		}
		tx.Discard()
		if page, err := s.Read(t.Context(), event.Oldest, 10); err != nil || len(page.Entries) != 1 {
			t.Errorf("%+v, %v; want one entry", page, err)
		}
	})
}

// One that fails is delivered again, and then is a dead letter that tells all; the
// group moves on. One worker keeps the order.
//
// Red when settle never buries, or stream_bury.lua acknowledges nothing.
func TestConsume_poison(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		ids := sell(t, s, 0, 4)
		mail := consume(t, s, func(_ context.Context, e event.Entry[sale]) error {
			switch e.Value.N {
			case 1:
				return fmt.Errorf("no stamp for %d", e.Delivery)
			case 2:
				panic("ink is out")
			}
			return nil
		}, event.WithMaxDeliveries(3))
		mail.expect(0, 1, 1, 1, 2, 2, 2, 3)
		settled(t, s)
		dead := letters(t, s)
		if len(dead) != 2 {
			t.Fatalf("%+v; want two", dead)
		}
		for i, reason := range []string{"no stamp for 3", "handler panicked: ink is out"} {
			d := dead[i]
			if d.Entry.ID != ids[i+1] || d.Entry.Value.N != i+1 || d.Entry.Delivery != 3 || d.Group != "mail" || d.Reason != reason || d.Entry.Err != nil {
				t.Errorf("%+v; want sale %d, mail, 3 deliveries, %q", d, i+1, reason)
			}
		}
		if n, told := len(mail.told(event.NoticeFailed)), mail.told(event.NoticeDead); n != 4 || len(told) != 2 || told[0].ID != ids[1] || told[0].Delivery != 3 {
			t.Errorf("%d failures, %+v; want 4, and two dead", n, told)
		}
	})
}

// What does not decode, and what is rejected, is dead at once; nothing of it is lost.
func TestConsume_undecodable(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		s := openStream(t, client, prefix)
		key := prefix + ":stream:{sales}"
		for _, values := range [][]string{{"v", "{\"N\":"}, {"v", "\x00\xff"}, {"what", "else"}, {"v", `{"N":7}`, "more", "x"}} {
			if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: key, Values: values}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		sell(t, s, 8, 9)
		mail := consume(t, s, func(_ context.Context, e event.Entry[sale]) error {
			if e.Value.N == 8 {
				return fmt.Errorf("never: %w", event.ErrReject)
			}
			return nil
		}, event.WithClaimAfter(time.Hour)) // nothing but the turns themselves brings it on
		mail.expect(7, 8)
		settled(t, s)
		var got [][]byte
		for _, d := range letters(t, s) {
			got = append(got, d.Entry.Raw)
			if corrupt := errors.Is(d.Entry.Err, event.ErrCorrupt); d.Entry.Delivery != 1 || corrupt == (len(got) == 4) {
				t.Errorf("letter %d: %+v", len(got), d)
			}
		}
		want := [][]byte{[]byte("{\"N\":"), []byte("\x00\xff"), []byte(`["what" "else"]`), []byte(`{"N":8}`)}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q; want %q", got, want)
		}
		page, err := s.Read(t.Context(), event.Oldest, 10)
		if err != nil || len(page.Entries) != 5 || !errors.Is(page.Entries[0].Err, event.ErrCorrupt) || page.Entries[3].Err != nil {
			t.Errorf("%+v, %v; want five entries, the first with Err", page, err)
		}
	})
}

// A dead letter is requeued for its own group, or discarded.
func TestStream_requeue(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		sell(t, s, 0, 3)
		stock := consumeAs(t, s, "stock", nil)
		bad := consume(t, s, func(context.Context, event.Entry[sale]) error { return event.ErrReject })
		bad.expect(0, 1, 2)
		testkit.Eventually(t, "three letters", func() bool { return len(letters(t, s)) == 3 })
		if err := bad.end(); err != nil {
			t.Fatal(err)
		}
		dead := letters(t, s)
		if n, err := s.Requeue(t.Context(), dead[0].ID, dead[1].ID, "1-1"); n != 2 || err != nil {
			t.Errorf("requeued %d, %v; want 2", n, err)
		}
		if n, err := s.Discard(t.Context(), dead[2].ID, dead[0].ID); n != 1 || err != nil {
			t.Errorf("discarded %d, %v; want 1", n, err)
		}
		if left := letters(t, s); len(left) != 0 {
			t.Errorf("%+v are left", left)
		}
		consume(t, s, nil).expect(0, 1)
		sell(t, s, 3, 4)
		stock.expect(0, 1, 2, 3)
		settled(t, s)
		if page, err := s.Read(t.Context(), event.Oldest, 10); err != nil || len(page.Entries) != 4 {
			t.Errorf("%+v, %v; want the four published", page, err)
		}
		if _, err := s.Requeue(t.Context(), "x"); !errors.Is(err, event.ErrPosition) {
			t.Errorf("%v; want ErrPosition", err)
		}
		if n, err := s.Discard(t.Context()); n != 0 || err != nil {
			t.Error(n, err)
		}
	})
}

// Two consumers share the work: nothing twice, nothing left.
func TestConsume_shared(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		s := openStream(t, client, b.Prefix(t))
		one := consume(t, s, nil, event.WithWorkers(4))
		two := consume(t, s, nil, event.WithWorkers(4))
		const n = 300
		sell(t, s, 0, n)
		settled(t, s)
		count := make(map[int]int)
		for _, n := range append(one.numbers(), two.numbers()...) {
			count[n]++
		}
		for i := range n {
			if count[i] != 1 {
				t.Errorf("sale %d was handled %d times; want once", i, count[i])
			}
		}
		for _, x := range []*shop{one, two} {
			if told := append(x.told(event.NoticeMissed), x.told(event.NoticeClaimed)...); len(told) > 0 {
				t.Errorf("told %+v; want nothing", told)
			}
		}
	})
}

// Bad arguments are refused, all at once and by name.
func TestStream_config(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	_, err := event.NewStream[sale](nil, "a:b", nil, event.WithRetention(0), event.WithMaxLen(0), event.WithDeadLetters(0, 0))
	for _, want := range []string{"bus is nil", `name "a:b"`, "option 1 is nil", "WithRetention(0s)", "WithMaxLen(0)", "WithDeadLetters(0, 0s)"} {
		if !errors.Is(err, event.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	s := openStream(t, client, "weir")
	err = s.Consume(t.Context(), "", nil, nil, event.WithWorkers(0), event.WithMaxDeliveries(0), event.WithBackoff(2, 1), event.WithClaimAfter(0),
		event.WithGrace(-1), event.WithConsumer("a:b"), event.WithNotice(nil))
	for _, want := range []string{`group ""`, "handler is nil", "option 1 is nil", "WithWorkers(0)", "WithMaxDeliveries(0)", "WithBackoff(2ns, 1ns)", "WithClaimAfter(0s)", "WithGrace(-1ns)", `WithConsumer("a:b")`, "WithNotice(nil)"} {
		if !errors.Is(err, event.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q in it", err, want)
		}
	}
	for _, at := range []string{"", "x", "1", "-", "+", "1-", "-1", "1-1-1", "01-1", "1-99999999999999999999", "1-1\r\n", "(1-1"} {
		if _, err := s.Read(t.Context(), at, 1); !errors.Is(err, event.ErrPosition) {
			t.Errorf("position %q: %v; want ErrPosition", at, err)
		}
		if _, err := s.Dead(t.Context(), at, 1); !errors.Is(err, event.ErrPosition) {
			t.Errorf("position %q: %v; want ErrPosition", at, err)
		}
	}
	for _, n := range []int{0, -1, 10_001} {
		if _, err := s.Read(t.Context(), event.Oldest, n); !errors.Is(err, event.ErrConfig) {
			t.Errorf("%d entries: %v; want ErrConfig", n, err)
		}
		if _, err := s.Dead(t.Context(), event.Oldest, n); !errors.Is(err, event.ErrConfig) {
			t.Errorf("%d letters: %v; want ErrConfig", n, err)
		}
	}
}

// What others have put under a key is refused and stays as it is.
func TestStream_wrongType(t *testing.T) {
	eachStream(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		for _, part := range []string{"", ":meta", ":dead"} {
			prefix := b.Prefix(t)
			key := prefix + ":stream:{sales}" + part
			if err := client.Set(t.Context(), key, "mine", time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			s := openStream(t, client, prefix)
			calls := map[string]func() error{
				"publish": func() error { _, err := s.Publish(t.Context(), sale{1}); return err },
				"once":    func() error { _, _, err := s.PublishOnce(t.Context(), "x", sale{1}); return err },
				"consume": func() error {
					return s.Consume(t.Context(), "mail", func(context.Context, event.Entry[sale]) error { return event.ErrReject })
				},
				"groups": func() error { _, err := s.Groups(t.Context()); return err },
			}
			switch part {
			case "":
				calls["read"] = func() error { _, err := s.Read(t.Context(), event.Oldest, 1); return err }
				calls["newest"] = func() error { _, err := s.Read(t.Context(), event.Newest, 1); return err }
				calls["follow"] = func() (last error) {
					for _, err := range s.Follow(t.Context(), event.Oldest) {
						last = err
					}
					return last
				}
			case ":dead":
				sell(t, s, 0, 1)
				calls = map[string]func() error{
					"consume": calls["consume"],
					"dead":    func() error { _, err := s.Dead(t.Context(), event.Oldest, 1); return err },
					"requeue": func() error { _, err := s.Requeue(t.Context(), "1-1"); return err },
					"discard": func() error { _, err := s.Discard(t.Context(), "1-1"); return err },
				}
			}
			for name, call := range calls {
				if err := call(); !errors.Is(err, event.ErrCorrupt) {
					t.Errorf("%s, %s a string: %v; want ErrCorrupt", name, key, err)
				}
			}
			if got, err := client.Get(t.Context(), key).Result(); got != "mine" {
				t.Errorf("%s is now %q, %v", key, got, err)
			}
		}
	})
}

// A call is one round trip.
func TestStream_oneRoundTrip(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client, proxies := b.ProxiedClient(t)
			s := openStream(t, client, b.Prefix(t))
			calls := map[string]func() error{
				"publish": func() error { _, err := s.Publish(t.Context(), sale{1}); return err },
				"once":    func() error { _, _, err := s.PublishOnce(t.Context(), "x", sale{1}); return err },
				"read":    func() error { _, err := s.Read(t.Context(), event.Oldest, 10); return err },
				"groups":  func() error { _, err := s.Groups(t.Context()); return err },
				"dead":    func() error { _, err := s.Dead(t.Context(), event.Oldest, 10); return err },
				"requeue": func() error { _, err := s.Requeue(t.Context(), "1-1"); return err },
			}
			for name, call := range calls {
				for i := range 2 { // the first makes connections and scripts known
					proxies.Each((*testkit.Proxy).Reset)
					if err := call(); err != nil {
						t.Fatal(name, err)
					}
					if trips := proxies.RoundTrips(); i == 1 && trips != 1 {
						t.Errorf("%s: %d round trips; want 1", name, trips)
					}
				}
			}
		})
	}
}

// Dead letters that make room for others are told. (Redis itself trims in blocks.)
func TestConsume_deadMakeRoom(t *testing.T) {
	t.Parallel()
	s := openStream(t, testkit.Mini(t).Client(t), "weir", event.WithDeadLetters(2, time.Hour))
	sell(t, s, 0, 4)
	mail := consume(t, s, func(context.Context, event.Entry[sale]) error { return event.ErrReject })
	testkit.Eventually(t, "four notices", func() bool { return len(mail.told(event.NoticeDead)) == 4 })
	for i, n := range mail.told(event.NoticeDead) {
		if want := int64(i / 2); n.Count != want {
			t.Errorf("letter %d: %d made room; want %d", i, n.Count, want)
		}
	}
	if left := letters(t, s); len(left) != 2 || left[1].Entry.Value.N != 3 {
		t.Errorf("%+v are left; want the last two", left)
	}
}
