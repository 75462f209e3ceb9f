package cache_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
)

func Example() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()

	store, err := cache.New(rdb)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()

	// One page, told apart by language.
	for language, page := range map[string]string{"en": "hello", "de": "hallo"} {
		if err := store.KeepVariant(ctx, "/welcome", cache.Variant{By: "language", Name: language, Data: []byte(page), TTL: time.Minute}); err != nil {
			panic(err)
		}
	}
	german := func(names string) string {
		if names == "language" {
			return "de"
		}
		return ""
	}
	entry, ok, err := store.FindVariant(ctx, "/welcome", german)
	fmt.Println(entry.Data, ok, err)
	// Output:
	// hallo true <nil>
}
