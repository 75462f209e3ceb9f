package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// watched is an observer that remembers.
type watched struct {
	mu  sync.Mutex
	all []middleware.CacheEvent
}

func (o *watched) note(_ context.Context, e middleware.CacheEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, e)
}

// since returns the events that came since it was last called.
func (o *watched) since() []middleware.CacheEvent {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.all
	o.all = nil
	return all
}

// only checks that one event came, that it is about the request, and what it says.
func (o *watched) only(t *testing.T, what, want string) middleware.CacheEvent {
	t.Helper()
	all := o.since()
	if len(all) != 1 {
		t.Errorf("%s: got %d events; want one", what, len(all))
		return middleware.CacheEvent{}
	}
	e := all[0]
	got := e.Kind.String()
	for _, part := range []struct {
		show  bool
		value any
	}{{e.Fwd != "", e.Fwd}, {e.FwdStatus != 0, e.FwdStatus}, {e.Stored, "stored"}, {e.Detail != "", e.Detail}, {e.Collapsed, "collapsed"}, {e.Near, "near"}, {e.Err != nil, "err"}} {
		if part.show {
			got += fmt.Sprint(" ", part.value)
		}
	}
	if got != want || e.Request == nil {
		t.Errorf("%s: got %q; want %q", what, got, want)
	}
	return e
}

// Each request has one event, which says what Cache-Status does, and how it went on.
func TestWithCacheObserver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen watched
		status, fields := 200, []string{"Cache-Control: max-age=10", `ETag: "a"`, "Vary: Accept"}
		body := io.WriteString
		c := newCachedOn(t, testkit.Memory(t), []cache.Option{cache.WithMaxBytes(1000)}, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") == `"a"` && status == 200 {
				answering(304, fields...)(w, r)
				return
			}
			for _, f := range fields {
				w.Header().Add(f[:indexColon(f)], f[indexColon(f)+2:])
			}
			w.WriteHeader(status)
			_, _ = body(w, "body")
		}, middleware.WithCacheObserver(seen.note), middleware.WithCacheObserver(func(ctx context.Context, e middleware.CacheEvent) {
			if ctx == nil || ctx != e.Request.Context() && e.Kind == middleware.CacheHit {
				t.Errorf("the context is not the request's")
			}
		}), middleware.WithBypass(func(r *http.Request) bool { return r.Header.Get("X-Preview") != "" }))
		c.get("Accept: a")
		seen.only(t, "a miss", "miss uri-miss 200 stored")
		time.Sleep(3 * time.Second)
		c.get("Accept: a")
		if e := seen.only(t, "a hit", "hit"); e.Age != 3*time.Second || e.TTL.Round(time.Second) != 7*time.Second {
			t.Errorf("age %v, ttl %v; want 3s, 7s", e.Age, e.TTL)
		}
		c.get("Accept: b")
		seen.only(t, "another variant", "miss vary-miss 200 stored")
		c.get("Accept: a", "Cache-Control: no-cache")
		seen.only(t, "no-cache", "revalidated request 304 stored")
		c.get("Accept: a", "X-Preview: 1")
		seen.only(t, "a bypass", "bypass bypass 200 bypass-rule")
		c.do("POST", "/other")
		seen.only(t, "POST", "bypass method 200 method")
		c.do("GET", "/none", "Cache-Control: only-if-cached")
		seen.only(t, "only-if-cached", "refused only-if-cached")
		time.Sleep(20 * time.Second)
		c.get("Accept: a", "Cache-Control: max-stale")
		if e := seen.only(t, "max-stale", "stale stale-allowed"); e.TTL >= 0 {
			t.Errorf("ttl %v; want less than 0", e.TTL)
		}
		status = 503
		c.get("Accept: a")
		seen.only(t, "an error", "stale stale 503 stale-if-error")
		status, fields = 200, []string{"Cache-Control: no-store"}
		c.do("GET", "/secret")
		seen.only(t, "no-store", "miss uri-miss 200 no-store")
		fields = []string{"Cache-Control: max-age=10"}
		body = func(w io.Writer, s string) (int, error) { return w.Write(make([]byte, 2000)) }
		c.do("GET", "/long")
		seen.only(t, "a long body", "miss uri-miss 200 too-large")
		fields = append(fields, "Content-Length: 9")
		body = func(w io.Writer, s string) (int, error) { return io.WriteString(w, s) }
		c.do("GET", "/short")
		seen.only(t, "a short body", "miss uri-miss 200 incomplete")
		fields = fields[:1]
		body = func(w io.Writer, s string) (int, error) {
			if err := middleware.NewPurger(c.store).URLs(t.Context(), "http://example.com/purged"); err != nil {
				t.Error(err)
			}
			return 0, nil
		}
		c.do("GET", "/purged")
		seen.only(t, "purged meanwhile", "miss uri-miss 200 invalidated")
		purge := body
		body = func(w io.Writer, s string) (int, error) {
			_, _ = purge(w, s)
			return io.WriteString(w, "whole")
		}
		fields = append(fields, "Content-Length: 5")
		c.do("GET", "/purged")
		seen.only(t, "purged meanwhile, of a known length", "miss uri-miss 200 invalidated")
		body = func(io.Writer, string) (int, error) { panic(http.ErrAbortHandler) }
		func() {
			defer func() { _ = recover() }()
			c.do("GET", "/abort")
		}()
		seen.only(t, "a panic", "miss uri-miss 200 panic")
	})
}

func indexColon(s string) int {
	for i := range s {
		if s[i] == ':' {
			return i
		}
	}
	return 0
}

// A refresh in the background is an event of its own; a panic of its observer is logged.
// Red without recover in tellRefresh.
func TestWithCacheObserver_refresh(t *testing.T) {
	t.Parallel()
	for _, background := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			var seen watched
			r := middleware.NewRefresher()
			defer r.Close()
			options := []middleware.CacheOption{middleware.WithCacheObserver(func(ctx context.Context, e middleware.CacheEvent) {
				seen.note(ctx, e)
				if e.Kind == middleware.CacheRefresh {
					panic("of the observer")
				}
			})}
			if background {
				options = append(options, middleware.WithRefresher(r))
			}
			c := newCachedOn(t, testkit.Memory(t), nil, page("x", staleNow), options...)
			c.get()
			seen.only(t, "a miss", "miss uri-miss 200 stored")
			c.get().isStale()
			synctest.Wait()
			kinds := make(map[string]int)
			for _, e := range seen.since() {
				kinds[e.Kind.String()]++
				if e.Kind == middleware.CacheRefresh && (e.FwdStatus != 200 || !e.Stored) {
					t.Errorf("got %+v; want it stored", e)
				}
			}
			if len(kinds) != 2 || kinds["stale"] != 1 || kinds["refresh"] != 1 {
				t.Errorf("got %v; want one stale and one refresh", kinds)
			}
		})
	}
}

// A request that waits for another one's answer is told so, and the near tier from Redis. A
// slow observer holds nobody up.
func TestWithCacheObserver_collapsed(t *testing.T) {
	t.Parallel()
	var seen watched
	release, slow := make(chan struct{}), make(chan struct{})
	c := newCachedOn(t, testkit.Mini(t), []cache.Option{cache.WithNear(1 << 20)}, func(w http.ResponseWriter, r *http.Request) {
		<-release
		page("x", "Cache-Control: max-age=60")(w, r)
	}, middleware.WithCacheObserver(func(ctx context.Context, e middleware.CacheEvent) {
		seen.note(ctx, e)
		if e.Kind == middleware.CacheMiss {
			<-slow
		}
	}))
	defer c.store.Close()
	var wg sync.WaitGroup
	wg.Go(func() { c.get() })
	testkit.Eventually(t, "the handler", func() bool { return c.calls.Load() == 1 })
	done := make(chan struct{})
	wg.Go(func() { c.get().hasBody(200, "x"); close(done) })
	close(release)
	<-done // though the observer of the first has not returned
	close(slow)
	wg.Wait()
	collapsed := 0
	for _, e := range seen.since() {
		if e.Kind == middleware.CacheHit && e.Collapsed && e.Fwd == "uri-miss" {
			collapsed++
		}
	}
	if collapsed > 1 { // none if the second came when the first was done
		t.Errorf("%d collapsed; want at most one", collapsed)
	}
	testkit.Eventually(t, "the near tier", func() bool {
		c.get()
		e := seen.only(t, "a hit", seenNear(&seen))
		return e.Near
	})
}

// seenNear is what a hit says, by where it came from.
func seenNear(o *watched) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) == 1 && o.all[0].Near {
		return "hit near"
	}
	return "hit"
}

// While Redis is silent the event says so. Red without Err in find, and in failed.
func TestWithCacheObserver_silence(t *testing.T) {
	t.Parallel()
	var seen watched
	b := testkit.Server(t)
	c := newCachedOn(t, b, []cache.Option{cache.WithTimeout(cacheBudget)}, fresh("x"), middleware.WithCacheObserver(seen.note))
	b.Kill()
	c.get().hasBody(200, "x")
	if e := seen.only(t, "GET", "miss miss 200 unavailable err"); !errors.Is(e.Err, cache.ErrUnavailable) {
		t.Errorf("got %v; want ErrUnavailable", e.Err)
	}
	c.do("POST", "/page").hasBody(200, "x")
	if e := seen.only(t, "POST", "bypass method 200 method err"); !errors.Is(e.Err, cache.ErrUnavailable) {
		t.Errorf("got %v; want ErrUnavailable", e.Err)
	}
}

// A panic of the observer ends the request as one of the handler's does.
func TestWithCacheObserver_panics(t *testing.T) {
	t.Parallel()
	c := newCached(t, fresh("x"), middleware.WithCacheObserver(func(context.Context, middleware.CacheEvent) { panic("of the observer") }))
	for range 2 {
		panicsWith(t, "of the observer", func() { c.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/page", nil)) })
	}
	c.called(1) // what it was told of is stored
	panicsWith(t, "middleware.WithCacheObserver: the observer is nil: ", func() { middleware.WithCacheObserver(nil) })
}
