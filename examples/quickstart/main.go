// Quickstart is the program of Weir's README: rate limit, session and response
// cache on one Redis client.
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

	"github.com/go-chi/chi/v5"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/examples/internal/demo"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
	"github.com/go-weir/weir/session"
)

func main() {
	listen := flag.String("listen", "localhost:8080", "address to listen on")
	flag.Parse()

	// Your program: rdb := redis.NewClient(...), or a Cluster or Sentinel client.
	rdb, stop, err := demo.Redis(os.Getenv("REDIS_URL"), slog.Default())
	if err != nil {
		log.Fatal(err)
	}
	defer stop()

	limiter, err1 := ratelimit.New(rdb, ratelimit.Every(10, 10*time.Second))
	sessions, err2 := session.New(rdb)
	responses, err3 := cache.New(rdb)
	if err := errors.Join(err1, err2, err3); err != nil {
		log.Fatal(err)
	}

	r := chi.NewRouter()
	r.Use(middleware.RateLimit(limiter, middleware.KeyByIP))
	r.Use(middleware.Session(sessions))

	r.Get("/", func(w http.ResponseWriter, r *http.Request) {
		visits := sessions.GetInt(r.Context(), "visits") + 1
		sessions.Put(r.Context(), "visits", visits)
		fmt.Fprintf(w, "visit %d\n", visits)
	})
	r.With(middleware.Cache(responses)).Get("/products/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		fmt.Fprintf(w, "product %s, made at %s\n", chi.URLParam(r, "id"), time.Now().Format(time.TimeOnly))
	})

	if err := demo.Serve(*listen, r); err != nil {
		log.Fatal(err)
	}
}
