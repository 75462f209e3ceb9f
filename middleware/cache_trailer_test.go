package middleware_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// trailing answers with a body and with two trailers, one announced.
func trailing(fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum, Set-Cookie")
		page("body", append([]string{"Cache-Control: max-age=60"}, fields...)...)(w, r)
		w.Header().Set("X-Sum", "42")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Add(http.TrailerPrefix+"X-More", "43")
		w.Header().Add(http.TrailerPrefix+"X-More", "44")
	}
}

// Trailers reach the client of the handler's answer, and of a stored one, but for cookies.
// Red without addTrailers; without its deletion of Content-Length over HTTP/1.1; with
// Set-Cookie out of rfc9111's notTrailing.
func TestCache_trailers(t *testing.T) {
	t.Parallel()
	eachHTTP(t, func(t *testing.T, serve func(*cached) *httptest.Server) {
		c := newCached(t, trailing())
		s := serve(c)
		want := http.Header{"X-Sum": {"42"}, "X-More": {"43", "44"}, "Set-Cookie": {"a=b"}}
		for i := range 3 {
			resp, err := s.Client().Get(s.URL)
			if err == nil && len(resp.Trailer) == 0 {
				t.Error("no trailer is announced")
			}
			a := received(t, resp, err).hasBody(200, "body").has("X-Sum").has("Trailer:X-More")
			if !reflect.DeepEqual(resp.Trailer, want) {
				t.Errorf("trailer: got %v; want %v", resp.Trailer, want)
			}
			if i > 0 {
				a.isHit()
			}
			delete(want, "Set-Cookie")
		}
	})
}

// A handler that panics when it has set its trailers has said nothing.
func TestCache_trailersOfPanic(t *testing.T) {
	t.Parallel()
	eachHTTP(t, func(t *testing.T, serve func(*cached) *httptest.Server) {
		c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
			trailing()(w, r)
			panic(http.ErrAbortHandler)
		})
		s := serve(c)
		if resp, err := s.Client().Get(s.URL); err == nil {
			if body, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("got %q, whole", body)
			}
		}
		if keys := c.keys(); len(keys) > 0 {
			t.Errorf("stored: %v", keys)
		}
	})
}

// Trailers are about the whole: there are none behind a part, a 304 or an answer to HEAD.
// Red without dropTrailers over HTTP/2.
func TestCache_trailersOfParts(t *testing.T) {
	t.Parallel()
	eachHTTP(t, func(t *testing.T, serve func(*cached) *httptest.Server) {
		c := newCached(t, trailing(`ETag: "a"`))
		s := serve(c)
		ask := func(method string, fields ...string) (cacheAnswer, http.Header) {
			req, _ := http.NewRequestWithContext(t.Context(), method, s.URL, nil)
			for _, f := range fields {
				name, value, _ := strings.Cut(f, ": ")
				req.Header.Set(name, value)
			}
			resp, err := s.Client().Do(req)
			a := received(t, resp, err)
			return a, resp.Trailer
		}
		ask("GET")
		for _, test := range []struct {
			method, field string
			status        int
			body          string
		}{
			{"GET", "Range: bytes=1-2", 206, "od"},
			{"GET", "Range: bytes=0-0,3-3", 206, ""},
			{"GET", "Range: bytes=9-", 416, ""},
			{"GET", `If-None-Match: "a"`, 304, ""},
			{"HEAD", "Accept: a", 200, ""},
		} {
			a, trailer := ask(test.method, test.field)
			a.isHit()
			if a.status != test.status || test.body != "" && a.body != test.body {
				t.Errorf("%s %s: got %d %q; want %d %q", test.method, test.field, a.status, a.body, test.status, test.body)
			}
			for name, values := range trailer {
				if len(values) > 0 {
					t.Errorf("%s %s: got trailer %s: %q", test.method, test.field, name, values)
				}
			}
		}
	})
}

// A 304 leaves stored trailers as they are; so do those that a middleware outside sets.
func TestCache_trailersRevalidated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCachedOn(t, testkit.Memory(t), nil, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" {
				w.Header().Set("Cache-Control", "max-age=60")
				w.WriteHeader(http.StatusNotModified)
				return
			}
			trailing(`ETag: "a"`)(w, r)
		}).behind(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Trailer", "X-Outside")
				next.ServeHTTP(w, r)
				w.Header().Set("X-Outside", "1")
			})
		})
		get := func() http.Header {
			w := httptest.NewRecorder()
			c.ServeHTTP(w, httptest.NewRequest("GET", "/page", nil))
			return w.Result().Trailer
		}
		get()
		want := http.Header{"X-Sum": nil, "X-Outside": {"1"}, "X-More": {"43", "44"}}
		for i := range 3 {
			got := get()
			if got.Get("X-More") != "43" || got.Get("X-Outside") != "1" || !hasKeys(got, want) {
				t.Errorf("answer %d: got trailer %v; want %v", i, got, want)
			}
			time.Sleep(40 * time.Second)
		}
		c.called(2)
	})
}

func hasKeys(h, want http.Header) bool {
	for name := range want {
		if _, ok := h[name]; !ok {
			return false
		}
	}
	return true
}

// What has announced its length has no trailers over HTTP/1.1, and is stored without.
func TestCache_trailersWithLength(t *testing.T) {
	t.Parallel()
	eachHTTP(t, func(t *testing.T, serve func(*cached) *httptest.Server) {
		c := newCached(t, trailing("Content-Length: 4"))
		s := serve(c)
		for i := range 2 {
			resp, err := s.Client().Get(s.URL)
			a := received(t, resp, err).hasBody(200, "body").has("Content-Length", "4")
			if i == 1 && len(a.isHit().header["Trailer"])+len(resp.Trailer) > 0 {
				t.Errorf("trailer: got %v; want none", resp.Trailer)
			}
		}
	})
}
