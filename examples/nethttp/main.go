// Nethttp wraps handlers one by one: no router but http.ServeMux.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/examples/internal/demo"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
	"github.com/go-weir/weir/session"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "address to listen on")
	flag.Parse()

	rdb, stop, err := demo.Redis(os.Getenv("REDIS_URL"), slog.Default())
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	reports, err1 := ratelimit.New(rdb, ratelimit.PerSecond(2), ratelimit.PerMinute(20))
	sessions, err2 := session.New(rdb)
	responses, err3 := cache.New(rdb, cache.WithTTL(time.Minute))
	if err := errors.Join(err1, err2, err3); err != nil {
		log.Fatal(err)
	}

	report := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "report of %s\n", time.Now().Format(time.TimeOnly))
	})
	login := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.RenewToken(r.Context()); err != nil { // a new token at each login
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		sessions.Put(r.Context(), "user", r.FormValue("user"))
		w.WriteHeader(http.StatusNoContent)
	})
	whoami := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "you are", sessions.GetString(r.Context(), "user"))
	})

	mux := http.NewServeMux()
	mux.Handle("GET /report", middleware.Chain(
		middleware.RateLimit(reports, middleware.JoinKeys(middleware.KeyByIP, middleware.KeyByRoute)),
		middleware.Cache(responses),
	)(report))
	mux.Handle("POST /login", middleware.Session(sessions)(login))
	mux.Handle("GET /whoami", middleware.Session(sessions)(whoami))

	// Requests that other sites make in a visitor's name are refused (CSRF).
	handler := http.NewCrossOriginProtection().Handler(mux)
	if err := demo.Serve(*listen, handler); err != nil {
		log.Fatal(err)
	}
}
