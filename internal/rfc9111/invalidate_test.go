package rfc9111_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestInvalidates_section4_4(t *testing.T) {
	t.Parallel()
	for method, unsafe := range map[string]bool{
		"GET": false, "HEAD": false, "OPTIONS": false, "TRACE": false,
		"POST": true, "PUT": true, "DELETE": true, "PATCH": true, "M-SEARCH": true, "get": true,
	} {
		for status, success := range map[int]bool{199: false, 200: true, 204: true, 303: true, 399: true, 400: false, 404: false, 500: false, 0: false} {
			if got := rfc9111.Invalidates(method, status); got != (unsafe && success) {
				t.Errorf("%s, %d: got %v", method, status, got)
			}
		}
	}
}

// Without sameOrigin in Invalidated, the other origins are found here.
func TestInvalidated_section4_4(t *testing.T) {
	t.Parallel()
	base, _ := url.Parse("http://shop.example/items?q=1")
	tests := []struct {
		name string
		resp http.Header
		want []string
	}{
		{"neither", h(), nil},
		{"a path", h("Location", "/items/7"), []string{"http://shop.example/items/7"}},
		{"relative", h("Content-Location", "items/7?x=1#f"), []string{"http://shop.example/items/7?x=1"}},
		{"both", h("Location", "/a", "Content-Location", "/b"), []string{"http://shop.example/a", "http://shop.example/b"}},
		{"both the same", h("Location", "/a", "Content-Location", "http://shop.example:80/a"), []string{"http://shop.example/a"}},
		{"absolute, the host in capitals", h("Location", "HTTP://SHOP.example/a"), []string{"http://SHOP.example/a"}},
		{"the request's own", h("Location", "http://shop.example/items?q=1", "Content-Location", ""), nil},
		{"another host", h("Location", "http://evil.example/a"), nil},
		{"another port", h("Location", "http://shop.example:8080/a"), nil},
		{"another scheme", h("Location", "https://shop.example/a"), nil},
		{"no scheme, another host", h("Location", "//evil.example/a"), nil},
		{"two Locations", h("Location", "/a", "Location", "/b"), nil},
		{"no URL", h("Location", "http://[::1"), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, u := range rfc9111.Invalidated(base, tt.resp) {
				u.Fragment = ""
				got = append(got, fmt.Sprint(u))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q; want %q", got, tt.want)
			}
		})
	}
}

func FuzzInvalidated(f *testing.F) {
	for _, s := range []string{"/a", "//b/c", "http://shop.example/x", "?q", "../..", "http:a", "%", "\\\\evil"} {
		f.Add(s)
	}
	base, _ := url.Parse("http://shop.example/items")
	f.Fuzz(func(t *testing.T, s string) {
		for _, u := range rfc9111.Invalidated(base, lines("Location", s)) {
			if u.Scheme != "http" || u.Port() != "" && u.Port() != "80" || len(u.Hostname()) != len("shop.example") {
				t.Errorf("Location %q: %v is of another origin", s, u)
			}
		}
	})
}
