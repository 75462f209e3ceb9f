package middleware_test

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

func TestCache_noVarySearch(t *testing.T) {
	t.Parallel()
	field := `No-Vary-Search: key-order, params=("utm_source")`
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.RawQuery
		r.URL.Path, r.URL.RawQuery = "/rewritten", "" // the key is of the request as it came
		if field == "" {
			fresh(query)(w, r)
			return
		}
		fresh(query, field)(w, r)
	})
	// The first answer tells by what the next ones are kept.
	c.do("GET", "/page?a=1&b=2&utm_source=w").isMiss("uri-miss", "no-vary-search", false)
	c.do("GET", "/page?a=1&b=2&utm_source=x").isStored()
	c.do("GET", "/page?b=2&utm_source=y&a=1").isHit().hasBody(200, "a=1&b=2&utm_source=x")
	c.do("GET", "/page?a=2&b=2").isStored().hasBody(200, "a=2&b=2")
	c.do("GET", "/other?a=1&b=2").isMiss("uri-miss", "no-vary-search", false)
	c.do("POST", "/page?a=1&b=2").isMiss("method", "method", false)
	c.do("GET", "/page?a=1&b=2").isStored()
	// A response that says something else, or nothing, is kept by its own rule, and not
	// found by that of another.
	field = "No-Vary-Search: params"
	c.do("GET", "/page?a=3").isMiss("uri-miss", "no-vary-search", false)
	c.do("GET", "/page?a=3").isStored()
	c.do("GET", "/page?a=1&b=2").isHit().hasBody(200, "a=3")
	field = ""
	c.do("POST", "/page?a=9")
	c.do("GET", "/page?x=1").isMiss("uri-miss", "no-vary-search", false)
	c.do("GET", "/page?x=1").isStored().hasBody(200, "x=1")
	c.do("GET", "/page?x=2").isStored().hasBody(200, "x=2")
}

// A process that has not met the field yet misses, and finds nothing that is not meant.
func TestCache_noVarySearchOfTwo(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	rdb, prefix := b.Client(t), b.Prefix(t)
	handler := func(w http.ResponseWriter, r *http.Request) {
		fresh(r.URL.RawQuery, `No-Vary-Search: params, except=("id")`)(w, r)
	}
	one := newCachedFor(t, rdb, prefix, nil, handler)
	two := newCachedFor(t, rdb, prefix, nil, handler, middleware.WithRFCProfile())
	for _, c := range []*cached{one, two} {
		c.do("GET", "/page?id=0").isMiss("uri-miss", "no-vary-search", false)
	}
	one.do("GET", "/page?id=3&x=1").isStored()
	two.do("GET", "/page?id=1&x=2").isStored()
	one.do("GET", "/page?id=1&x=3").isHit().hasBody(200, "id=1&x=2")
	two.do("GET", "/page?id=1&x=4").isHit().hasBody(200, "id=1&x=2")
	two.do("GET", "/page?id=2&x=1").isStored()
}

// What one process keeps by one rule, another does not find by another one. Without the
// field in keyUnder it does.
func TestCache_noVarySearchApart(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	rdb, prefix := b.Client(t), b.Prefix(t)
	name := "x"
	handler := func(w http.ResponseWriter, r *http.Request) {
		fresh(r.URL.RawQuery, `No-Vary-Search: params=("`+name+`")`)(w, r)
	}
	one := newCachedFor(t, rdb, prefix, nil, handler)
	two := newCachedFor(t, rdb, prefix, nil, handler)
	one.do("GET", "/page?a=0").isMiss("uri-miss", "no-vary-search", false)
	name = "y"
	two.do("GET", "/page?a=0").isMiss("uri-miss", "no-vary-search", false)
	two.do("GET", "/page?a=1&y=5").isStored()
	one.do("GET", "/page?a=1&x=9").isMiss("uri-miss", "no-vary-search", false).hasBody(200, "a=1&x=9")
}

// Visitors who wait for an answer that turns out to be kept by another key wait for that
// one, and do not go one after the other.
//
// Red when answer keeps the key it began with.
func TestCache_noVarySearchCollapses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, testkit.Mini(t), 1, func(w http.ResponseWriter, r *http.Request) {
		patiently(r.Context(), 20*time.Millisecond)
		fresh("x", `No-Vary-Search: params`)(w, r)
	}, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { f.get(0, "/page?utm=1") })
	}
	wg.Wait()
	if n := f.calls.Load(); n > 10 {
		t.Errorf("the handler was called %d times; want once to learn, once to keep, and for those few who came in between", n)
	}
}
