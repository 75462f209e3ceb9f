package middleware_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// exampleRedis is, in your program, the client it already has.
func exampleRedis() (rdb *redis.Client, stop func()) {
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

// Two reports in any minute for each address and route, without a router.
func ExampleRateLimit() {
	rdb, stop := exampleRedis()
	defer stop()
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

// Ten in a second, and no more than three in an hour: a refusal names the limit
// that is full.
func ExampleRateLimit_tiers() {
	rdb, stop := exampleRedis()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.PerSecond(10).Named("burst"), ratelimit.PerHour(3).Named("hourly"))
	if err != nil {
		panic(err)
	}
	h := middleware.RateLimit(limiter, middleware.KeyByIP)(http.NotFoundHandler())

	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	fmt.Println(w.Header().Get("RateLimit-Policy"))
	fmt.Println(w.Header().Get("RateLimit"))
	for range 3 {
		w = httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	}
	fmt.Println(w.Body)
	// Output:
	// "burst";q=10;w=1, "hourly";q=3;w=3600
	// "burst";r=9;t=1, "hourly";r=2;t=3600
	// {"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Too many requests","status":429,"detail":"The limit of 3 per 1h0m0s is reached.","violated-policies":["hourly"]}
}

// Ten failed logins in an hour from an address; those that succeed do not count.
func ExampleWithRefund() {
	rdb, stop := exampleRedis()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.PerHour(10), ratelimit.WithName("login"))
	if err != nil {
		panic(err)
	}
	login := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("password") != "correct horse" {
			http.Error(w, "wrong password", http.StatusUnauthorized)
		}
	})
	h := middleware.RateLimit(limiter, middleware.KeyByIP, middleware.WithRefund(middleware.OnSuccess))(login)

	for _, password := range []string{"correct+horse", "guess", "correct+horse", "correct+horse"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/login?password="+password, nil))
		fmt.Println(w.Code, "remaining", w.Header().Get("X-RateLimit-Remaining"))
	}
	// Output:
	// 200 remaining 9
	// 401 remaining 9
	// 200 remaining 8
	// 200 remaining 8
}

// A handler that has found nothing to do lets the request not count.
func ExampleRefund() {
	rdb, stop := exampleRedis()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.PerMinute(5))
	if err != nil {
		panic(err)
	}
	h := middleware.RateLimit(limiter, middleware.KeyByIP, middleware.WithRefund())(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/nothing-new" {
			middleware.Refund(r.Context())
		}
	}))
	for _, path := range []string{"/nothing-new", "/nothing-new", "/work", "/work"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(path, "remaining", w.Header().Get("X-RateLimit-Remaining"))
	}
	// Output:
	// /nothing-new remaining 4
	// /nothing-new remaining 4
	// /work remaining 4
	// /work remaining 3
}

// Each tenant has the limits it pays for. Who changes plans keeps what was used.
func ExampleWithPlan() {
	rdb, stop := exampleRedis()
	defer stop()
	free, err := ratelimit.New(rdb, ratelimit.PerHour(2), ratelimit.WithName("tenants"))
	if err != nil {
		panic(err)
	}
	paid, err := free.With(ratelimit.PerHour(1000))
	if err != nil {
		panic(err)
	}
	plans := map[string]*ratelimit.Limiter{"acme": paid} // in your program: looked up
	tenant := func(r *http.Request) string { return r.Header.Get("X-Tenant") }
	h := middleware.RateLimit(free, middleware.KeyByUser(tenant),
		middleware.WithPlan(func(r *http.Request) *ratelimit.Limiter { return plans[tenant(r)] }),
	)(http.NotFoundHandler())

	for _, name := range []string{"acme", "hobby"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("X-Tenant", name)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fmt.Println(name, "remaining", w.Header().Get("X-RateLimit-Remaining"))
	}
	// Output:
	// acme remaining 999
	// hobby remaining 1
}

// One export at a time for each user, however long it takes; the place is kept
// while the handler runs, and lost a minute after its process has died.
func ExampleRateLimit_concurrency() {
	rdb, stop := exampleRedis()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.AtOnce(1, time.Minute))
	if err != nil {
		panic(err)
	}
	type userKey struct{}
	user := func(r *http.Request) string { name, _ := r.Context().Value(userKey{}).(string); return name }
	var h http.Handler
	ask := func(ctx context.Context) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
		return w
	}
	h = middleware.RateLimit(limiter, middleware.KeyByUser(user))(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		second := ask(r.Context()) // while this one runs
		fmt.Println(second.Code, "Retry-After:", second.Header().Get("Retry-After"))
	}))
	fmt.Println(ask(context.WithValue(context.Background(), userKey{}, "alice")).Code)
	// Output:
	// 429 Retry-After: 1
	// 200
}

// A search costs ten times what a page does, of one budget for both.
func ExampleWithCostFunc() {
	rdb, stop := exampleRedis()
	defer stop()
	limiter, err := ratelimit.New(rdb, ratelimit.PerMinute(100))
	if err != nil {
		panic(err)
	}
	cost := func(r *http.Request) int {
		if r.URL.Path == "/search" {
			return 10
		}
		return 1
	}
	h := middleware.RateLimit(limiter, middleware.KeyByIP, middleware.WithCostFunc(cost))(http.NotFoundHandler())
	for _, path := range []string{"/search", "/about"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		fmt.Println(path, "remaining", w.Header().Get("X-RateLimit-Remaining"))
	}
	// Output:
	// /search remaining 90
	// /about remaining 89
}
