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
	login := func(w http.ResponseWriter, r *http.Request) {
		user := r.FormValue("user") // your program: and a password that is right
		if user == "" {
			http.Error(w, "who are you?", http.StatusBadRequest)
			return
		}
		// A new token at each login, bound to the user.
		if err := sessions.Login(r.Context(), user); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
	logout := func(w http.ResponseWriter, r *http.Request) {
		if err := sessions.Destroy(r.Context()); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
	logoutEverywhere := func(w http.ResponseWriter, r *http.Request) {
		user := sessions.User(r.Context())
		if user == "" {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		if err := sessions.EndAll(r.Context(), user); err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
	whoami := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "you are", sessions.User(r.Context()))
	}
	devices := func(w http.ResponseWriter, r *http.Request) {
		user := sessions.User(r.Context())
		if user == "" {
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		}
		all, err := sessions.Sessions(r.Context(), user)
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		for _, s := range all {
			fmt.Fprintf(w, "%s  %s  %q  current: %v\n", s.ID, s.IP, s.Device, s.Current)
		}
	}

	mux := http.NewServeMux()
	mux.Handle("GET /report", middleware.Chain(
		middleware.RateLimit(reports, middleware.JoinKeys(middleware.KeyByIP, middleware.KeyByRoute)),
		middleware.Cache(responses),
	)(report))
	withSession := middleware.Session(sessions)
	mux.Handle("POST /login", withSession(http.HandlerFunc(login)))
	mux.Handle("POST /logout", withSession(http.HandlerFunc(logout)))
	mux.Handle("POST /logout/everywhere", withSession(http.HandlerFunc(logoutEverywhere)))
	mux.Handle("GET /whoami", withSession(http.HandlerFunc(whoami)))
	mux.Handle("GET /devices", withSession(http.HandlerFunc(devices)))

	// Requests that other sites make in a visitor's name are refused (CSRF).
	handler := http.NewCrossOriginProtection().Handler(mux)
	if err := demo.Serve(*listen, handler); err != nil {
		log.Fatal(err)
	}
}
