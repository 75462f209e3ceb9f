package event_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
)

func TestTopic_contract(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		for name, run := range map[string]func(*testing.T, *testkit.Backend, redis.UniversalClient){
			"round trip":   testRoundTrip,
			"patterns":     testPatterns,
			"strangers":    testStrangers,
			"once":         testOnce,
			"transactions": testTransactions,
			"in order":     testOrder,
			"prefixes":     testPrefixes,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t, b, b.Client(t))
			})
		}
	})
}

func testRoundTrip(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
	bus := openBus(t, client, b.Prefix(t))
	created := topic(t, bus, "order.created").KeyedBy(func(o order) string { return o.Key })
	s := hear(t, created)
	testkit.Eventually(t, "a live subscription", s.Live)
	before := time.Now()
	if err := created.Publish(t.Context(), order{7, "a b\n%"}); err != nil {
		t.Fatal(err)
	}
	e, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if e.Topic != "order.created" || e.Value != (order{7, "a b\n%"}) || e.Key != "a b\n%" || len(e.ID) < 20 {
		t.Errorf("got %+v", e)
	}
	if string(e.Raw) != `{"N":7,"Key":"a b\n%"}` {
		t.Errorf("raw: got %s", e.Raw)
	}
	// Redis is on this machine.
	if d := e.Time.Sub(before); d < -time.Second || d > 30*time.Second {
		t.Errorf("time: got %v; want about %v", e.Time, before)
	}
	if got := s.Stats(); got != (event.Stats{Received: 1}) {
		t.Errorf("stats: got %+v", got)
	}
	s.Close()
	if s.Live() {
		t.Error("live after Close")
	}
	if _, err := s.Next(t.Context()); err != event.ErrClosed {
		t.Errorf("after Close: got %v; want ErrClosed", err)
	}
}

func testPatterns(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
	bus := openBus(t, client, b.Prefix(t))
	topics := make(map[string]*event.Topic[order])
	for _, name := range []string{"order.a", "order.b", "order.ab", "order", "orders.a", "cart.a"} {
		topics[name] = topic(t, bus, name)
	}
	round := 0
	for pattern, want := range map[string][]string{
		"order.*":     {"order.a", "order.ab", "order.b"},
		"order.?":     {"order.a", "order.b"},
		"order.[a-b]": {"order.a", "order.b"},
		"order.[^a]":  {"order.b"},
		"*.a":         {"cart.a", "order.a", "orders.a"},
		"*":           {"cart.a", "order", "order.a", "order.ab", "order.b", "orders.a"},
		"order":       {"order"},
	} {
		p, err := event.NewPattern[order](bus, pattern)
		if err != nil {
			t.Fatal(err)
		}
		s := hear(t, p)
		round++
		for name, to := range topics {
			if err := to.Publish(t.Context(), order{round, name}); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for len(got) < len(want) {
			e, err := s.Next(t.Context())
			if err != nil || e.Topic != e.Value.Key {
				t.Fatalf("%s: got %+v, %v", pattern, e, err)
			}
			if e.Value.N == round { // else a Cluster had the one before still under way
				got = append(got, e.Topic)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: heard %q; want %q", pattern, got, want)
		}
		s.Close()
	}
}

// What others publish, and what does not decode, reaches the subscriber in its place,
// with all its bytes, and ends nothing.
func testStrangers(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
	prefix := b.Prefix(t)
	bus := openBus(t, client, prefix)
	orders := topic(t, bus, "orders")
	s := hear(t, orders)
	channel := prefix + ":event:{orders}"
	for _, c := range []struct {
		payload, want, raw string
	}{
		{`{"N":1}`, "1", `{"N":1}`},
		{`{"N":"text"}`, "corrupt", `{"N":"text"}`},
		{``, "corrupt", ``},
		{"\x00\xff", "corrupt", "\x00\xff"},
		{"weir1 id 5 key\n{\"N\":2}", "2", `{"N":2}`},
		{"weir1 id 5 key\n", "corrupt", ""},
		{"weir1 id 5 key", "corrupt", "weir1 id 5 key"},
		{"weir1 id -5 key\n1", "corrupt", "weir1 id -5 key\n1"},
		{"weir1 %zz 5 key\n1", "corrupt", "weir1 %zz 5 key\n1"},
		{"weir2 whatever\n{\"N\":3}", "corrupt", "weir2 whatever\n{\"N\":3}"},
	} {
		if err := client.Publish(t.Context(), channel, c.payload).Err(); err != nil {
			t.Fatal(err)
		}
		e, err := s.Next(t.Context())
		if got := word(e, err); got != c.want || string(e.Raw) != c.raw || e.Topic != "orders" {
			t.Errorf("%q: got %s, raw %q on %q; want %s, %q", c.payload, got, e.Raw, e.Topic, c.want, c.raw)
		}
		if err != nil && e.Value != (order{}) {
			t.Errorf("%q: got %v beside an error", c.payload, e.Value)
		}
	}
	tell(t, orders, 9)
	hears(t, s, "9")
}

func testOnce(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
	prefix := b.Prefix(t)
	bus := openBus(t, client, prefix, event.WithOnceWindow(time.Hour))
	orders, carts := topic(t, bus, "orders"), topic(t, bus, "carts")
	s, c := hear(t, orders), hear(t, carts)
	for i, want := range []bool{false, true, true} {
		repeated, err := orders.PublishOnce(t.Context(), "id 1", order{N: i})
		if err != nil || repeated != want {
			t.Errorf("%d: got %v, %v; want %v", i, repeated, err, want)
		}
	}
	if repeated, err := carts.PublishOnce(t.Context(), "id 1", order{N: 5}); err != nil || repeated {
		t.Errorf("another topic: got %v, %v; want false", repeated, err)
	}
	tell(t, orders, 7)
	e, err := s.Next(t.Context())
	if err != nil || e.Value.N != 0 || e.ID != "id 1" {
		t.Errorf("got %+v, %v; want 0 with its id", e, err)
	}
	hears(t, s, "7")
	hears(t, c, "5")
	if _, err := orders.PublishOnce(t.Context(), "", order{}); !errors.Is(err, event.ErrEmptyID) {
		t.Errorf("no id: got %v; want ErrEmptyID", err)
	}
	// Red when the id is kept without PX. Publish leaves nothing.
	keys := testkit.Keys(t, client, prefix)
	if len(keys) != 2 {
		t.Errorf("got keys %q; want an id of each topic", keys)
	}
	for _, key := range keys {
		if ttl := client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Hour {
			t.Errorf("%s lives %v; want at most an hour", key, ttl)
		}
	}
}

func testTransactions(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
	prefix := b.Prefix(t)
	bus := openBus(t, client, prefix)
	orders := topic(t, bus, "orders")
	s := hear(t, orders)
	key := prefix + ":{orders}:17"
	write := func(id string, n int) (cmd *redis.Cmd, err error) {
		_, err = client.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
			tx.Set(t.Context(), key, n, time.Minute)
			cmd, err = orders.PublishIn(t.Context(), tx, id, order{N: n})
			return err
		})
		return cmd, err
	}
	cmd, err := write("", 1)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := cmd.Int(); n != 0 || err != nil {
		t.Errorf("reply: got %d, %v; want 0", n, err)
	}
	hears(t, s, "1")
	for i, want := range []int{0, 1} {
		cmd, err := write("same", 2+i)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := cmd.Int(); n != want || err != nil {
			t.Errorf("id the %d. time: got %d, %v; want %d", i+1, n, err, want)
		}
	}
	// A transaction that is not carried out publishes nothing.
	if _, err := client.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
		if _, err := orders.PublishIn(t.Context(), tx, "", order{N: 99}); err != nil {
			return err
		}
		return errors.New("changed my mind")
	}); err == nil {
		t.Error("the transaction was carried out")
	}
	// A transaction whose WATCH fails publishes nothing.
	err = client.Watch(t.Context(), func(tx *redis.Tx) error {
		if err := client.Set(t.Context(), key, "else", time.Minute).Err(); err != nil {
			return err
		}
		_, err := tx.TxPipelined(t.Context(), func(tx redis.Pipeliner) error {
			tx.Set(t.Context(), key, 98, time.Minute)
			_, err := orders.PublishIn(t.Context(), tx, "", order{N: 98})
			return err
		})
		return err
	}, key)
	if err != redis.TxFailedErr {
		t.Errorf("watched key changed: got %v; want %v", err, redis.TxFailedErr)
	}
	tell(t, orders, 4)
	hears(t, s, "2", "4")
	for _, k := range testkit.Keys(t, client, prefix) {
		if ttl := client.PTTL(t.Context(), k).Val(); ttl <= 0 {
			t.Errorf("%s lives %v; want an end", k, ttl)
		}
	}
}

func testOrder(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
	const n = 500
	bus := openBus(t, client, b.Prefix(t))
	orders := topic(t, bus, "orders")
	s := hear(t, orders, event.WithBuffer(n, event.DropOldest))
	var publisher sync.WaitGroup
	defer publisher.Wait()
	publisher.Go(func() {
		for i := range n {
			if err := orders.Publish(t.Context(), order{N: i}); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range n {
		if got := next(t, s); got != fmt.Sprint(i) {
			t.Fatalf("got %s; want %d", got, i)
		}
	}
}

func testPrefixes(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
	prefix := b.Prefix(t)
	one, two := topic(t, openBus(t, client, prefix), "orders"), topic(t, openBus(t, client, prefix+"2"), "orders")
	s1, s2 := hear(t, one), hear(t, two)
	tell(t, two, 2)
	tell(t, one, 1)
	hears(t, s1, "1")
	hears(t, s2, "2")
}

func TestNew_mistakes(t *testing.T) {
	t.Parallel()
	client := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)})
	t.Cleanup(func() { client.Close() })
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": testkit.RefusedAddr(t)}})
	t.Cleanup(func() { ring.Close() })
	bus := openBus(t, client, "weir")
	long := strings.Repeat("x", 65)
	for name, c := range map[string]struct {
		make func() error
		want []string
	}{
		"all at once": {
			func() error {
				_, err := event.New(nil, nil, event.WithPrefix("{"), event.WithTimeout(0), event.WithCodec(nil), event.WithOnceWindow(time.Second))
				return err
			},
			[]string{"client is nil", "option 1 is nil", `WithPrefix("{")`, "WithTimeout(0s)", "WithCodec(nil)", "WithOnceWindow(1s)"},
		},
		"a ring":        {func() error { _, err := event.New(ring); return err }, []string{"*redis.Ring"}},
		"no bus":        {func() error { _, err := event.NewTopic[order](nil, "a"); return err }, []string{"bus is nil"}},
		"no name":       {func() error { _, err := event.NewTopic[order](bus, ""); return err }, []string{`name ""`}},
		"a long name":   {func() error { _, err := event.NewTopic[order](bus, long); return err }, []string{"1 to 64"}},
		"a glob":        {func() error { _, err := event.NewTopic[order](bus, "order.*"); return err }, []string{`"order.*"`}},
		"a brace":       {func() error { _, err := event.NewTopic[order](bus, "a}b"); return err }, []string{`"a}b"`}},
		"no pattern":    {func() error { _, err := event.NewPattern[order](nil, ""); return err }, []string{"bus is nil", `pattern ""`}},
		"a bad pattern": {func() error { _, err := event.NewPattern[order](bus, "a[b"); return err }, []string{`"a[b"`}},
		"an escape":     {func() error { _, err := event.NewPattern[order](bus, `a\*`); return err }, []string{"pattern"}},
		"a long one":    {func() error { _, err := event.NewPattern[order](bus, long); return err }, []string{"1 to 64"}},
		"a buffer": {
			func() error {
				_, err := topic(t, bus, "a").Subscribe(nil, event.WithBuffer(0, 9))
				return err
			},
			[]string{"option 1 is nil", "WithBuffer(0, …)", "WithBuffer(…, 9)"},
		},
	} {
		err := c.make()
		if !errors.Is(err, event.ErrConfig) {
			t.Errorf("%s: got %v; want ErrConfig", name, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %q; want it to name %s", name, err, want)
			}
		}
	}
	for _, good := range []string{"a", "*", "?", "[ab]", "[^a-z]x", "order.*.[0-9]?", strings.Repeat("*", 64)} {
		if _, err := event.NewPattern[order](bus, good); err != nil {
			t.Errorf("pattern %q: %v", good, err)
		}
	}
}

type brokenCodec struct{ event.Codec }

func (brokenCodec) Encode(any) ([]byte, error) { return []byte("x"), nil }
func (brokenCodec) Decode([]byte, any) error   { panic("a test's own") }

type mute struct{ event.Codec }

func (mute) Encode(any) ([]byte, error) { return nil, errors.ErrUnsupported }

// A caller's own codec is used; one that fails is an error, at whichever end.
func TestWithCodec(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	bus := openBus(t, b.Client(t), "a", event.WithCodec(brokenCodec{}))
	s := hear(t, topic(t, bus, "orders"))
	tell(t, topic(t, bus, "orders"), 1)
	e, err := s.Next(t.Context())
	if !errors.Is(err, event.ErrCorrupt) || string(e.Raw) != "x" || !strings.Contains(err.Error(), "a test's own") {
		t.Errorf("got %+v, %v; want ErrCorrupt with the bytes", e, err)
	}
	bus = openBus(t, b.Client(t), "a", event.WithCodec(mute{}))
	if err := topic(t, bus, "orders").Publish(t.Context(), order{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v; want the codec's error", err)
	}
	if _, err := topic(t, bus, "orders").PublishIn(context.Background(), b.Client(t).Pipeline(), "", order{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("in a transaction: got %v; want the codec's error", err)
	}
}
