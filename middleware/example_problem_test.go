package middleware_test

import (
	"fmt"
	"net/http/httptest"
	"time"

	"github.com/go-weir/weir/middleware"
)

// A handler's own refusals, in the form of Weir's.
func ExampleWriteProblem() {
	w := httptest.NewRecorder()
	middleware.WriteProblem(w, middleware.Problem{
		Type:   "https://shop.example/problems/sold-out",
		Title:  "Sold out",
		Status: 409,
		Detail: "More arrive on Friday.",
	}, 3*24*time.Hour)

	fmt.Println(w.Code, w.Header().Get("Content-Type"), "Retry-After:", w.Header().Get("Retry-After"))
	fmt.Println(w.Body)
	// Output:
	// 409 application/problem+json Retry-After: 259200
	// {"type":"https://shop.example/problems/sold-out","title":"Sold out","status":409,"detail":"More arrive on Friday."}
}
