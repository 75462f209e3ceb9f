package session_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

func Example() {
	server, err := miniredis.Run() // your program: the client it already has
	if err != nil {
		panic(err)
	}
	defer server.Close()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer rdb.Close()

	sessions, err := session.New(rdb)
	if err != nil {
		panic(err)
	}
	count := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits := sessions.GetInt(r.Context(), "visits") + 1
		sessions.Put(r.Context(), "visits", visits)
		fmt.Fprintf(w, "visit %d", visits)
	})
	handler := middleware.Session(sessions)(count)

	first := httptest.NewRecorder()
	handler.ServeHTTP(first, httptest.NewRequest("GET", "/", nil))
	cookie := first.Result().Cookies()[0]

	again := httptest.NewRequest("GET", "/", nil)
	again.AddCookie(cookie)
	second := httptest.NewRecorder()
	handler.ServeHTTP(second, again)

	fmt.Println(first.Body, "then", second.Body)
	_, attributes, _ := strings.Cut(first.Header().Get("Set-Cookie"), "; ")
	fmt.Println(cookie.Name, attributes)
	// Output:
	// visit 1 then visit 2
	// __Host-session Path=/; HttpOnly; Secure; SameSite=Lax
}
