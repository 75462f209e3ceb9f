package event_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
)

// Work that must be done: it is given to one consumer of the group, again if that fails,
// and to another if that dies.
func ExampleStream() {
	rdb, stop := client()
	defer stop()

	bus, err := event.New(rdb)
	if err != nil {
		panic(err)
	}
	orders, err := event.NewStream[Order](bus, "orders")
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	// The order's own number as the event's id: to be called twice does no harm.
	if _, _, err := orders.PublishOnce(ctx, "created 17", Order{ID: 17, State: "new"}); err != nil {
		panic(err)
	}
	err = orders.Consume(ctx, "confirmation", func(ctx context.Context, e event.Entry[Order]) error {
		if e.Delivery == 1 {
			return errors.New("no mail server")
		}
		fmt.Printf("order %d confirmed, delivery %d\n", e.Value.ID, e.Delivery)
		cancel() // when the program ends
		return nil
	}, event.WithBackoff(10*time.Millisecond, time.Second), event.WithNotice(func(event.Notice) {}))
	if err != nil {
		panic(err)
	}
	// Output: order 17 confirmed, delivery 2
}

// All of a stream for whoever wants to see it, from the last entry they have seen.
func ExampleStream_Follow() {
	rdb, stop := client()
	defer stop()

	bus, err := event.New(rdb)
	if err != nil {
		panic(err)
	}
	orders, err := event.NewStream[Order](bus, "orders")
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	lastSeen, err := orders.Publish(ctx, Order{ID: 17})
	if err != nil {
		panic(err)
	}
	if _, err := orders.Publish(ctx, Order{ID: 18}); err != nil {
		panic(err)
	}
	for e, err := range orders.Follow(ctx, lastSeen) {
		switch {
		case errors.Is(err, event.ErrGap):
			fmt.Println("some are gone: reading all orders anew")
		case err != nil:
			fmt.Println(err) // and it goes on
		default:
			fmt.Println("order", e.Value.ID)
			return
		}
	}
	// Output: order 18
}

// The order and its event, both or none.
func ExampleStream_PublishIn() {
	rdb, stop := client()
	defer stop()

	bus, err := event.New(rdb)
	if err != nil {
		panic(err)
	}
	orders, err := event.NewStream[Order](bus, "orders")
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	_, err = rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
		tx.HSet(ctx, "shop:{orders}:17", "state", "paid") // the stream's name as hash tag
		_, err := orders.PublishIn(ctx, tx, "paid 17", Order{ID: 17, State: "paid"})
		return err
	})
	if err != nil {
		panic(err)
	}
	page, err := orders.Read(ctx, event.Oldest, 10)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(page.Entries), page.Entries[0].Value.State)
	// Output: 1 paid
}
