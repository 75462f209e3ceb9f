package middleware_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// A session is found before the handler and saved before the first byte leaves.
func ExampleSession() {
	rdb, stop := exampleRedis()
	defer stop()
	sessions, err := session.New(rdb)
	if err != nil {
		panic(err)
	}
	h := middleware.Session(sessions)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		visits := sessions.GetInt(r.Context(), "visits") + 1
		sessions.Put(r.Context(), "visits", visits)
		fmt.Fprintf(w, "visit %d", visits)
	}))

	first := httptest.NewRecorder()
	h.ServeHTTP(first, httptest.NewRequest("GET", "/", nil))
	cookie := first.Result().Cookies()[0]
	fmt.Println(cookie.Name, cookie.Secure, cookie.HttpOnly, cookie.SameSite == http.SameSiteLaxMode)

	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(cookie)
	second := httptest.NewRecorder()
	h.ServeHTTP(second, r)
	fmt.Println(first.Body, "then", second.Body)
	// Output:
	// __Host-session true true true
	// visit 1 then visit 2
}
