package middleware_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// conditional answers as a server with one representation: 304 to its ETag.
func conditional(etag, body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		w.Header().Set("ETag", etag)
		if r.Header.Get("If-None-Match") == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, body)
	}
}

// isValidated checks that the answer is a stored one that the handler has confirmed.
func (a cacheAnswer) isValidated(stored bool) cacheAnswer {
	a.t.Helper()
	said := a.cacheStatus()
	if said["fwd"] != "stale" && said["fwd"] != "request" || said["fwd-status"] != int64(304) || said["hit"] != nil || (said["stored"] == true) != stored {
		a.t.Errorf("got %q; want fwd-status=304, stored %v", a.header["Cache-Status"], stored)
	}
	return a
}

func TestCache_validates(t *testing.T) {
	t.Parallel()
	var seen atomic.Value
	version := "1"
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Clone())
		conditional(`"a"`, "body", "Cache-Control: no-cache", "X-Version: "+version, "Content-Type: text/x")(w, r)
	})
	c.get("X-Other: kept").isStored().hasBody(200, "body")
	version = "2"
	c.get().isValidated(true).hasBody(200, "body").has("X-Version", "2").has("Content-Type", "text/x").has("Content-Length", "4")
	if h := seen.Load().(http.Header); h.Get("If-None-Match") != `"a"` {
		t.Errorf("the handler saw %v; want If-None-Match", h)
	}
	c.called(2)
	// The client's own conditions are answered from what was validated.
	c.get(`If-None-Match: "x", "a"`).isValidated(true).hasBody(304, "").has("Etag", `"a"`)
	if h := seen.Load().(http.Header); h.Get("If-None-Match") != `"a"` {
		t.Errorf("the handler saw %v; want the stored ETag alone", h)
	}
	c.get(`If-None-Match: "x"`).isValidated(true).hasBody(200, "body")
	c.do("HEAD", "/page").isValidated(true).hasBody(200, "").has("Content-Length", "4")
	c.get("Range: bytes=1-2").isValidated(true).hasBody(206, "od").has("Content-Range", "bytes 1-2/4")
}

// A 304 makes a stale response fresh again, for as long as it says or said.
func TestCache_freshens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCachedOn(t, testkit.Memory(t), nil, conditional(`"a"`, "body", "Cache-Control: max-age=10"))
		c.get().isStored()
		for range 3 {
			time.Sleep(10 * time.Second)
			c.get().isValidated(true).hasBody(200, "body").has("Age", "0")
			time.Sleep(9 * time.Second)
			c.get().isHit().hasBody(200, "body").has("Age", "9")
		}
		c.called(4)
		// Longer than it is kept, it is gone.
		time.Sleep(time.Second + 10*time.Minute)
		c.get().isStored()
	})
}

func TestCache_validationFindsAChange(t *testing.T) {
	t.Parallel()
	etag, body := `"a"`, "one"
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		conditional(etag, body, "Cache-Control: no-cache")(w, r)
	})
	c.get().isStored()
	etag, body = `"b"`, "two"
	c.get().isMiss("stale", "", true).hasBody(200, "two")
	c.get().isValidated(true).hasBody(200, "two")
}

// A 304 about another representation than the stored one confirms nothing: the
// handler is asked as the client asks. Without Updates in notModified the first
// body is served for ever.
func TestCache_notModifiedOfAnother(t *testing.T) {
	t.Parallel()
	etag := `"a"`
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		w.Header().Set("Cache-Control", "no-cache")
		w.Header().Set("X-Said", "yes")
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			_ = http.NewResponseController(w).Flush() // nothing may leave yet
			return
		}
		w.Header().Del("X-Said")
		fmt.Fprint(w, "body of ", etag)
	})
	server := c.served()
	get := func() cacheAnswer {
		resp, err := http.Get(server.URL)
		return received(t, resp, err)
	}
	get().isStored()
	etag = `"b"`
	get().isMiss("stale", "", true).hasBody(200, `body of "b"`).has("X-Said")
	c.called(3)
}

// What a 304 takes back is removed. Without the drop in freshen it would be found
// again.
func TestCache_notModifiedForbids(t *testing.T) {
	t.Parallel()
	for _, said := range []string{"private", "no-store", "Vary"} {
		cc := "no-cache"
		c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
			if cc == "Vary" {
				w.Header().Set("Vary", "*")
			}
			conditional(`"a"`, "body", "Cache-Control: "+cc)(w, r)
		})
		c.get().isStored()
		cc = said
		c.get().isValidated(false).hasBody(200, "body")
		if keys := c.keys(); len(keys) != 0 {
			t.Errorf("%s: got keys %q", said, keys)
		}
	}
}

// A visitor who is known may confirm what is stored for all, and changes nothing of
// it; a cookie that comes with the 304 is theirs. Without AboutRequest in freshen
// the entry would be gone, without the Set-Cookie in serveFound the cookie.
func TestCache_notModifiedForOneVisitor(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		who := r.Header.Get("Cookie")
		fields := []string{"Cache-Control: max-age=60", "X-Who: " + who}
		if who != "" {
			fields = append(fields, "Set-Cookie: seen=1")
		}
		conditional(`"a"`, "for all", fields...)(w, r)
	})
	c.get().isStored()
	c.get("Cookie: alice", "Cache-Control: no-cache").isValidated(false).hasBody(200, "for all").has("Set-Cookie", "seen=1").has("X-Who", "alice")
	c.get().isHit().has("X-Who", "").has("Set-Cookie")
	c.get("Cookie: bob").isHit().has("X-Who", "")
}

// The handler's 304 to the client's own condition is the client's, and nothing is
// stored of it.
func TestCache_notModifiedOnAMiss(t *testing.T) {
	t.Parallel()
	c := newCached(t, conditional(`"a"`, "body", "Cache-Control: max-age=60"))
	c.get(`If-None-Match: "a"`).isMiss("uri-miss", "status-unsupported", false).hasBody(304, "")
	c.get().isStored().hasBody(200, "body")
}

// Fields of middlewares outside are theirs on a validated answer too.
func TestCache_validatesInsideOthers(t *testing.T) {
	t.Parallel()
	n := 0
	outside := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n++
			w.Header().Set("X-Request-Id", fmt.Sprint(n))
			w.Header().Set("Vary", "Origin")
			next.ServeHTTP(w, r)
		})
	}
	c := newCached(t, conditional(`"a"`, "body", "Cache-Control: no-cache", "Vary: Accept"))
	c.behind(outside)
	c.get().isStored().has("X-Request-Id", "1")
	c.get().isValidated(true).has("X-Request-Id", "2").has("Vary", "Origin", "Accept")
	c.get().isValidated(true).has("X-Request-Id", "3").has("Vary", "Origin", "Accept")
}

// Section 4.3.5.
func TestCache_head200(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		fields []string
		kept   bool
	}{
		{"nothing to tell them apart", []string{"X-A: 2"}, true},
		{"the same length", []string{"X-A: 2", "Content-Length: 4"}, true},
		{"another length", []string{"X-A: 2", "Content-Length: 5"}, false},
		{"another ETag", []string{"X-A: 2", `ETag: "b"`}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == "HEAD" {
					page("", append(tt.fields, "Cache-Control: max-age=60")...)(w, r)
					return
				}
				page("body", "Cache-Control: max-age=60", "X-A: 1")(w, r)
			})
			c.get().isStored()
			c.do("HEAD", "/page", "Cache-Control: no-cache").isMiss("request", "method", false)
			if !tt.kept {
				c.get().isStored().has("X-A", "1")
				return
			}
			c.get().isHit().has("X-A", "2").hasBody(200, "body").has("Content-Length", "4")
		})
	}
}

func TestCache_staleIfError(t *testing.T) {
	t.Parallel()
	const stale = "Cache-Control: max-age=0, stale-if-error=60"
	tests := []struct {
		name    string
		says    string
		etag    bool
		status  int
		asks    []string
		options []middleware.CacheOption
		served  bool
	}{
		{"503", stale, false, 503, nil, nil, true},
		{"502", stale, false, 502, nil, nil, true},
		{"500, when validating", stale, true, 500, nil, nil, true},
		{"404 is an answer", stale, true, 404, nil, nil, false},
		{"501 is an answer", stale, false, 501, nil, nil, false},
		{"no window, disconnected", "Cache-Control: max-age=0", true, 504, nil, nil, true},
		{"no window, and none by default", "Cache-Control: max-age=0", true, 504, nil, []middleware.CacheOption{middleware.WithKeepStale(0)}, false},
		{"must-revalidate", stale + ", must-revalidate", true, 503, nil, nil, false},
		{"proxy-revalidate", stale + ", proxy-revalidate", true, 503, nil, nil, false},
		{"s-maxage", "Cache-Control: s-maxage=0, stale-if-error=60", true, 503, nil, nil, false},
		{"no-cache", "Cache-Control: no-cache, stale-if-error=60", true, 503, nil, nil, false},
		{"a range", stale, false, 503, []string{"Range: bytes=0-1"}, nil, true},
		{"somebody's own", stale, false, 503, []string{"Authorization: x"}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			status := 200
			c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
				if status != 200 {
					w.Header().Set("X-Error", "yes")
					w.Header().Set("Content-Length", "4")
					http.Error(w, "oops", status)
					return
				}
				if tt.etag {
					w.Header().Set("ETag", `"a"`)
				}
				page("body", tt.says, "Content-Type: text/x")(w, r)
			}, tt.options...)
			c.get()
			status = tt.status
			a := c.get(tt.asks...)
			if !tt.served {
				if a.status != tt.status || a.header.Get("X-Error") != "yes" {
					t.Errorf("got %d %q; want the handler's %d", a.status, a.body, tt.status)
				}
				return
			}
			body := "body"
			if len(tt.asks) > 0 {
				body = "bo"
			}
			said := a.cacheStatus()
			if said["detail"] != "stale-if-error" || said["fwd-status"] != int64(tt.status) || a.body != body || a.header.Get("X-Error") != "" || a.header.Get("Content-Type") != "text/x" {
				t.Errorf("got %d %q, %v; want what is stored", a.status, a.body, a.header)
			}
		})
	}
}

// Without the window in Keep and OnError, what is stored would be served for ever.
func TestCache_staleIfErrorEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := false
		c := newCachedOn(t, testkit.Memory(t), nil, func(w http.ResponseWriter, r *http.Request) {
			if down {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			page("body", "Cache-Control: max-age=5, stale-if-error=30")(w, r)
		}, middleware.WithKeepStale(0))
		c.get().isStored()
		down = true
		time.Sleep(34 * time.Second)
		c.get().hasBody(200, "body").has("Age", "34")
		time.Sleep(time.Second)
		c.get().hasBody(503, "")
	})
}
