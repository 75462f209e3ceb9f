package middleware_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/middleware"
)

// A browser that was disconnected comes back, and is given what it has missed.
func ExampleEvents() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()
	bus, err := event.New(rdb, event.WithTimeout(time.Second))
	if err != nil {
		panic(err)
	}
	type Order struct {
		Number int
		Owner  string
	}
	orders, err := event.NewStream[Order](bus, "orders")
	if err != nil {
		panic(err)
	}

	updates := middleware.Events(middleware.FromStream(orders,
		middleware.WithFilter(func(r *http.Request, o Order) bool { return o.Owner == r.Header.Get("X-User") }),
	))
	mux := http.NewServeMux()
	mux.Handle("/orders/events", updates)
	site := httptest.NewServer(mux)
	defer site.Close()
	// In a program: server.RegisterOnShutdown(func() { _ = updates.Shutdown(ctx) })
	defer updates.Close()

	// What a browser's EventSource does by itself.
	connect := func(lastEventID string) *http.Response {
		r, _ := http.NewRequest("GET", site.URL+"/orders/events", nil)
		r.Header.Set("Accept", "text/event-stream")
		r.Header.Set("X-User", "alice")
		if lastEventID != "" {
			r.Header.Set("Last-Event-ID", lastEventID)
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			panic(err)
		}
		return answer
	}
	event := func(lines *bufio.Scanner) (id, data string) {
		for data == "" && lines.Scan() {
			if field, value, _ := strings.Cut(lines.Text(), ": "); field == "id" {
				id = value
			} else if field == "data" {
				data = value
			}
		}
		return id, data
	}
	publish := func(o Order) {
		if _, err := orders.Publish(context.Background(), o); err != nil {
			panic(err)
		}
	}

	answer := connect("")
	publish(Order{1, "alice"})
	id, data := event(bufio.NewScanner(answer.Body))
	fmt.Println(data)
	answer.Body.Close()

	publish(Order{2, "bob"})
	publish(Order{3, "alice"})
	answer = connect(id)
	_, data = event(bufio.NewScanner(answer.Body))
	fmt.Println(data)
	answer.Body.Close()
	// Output:
	// {"Number":1,"Owner":"alice"}
	// {"Number":3,"Owner":"alice"}
}
