package middleware_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// Vary is added to, whatever stands there, and says Cookie once.
func TestSession_vary(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	tests := []struct {
		name            string
		outside, inside []string
		want            []string
	}{
		{"nothing", nil, nil, []string{"Cookie"}},
		{"another", nil, []string{"Origin"}, []string{"Origin", "Cookie"}},
		{"there", nil, []string{"Cookie"}, []string{"Cookie"}},
		{"there in a list", nil, []string{"Accept , cOOKIE"}, []string{"Accept , cOOKIE"}},
		{"there in a second line", nil, []string{"Accept", "Origin,Cookie"}, []string{"Accept", "Origin,Cookie"}},
		{"everything", nil, []string{"*"}, []string{"*"}},
		{"everything in a list", nil, []string{"Origin, *"}, []string{"Origin, *"}},
		{"only like it", nil, []string{"Cookie2, X-Cookie, *x"}, []string{"Cookie2, X-Cookie, *x", "Cookie"}},
		{"empty", nil, []string{""}, []string{"", "Cookie"}},
		{"from outside", []string{"Origin"}, []string{"Accept"}, []string{"Origin", "Accept", "Cookie"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			handler := middleware.Session(m)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for _, line := range test.inside {
					w.Header().Add("Vary", line)
				}
				m.Get(r.Context(), "user")
			}))
			w := httptest.NewRecorder()
			// Shared by all responses, as by a wrapper that saves allocations.
			shared := append(make([]string, 0, 4), test.outside...)
			if len(shared) > 0 {
				w.Header()["Vary"] = shared[:len(shared):len(shared)]
			}
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
			if got := w.Header().Values("Vary"); !slices.Equal(got, test.want) {
				t.Errorf("got %q; want %q", got, test.want)
			}
		})
	}
}
