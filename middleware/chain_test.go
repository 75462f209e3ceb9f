package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"

	"github.com/go-weir/weir/middleware"
)

// named is a middleware that writes its name on the way in and out.
func named(trace *[]string, name string) middleware.Middleware {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			*trace = append(*trace, name)
			next.ServeHTTP(w, r)
			*trace = append(*trace, "/"+name)
		})
	}
}

func TestChain_order(t *testing.T) {
	t.Parallel()
	var trace []string
	a, b, c := named(&trace, "a"), named(&trace, "b"), named(&trace, "c")
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { trace = append(trace, "handler") })
	list := []middleware.Middleware{a, b}
	chained := middleware.Chain(list...)
	list[0] = c // too late to matter
	tests := map[string]struct {
		chain middleware.Middleware
		want  string
	}{
		"none":        {middleware.Chain(), "handler"},
		"one":         {middleware.Chain(a), "a handler /a"},
		"three":       {middleware.Chain(a, b, c), "a b c handler /c /b /a"},
		"nested":      {middleware.Chain(a, middleware.Chain(b, c)), "a b c handler /c /b /a"},
		"later slice": {chained, "a b handler /b /a"},
	}
	for name, tt := range tests {
		h := tt.chain(handler)
		for range 2 { // it is as good the second time
			trace = nil
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
			if got := strings.Join(trace, " "); got != tt.want {
				t.Errorf("%s: %s; want %s", name, got, tt.want)
			}
		}
	}

	// It is what chi takes.
	trace = nil
	router := chi.NewRouter()
	router.Use(middleware.Chain(a, b))
	router.With(c).Get("/", handler)
	router.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if got, want := strings.Join(trace, " "), "a b c handler /c /b /a"; got != want {
		t.Errorf("in chi: %s; want %s", got, want)
	}
}

func TestWhen(t *testing.T) {
	t.Parallel()
	var trace []string
	notHealth := func(r *http.Request) bool { return r.URL.Path != "/health" }
	h := middleware.When(notHealth, named(&trace, "a"))(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		trace = append(trace, "handler")
	}))
	for path, want := range map[string]string{"/": "a handler /a", "/health": "handler"} {
		trace = nil
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
		if got := strings.Join(trace, " "); got != want {
			t.Errorf("%s: %s; want %s", path, got, want)
		}
	}
}
