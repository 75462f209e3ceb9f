package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit/quota"
)

// Ten credits are held for each translation, and those taken that it has used.
func ExampleQuota() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	credits, err := quota.New(rdb)
	if err != nil {
		panic(err)
	}
	if _, err := credits.TopUp(context.Background(), "key-of-alice", 18, "payment 4711"); err != nil {
		panic(err)
	}

	translate := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("text") == "" {
			http.Error(w, "nothing to translate", http.StatusBadRequest)
			return
		}
		if charge, ok := middleware.QuotaFromContext(r.Context()); ok {
			charge.Use(int64(len(r.FormValue("text"))))
		}
		_, _ = fmt.Fprintln(w, "the translation")
	})
	mux := http.NewServeMux()
	mux.Handle("GET /translate", middleware.Quota(credits, middleware.KeyByHeader("X-API-Key"), middleware.FixedCost(10))(translate))

	for _, text := range []string{"guten", "", "tag", "auf", "wieder"} {
		r := httptest.NewRequest("GET", "/translate?text="+text, nil)
		r.Header.Set("X-API-Key", "key-of-alice")
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		account, err := credits.Balance(context.Background(), "key-of-alice")
		if err != nil {
			panic(err)
		}
		fmt.Printf("%q: %d, %d credits left\n", text, w.Code, account.Balance)
	}
	// Output:
	// "guten": 200, 13 credits left
	// "": 400, 13 credits left
	// "tag": 200, 10 credits left
	// "auf": 200, 7 credits left
	// "wieder": 402, 7 credits left
}
