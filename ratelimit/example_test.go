package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/ratelimit"
)

func Example() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()

	// Two in any second and three in any minute, whichever is reached first.
	limiter, err := ratelimit.New(rdb, ratelimit.PerSecond(2), ratelimit.PerMinute(3))
	if err != nil {
		panic(err)
	}
	for range 3 {
		result, err := limiter.Allow(context.Background(), "alice")
		if err != nil {
			panic(err) // no verdict
		}
		fmt.Printf("allowed %v, %d left of %v\n", result.Allowed, result.Remaining, result.Limit)
	}
	// Output:
	// allowed true, 1 left of 2 per 1s
	// allowed true, 0 left of 2 per 1s
	// allowed false, 0 left of 2 per 1s
}

// All mistakes come at once, each with its remedy.
func ExampleNew_mistakes() {
	_, err := ratelimit.New(nil, ratelimit.PerSecond(0), ratelimit.WithTimeout(time.Hour))
	fmt.Println(errors.Is(err, ratelimit.ErrConfig))
	fmt.Println(err)
	// Output:
	// true
	// ratelimit.New: invalid configuration: limit 0 per 1s: the number of requests must be at least 1; to refuse everybody, do not mount the route
	// ratelimit.New: invalid configuration: client is nil: pass the client your program already uses, such as redis.NewClient(...)
	// ratelimit.New: invalid configuration: WithTimeout(1h0m0s): must be from 1ms to 30s; leave it out for 50ms
}
