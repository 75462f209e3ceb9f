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

// What says nothing of its freshness is kept for a minute or a little less, what is missing
// for ten seconds; what is asked for often is made anew before its time is over.
func ExampleWithDefaultTTL() {
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
	refresher := middleware.NewRefresher()
	defer refresher.Close()

	handler := middleware.Cache(responses,
		middleware.WithDefaultTTL(time.Minute),
		middleware.WithStatusTTL(http.StatusNotFound, 10*time.Second),
		middleware.WithTTLJitter(0.1),
		middleware.WithEarlyRefresh(1),
		middleware.WithRefresher(refresher),
	)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/products/1" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "a product")
	}))
	for _, path := range []string{"/products/1", "/products/1", "/products/2", "/products/2"} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(w.Code, w.Header().Get("Cache-Status")[:8])
	}
	// Output:
	// 200 weir;fwd
	// 200 weir;hit
	// 404 weir;fwd
	// 404 weir;hit
}

// The observer counts; people who preview pages see them as they are.
func ExampleWithCacheObserver() {
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

	handler := middleware.Cache(responses,
		middleware.WithCacheName("shop-edge"),
		middleware.WithBypass(func(r *http.Request) bool { return r.Header.Get("X-Preview") != "" }),
		middleware.WithCacheObserver(func(_ context.Context, e middleware.CacheEvent) {
			fmt.Printf("%v %s stored=%v\n", e.Kind, e.Fwd, e.Stored) // your program: a counter by e.Kind
		}),
	)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		fmt.Fprint(w, "a product")
	}))
	for _, preview := range []string{"", "", "yes"} {
		r := httptest.NewRequest("GET", "/products/1", nil)
		if preview != "" {
			r.Header.Set("X-Preview", preview)
		}
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	// Output:
	// miss uri-miss stored=true
	// hit  stored=false
	// bypass bypass stored=false
}
