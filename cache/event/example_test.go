package event_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
)

// client is the program's own Redis client; here of a Redis in the process.
func client() (rdb *redis.Client, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	rdb = redis.NewClient(&redis.Options{Addr: server.Addr()})
	return rdb, func() { rdb.Close(); server.Close() }
}

type Order struct {
	ID    int
	State string
}

func Example() {
	rdb, stop := client()
	defer stop()

	bus, err := event.New(rdb)
	if err != nil {
		panic(err)
	}
	created, err := event.NewTopic[Order](bus, "order.created")
	if err != nil {
		panic(err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	sub, err := created.Subscribe()
	if err != nil {
		panic(err)
	}
	defer sub.Close()
	<-sub.Ready() // what is published from here on is heard

	if err := created.Publish(ctx, Order{ID: 17, State: "new"}); err != nil {
		panic(err)
	}
	for e, err := range sub.All(ctx) {
		switch {
		case errors.Is(err, event.ErrGap):
			fmt.Println("something may have been missed: reading all orders anew")
		case err != nil:
			fmt.Println("no order:", string(e.Raw))
		default:
			fmt.Println(e.Topic, e.Value)
			return
		}
	}
	// Output: order.created {17 new}
}

// One subscription to several topics.
func ExampleNewPattern() {
	rdb, stop := client()
	defer stop()
	bus, _ := event.New(rdb)
	created, _ := event.NewTopic[Order](bus, "order.created")
	paid, _ := event.NewTopic[Order](bus, "order.paid")
	orders, err := event.NewPattern[Order](bus, "order.*")
	if err != nil {
		panic(err)
	}
	sub, err := orders.Subscribe()
	if err != nil {
		panic(err)
	}
	defer sub.Close()
	<-sub.Ready()

	ctx := context.Background()
	created.Publish(ctx, Order{ID: 17, State: "new"})
	paid.Publish(ctx, Order{ID: 17, State: "paid"})
	for range 2 {
		e, err := sub.Next(ctx)
		if err != nil {
			panic(err)
		}
		fmt.Println(e.Topic, e.Value.State)
	}
	// Output:
	// order.created new
	// order.paid paid
}

// The event and the change that it tells of are one: neither is there without the other.
func ExampleTopic_PublishIn() {
	rdb, stop := client()
	defer stop()
	bus, _ := event.New(rdb)
	paid, _ := event.NewTopic[Order](bus, "order.paid")
	sub, _ := paid.Subscribe()
	defer sub.Close()
	<-sub.Ready()

	ctx := context.Background()
	order := Order{ID: 17, State: "paid"}
	_, err := rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		// On a Cluster the key needs the topic's name in braces.
		tx.HSet(ctx, "shop:{order.paid}:17", "state", order.State)
		_, err := paid.PublishIn(ctx, tx, "17", order)
		return err
	})
	if err != nil {
		panic(err)
	}
	e, err := sub.Next(ctx)
	fmt.Println(e.ID, e.Value.State, err)
	// Output: 17 paid <nil>
}

// A request that is repeated publishes once.
func ExampleTopic_PublishOnce() {
	rdb, stop := client()
	defer stop()
	bus, _ := event.New(rdb)
	created, _ := event.NewTopic[Order](bus, "order.created")
	for range 2 {
		repeated, err := created.PublishOnce(context.Background(), "request 4711", Order{ID: 17})
		fmt.Println(repeated, err)
	}
	// Output:
	// false <nil>
	// true <nil>
}

// A page that shows the state of each order needs the latest event of each alone.
func ExampleTopic_KeyedBy() {
	rdb, stop := client()
	defer stop()
	bus, _ := event.New(rdb)
	orders, _ := event.NewTopic[Order](bus, "orders")
	orders = orders.KeyedBy(func(o Order) string { return fmt.Sprint(o.ID) })
	sub, _ := orders.Subscribe(event.WithBuffer(100, event.Coalesce))
	defer sub.Close()
	<-sub.Ready()

	ctx := context.Background()
	for _, o := range []Order{{17, "new"}, {18, "new"}, {17, "paid"}, {17, "sent"}} {
		orders.Publish(ctx, o)
	}
	for sub.Stats().Received < 4 { // the subscriber is busy meanwhile
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		e, _ := sub.Next(ctx)
		fmt.Println(e.Value)
	}
	fmt.Println(sub.Stats().Coalesced, "were out of date")
	// Output:
	// {17 sent}
	// {18 new}
	// 2 were out of date
}
