package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// Two reports in any minute for each address and route, without a router.
func ExampleRateLimit() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	limiter, err := ratelimit.New(rdb, ratelimit.PerMinute(2))
	if err != nil {
		panic(err)
	}

	report := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "the report")
	})
	mux := http.NewServeMux()
	mux.Handle("GET /report", middleware.RateLimit(limiter, middleware.JoinKeys(middleware.KeyByIP, middleware.KeyByRoute))(report))

	for range 3 {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest("GET", "/report", nil))
		fmt.Println(w.Code, "remaining", w.Header().Get("X-RateLimit-Remaining"))
	}
	// Output:
	// 200 remaining 1
	// 200 remaining 0
	// 429 remaining 0
}
