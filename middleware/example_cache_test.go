package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/middleware"
)

func ExampleCache() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()

	responses, err := cache.New(rdb)
	if err != nil {
		panic(err)
	}
	calls := 0
	product := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		w.Header().Set("Cache-Control", "public, max-age=60")
		fmt.Fprint(w, "a product")
	})
	handler := middleware.Cache(responses)(product)

	for range 2 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", "/products/1", nil))
		fmt.Println(w.Body, "after", calls, "call;", w.Header().Get("Cache-Status")[:8])
	}
	// Output:
	// a product after 1 call; weir;fwd
	// a product after 1 call; weir;hit
}

// The first of a chain is the outermost, and sees a request first.
func ExampleChain() {
	saying := func(word string) middleware.Middleware {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Println(word)
				next.ServeHTTP(w, r)
			})
		}
	}
	api := func(r *http.Request) bool { return r.URL.Path == "/api" }
	handler := middleware.Chain(
		saying("all"),
		middleware.When(api, saying("api only")),
	)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Println(r.URL.Path) }))

	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/api", nil))
	// Output:
	// all
	// /
	// all
	// api only
	// /api
}

// What has been stale for less than a minute is served at once, and made anew in the
// background, once.
func ExampleWithRefresher() {
	rdb, stop := exampleRedis()
	defer stop()
	responses, err := cache.New(rdb)
	if err != nil {
		panic(err)
	}
	refresher := middleware.NewRefresher()
	defer refresher.Close() // when the server has been shut down

	refreshed := make(chan int, 2)
	calls := 0
	news := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls++
		w.Header().Set("Cache-Control", "public, max-age=0, stale-while-revalidate=60")
		_, _ = fmt.Fprintf(w, "edition %d", calls)
		refreshed <- calls
	})
	h := middleware.Cache(responses, middleware.WithRefresher(refresher))(news)

	for range 2 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/news", nil))
		fmt.Println(w.Body, "while there is edition", <-refreshed)
	}
	// Output:
	// edition 1 while there is edition 1
	// edition 1 while there is edition 2
}
