package middleware_test

import (
	"bufio"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/go-weir/weir/middleware"
)

// requestFor is what net/http makes of a request line and a Host.
func requestFor(t testing.TB, target, host string) (*http.Request, bool) {
	if strings.ContainsAny(target+host, " \r\n") || target == "" {
		return nil, false
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")))
	return r, err == nil
}

func TestKey_requestLines(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string // "host target"
		same bool
	}{
		{"h /a/b", "h /a/b", true},
		{"h /a/b", "H /a/b", true},
		{"h /a/b", "h http://h/a/b", true}, // absolute form, RFC 9112 3.2.2
		{"h /a?b=1", "x http://h/a?b=1", true},
		{"h /", "h http://h/", true},
		{"h /a%2Fb", "h /a/b", false},
		{"h /a%2Fb", "h /a%2fb", false}, // the same by RFC 3986; the safe side
		{"h /a", "h /a/", false},
		{"h /a", "h //a", false},
		{"h /a", "h /A", false},
		{"h /a", "h /a?", false},
		{"h /a?b=1&c=2", "h /a?c=2&b=1", false},
		{"h /a?b", "h /a?b=", false},
		{"h /a%3Fb", "h /a?b", false},
		{"h /a?/b", "h /a/?b", false},
		{"h /a", "h:80 /a", false},
		{"ha /", "h /a", false},
		{"h mail:a", "h mail:b", false},
	} {
		var keys [2]string
		for i, line := range []string{test.a, test.b} {
			host, target, _ := strings.Cut(line, " ")
			r, ok := requestFor(t, target, host)
			if !ok {
				t.Fatalf("%q is no request", line)
			}
			keys[i] = middleware.KeyOf(r)
		}
		if same := keys[0] == keys[1]; same != test.same {
			t.Errorf("%q and %q: same key %v; want %v", test.a, test.b, same, test.same)
		}
	}
}

// Requests that no server has read have a URL alone. Protected by EscapedPath.
func TestKey_withoutRequestLine(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, u := range []string{"http://h/a/b", "http://h/a%2Fb", "http://h/a?b", "http://h/a%3Fb", "http://h/a", "http://g/a", "http://h/a?b%3D", "http://h/a?b="} {
		r, err := http.NewRequest("GET", u, nil)
		if err != nil {
			t.Fatal(err)
		}
		key := middleware.KeyOf(r)
		if other, dup := seen[key]; dup {
			t.Errorf("%s and %s have one key", u, other)
		}
		seen[key] = u
	}
}

// Keys are equal exactly when all parts are. Protected by the lengths that keyOf
// puts before the parts, and by each of the parts.
func FuzzKey(f *testing.F) {
	f.Add("/a?b", "h", false, "/a", "h", false)
	f.Add("/a%2Fb", "h", false, "/a/b", "h", false)
	f.Add("/", "ha", false, "/a", "h", true)
	f.Add("/\x04h", "", false, "/", "\x01/", false)
	f.Add("http://h/a?", "x", true, "/a?", "h", true)
	f.Fuzz(func(t *testing.T, target1, host1 string, tls1 bool, target2, host2 string, tls2 bool) {
		a, ok1 := requestFor(t, target1, host1)
		b, ok2 := requestFor(t, target2, host2)
		if !ok1 || !ok2 {
			return
		}
		for r, secure := range map[*http.Request]bool{a: tls1, b: tls2} {
			if secure {
				r.TLS = &tls.ConnectionState{}
			}
		}
		parts := func(r *http.Request) [5]string {
			target := r.RequestURI
			if !strings.HasPrefix(target, "/") {
				if _, rest, ok := strings.Cut(target, "://"); ok {
					target = ""
					if i := strings.IndexAny(rest, "/?"); i >= 0 {
						target = rest[i:]
					}
				}
			}
			scheme := "http"
			if r.TLS != nil {
				scheme = "https"
			}
			return [5]string{scheme, strings.ToLower(r.Host), r.URL.EscapedPath(), r.URL.RawQuery, target}
		}
		if same, want := middleware.KeyOf(a) == middleware.KeyOf(b), parts(a) == parts(b); same != want {
			t.Errorf("%q %q and %q %q: same key %v; want %v", host1, target1, host2, target2, same, want)
		}
	})
}

// Two handlers behind prefixes that were taken off, one store between them: what
// one answers is not the other's. Protected by the fifth part in keyOf.
func TestCache_stripPrefix(t *testing.T) {
	t.Parallel()
	c := newCached(t, fresh("one"))
	mux := http.NewServeMux()
	mux.Handle("/v1/", http.StripPrefix("/v1", c.wrap(c.counted(fresh("one")))))
	mux.Handle("/v2/", http.StripPrefix("/v2", c.wrap(c.counted(fresh("two")))))
	c.Handler = mux
	c.do("GET", "/v1/page").isStored().hasBody(200, "one")
	c.do("GET", "/v2/page").isStored().hasBody(200, "two")
	c.do("GET", "/v1/page").isHit().hasBody(200, "one")
	c.do("POST", "/v1/page")
	c.do("GET", "/v1/page").isStored()
	c.do("GET", "/v2/page").isHit().hasBody(200, "two")
}

// A wrapper outside that rewrites the URL asks for something else.
func TestCache_rewrittenOutside(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) { fresh(r.URL.Path)(w, r) }).behind(
		func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.URL = &url.URL{Path: "/" + r.Header.Get("Accept-Language") + r.URL.Path}
				next.ServeHTTP(w, r)
			})
		})
	c.get("Accept-Language: de").isStored().hasBody(200, "/de/page")
	c.get("Accept-Language: en").isStored().hasBody(200, "/en/page")
	c.get("Accept-Language: de").isHit().hasBody(200, "/de/page")
}

// What a handler does to its request is its own affair.
func TestCache_rewrittenInside(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path, r.URL.RawQuery, r.Host = "/elsewhere", "x", "other.example"
		fresh("x")(w, r)
	})
	c.get().isStored()
	c.get().isHit()
	if a := c.serve(httptest.NewRequest("GET", "http://other.example/elsewhere?x", nil)); a.cacheStatus()["hit"] != nil {
		t.Error("stored under the URL that the handler made up")
	}
}
