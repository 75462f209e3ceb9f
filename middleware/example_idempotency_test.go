package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/middleware"
)

// A payment that is sent twice is made once, and answered twice.
func ExampleIdempotency() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	store, err := idempotency.New(rdb)
	if err != nil {
		panic(err)
	}

	payments := 0
	pay := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		payments++
		w.Header().Set("Location", fmt.Sprint("/payments/", payments))
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "paid %s", r.FormValue("amount"))
	})
	user := middleware.KeyByUser(func(*http.Request) string { return "alice" }) // your program: who has logged in
	handler := middleware.Idempotency(store, user)(pay)

	for _, amount := range []string{"20", "20", "30"} {
		r := httptest.NewRequest("POST", "/payments", strings.NewReader("amount="+amount))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Idempotency-Key", `"8e03978e-40d5-43dd-bc93-6894a57f9324"`)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		fmt.Printf("%d %q again: %q\n", w.Code, w.Header().Get("Location"), w.Header().Get("Idempotent-Replayed"))
	}
	fmt.Println(payments, "payment")
	// Output:
	// 201 "/payments/1" again: ""
	// 201 "/payments/1" again: "true"
	// 422 "" again: ""
	// 1 payment
}
