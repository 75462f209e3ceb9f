package middleware_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// None of these may be handed to anybody else: the handler is asked each time,
// and Redis stays empty. Each is protected by its line in rfc9111.Storable but
// for the spellings, which canonical in cache_entry.go protects.
func TestCache_neverStored(t *testing.T) {
	t.Parallel()
	const age = "Cache-Control: max-age=60"
	const public = "Cache-Control: public, max-age=60"
	tests := []struct {
		name   string
		asks   []string // the request's fields
		says   []string // the response's
		safe   string   // detail in the safe profile; "" means stored
		rfc    string   // in the RFC profile
		direct map[string][]string
	}{
		{"private", nil, []string{age + ", private"}, "private", "private", nil},
		{"private in a second line", nil, []string{age, "Cache-Control: PRIVATE"}, "private", "private", nil},
		{"private, said twice over", nil, []string{public + ", private"}, "private", "private", nil},
		{"private for a field", nil, []string{age + `, private="X-A"`}, "", "", nil},
		{"no-store", nil, []string{age + ", no-store"}, "no-store", "no-store", nil},
		{"no-cache", nil, []string{age + ", no-cache"}, "no-cache", "no-cache", nil},
		{"Set-Cookie", nil, []string{public, "Set-Cookie: a=b"}, "set-cookie", "", nil},
		{"set-cookie", nil, []string{public}, "set-cookie", "", map[string][]string{"set-cookie": {"a=b"}}},
		{"SET-COOKIE", nil, []string{public}, "set-cookie", "", map[string][]string{"SET-COOKIE": {"a=b"}}},
		{"cache-control", nil, []string{public}, "private", "private", map[string][]string{"cache-control": {"private"}}},
		{"vary", nil, []string{public}, "vary-any", "vary-any", map[string][]string{"vary": {"*"}}},
		{"Vary: *", nil, []string{public, "Vary: Accept, *"}, "vary-any", "vary-any", nil},

		{"Cookie", []string{"Cookie: a=b"}, []string{age}, "credentials", "", nil},
		{"Cookie, s-maxage", []string{"Cookie: a=b"}, []string{"Cache-Control: s-maxage=60"}, "credentials", "", nil},
		{"Cookie, public", []string{"Cookie: a=b"}, []string{public}, "", "", nil},
		{"Authorization", []string{"Authorization: Basic eA=="}, []string{age}, "credentials", "authorization", nil},
		{"Authorization, s-maxage", []string{"Authorization: x"}, []string{"Cache-Control: s-maxage=60"}, "", "", nil},
		{"Authorization and Cookie, s-maxage", []string{"Authorization: x", "Cookie: a=b"}, []string{"Cache-Control: s-maxage=60"}, "credentials", "", nil},
		{"X-Forwarded-Host", []string{"X-Forwarded-Host: evil"}, []string{public}, "unkeyed-header", "", nil},
		{"X-Forwarded-Host, its own", []string{"X-Forwarded-Host: example.com"}, []string{public}, "", "", nil},
		{"X-Forwarded-Host, keyed", []string{"X-Forwarded-Host: mine"}, []string{public, "Vary: X-Forwarded-Host"}, "", "", nil},
		{"Authorization, must-revalidate", []string{"Authorization: x"}, []string{age + ", must-revalidate"}, "credentials", "", nil},
		{"Authorization, public", []string{"Authorization: x"}, []string{public}, "", "", nil},
		{"empty Authorization", []string{"Authorization: "}, []string{age}, "credentials", "authorization", nil},
	}
	for _, test := range tests {
		for profile, detail := range map[string]string{"safe": test.safe, "rfc": test.rfc} {
			t.Run(test.name+"/"+profile, func(t *testing.T) {
				t.Parallel()
				var options []middleware.CacheOption
				if profile == "rfc" {
					options = append(options, middleware.WithRFCProfile())
				}
				c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
					for name, values := range test.direct {
						w.Header()[name] = values
					}
					// A wrapper inside takes off what it has dealt with.
					r.Header.Del("Authorization")
					r.Header.Del("Cookie")
					page("secret", test.says...)(w, r)
				}, options...)
				if detail == "" {
					c.get(test.asks...).isStored()
					c.get(test.asks...).isHit()
					return
				}
				c.get(test.asks...).isMiss("uri-miss", detail, false).hasBody(200, "secret")
				c.get(test.asks...).isMiss("uri-miss", detail, false)
				if c.called(2); len(c.keys()) != 0 {
					t.Errorf("stored: %q", c.keys())
				}
			})
		}
	}
}

// A visitor who is known sees their own page, where that of all others is kept for a
// lifetime that nobody declared, though by RFC 9111 it would do. Who sends
// Authorization is answered from what said public or s-maxage alone. Protected by
// mayKnow in rfc9111.
func TestCache_credentialsAndStoredPages(t *testing.T) {
	t.Parallel()
	guess := newCached(t, page("for all", "Last-Modified: Mon, 01 Jan 2001 00:00:00 GMT"))
	guess.get().isStored()
	guess.get("Cookie: a=b").isMiss("bypass", "credentials", false)
	guess.get("Authorization: x").isMiss("bypass", "credentials", false)
	guess.get().isHit()
	c := newCached(t, fresh("for all"))
	c.get().isStored()
	c.get("Cookie: a=b").isHit()
	c.get("Authorization: x").isMiss("bypass", "credentials", false)
	c.get().isHit()
	shared := newCached(t, page("for all", "Cache-Control: s-maxage=60"))
	shared.get().isStored()
	shared.get("Cookie: a=b").isHit()
	shared.get("Authorization: x").isHit()
	lifted := newCached(t, fresh("for all"), middleware.WithInsecureCredentials())
	lifted.get("Cookie: a=b").isStored()
	lifted.get("Authorization: x").isHit()
	rfc := newCached(t, fresh("for all"), middleware.WithRFCProfile())
	rfc.get().isStored()
	rfc.get("Cookie: a=b").isHit()
	rfc.get("Authorization: x").isHit()
	public := newCached(t, page("for all", "Cache-Control: public, max-age=60"))
	public.get("Cookie: a=b").isStored()
	public.get("Cookie: c=d").isHit()
	public.get("Authorization: x").isHit()
}

// What is cut short is not stored. Protected by whole in cache_forward.go, and
// for the panics by store not being deferred.
func TestCache_cutShort(t *testing.T) {
	t.Parallel()
	announce := func(w http.ResponseWriter, length string) {
		w.Header().Set("Cache-Control", "max-age=60")
		if length != "" {
			w.Header().Set("Content-Length", length)
		}
	}
	tests := map[string]http.HandlerFunc{
		"too short": func(w http.ResponseWriter, _ *http.Request) { announce(w, "10"); _, _ = io.WriteString(w, "12345") },
		"nothing":   func(w http.ResponseWriter, _ *http.Request) { announce(w, "10") },
		"too long":  func(w http.ResponseWriter, _ *http.Request) { announce(w, "3"); _, _ = io.WriteString(w, "12345") },
		"no number": func(w http.ResponseWriter, _ *http.Request) { announce(w, "five"); _, _ = io.WriteString(w, "12345") },
		"abort": func(w http.ResponseWriter, _ *http.Request) {
			announce(w, "")
			_, _ = io.WriteString(w, "1")
			panic(http.ErrAbortHandler)
		},
		"abort with a length": func(w http.ResponseWriter, _ *http.Request) {
			announce(w, "1")
			_, _ = io.WriteString(w, "1")
			panic(http.ErrAbortHandler)
		},
		"panic": func(w http.ResponseWriter, _ *http.Request) {
			announce(w, "")
			_, _ = io.WriteString(w, "1")
			panic("oh")
		},
		"panic at once": func(w http.ResponseWriter, _ *http.Request) { announce(w, ""); panic("oh") },
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCached(t, handler)
			for range 2 {
				var passed any
				func() {
					defer func() { passed = recover() }()
					c.get()
				}()
				if aborts := strings.HasPrefix(name, "abort"); aborts && passed != http.ErrAbortHandler {
					t.Errorf("got panic %v; want http.ErrAbortHandler itself", passed)
				}
			}
			if c.called(2); len(c.keys()) != 0 {
				t.Errorf("stored: %q", c.keys())
			}
		})
	}
}

// A handler that stops because its client left has written a part, or nothing.
// Protected by the context's Err in whole.
func TestCache_clientLeaves(t *testing.T) {
	t.Parallel()
	for _, length := range []string{"", "5"} {
		var leave context.CancelFunc
		c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			if length != "" {
				w.Header().Set("Content-Length", length)
			}
			_, _ = io.WriteString(w, "12345")
			leave()
			<-r.Context().Done()
		})
		var ctx context.Context
		ctx, leave = context.WithCancel(t.Context())
		c.serve(httptest.NewRequestWithContext(ctx, "GET", "/page", nil))
		leave = func() {}
		// Announced and all there, it is whole, whoever has left.
		if keys := c.keys(); (len(keys) == 1) != (length != "") {
			t.Errorf("length %q: got keys %q", length, keys)
		}
	}
}

// The client gets all, of whatever length; Redis at most MaxBytes. Protected by
// tooLong, and for the whole entry by Store.Keep.
func TestCache_tooLarge(t *testing.T) {
	t.Parallel()
	const limit = 4096
	for _, test := range []struct {
		name     string
		size     int
		announce bool
		detail   string
		keys     int
	}{
		{"announced", limit + 1, true, "too-large", 0},
		{"not announced", limit + 1, false, "", 0},
		{"fits but for its header", limit, false, "", 0},
		{"fits", limit - 300, true, "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			body := strings.Repeat("x", test.size)
			c := newCachedOn(t, testkit.Mini(t), []cache.Option{cache.WithMaxBytes(limit)}, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				if test.announce {
					w.Header().Set("Content-Length", fmt.Sprint(test.size))
				}
				for rest := body; rest != ""; rest = rest[min(1000, len(rest)):] {
					_, _ = io.WriteString(w, rest[:min(1000, len(rest))])
				}
			})
			c.get().hasBody(200, body).isMiss("uri-miss", test.detail, test.detail == "")
			if keys := c.keys(); len(keys) != test.keys {
				t.Errorf("got keys %q; want %d", keys, test.keys)
			}
			c.get().hasBody(200, body)
		})
	}
}

// A body too large to be stored is not collected either. Protected by Body's
// answer.
func TestCache_tooLargeForMemory(t *testing.T) { // not parallel: it measures the heap
	const limit = 64 << 10
	part := make([]byte, 32<<10)
	c := newCachedOn(t, testkit.Mini(t), []cache.Option{cache.WithMaxBytes(limit)}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for range 1024 {
			_, _ = w.Write(part)
		}
	})
	r := httptest.NewRequest("GET", "/page", nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.ServeHTTP(&discard{h: http.Header{}}, r)
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
		t.Errorf("got %d octets allocated for a body of %d; want some %d", got, 1024*len(part), limit)
	}
}

// Section 4.4. Protected by invalidates in cache_forward.go.
func TestCache_invalidation(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		method string
		status int
		gone   bool
	}{
		{"POST", 200, true}, {"POST", 201, true}, {"PUT", 204, true}, {"DELETE", 303, true}, {"PATCH", 399, true},
		{"WHATEVER", 200, true}, {"get", 200, true},
		{"POST", 400, false}, {"PUT", 404, false}, {"DELETE", 500, false},
		{"OPTIONS", 200, false}, {"TRACE", 200, false}, {"HEAD", 200, false},
	} {
		t.Run(fmt.Sprint(test.method, test.status), func(t *testing.T) {
			t.Parallel()
			c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "GET" {
					fresh("x", "Vary: Accept")(w, r)
					return
				}
				r.Method, r.URL.Path = "GET", "/elsewhere" // handlers do
				w.WriteHeader(test.status)
			})
			c.get().isStored()
			c.get("Accept: a/b").isMiss("vary-miss", "", true)
			c.do("GET", "/page?q").isStored()
			a := c.do(test.method, "/page")
			if test.method != "HEAD" {
				a.isMiss("method", "method", false)
			}
			if test.gone {
				c.get().isStored()
				c.get("Accept: a/b").isMiss("vary-miss", "", true)
			} else {
				c.get().isHit()
				c.get("Accept: a/b").isHit()
			}
			c.do("GET", "/page?q").isHit()
		})
	}
}

// What wrappers outside say is of one request. It is neither stored nor lost on
// a hit. Protected by ownFields in cache_entry.go.
func TestCache_headersFromOutside(t *testing.T) {
	t.Parallel()
	var n int
	outer := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n++
			h := w.Header()
			h.Set("X-RateLimit-Remaining", fmt.Sprint(100-n))
			h.Set("X-Request-Id", fmt.Sprint("id-", n))
			h["x-trace"] = []string{fmt.Sprint("t-", n)}
			h.Add("Vary", "Origin")
			h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
			h.Set("X-Replaced", fmt.Sprint("outside ", n))
			h.Add("Link", fmt.Sprintf("</%d>", n))
			h.Set("X-Removed", fmt.Sprint("outside ", n))
			next.ServeHTTP(w, r)
		})
	}
	c := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "max-age=60")
		h.Add("Vary", "Accept")
		h.Set("X-Replaced", "by the handler")
		h.Add("Link", "</own>")
		h.Del("X-Removed")
		h.Set("X-Own", "1")
	}).behind(outer)

	c.get("Origin: a").isStored().has("X-Request-Id", "id-1").has("X-Removed").
		has("X-Replaced", "by the handler").has("Link", "</1>", "</own>").has("Vary", "Origin", "Accept")
	c.get("Origin: a").isHit().
		has("X-Ratelimit-Remaining", "98").has("X-Request-Id", "id-2").
		has("Access-Control-Allow-Origin", "a").has("Vary", "Origin", "Accept").
		has("X-Replaced", "by the handler").has("Link", "</2>", "</own>").
		has("X-Removed", "outside 2").has("X-Own", "1").has("X-Trace")
	// The outer Vary selects as well: whether the handler made use of it cannot
	// be seen.
	c.get("Origin: b").isMiss("vary-miss", "", true).has("Access-Control-Allow-Origin", "b")
	c.get("Origin: b").isHit().has("Access-Control-Allow-Origin", "b").has("X-Request-Id", "id-4")
	for _, key := range c.keys() {
		for field, data := range c.rdb.HGetAll(t.Context(), key).Val() {
			for _, foreign := range []string{"id-", "t-1", "</1>", "outside", "X-Ratelimit", "Allow-Origin"} {
				if strings.Contains(data, foreign) {
					t.Errorf("%s holds %q: %q", field, foreign, data)
				}
			}
		}
	}
	c.called(2)
}

// A cookie from outside is not stored either; nor is the answer, as nobody knows
// what else it says of its visitor.
func TestCache_cookieFromOutside(t *testing.T) {
	t.Parallel()
	c := newCached(t, fresh("x")).behind(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "id", Value: "1"})
			next.ServeHTTP(w, r)
		})
	})
	c.get().isMiss("uri-miss", "set-cookie", false)
	c.get().isMiss("uri-miss", "set-cookie", false)
}

// Hits share no slice: what one request's wrappers do to its header, no other
// sees. Under -race this is a data race if they do.
func TestCache_hitsShareNothing(t *testing.T) {
	t.Parallel()
	c := newCached(t, fresh("x", "X-A: 1", "X-A: 2", "Vary: Accept", `ETag: "1"`)).behind(
		func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Vary"] = append(make([]string, 0, 8), "Origin")
				next.ServeHTTP(w, r)
				for name, values := range w.Header() {
					for i := range values {
						values[i] = "changed"
					}
					w.Header()[name] = append(values, "more")
				}
			})
		})
	c.get().isStored()
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for range 10 {
				c.get().isHit().has("X-A", "1", "2").has("Vary", "Origin", "Accept").has("Etag", `"1"`)
			}
		})
	}
	wg.Wait()
	c.called(1)
}

// A response is stored as the client saw it: what a handler does to the header
// after the first byte, or a second WriteHeader, changes nothing.
func TestCache_lateHeader(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.WriteString(w, "body")
		w.Header().Set("X-Late", "1")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusInternalServerError)
	})
	c.get().isStored().hasBody(200, "body")
	c.get().isHit().hasBody(200, "body").has("X-Late").has("Cache-Control", "max-age=60")
	early := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.WriteHeader(http.StatusNotFound)
		w.Header().Set("X-Late", "1")
		_, _ = io.WriteString(w, "body")
	})
	early.get().isStored().hasBody(404, "body")
	early.get().isHit().hasBody(404, "body").has("X-Late")
}

// net/http finds the type of a body without one, unless it is told not to.
func TestCache_contentType(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		set  http.Header
		want []string
	}{
		"found":             {nil, []string{"text/html; charset=utf-8"}},
		"said":              {http.Header{"Content-Type": {"text/x"}}, []string{"text/x"}},
		"left out":          {http.Header{"Content-Type": nil}, nil},
		"encoded":           {http.Header{"Content-Encoding": {"x"}}, nil},
		"said in lowercase": {http.Header{"content-type": {"text/x"}}, []string{"text/x"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				for k, v := range test.set {
					w.Header()[k] = v
				}
				for _, part := range []string{"  <", "htm", "l>", strings.Repeat(" ", 5000)} {
					_, _ = io.WriteString(w, part)
				}
			})
			s := c.served()
			for i := range 2 {
				resp, err := s.Client().Get(s.URL)
				a := received(t, resp, err)
				if i == 1 {
					a.isHit()
				}
				if name != "said in lowercase" || i == 1 { // net/http adds a second then
					a.has("Content-Type", test.want...)
				}
			}
		})
	}
}

// What others wrote under a response's key is a miss, and replaced.
func TestCache_foreignEntry(t *testing.T) {
	t.Parallel()
	c := newCached(t, fresh("ours"))
	c.get().isStored()
	key := c.keys()[0]
	head, data, _ := strings.Cut(c.rdb.HGet(t.Context(), key, "v:").Val(), "\n")
	head += "\n"
	for _, put := range []string{"", "x", head, head + "x", head + "\x01" + data[1:], head + data[:len(data)-1], head + data + "x", head + strings.Repeat("\xff", 40)} {
		c.rdb.HSet(t.Context(), key, "v:", put)
		c.get().isStored().hasBody(200, "ours")
		c.get().isHit()
	}
	c.rdb.Set(t.Context(), key, "not a hash", 0)
	c.get().isStored()
	c.get().isHit().hasBody(200, "ours")
	if ttl := c.rdb.PTTL(t.Context(), key).Val(); ttl <= time.Minute || ttl > 11*time.Minute {
		t.Errorf("lifetime: got %v", ttl)
	}
}
