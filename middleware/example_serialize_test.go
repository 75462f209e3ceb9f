package middleware_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/middleware"
)

// Payments of one order run one at a time, in all processes; what they write carries
// the fencing token.
func ExampleSerialize() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()

	locks, err := lock.New(rdb, lock.WithAutoExtend(2*time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	byOrder := func(r *http.Request) (string, error) { return "order " + r.PathValue("id"), nil }
	pay := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lease, _ := lock.FromContext(r.Context())
		fmt.Fprintf(w, "paid, under a token: %v", lease.Token() > 0)
	})
	mux := http.NewServeMux()
	mux.Handle("POST /orders/{id}/payment", middleware.Serialize(locks, byOrder, middleware.WithLockTTL(15*time.Second))(pay))

	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("POST", "/orders/7/payment", nil))
	fmt.Println(w.Body)
	// Output:
	// paid, under a token: true
}
