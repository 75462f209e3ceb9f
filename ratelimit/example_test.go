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

// Only failed logins count: what succeeds is taken back.
func ExampleLimiter_Refund() {
	rdb, stop := embedded()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.PerHour(2))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	for _, password := range []string{"right", "wrong", "right", "wrong", "right"} {
		result, err := limiter.Allow(ctx, "alice")
		if err != nil {
			panic(err) // no verdict
		}
		if !result.Allowed {
			fmt.Println("too many failures")
			continue
		}
		if password == "right" {
			if _, err := limiter.Refund(ctx, "alice", result.Ticket()); err != nil {
				panic(err)
			}
		}
		fmt.Printf("%s, %d left\n", password, result.Remaining)
	}
	// Output:
	// right, 1 left
	// wrong, 1 left
	// right, 0 left
	// wrong, 0 left
	// too many failures
}

// A tenant's plan holds from the next decision on; what was used stays used.
func ExampleLimiter_With() {
	rdb, stop := embedded()
	defer stop()
	free, err := ratelimit.New(rdb, ratelimit.PerHour(1))
	if err != nil {
		panic(err)
	}
	paid, err := free.With(ratelimit.PerHour(100))
	if err != nil {
		panic(err)
	}
	for _, plan := range []*ratelimit.Limiter{free, free, paid} {
		result, err := plan.Allow(context.Background(), "tenant 7")
		if err != nil {
			panic(err) // no verdict
		}
		fmt.Printf("%v: allowed %v, %d left\n", result.Limit, result.Allowed, result.Remaining)
	}
	// Output:
	// 1 per 1h0m0s: allowed true, 0 left
	// 1 per 1h0m0s: allowed false, 0 left
	// 100 per 1h0m0s: allowed true, 98 left
}

// At most so many at a time, however long each takes.
func ExampleAtOnce() {
	rdb, stop := embedded()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.AtOnce(1, time.Minute))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	first, _ := limiter.Allow(ctx, "report")
	second, _ := limiter.Allow(ctx, "report")
	fmt.Println(first.Allowed, second.Allowed)

	if err := limiter.Release(ctx, "report", first.Ticket()); err != nil {
		panic(err)
	}
	third, _ := limiter.Allow(ctx, "report")
	fmt.Println(third.Allowed)
	// Output:
	// true false
	// true
}

// An even rate: one each second, and bursts of three.
func ExampleLimit_Smooth() {
	rdb, stop := embedded()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.PerMinute(60).Smooth(3))
	if err != nil {
		panic(err)
	}
	for range 4 {
		result, _ := limiter.Allow(context.Background(), "alice")
		fmt.Println(result.Allowed, result.Remaining)
	}
	// Output:
	// true 2
	// true 1
	// true 0
	// false 0
}

// embedded stands for the client that a program already has.
func embedded() (rdb *redis.Client, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	rdb = redis.NewClient(&redis.Options{Addr: server.Addr()})
	return rdb, func() {
		_ = rdb.Close()
		server.Close()
	}
}

// Whoever is denied three times within a minute is kept out for an hour.
func ExampleWithBan() {
	rdb, stop := embedded()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.PerSecond(1), ratelimit.WithBan(3, time.Minute, time.Hour))
	if err != nil {
		panic(err)
	}
	for range 5 {
		result, err := limiter.Allow(context.Background(), "mallory")
		if err != nil {
			panic(err) // no verdict
		}
		fmt.Printf("allowed %v, banned %v\n", result.Allowed, result.Banned)
	}
	// Output:
	// allowed true, banned false
	// allowed false, banned false
	// allowed false, banned false
	// allowed false, banned true
	// allowed false, banned true
}

// A limit is tried on live traffic before it refuses anybody.
func ExampleWithShadow() {
	rdb, stop := embedded()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.PerMinute(1), ratelimit.WithShadow())
	if err != nil {
		panic(err)
	}
	for range 2 {
		result, err := limiter.Allow(context.Background(), "alice")
		if err != nil {
			panic(err) // no verdict
		}
		fmt.Printf("allowed %v, would have been denied %v\n", result.Allowed, result.Shadowed)
	}
	// Output:
	// allowed true, would have been denied false
	// allowed true, would have been denied true
}

// The same limits on a server that forbids EVAL and EVALSHA.
func ExampleWithoutScripts() {
	rdb, stop := embedded()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.PerMinute(2), ratelimit.WithoutScripts())
	if err != nil {
		panic(err)
	}
	for range 3 {
		result, err := limiter.Allow(context.Background(), "alice")
		if err != nil {
			panic(err) // no verdict
		}
		fmt.Printf("allowed %v, %d left\n", result.Allowed, result.Remaining)
	}
	// Output:
	// allowed true, 1 left
	// allowed true, 0 left
	// allowed false, 0 left
}
