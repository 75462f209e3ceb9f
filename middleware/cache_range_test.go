package middleware_test

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

const digits = "0123456789"

// ranged answers ranges as net/http does, with an ETag unless it is empty.
func ranged(etag, body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Set(name, value)
		}
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader(body))
	}
}

func TestCache_rangesOfWhole(t *testing.T) {
	t.Parallel()
	c := newCached(t, ranged(`"a"`, digits))
	c.get().isStored().hasBody(200, digits)
	tests := []struct {
		fields       []string
		status       int
		body         string
		contentRange []string
	}{
		{[]string{"Range: bytes=0-1"}, 206, "01", []string{"bytes 0-1/10"}},
		{[]string{"Range: bytes=7-"}, 206, "789", []string{"bytes 7-9/10"}},
		{[]string{"Range: bytes=-1"}, 206, "9", []string{"bytes 9-9/10"}},
		{[]string{"Range: bytes=0-99"}, 206, digits, []string{"bytes 0-9/10"}},
		{[]string{"Range: bytes=10-"}, 416, "", []string{"bytes */10"}},
		{[]string{"Range: bytes=x"}, 200, digits, nil},
		{[]string{"Range: bytes=0-1", `If-Range: "a"`}, 206, "01", []string{"bytes 0-1/10"}},
		{[]string{"Range: bytes=0-1", `If-Range: "b"`}, 200, digits, nil},
		{[]string{"Range: bytes=0-1", `If-None-Match: "a"`}, 304, "", nil},
	}
	for _, tt := range tests {
		a := c.get(tt.fields...).isHit().hasBody(tt.status, tt.body).has("Content-Range", tt.contentRange...)
		if want := fmt.Sprint(len(tt.body)); tt.status != 304 && a.header.Get("Content-Length") != want {
			t.Errorf("%v: Content-Length %q; want %s", tt.fields, a.header.Get("Content-Length"), want)
		}
	}
	c.do("HEAD", "/page", "Range: bytes=0-1").isHit().hasBody(200, "").has("Content-Length", "10")
	c.called(1)
}

func TestCache_severalRanges(t *testing.T) {
	t.Parallel()
	c := newCached(t, ranged(`"a"`, digits, "Content-Type: text/x"))
	c.get().isStored()
	a := c.get("Range: bytes=8-9, 0-1").isHit()
	typ, params, err := mime.ParseMediaType(a.header.Get("Content-Type"))
	if a.status != 206 || typ != "multipart/byteranges" || err != nil || a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
		t.Fatalf("got %d %v, %v", a.status, a.header, err)
	}
	parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
	for _, want := range []struct{ at, body string }{{"bytes 8-9/10", "89"}, {"bytes 0-1/10", "01"}} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(part)
		if string(body) != want.body || part.Header.Get("Content-Range") != want.at || part.Header.Get("Content-Type") != "text/x" {
			t.Errorf("got %q, %v; want %q, %s", body, part.Header, want.body, want.at)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("got %v; want the end", err)
	}
}

// A part answers what lies in it, and never for the whole. Without SelectNone in
// answer it would.
func TestCache_part(t *testing.T) {
	t.Parallel()
	c := newCached(t, ranged("", digits))
	c.get("Range: bytes=4-7").isMiss("uri-miss", "", true).hasBody(206, "4567")
	c.get("Range: bytes=5-6").isHit().hasBody(206, "56").has("Content-Range", "bytes 5-6/10").has("Content-Length", "2")
	c.get("Range: bytes=10-").isHit().hasBody(416, "")
	c.get("Range: bytes=0-1").isMiss("partial", "", true).hasBody(206, "01")
	c.get().isMiss("partial", "", true).hasBody(200, digits)
	c.get("Range: bytes=-3").isHit().hasBody(206, "789")
}

// Parts with one strong validator become one, and the whole when nothing is missing
// (section 3.4).
func TestCache_partsJoin(t *testing.T) {
	t.Parallel()
	c := newCached(t, ranged(`"a"`, digits))
	c.get("Range: bytes=2-4").isMiss("uri-miss", "", true)
	c.get("Range: bytes=5-6").isMiss("partial", "", true)
	c.get("Range: bytes=2-6").isHit().hasBody(206, "23456")
	c.get("Range: bytes=6-").isMiss("partial", "", true)
	c.get("Range: bytes=0-3").isMiss("partial", "", true)
	c.get().isHit().hasBody(200, digits).has("Content-Length", "10").has("Content-Range").has("Etag", `"a"`)
	c.called(4)
}

// Parts of different representations, or of who knows which, are not put together.
// Without Combines in join the third answer would be of both.
func TestCache_partsOfTwo(t *testing.T) {
	t.Parallel()
	for _, etag := range []string{"", `W/"a"`, "strong"} {
		version := 0
		c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
			version++
			tag := etag
			if tag == "strong" {
				tag = fmt.Sprintf("%q", fmt.Sprint(version))
			}
			ranged(tag, strings.Repeat(fmt.Sprint(version), 10))(w, r)
		})
		c.get("Range: bytes=0-4").hasBody(206, "11111")
		c.get("Range: bytes=5-9").hasBody(206, "22222")
		if a := c.get(); a.body != "3333333333" {
			t.Errorf("ETag %q: got %q", etag, a.body)
		}
	}
}

// What is missing of the whole is asked for alone.
func TestCache_completes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ first, asked string }{
		"the end":       {"bytes=0-5", "bytes=6-"},
		"the beginning": {"bytes=4-", "bytes=0-3"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked http.Header
			c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
				asked = r.Header.Clone()
				ranged(`"a"`, digits, "X-Range: "+r.Header.Get("Range"))(w, r)
			})
			c.get("Range: "+test.first).isMiss("uri-miss", "", true)
			a := c.get("X-Mine: yes").hasBody(200, digits).has("Content-Length", "10").has("Content-Range").has("X-Range", test.asked)
			if said := a.cacheStatus(); said["fwd"] != "partial" || said["fwd-status"] != int64(206) || said["stored"] != true {
				t.Errorf("got %q", a.header["Cache-Status"])
			}
			if asked.Get("Range") != test.asked || asked.Get("If-Range") != `"a"` || asked.Get("X-Mine") != "yes" {
				t.Errorf("the handler was asked %v; want %s", asked, test.asked)
			}
			c.get().isHit().hasBody(200, digits)
			c.called(2)
		})
	}
}

// What does not fit what is stored is no answer to a client that asked for no range:
// the handler is asked again. Without retry in meet the client would get it.
func TestCache_completesNot(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"changed, and If-Range is not heeded": func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-Range")
			ranged(`"b"`, "abcdefghij")(w, r)
		},
		"416":        func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(416) },
		"other part": page("01", "Content-Range: bytes 0-1/10", "Cache-Control: max-age=60"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
				if n++; n == 2 {
					if name == "other part" {
						w.Header().Set("ETag", `"a"`)
						w.Header().Set("Content-Range", "bytes 0-1/10")
						w.WriteHeader(206)
						_, _ = io.WriteString(w, "01")
						return
					}
					answer(w, r)
					return
				}
				ranged(`"a"`, digits)(w, r)
			})
			c.get("Range: bytes=0-5").isMiss("uri-miss", "", true)
			c.get().hasBody(200, digits).has("Content-Range")
			c.called(3)
			c.get().isHit().hasBody(200, digits)
		})
	}
	// And what has changed is taken as it comes.
	etag, body := `"a"`, digits
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) { ranged(etag, body)(w, r) })
	c.get("Range: bytes=0-5").isMiss("uri-miss", "", true)
	etag, body = `"b"`, "abcdefghij"
	c.get().isMiss("partial", "", true).hasBody(200, "abcdefghij")
	c.get().isHit().hasBody(200, "abcdefghij")
}

// The rest that is cut short makes no whole, in the store or for the client.
func TestCache_completesCutShort(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"bytes=0-5", "bytes=5-"} {
		n := 0
		c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
			if n++; n != 2 {
				ranged(`"a"`, digits)(w, r)
				return
			}
			w.Header().Set("ETag", `"a"`)
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Range", map[string]string{"bytes=0-5": "bytes 6-9/10", "bytes=5-": "bytes 0-4/10"}[first])
			w.WriteHeader(206)
			_, _ = io.WriteString(w, map[string]string{"bytes=0-5": "6", "bytes=5-": "0"}[first])
		})
		server := c.served()
		get := func(ranges string) (string, error) {
			req, _ := http.NewRequest("GET", server.URL, nil)
			if ranges != "" {
				req.Header.Set("Range", ranges)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return string(body), err
		}
		if _, err := get(first); err != nil {
			t.Fatal(err)
		}
		if body, err := get(""); err == nil {
			t.Errorf("%s: got %q without an error; want the client to know", first, body)
		}
		if body, err := get(""); err != nil || body != digits {
			t.Errorf("%s: then got %q, %v", first, body, err)
		}
	}
}

// A part that is shorter than it says is kept as far as it goes (section 3.3); one
// that is longer is not kept.
func TestCache_partLength(t *testing.T) {
	t.Parallel()
	for body, stored := range map[string]bool{"4567": true, "45678": true, "456789": false} {
		c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Content-Range", "bytes 4-8/10")
			w.WriteHeader(206)
			_, _ = io.WriteString(w, body)
		})
		c.get("Range: bytes=4-8")
		if got := len(c.keys()) > 0; got != stored {
			t.Errorf("%q of 4 to 8: stored %v; want %v", body, got, stored)
		}
	}
}

func TestCache_post(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Location", r.URL.Path)
		fresh(r.Method)(w, r)
	}, middleware.WithRFCProfile())
	c.get().isStored().hasBody(200, "GET")
	c.serve(httptest.NewRequest("POST", "/page", strings.NewReader("q"))).isMiss("method", "", true).hasBody(200, "POST")
	c.get().isHit().hasBody(200, "POST")
	c.do("HEAD", "/page").isHit().hasBody(200, "")
}

// Section 4.4. Without keyOfURL's prefix the second half would fail, without
// sameOrigin in rfc9111.Invalidated the last of the tests.
func TestCache_invalidatesLocations(t *testing.T) {
	t.Parallel()
	tests := []struct {
		field string
		gone  bool
	}{
		{"Location: /shop/a?x=1", true},
		{"Content-Location: a?x=1", true},
		{"Location: http://example.com/shop/a?x=1", true},
		{"Location: http://EXAMPLE.com:80/shop/a?x=1", true},
		{"Location: /shop/a", false},
		{"Location: http://other.example/shop/a?x=1", false},
		{"Location: https://example.com/shop/a?x=1", false},
	}
	for _, stripped := range []bool{false, true} {
		for _, tt := range tests {
			c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "POST" {
					name, value, _ := strings.Cut(tt.field, ": ")
					w.Header().Set(name, value)
					w.WriteHeader(http.StatusCreated)
					return
				}
				fresh("page")(w, r)
			})
			if stripped {
				c.behind(func(next http.Handler) http.Handler { return http.StripPrefix("/shop", next) })
			}
			c.do("GET", "/shop/a?x=1").isStored()
			c.do("POST", "/shop/items").isMiss("method", "method", false)
			if got := len(c.keys()) == 0; got != tt.gone {
				t.Errorf("%s, stripped %v: gone %v; want %v", tt.field, stripped, got, tt.gone)
			}
		}
	}
}

func TestCache_targets(t *testing.T) {
	t.Parallel()
	c := newCached(t, page("x", "Cache-Control: no-store", "CDN-Cache-Control: max-age=60"))
	c.get().isStored()
	c.get().isHit().has("Cache-Control", "no-store").has("Cdn-Cache-Control", "max-age=60")
	own := newCached(t, page("x", "CDN-Cache-Control: no-store", "Shop-Cache-Control: max-age=60"), middleware.WithTargets("shop-cache-control", "CDN-Cache-Control"))
	own.get().isStored()
	none := newCached(t, page("x", "CDN-Cache-Control: max-age=60"), middleware.WithTargets())
	none.get().isMiss("uri-miss", "no-freshness", false)
}

func TestCache_options(t *testing.T) {
	t.Parallel()
	c := newCached(t, fresh("x", "Set-Cookie: a=b"), middleware.WithInsecureSetCookie())
	c.get().isStored()
	c.get().isHit().has("Set-Cookie", "a=b")
	c = newCached(t, fresh("x"), middleware.WithInsecureForwardedHeaders())
	c.get("X-Forwarded-Host: y").isStored()
	c.get().isHit()
	c = newCached(t, fresh("x"), middleware.WithoutRequestDirectives())
	c.get().isStored()
	c.get("Cache-Control: no-cache").isHit()
	for name, f := range map[string]func(){
		"a target":    func() { middleware.WithTargets("no name") },
		"a refresher": func() { middleware.WithRefresher(nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: got no panic", name)
				}
			}()
			f()
		}()
	}
}

// However much is missing, no more than MaxBytes is held of it. Without the bound in
// pass all of it is.
func TestCache_completesTooMuch(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("0123456789", 2000)
	c := newCachedOn(t, testkit.Mini(t), []cache.Option{cache.WithMaxBytes(4096)}, ranged(`"a"`, big))
	c.get("Range: bytes=0-99").isMiss("uri-miss", "", true)
	if a := c.get(); a.status != 200 || a.body != big {
		t.Errorf("got %d, %d octets; want all %d", a.status, len(a.body), len(big))
	}
	c.get("Range: bytes=0-9").isHit()
}
