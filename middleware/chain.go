package middleware

import (
	"fmt"
	"net/http"
	"slices"
)

// Middleware wraps a handler. It is the type that chi's Use takes, under a name.
type Middleware = func(http.Handler) http.Handler

// Chain makes one middleware of several: the first is the outermost, and sees a
// request first. Chain() changes nothing.
//
//	handler := middleware.Chain(
//	    middleware.RateLimit(limiter, middleware.KeyByIP),
//	    middleware.Session(sessions),
//	)(mux)
//
// It panics if one of them is nil.
func Chain(middlewares ...Middleware) Middleware {
	for i, m := range middlewares {
		if m == nil {
			panic(fmt.Sprintf("middleware.Chain: middleware %d of %d is nil: leave it out", i+1, len(middlewares)))
		}
	}
	middlewares = slices.Clone(middlewares) // the caller's slice may change
	return func(next http.Handler) http.Handler {
		for _, m := range slices.Backward(middlewares) {
			next = m(next)
		}
		return next
	}
}

// When mounts m for the requests for which condition holds; the others go
// straight to the handler. condition must not change the request; within [OneTrip] it
// may be asked twice. It panics if either is nil.
func When(condition func(*http.Request) bool, m Middleware) Middleware {
	if condition == nil || m == nil {
		panic("middleware.When: the condition or the middleware is nil: leave out what is not mounted")
	}
	return func(next http.Handler) http.Handler {
		wrapped := m(next)
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if condition(r) {
				wrapped.ServeHTTP(w, r)
			} else {
				next.ServeHTTP(w, r)
			}
		})
		inner, ok := wrapped.(reader)
		if !ok {
			return handler
		}
		return &reading{handler, func(r *http.Request) {
			if condition(r) {
				inner.foresee(r)
			}
		}}
	}
}
