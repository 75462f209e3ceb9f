package middleware_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// What the client gets of a stored response is what it got of the handler's, and
// the handler was asked once.
func TestCache_missThenHit(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		body := "<!DOCTYPE html>" + strings.Repeat("\x00\xff weir ", 1000)
		c := newCachedOn(t, b, nil, func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Cache-Control", "public, max-age=3600, s-maxage=60")
			h.Set("ETag", `W/"5"`)
			h.Set("X-One", " spaces inside kept ")
			h["X-Many"] = []string{"b", "a", "", "b"}
			h.Set("X-Empty", "")
			h.Set("X-Utf8", "gr\xc3\xbc\xc3\x9f")
			w.WriteHeader(http.StatusNonAuthoritativeInfo)
			_, _ = io.WriteString(w, body)
		})
		s := c.served()
		client := s.Client()
		get := func() cacheAnswer {
			t.Helper()
			resp, err := client.Get(s.URL + "/page")
			return received(t, resp, err)
		}
		miss := get().isStored().hasBody(203, body)
		hit := get().isHit().hasBody(203, body).has("Age", "0")
		c.called(1)
		ttl, _ := hit.cacheStatus()["ttl"].(int64)
		if ttl < 50 || ttl > 60 {
			t.Errorf("ttl: got %d; want about 60", ttl)
		}
		if _, err := http.ParseTime(hit.header.Get("Date")); err != nil {
			t.Errorf("Date: %v", err)
		}
		if got := hit.header.Get("Content-Length"); got != strconv.Itoa(len(body)) {
			t.Errorf("Content-Length: got %q; want %d", got, len(body))
		}
		// The rest is the handler's, to the octet.
		for _, name := range []string{"Date", "Age", "Cache-Status", "Content-Length"} {
			miss.header.Del(name)
			hit.header.Del(name)
		}
		if !maps.EqualFunc(miss.header, hit.header, slices.Equal) {
			t.Errorf("header: got %q; want %q", hit.header, miss.header)
		}
	})
}

func TestCache_head(t *testing.T) {
	t.Parallel()
	c := newCached(t, fresh("twelve bytes"))
	c.do("HEAD", "/page").isMiss("uri-miss", "method", false)
	c.called(1)
	if keys := c.keys(); len(keys) != 0 {
		t.Errorf("an answer to HEAD was stored: %q", keys)
	}
	c.get().isStored().hasBody(200, "twelve bytes")
	head := c.do("HEAD", "/page").isHit().hasBody(200, "").has("Content-Length", "12")
	head.has("Content-Type", "text/plain; charset=utf-8") // what net/http found for GET
	c.called(2)
	c.get().isHit().hasBody(200, "twelve bytes")
}

func TestCache_freshness(t *testing.T) {
	t.Parallel()
	// @100s is the date in 100 seconds.
	dated := func(field string) string {
		name, in, ok := strings.Cut(field, "@")
		if !ok {
			return field
		}
		d, err := time.ParseDuration(in)
		if err != nil {
			t.Error(err)
		}
		return name + time.Now().Add(d).UTC().Format(http.TimeFormat)
	}
	tests := []struct {
		name   string
		fields []string
		ttl    time.Duration // WithTTL, if not 0
		want   int           // seconds of lifetime; 0: not stored
		detail string        // why not
	}{
		{"s-maxage before max-age", []string{"Cache-Control: max-age=5, s-maxage=100"}, 0, 100, ""},
		{"s-maxage=0 before max-age", []string{"Cache-Control: max-age=5, s-maxage=0"}, 0, 0, "stale"},
		{"max-age before Expires", []string{"Cache-Control: max-age=100", "Expires: @1h"}, 0, 100, ""},
		{"Expires", []string{"Expires: @100s"}, 0, 100, ""},
		{"Expires: 0", []string{"Expires: 0"}, 0, 0, "stale"},
		{"Expires before WithTTL", []string{"Expires: @100s"}, time.Hour, 100, ""},
		{"heuristic", []string{"Last-Modified: @-1000s"}, 0, 100, ""},
		{"WithTTL before the heuristic", []string{"Last-Modified: @-1000s"}, 300 * time.Second, 300, ""},
		{"WithTTL", nil, 300 * time.Second, 300, ""},
		{"nothing said", nil, 0, 0, "no-freshness"},
		{"Age counts", []string{"Cache-Control: max-age=200", "Age: 100"}, 0, 100, ""},
		{"Age beyond the lifetime", []string{"Cache-Control: max-age=200", "Age: 200"}, 0, 0, "stale"},
		{"negative Age", []string{"Cache-Control: max-age=100", "Age: -5"}, 0, 100, ""},
		{"huge Age", []string{"Cache-Control: max-age=100", "Age: 99999999999999999999"}, 0, 0, "stale"},
		{"huge max-age", []string{"Cache-Control: max-age=99999999999999999999"}, 0, 1 << 31, ""},
		{"negative max-age", []string{"Cache-Control: max-age=-1"}, time.Hour, 0, "stale"},
		{"a Date in the past", []string{"Cache-Control: max-age=200", "Date: @-100s"}, 0, 100, ""},
		{"a Date in the future", []string{"Cache-Control: max-age=100", "Date: @1h"}, 0, 100, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			fields := slices.Clone(test.fields)
			for i, f := range fields {
				fields[i] = dated(f)
			}
			var settings []cache.Option
			if test.ttl != 0 {
				settings = append(settings, cache.WithTTL(test.ttl))
			}
			c := newCachedOn(t, testkit.Mini(t), settings, page("x", fields...))
			if test.want == 0 {
				c.get().isMiss("uri-miss", test.detail, false)
				c.get().isMiss("uri-miss", test.detail, false)
				return
			}
			c.get().isStored()
			ttl, _ := c.get().isHit().cacheStatus()["ttl"].(int64)
			if int(ttl) > test.want || int(ttl) < test.want-5 {
				t.Errorf("ttl: got %d; want about %d", ttl, test.want)
			}
		})
	}
}

// Time is Redis's, so it is the fake one here.
func TestCache_expiry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCachedOn(t, testkit.Memory(t), nil, page("x", "Cache-Control: max-age=10", "Age: 3"))
		c.get().isStored()
		time.Sleep(2500 * time.Millisecond)
		hit := c.get().isHit().has("Age", "5")
		if ttl := hit.cacheStatus()["ttl"]; ttl != int64(4) {
			t.Errorf("ttl: got %v; want 4", ttl)
		}
		time.Sleep(4499 * time.Millisecond)
		c.get().isHit().has("Age", "9")
		c.called(1)
		time.Sleep(time.Millisecond)
		c.get().isMiss("stale", "", true)
		c.called(2)
		c.get().isHit().has("Age", "3")
		// A body that takes its time ages meanwhile.
		slow := newCachedOn(t, testkit.Memory(t), nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=10")
			_, _ = io.WriteString(w, "begin")
			time.Sleep(4 * time.Second)
			_, _ = io.WriteString(w, "end")
		})
		slow.get().isStored()
		slow.get().isHit().has("Age", "4").hasBody(200, "beginend")
		time.Sleep(6 * time.Second)
		slow.get().isMiss("stale", "", true)
	})
}

func TestCache_vary(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		c := newCachedOn(t, b, nil, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "accept-language, X-Tenant")
			fresh(r.Header.Get("Accept-Language")+"/"+r.Header.Get("X-Tenant"))(w, r)
		})
		c.get("Accept-Language: de").isStored().hasBody(200, "de/")
		c.get("Accept-Language: en").isMiss("vary-miss", "", true).hasBody(200, "en/")
		c.get("Accept-Language: de").isHit().hasBody(200, "de/").has("Vary", "accept-language, X-Tenant")
		c.get("Accept-Language: en", "X-Other: 1").isHit().hasBody(200, "en/")
		c.get("Accept-Language: de", "X-Tenant: ").isMiss("vary-miss", "", true)
		c.get("Accept-Language: de", "X-Tenant: a").isMiss("vary-miss", "", true).hasBody(200, "de/a")
		c.get("Accept-Language: de", "X-Tenant: a").isHit().hasBody(200, "de/a")
		c.called(4)
	})
}

// What selects is the request as it came, though a wrapper inside takes a field
// off it. Protected by the Clone of the request's header in forward.
func TestCache_varyOnAFieldTakenOff(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		coding := r.Header.Get("Accept-Encoding")
		r.Header.Del("Accept-Encoding")
		fresh("in "+coding, "Vary: Accept-Encoding")(w, r)
	})
	c.get("Accept-Encoding: br").isStored().hasBody(200, "in br")
	c.get().isMiss("vary-miss", "", true).hasBody(200, "in ")
	c.get("Accept-Encoding: br").isHit().hasBody(200, "in br")
}

func TestCache_conditional(t *testing.T) {
	t.Parallel()
	modified := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	later := time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat)
	earlier := time.Now().Add(-2 * time.Hour).UTC().Format(http.TimeFormat)
	c := newCached(t, fresh("body", `ETag: "1"`, "Last-Modified: "+modified, "Content-Type: text/x", "Content-Language: de", "Vary: Accept"))
	c.get().isStored()
	for _, test := range []struct {
		field       string
		notModified bool
	}{
		{`If-None-Match: "1"`, true},
		{`If-None-Match: W/"1"`, true},
		{`If-None-Match: "0", "1"`, true},
		{`If-None-Match: *`, true},
		{`If-None-Match: "2"`, false},
		{`If-None-Match: 1`, false},
		{"If-Modified-Since: " + modified, true},
		{"If-Modified-Since: " + later, true},
		{"If-Modified-Since: " + earlier, false},
		{"If-Modified-Since: yesterday", false},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := c.do(method, "/page", test.field).isHit()
			if !test.notModified {
				want := map[string]string{"GET": "body", "HEAD": ""}[method]
				a.hasBody(200, want).has("Content-Length", "4")
				continue
			}
			a.hasBody(304, "").has("Etag", `"1"`).has("Cache-Control", "max-age=60").has("Vary", "Accept")
			for _, name := range []string{"Content-Length", "Content-Type", "Content-Language", "Last-Modified"} {
				a.has(name)
			}
			if a.header.Get("Date") == "" {
				t.Error("no Date")
			}
		}
	}
	c.called(1)
	// A miss is the handler's to answer, whatever the condition.
	other := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x", time.Now().Add(-time.Hour), strings.NewReader("body"))
	})
	other.get("If-Modified-Since: "+later).isMiss("uri-miss", "status-unsupported", false).hasBody(304, "")
	other.get().isStored()
}

// Requests that are none of a cache's business neither find nor store.
func TestCache_bypass(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		http.ServeContent(w, r, "x.txt", time.Time{}, strings.NewReader("0123456789"))
	})
	tests := []struct {
		name, fwd, detail string
		fields            []string
		body              io.Reader
		status            int
	}{
		{"if-match", "bypass", "request-precondition", []string{`If-Match: "x"`}, nil, 412},
		{"if-unmodified-since", "bypass", "request-precondition", []string{"If-Unmodified-Since: x"}, nil, 200},
		{"body", "bypass", "request-body", nil, strings.NewReader("q"), 200},
		{"body of unknown length", "bypass", "request-body", nil, io.MultiReader(strings.NewReader("q")), 200},
		{"upgrade", "bypass", "request-upgrade", []string{"Connection: Upgrade", "Upgrade: websocket"}, nil, 200},
	}
	for i, state := range []string{"cold", "warm"} {
		for _, test := range tests {
			a := c.serve(httptest.NewRequest("GET", "/page", test.body), test.fields...)
			if a.isMiss(test.fwd, test.detail, false); a.status != test.status {
				t.Errorf("%s, %s: got %d; want %d", test.name, state, a.status, test.status)
			}
		}
		if keys := c.keys(); len(keys) != i {
			t.Errorf("%s: got keys %q", state, keys)
		}
		c.get()
	}
	c.called(int64(2*len(tests) + 1))
}

func TestCache_requestDirectives(t *testing.T) {
	t.Parallel()
	var n int
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		fresh(fmt.Sprint(n))(w, r)
	})
	gone := c.get("Cache-Control: only-if-cached").hasBody(504, `{"title":"Gateway Timeout","status":504,"detail":"There is no stored response that may be used."}`)
	if said := gone.cacheStatus(); !maps.Equal(said, map[string]any{"detail": "only-if-cached"}) {
		t.Errorf("got %v", said)
	}
	c.get("Cache-Control: only-if-cached", "Range: bytes=0-1").has("Content-Type", "application/problem+json")
	c.called(0)
	c.get("Cache-Control: no-store").isMiss("uri-miss", "request-no-store", false).hasBody(200, "1")
	c.get().isStored().hasBody(200, "2")
	c.get("Cache-Control: only-if-cached").isHit().hasBody(200, "2")
	c.get("Cache-Control: no-store").isHit().hasBody(200, "2") // 5.2.1.5: it may still be used
	c.get("Cache-Control: no-cache").isMiss("request", "", true).hasBody(200, "3")
	c.get().isHit().hasBody(200, "3")
	c.get("Pragma: no-cache").isMiss("request", "", true).hasBody(200, "4")
	c.get("Cache-Control: min-fresh=61").isMiss("request", "", true).hasBody(200, "5")
	c.get("Cache-Control: max-age=5").isHit().hasBody(200, "5")
	c.do("POST", "/other", "Cache-Control: only-if-cached").isMiss("method", "method", false)
}

// Statuses are stored when they say how long, or when RFC 9110 calls them
// heuristically cacheable.
func TestCache_statuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status int
		stored bool
		silent bool // stored under WithTTL though it says nothing
	}{
		{200, true, true}, {203, true, true}, {204, true, true}, {206, false, false}, {301, true, true},
		{302, true, false}, {304, false, false}, {308, true, true}, {404, true, true}, {410, true, true},
		{429, false, false}, {500, true, false}, {503, true, false},
	} {
		t.Run(fmt.Sprint(test.status), func(t *testing.T) {
			t.Parallel()
			said := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				w.WriteHeader(test.status)
			})
			silent := newCachedOn(t, testkit.Mini(t), []cache.Option{cache.WithTTL(time.Minute)}, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
			})
			for _, c := range []struct {
				*cached
				stored bool
			}{{said, test.stored}, {silent, test.silent}} {
				c.get().hasBody(test.status, "")
				a := c.get().hasBody(test.status, "")
				if !c.stored {
					c.called(2)
					continue
				}
				a.isHit()
				if c.called(1); test.status == 204 {
					a.has("Content-Length")
				} else {
					a.has("Content-Length", "0")
				}
			}
		})
	}
}

func TestCache_panicsAtMount(t *testing.T) {
	t.Parallel()
	store := newCached(t, fresh("")).store
	for name, mount := range map[string]func(){
		"store":  func() { middleware.Cache(nil) },
		"option": func() { middleware.Cache(store, middleware.WithRFCProfile(), nil) },
	} {
		func() {
			defer func() {
				if p, _ := recover().(string); !strings.HasPrefix(p, "middleware.Cache: ") || !strings.Contains(p, name) {
					t.Errorf("%s: got panic %q", name, p)
				}
			}()
			mount()
		}()
	}
}
