package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

const staleNow = "Cache-Control: max-age=0, stale-while-revalidate=60"

// isStale checks that the answer was a stored one, served while it is refreshed.
func (a cacheAnswer) isStale() cacheAnswer {
	a.t.Helper()
	if said := a.isHit().cacheStatus(); said["detail"] != "stale-while-revalidate" {
		a.t.Errorf("got %q; want stale-while-revalidate", a.header["Cache-Status"])
	}
	return a
}

// The answer of the request that refreshes does not wait for it; the next one sees
// what it brought.
func TestCache_staleWhileRevalidate(t *testing.T) {
	t.Parallel()
	for _, background := range []bool{false, true} {
		t.Run(fmt.Sprint("refresher ", background), func(t *testing.T) {
			t.Parallel()
			var options []middleware.CacheOption
			if background {
				r := middleware.NewRefresher()
				t.Cleanup(r.Close)
				options = append(options, middleware.WithRefresher(r))
			}
			var n atomic.Int64
			release := make(chan struct{})
			c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) == 2 {
					<-release
				}
				page(fmt.Sprint("version ", n.Load()), staleNow)(w, r)
			}, options...)
			server := c.served()
			get := func() cacheAnswer {
				resp, err := http.Get(server.URL)
				return received(t, resp, err)
			}
			get().isStored().hasBody(200, "version 1")
			get().isStale().hasBody(200, "version 1") // though the handler hangs
			testkit.Eventually(t, "the refresh to begin", func() bool { return n.Load() == 2 })
			for range 20 { // and no other asks it as well
				get().isStale().hasBody(200, "version 1")
			}
			c.called(2)
			close(release)
			testkit.Eventually(t, "the refresh to end", func() bool { return get().body == "version 2" })
		})
	}
}

// A refresh validates, asks for the whole, and does not end with its request.
// Without WithoutCancel in refreshRequest the handler's context ends at once.
func TestCache_refreshRequest(t *testing.T) {
	t.Parallel()
	r := middleware.NewRefresher()
	type seen struct {
		header http.Header
		param  string
		err    error
		method string
	}
	asked := make(chan seen, 1)
	release := make(chan struct{})
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		if chi.URLParam(r, "id") == "8" && r.Header.Get("If-None-Match") == "" {
			page("other", "Cache-Control: no-store")(w, r)
			return
		}
		if r.Header.Get("If-None-Match") != "" {
			<-release
			asked <- seen{r.Header.Clone(), chi.URLParam(r, "id"), r.Context().Err(), r.Method}
		}
		conditional(`"a"`, "body", staleNow, "Vary: Accept")(w, r)
	}, middleware.WithRefresher(r))
	router := chi.NewRouter()
	router.Handle("/items/{id}", c.Handler)
	c.Handler = router
	c.do("GET", "/items/7", "Accept: x")
	c.do("GET", "/items/7", "Accept: x", "Range: bytes=0-1", `If-Range: "a"`, "If-Modified-Since: x", "Pragma: x").hasBody(206, "bo")
	for range 50 { // chi uses its context of the request again
		c.do("GET", "/items/8")
	}
	close(release)
	got := <-asked
	r.Close()
	if h := got.header; got.method != "GET" || h.Get("If-None-Match") != `"a"` || h.Get("Accept") != "x" || h.Get("Range")+h.Get("If-Range")+h.Get("If-Modified-Since")+h.Get("Pragma") != "" {
		t.Errorf("the refresh asked %s %v", got.method, got.header)
	}
	if got.param != "7" {
		t.Errorf("the route's parameter: got %q; want 7", got.param)
	}
	if got.err != nil {
		t.Errorf("its context: got %v; want it to outlive the request", got.err)
	}
}

// A refresh that fails is tried again after a second, and the stale response is
// served until its window ends. Without refreshPause each request would ask.
func TestCache_refreshFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(http.ResponseWriter){
		"503":   func(w http.ResponseWriter) { w.WriteHeader(503) },
		"panic": func(http.ResponseWriter) { panic("oh") },
		"abort": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := 0
				c := newCachedOn(t, testkit.Memory(t), nil, func(w http.ResponseWriter, r *http.Request) {
					if n++; n > 1 {
						fail(w)
						return
					}
					page("body", "Cache-Control: max-age=1, stale-while-revalidate=10")(w, r)
				}, middleware.WithKeepStale(0))
				c.get().isStored()
				time.Sleep(time.Second)
				for range 5 {
					c.get().isStale().hasBody(200, "body")
				}
				c.called(2)
				time.Sleep(time.Second)
				c.get().isStale().hasBody(200, "body")
				c.called(3)
			})
		})
	}
}

// Over HTTP/1.1 nobody waits behind a refresh on its connection.
func TestCache_refreshHoldsNoConnection(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	n := 0
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; n > 1 {
			<-release
		}
		page("body", staleNow)(w, r)
	})
	server := c.served()
	defer close(release)
	resp, err := http.Get(server.URL)
	received(t, resp, err).isStored()
	resp, err = http.Get(server.URL)
	if received(t, resp, err).isStale(); !resp.Close {
		t.Error("the connection is kept; want Connection: close")
	}
}

func TestRefresher_close(t *testing.T) {
	t.Parallel()
	r := middleware.NewRefresher()
	var ended atomic.Int64
	var begun sync.WaitGroup
	begun.Add(3)
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == "" {
			conditional(`"a"`, "body", staleNow)(w, r)
			return
		}
		begun.Done()
		<-r.Context().Done()
		if errors.Is(r.Context().Err(), context.Canceled) {
			ended.Add(1)
		}
	}, middleware.WithRefresher(r))
	for i := range 3 {
		c.do("GET", fmt.Sprint("/", i))
		c.do("GET", fmt.Sprint("/", i))
	}
	begun.Wait()
	r.Close()
	if got := ended.Load(); got != 3 {
		t.Errorf("%d of 3 refreshes have ended", got)
	}
	r.Close()
	c.do("GET", "/new")
	c.do("GET", "/new").isStale().hasBody(200, "body")
	c.called(7)
}

// However many responses are stale, a Refresher runs 64 refreshes at once; the
// others are served stale all the same.
func TestRefresher_bound(t *testing.T) {
	t.Parallel()
	r := middleware.NewRefresher()
	var running, most atomic.Int64
	release := make(chan struct{})
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			most.Store(max(most.Load(), running.Add(1)))
			<-release
			running.Add(-1)
		}
		conditional(`"a"`, "body", staleNow)(w, r)
	}, middleware.WithRefresher(r))
	for i := range 100 {
		c.do("GET", fmt.Sprint("/", i)).isStored()
	}
	for i := range 100 {
		c.do("GET", fmt.Sprint("/", i)).isStale().hasBody(200, "body")
	}
	testkit.Eventually(t, "64 to run", func() bool { return running.Load() == 64 })
	close(release)
	r.Close()
	if most.Load() > 64 {
		t.Errorf("%d ran at once; want at most 64", most.Load())
	}
}

// The end of a whole body leaves when it is stored: who asks next is answered from
// the store. Without BeforeLast in watch, and the store at once for what has no body,
// a client that is fast enough is not.
func TestCache_storedBeforeItsEnd(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 204, 301, 404} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			body := "0123456789"
			if status == 204 {
				body = ""
			}
			hold := make(chan struct{})
			c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				if body != "" {
					w.Header().Set("Content-Length", "10")
				}
				w.WriteHeader(status)
				for i := 0; i < len(body); i += 5 {
					_, _ = io.WriteString(w, body[i:i+5])
					_ = http.NewResponseController(w).Flush()
				}
				_ = http.NewResponseController(w).Flush()
				<-hold // the handler is not done yet
			})
			server := httptest.NewServer(c.Handler)
			t.Cleanup(server.Close)
			defer close(hold)
			// Each request on a connection of its own: the first one's is not free.
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			resp, err := client.Get(server.URL)
			received(t, resp, err).isStored().hasBody(status, body)
			resp, err = client.Get(server.URL)
			received(t, resp, err).isHit().hasBody(status, body)
			c.called(1)
		})
	}
}
