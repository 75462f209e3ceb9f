package idempotency_test

import (
	"context"
	"fmt"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/idempotency"
)

// A job that is delivered three times is done once.
func ExampleStore_Reserve() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	once, err := idempotency.New(rdb)
	if err != nil {
		panic(err)
	}

	ctx := context.Background()
	for range 3 {
		a, err := once.Reserve(ctx, "charge order 7", "20 EUR")
		if err != nil {
			panic(err) // no verdict: do not do the work
		}
		if a.State == idempotency.Claimed {
			fmt.Println("charging")
			if err := a.Claim.Finish(ctx, []byte("receipt 4711")); err != nil {
				panic(err)
			}
			continue
		}
		fmt.Println(a.State, a.Outcome)
	}
	// Output:
	// charging
	// kept receipt 4711
	// kept receipt 4711
}
