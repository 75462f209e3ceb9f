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

func ExamplePurger() {
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

	price := 10
	page := middleware.Cache(responses)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cache.Tag(r.Context(), "product:1")
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprintf(w, "%d euros", price)
	}))
	get := func() string {
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequest("GET", "http://shop.example/products/1", nil))
		return w.Body.String()
	}
	fmt.Println(get())
	price = 12
	fmt.Println(get(), "still")
	if err := middleware.NewPurger(responses).Tags(context.Background(), "product:1"); err != nil {
		panic(err)
	}
	fmt.Println(get())
	// Output:
	// 10 euros
	// 10 euros still
	// 12 euros
}
