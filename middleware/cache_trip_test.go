package middleware_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
)

// A hit in Redis is one round trip, whatever the answer has and the request asks of it.
// Only what a process does not know yet takes another: the fields that a URL's answers
// vary by, once.
//
// Red when Find does not put the names of a resource into the Store's memory.
func TestCache_roundTrips(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb, proxies := b.ProxiedClient(t)
		prefix := b.Prefix(t)
		tagged := func(w http.ResponseWriter, r *http.Request) {
			cache.Tag(r.Context(), "team:7", "user:1")
			fresh("body", `Etag: "1"`, `Cache-Groups: "a", "b"`)(w, r)
		}
		for _, tt := range []struct {
			name    string
			handler http.HandlerFunc
			method  string
			asks    []string // the fields of a hit, besides those it was kept for
			kept    []string
			first   int // round trips of another process's first hit
		}{
			{"plain", fresh("body"), "GET", nil, nil, 1},
			{"head", fresh("body"), "HEAD", nil, nil, 1},
			{"not modified", fresh("body", `Etag: "1"`), "GET", []string{`If-None-Match: "1"`}, nil, 1},
			{"range", fresh("body"), "GET", []string{"Range: bytes=1-2"}, nil, 1},
			{"tags and groups", tagged, "GET", nil, nil, 1},
			{"vary", fresh("body", "Vary: Accept-Language"), "GET", nil, []string{"Accept-Language: de"}, 2},
			{"64 KiB", fresh(string(make([]byte, 64<<10))), "GET", nil, nil, 1},
		} {
			target := "/" + url.PathEscape(tt.name)
			kept := newCachedFor(t, rdb, prefix, nil, tt.handler)
			kept.do("GET", target, tt.kept...)
			kept.do("GET", target, tt.kept...).isHit() // the scripts are there
			other := newCachedFor(t, rdb, prefix, nil, tt.handler)
			for who, at := range map[string]struct {
				*cached
				want int
			}{"who kept it": {kept, 1}, "another process": {other, tt.first}} {
				for _, want := range []int{at.want, 1} {
					proxies.Each((*testkit.Proxy).Reset)
					at.do(tt.method, target, append(tt.asks, tt.kept...)...).isHit()
					if got := proxies.RoundTrips(); got != want {
						t.Errorf("%s, %s: %d round trips; want %d", tt.name, who, got, want)
					}
				}
				at.called(map[*cached]int64{kept: 1}[at.cached])
			}
		}
	})
}
