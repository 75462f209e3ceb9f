package lock_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
)

// exampleRedis stands for the program's own client.
func exampleRedis() (client *redis.Client, end func()) {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	client = redis.NewClient(&redis.Options{Addr: server.Addr()})
	return client, func() { client.Close(); server.Close() }
}

func Example() {
	rdb, end := exampleRedis()
	defer end()
	ctx := context.Background()

	locks, err := lock.New(rdb, lock.WithLabel("billing"))
	if err != nil {
		log.Fatal(err)
	}
	lease, err := locks.Acquire(ctx, "invoice-7", 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer lease.Release(ctx)

	bill := func(ctx context.Context, token int64) error {
		// Everything under ctx; what is written carries the token.
		return ctx.Err()
	}
	fmt.Println(bill(lease.Context(), lease.Token()))
	holder, ok, err := locks.Holder(ctx, "invoice-7")
	fmt.Println(holder.Label, holder.Token == lease.Token(), ok, err)
	// Output:
	// <nil>
	// billing true true <nil>
}

// One of many processes does the work; the others go on without waiting.
func ExampleLocker_TryAcquire() {
	rdb, end := exampleRedis()
	defer end()
	ctx := context.Background()

	locks, err := lock.New(rdb)
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		lease, ok, err := locks.TryAcquire(ctx, "nightly-report", time.Minute)
		switch {
		case err != nil:
			log.Fatal(err)
		case !ok:
			fmt.Println("somebody else does it")
		default:
			defer lease.Release(ctx)
			fmt.Println("doing it")
		}
	}
	// Output:
	// doing it
	// somebody else does it
}

// Work that may take long: the lock is renewed while it goes on, and free soon after
// a crash.
func ExampleWithAutoExtend() {
	rdb, end := exampleRedis()
	defer end()
	ctx := context.Background()

	locks, err := lock.New(rdb, lock.WithAutoExtend(time.Hour))
	if err != nil {
		log.Fatal(err)
	}
	lease, err := locks.Acquire(ctx, "import", 15*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	work := func(ctx context.Context) error { return nil }
	err = work(lease.Context())
	if err := lease.Release(ctx); errors.Is(err, lock.ErrLost) {
		fmt.Println("somebody else may have worked meanwhile")
	}
	fmt.Println(err)
	// Output:
	// <nil>
}
