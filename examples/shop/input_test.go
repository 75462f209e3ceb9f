package main

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
)

// What is wrong is told so, as a problem to programs and as a page to people; nothing
// comes of it. It goes red without crossOrigin in handler.
func TestShop_badInput(t *testing.T) {
	t.Parallel()
	s, v := open(t, testkit.Mini(t).Client(t))
	v.join("ada@example.com", "100")
	order := as[Order](t, v.post("/orders", "product", "1", "quantity", "1").want(t, 201))
	nobody := newVisitor(t, v.url)
	forged := newVisitor(t, v.url)
	forged.cookie = "__Host-session=" + strings.Repeat("A", len(strings.TrimPrefix(v.cookie, "__Host-session=")))
	form := func(pairs ...string) url.Values {
		values := make(url.Values)
		for i := 0; i < len(pairs); i += 2 {
			values.Set(pairs[i], pairs[i+1])
		}
		return values
	}
	pay := "/orders/" + order.ID + "/pay"
	tests := []struct {
		name         string
		who          *visitor
		method, path string
		form         url.Values
		fields       []string
		want         int
	}{
		{"no key", v, "POST", pay, form(), nil, 400},
		{"malformed key", v, "POST", pay, form(), []string{"Idempotency-Key", `"not closed`}, 400},
		{"key with a control character", v, "POST", pay, form("key", "a\x01b"), nil, 400},
		{"key of a kilobyte", v, "POST", pay, form("key", strings.Repeat("k", 1024)), nil, 400},
		{"body over the cap", v, "POST", "/credit", form("amount", "1", "key", "k", "more", strings.Repeat("x", maxBody)), nil, 413},
		{"body over the cap of nobody", nobody, "POST", "/login", form("email", strings.Repeat("x", maxBody)), nil, 413},
		{"not a form", v, "POST", "/credit", form("amount", "1"), []string{"Content-Type", "application/json"}, 400},
		{"unknown route", v, "GET", "/nothing", nil, nil, 404},
		{"unknown route of nobody", nobody, "POST", "/orders/x/y/z", nil, nil, 404},
		{"another method", v, "PUT", "/orders", nil, nil, 405},
		{"unknown file", v, "GET", "/static/layout.html", nil, nil, 404},
		{"path out of the folder", v, "GET", "/static/..%2fmain.go", nil, nil, 404},
		{"unknown product", v, "GET", "/products/99", nil, nil, 404},
		{"product that is no number", v, "GET", "/products/%3Cscript%3E", nil, nil, 404},
		{"forged cookie", forged, "GET", "/account", nil, nil, 401},
		{"forged cookie pays", forged, "POST", pay, form("key", "k"), nil, 401},
		{"no cookie", nobody, "GET", "/orders", nil, nil, 401},
		{"from another site", v, "POST", "/logout", nil, []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"from another origin", v, "POST", pay, form("key", "k"), []string{"Origin", "https://evil.example"}, 403},
		{"negative amount", v, "POST", "/credit", form("amount", "-5", "key", "k"), nil, 422},
		{"amount beyond numbers", v, "POST", "/credit", form("amount", "99999999999999999999", "key", "k"), nil, 422},
		{"too much", v, "POST", "/credit", form("amount", "500.01", "key", "k"), nil, 422},
		{"nothing ordered", v, "POST", "/orders", form("product", "1", "quantity", "0"), nil, 422},
		{"a negative order", v, "POST", "/orders", form("product", "1", "quantity", "-1"), nil, 422},
		{"an order of what is not there", v, "POST", "/orders", form("product", "99", "quantity", "1"), nil, 422},
		{"an account without a password", nobody, "POST", "/register", form("email", "a@b.c", "name", "A"), nil, 422},
		{"an account that is there", nobody, "POST", "/register", form("email", "ADA@example.com", "name", "A", "password", password), nil, 409},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			program := tt.who.do(tt.method, tt.path, tt.form, tt.fields...)
			if program.status != tt.want || program.header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("a program got %d %s %s; want %d and a problem", program.status, program.header.Get("Content-Type"), program.body, tt.want)
			}
			person := tt.who.do(tt.method, tt.path, tt.form, append(tt.fields, "Accept", "text/html,*/*;q=0.8")...)
			if person.status != tt.want || !strings.HasPrefix(person.header.Get("Content-Type"), "text/html") {
				t.Errorf("a person got %d %s; want %d and a page", person.status, person.header.Get("Content-Type"), tt.want)
			}
			if strings.Contains(person.body, "<script>") || person.header.Get("Content-Security-Policy") == "" {
				t.Errorf("the page: %v\n%s", person.header, person.body)
			}
		})
	}
	// Nothing has come of it.
	if got := v.status(); got.User != "Ada" {
		t.Errorf("who was logged in is %+v", got)
	}
	if home := as[homePage](t, v.get("/").want(t, http.StatusOK)); home.Balance != 10000 {
		t.Errorf("balance %d; want 10000", home.Balance)
	}
	for table, want := range map[string]int{"orders": 1, "payments": 0, "users": 2, "incidents": 0} {
		if n := count(t, s.source, table); n != want {
			t.Errorf("%d %s; want %d", n, table, want)
		}
	}
}

func TestCents(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]int64{"12": 1200, "12.5": 1250, " 0.01 ": 1, "1000000": 1_000_000_00, "12.50": 1250} {
		if got, err := cents(s); got != want || err != nil {
			t.Errorf("cents(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", ".", "0", "0.00", "-1", "+1", "1.", "1.234", "1.-5", "1,5", "1e3", "1000000.01", "4294967296", "٣"} {
		if got, err := cents(s); err == nil && s != "1." {
			t.Errorf("cents(%q) = %d; want an error", s, got)
		}
	}
}
