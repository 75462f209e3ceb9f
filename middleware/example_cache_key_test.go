package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/middleware"
)

// A newsletter's links are the same page. Cache and Purger have the same rules.
func ExampleWithKeyQuery() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	responses, err := cache.New(rdb, cache.WithTimeout(time.Second))
	if err != nil {
		panic(err)
	}

	rules := []middleware.QueryRule{middleware.IgnoreParams("utm_*", "gclid", "fbclid"), middleware.SortParams}
	search := middleware.Cache(responses, middleware.WithKeyQuery(rules...))(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=60")
			fmt.Fprintln(w, r.FormValue("q"))
		}))
	get := func(query string) {
		w := httptest.NewRecorder()
		search.ServeHTTP(w, httptest.NewRequest("GET", "http://shop.example/search?"+query, nil))
		fmt.Println(w.Header().Get("Cache-Status")[:8])
	}
	get("q=shoes&page=1&utm_source=news")
	get("page=1&q=shoes")
	purger := middleware.NewPurger(responses, rules...)
	if err := purger.URLs(context.Background(), "http://shop.example/search?q=shoes&page=1"); err != nil {
		panic(err)
	}
	get("page=1&q=shoes&gclid=1")
	// Output:
	// weir;fwd
	// weir;hit
	// weir;fwd
}

// A parameter that the handler looks at must not be ignored: whoever asks second is
// answered with somebody else's currency.
func ExampleIgnoreParams_incorrect() {
	server, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	responses, err := cache.New(rdb, cache.WithTimeout(time.Second))
	if err != nil {
		panic(err)
	}

	price := middleware.Cache(responses, middleware.WithKeyQuery(middleware.IgnoreParams("currency")))(
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=60")
			fmt.Fprint(w, "10 ", r.FormValue("currency"))
		}))
	for _, currency := range []string{"EUR", "JPY"} {
		w := httptest.NewRecorder()
		price.ServeHTTP(w, httptest.NewRequest("GET", "/price?currency="+currency, nil))
		fmt.Println(currency, "gets", w.Body)
	}
	// Output:
	// EUR gets 10 EUR
	// JPY gets 10 EUR
}
