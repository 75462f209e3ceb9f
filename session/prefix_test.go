package session_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// A token of one manager is nothing to another of a different prefix. Red when
// newStore leaves the prefix out.
func TestWithPrefix_keepsManagersApart(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	users, err := session.New(rdb)
	if err != nil {
		t.Fatal(err)
	}
	staff, err := session.New(rdb, session.WithPrefix("staff:session"), session.WithCookieName("__Host-staff"))
	if err != nil {
		t.Fatal(err)
	}
	login := httptest.NewRecorder()
	middleware.Session(users)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		users.Put(r.Context(), "id", "mallory")
	})).ServeHTTP(login, httptest.NewRequest("GET", "/", nil))

	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(&http.Cookie{Name: "__Host-staff", Value: login.Result().Cookies()[0].Value})
	middleware.Session(staff)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if id := staff.GetString(r.Context(), "id"); id != "" {
			t.Errorf("the staff's manager took a user's token: %s", id)
		}
	})).ServeHTTP(httptest.NewRecorder(), r)
}
