package cache_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
)

// User is what the examples keep.
type User struct {
	Name string
	Team string
}

// client stands for the client that your program has already.
func client() (rdb *redis.Client, stop func()) {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	rdb = redis.NewClient(&redis.Options{Addr: server.Addr()})
	return rdb, func() {
		rdb.Close()
		server.Close()
	}
}

func Example() {
	rdb, stop := client()
	defer stop()
	store, err := cache.New(rdb, cache.WithTTL(5*time.Minute))
	if err != nil {
		panic(err)
	}
	users, err := cache.For[User](store, "user")
	if err != nil {
		panic(err)
	}
	ctx := context.Background()

	load := func(ctx context.Context) (User, error) {
		fmt.Println("asking the database")
		cache.Tag(ctx, "team:7")
		return User{"Ann", "7"}, nil
	}
	for range 2 {
		user, err := users.Load(ctx, "42", load)
		fmt.Println(user.Name, err)
	}
	if err := store.DeleteTags(ctx, "team:7"); err != nil {
		panic(err)
	}
	user, err := users.Load(ctx, "42", load)
	fmt.Println(user.Name, err)
	// Output:
	// asking the database
	// Ann <nil>
	// Ann <nil>
	// asking the database
	// Ann <nil>
}

func ExampleCache_Store() {
	rdb, stop := client()
	defer stop()
	store, err1 := cache.New(rdb)
	users, err2 := cache.For[User](store, "user", cache.WithTTL(time.Hour))
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	ctx := context.Background()

	database := map[string]User{}
	save := func(_ context.Context, u User) error {
		database["42"] = u
		return nil
	}
	if err := users.Store(ctx, "42", User{Name: "Ann"}, save); err != nil {
		panic(err)
	}
	cached, ok, err := users.Get(ctx, "42")
	fmt.Println(database["42"].Name, cached.Name, ok, err)
	// Output:
	// Ann Ann true <nil>
}

func ExampleCache_LoadMany() {
	rdb, stop := client()
	defer stop()
	store, err1 := cache.New(rdb, cache.WithTTL(time.Hour))
	users, err2 := cache.For[User](store, "user")
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	ctx := context.Background()

	if err := users.Set(ctx, "1", User{Name: "Ann"}); err != nil {
		panic(err)
	}
	found, err := users.LoadMany(ctx, []string{"1", "2", "3"}, func(_ context.Context, missing []string) (map[string]User, error) {
		fmt.Println("SELECT … WHERE id IN", missing)
		return map[string]User{"2": {Name: "Bob"}}, nil
	})
	fmt.Println(found["1"].Name, found["2"].Name, len(found), err)
	// Output:
	// SELECT … WHERE id IN [2 3]
	// Ann Bob 2 <nil>
}

func ExampleStore_Find() {
	rdb, stop := client()
	defer stop()
	store, err := cache.New(rdb)
	if err != nil {
		panic(err)
	}
	ctx := context.Background()

	// One page, told apart by language.
	page := cache.Resource{
		Key:   "/welcome",
		Claim: true, // one at a time makes it
		Variant: func(names string) string {
			if names == "language" {
				return "de"
			}
			return ""
		},
	}
	for range 2 {
		found, err := store.Find(ctx, page)
		if err != nil {
			panic(err)
		}
		fmt.Println(found.Value, found.Claimed)
		if found.Claimed {
			_, err := found.Keep(ctx, cache.Variant{By: "language", Name: "de", Data: []byte("hallo"), Fresh: time.Minute, Keep: time.Minute})
			fmt.Println(err)
		}
	}
	// Output:
	// <nil> true
	// <nil>
	// hallo false
}

// By key, by tag, by prefix, by pattern.
func ExampleCache_Delete() {
	rdb, stop := client()
	defer stop()
	store, err1 := cache.New(rdb, cache.WithTTL(time.Hour))
	pages, err2 := cache.For[string](store, "page")
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	ctx := context.Background()
	for _, key := range []string{"en/home", "en/help", "de/home", "de/help", "fr/home"} {
		if err := pages.Set(ctx, key, key, cache.WithTags("lang:"+key[:2])); err != nil {
			panic(err)
		}
	}
	left := func() {
		found, err := pages.GetMany(ctx, "en/home", "en/help", "de/home", "de/help", "fr/home")
		fmt.Println(slices.Sorted(maps.Keys(found)), err)
	}

	err1 = pages.Delete(ctx, "fr/home")
	left()
	err2 = pages.DeletePattern(ctx, "*/help")
	left()
	err3 := store.DeleteTags(ctx, "lang:de")
	left()
	err4 := pages.DeletePrefix(ctx, "en/")
	left()
	fmt.Println(errors.Join(err1, err2, err3, err4))
	// Output:
	// [de/help de/home en/help en/home] <nil>
	// [de/home en/home] <nil>
	// [en/home] <nil>
	// [] <nil>
	// <nil>
}

// Hot values are answered from the process's own memory; a change made by any process
// is seen by all.
func ExampleWithNear() {
	rdb, stop := client()
	defer stop()
	store, err := cache.New(rdb, cache.WithTTL(time.Hour), cache.WithNear(1<<20))
	if err != nil {
		panic(err)
	}
	defer store.Close()
	users, err := cache.For[User](store, "user")
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	load := func(context.Context) (User, error) { return User{Name: "Ann"}, nil }
	for range 3 {
		user, err := users.Load(ctx, "42", load)
		fmt.Println(user.Name, err)
	}
	// Output:
	// Ann <nil>
	// Ann <nil>
	// Ann <nil>
}

// While the database is down, what was true a moment ago is better than an error.
func ExampleWithStale() {
	rdb, stop := client()
	defer stop()
	store, err1 := cache.New(rdb, cache.WithTTL(time.Millisecond), cache.WithStale(time.Hour, 0))
	users, err2 := cache.For[User](store, "user")
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := users.Set(ctx, "42", User{Name: "Ann"}); err != nil {
		panic(err)
	}
	for fresh := true; fresh; { // until its lifetime has ended
		_, fresh, _ = users.Get(ctx, "42")
	}
	user, err := users.Load(ctx, "42", func(context.Context) (User, error) {
		return User{}, errors.New("the database is down")
	})
	fmt.Println(user.Name, err)
	// Output:
	// Ann <nil>
}
