package quota_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/ratelimit/quota"
)

// newCredits is a Ledger on a Redis in this process. Your program passes the client
// it already has.
func newCredits() (credits *quota.Ledger, end func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	if credits, err = quota.New(rdb); err != nil {
		panic(err)
	}
	return credits, func() { _ = rdb.Close(); server.Close() }
}

func Example() {
	credits, end := newCredits()
	defer end()
	ctx := context.Background()

	if _, err := credits.TopUp(ctx, "alice", 50, "payment 4711"); err != nil {
		panic(err)
	}
	for _, order := range []string{"order 1", "order 2", "order 2", "order 3"} {
		r, err := credits.Deduct(ctx, "alice", 20, order)
		if err != nil {
			panic(err) // no verdict
		}
		fmt.Printf("%s: %s, repeated %v, %d left\n", order, r.Outcome, r.Repeated, r.Balance)
	}
	// Output:
	// order 1: done, repeated false, 30 left
	// order 2: done, repeated false, 10 left
	// order 2: done, repeated true, 10 left
	// order 3: insufficient, repeated false, 10 left
}

// The price is known after the work: hold the most it may be, and pay what it was.
func ExampleLedger_Reserve() {
	credits, end := newCredits()
	defer end()
	ctx := context.Background()
	if _, err := credits.TopUp(ctx, "alice", 100, "payment 4711"); err != nil {
		panic(err)
	}

	hold, err := credits.Reserve(ctx, "alice", 80, "job 17")
	if err != nil {
		panic(err)
	}
	fmt.Printf("%d to spend, %d held\n", hold.Balance, hold.Held)

	r, err := credits.Commit(ctx, "alice", hold.ID, 35)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%d paid, %d to spend, %d held\n", r.Amount, r.Balance, r.Held)
	// Output:
	// 20 to spend, 80 held
	// 35 paid, 65 to spend, 0 held
}

// An id names one request. Used for another, it is a mistake that costs nobody
// anything.
func ExampleLedger_Deduct_incorrect() {
	credits, end := newCredits()
	defer end()
	ctx := context.Background()
	_, _ = credits.TopUp(ctx, "alice", 100, "payment 4711")

	_, _ = credits.Deduct(ctx, "alice", 20, "monthly fee") // every month has the same id
	r, err := credits.Deduct(ctx, "alice", 20, "monthly fee")
	fmt.Println("the next month:", r.Amount, "deducted before:", r.Repeated, err)
	_, err = credits.Deduct(ctx, "alice", 25, "monthly fee")
	fmt.Println("at another price:", errors.Is(err, quota.ErrReused))
	// Output:
	// the next month: 20 deducted before: true <nil>
	// at another price: true
}
