package middleware_test

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// answering answers with a status, a body and fields "Name: value".
func answering(status int, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte("body"))
	}
}

// The lifetimes that options give are for what declares none, and change no prohibition.
// RFC 9111 sections 3, 4.2.1 and 4.2.2; RFC 9110 section 15.1.
//
// Red when Policy.heuristic looks at StatusLifetimes before it asks whether the status is
// cacheable, or Lifetime does before what is declared.
func TestCache_defaultLifetimes(t *testing.T) {
	t.Parallel()
	hour, week := middleware.WithDefaultTTL(time.Hour), 7*24*time.Hour
	const old = "Last-Modified: 1,000 s before the answer"
	missing := middleware.WithStatusTTL(404, 10*time.Second)
	for _, test := range []struct {
		name    string
		ttl     time.Duration // of the store
		options []middleware.CacheOption
		status  int
		fields  []string
		want    int // seconds of lifetime; 0: not stored
		detail  string
	}{
		{"default", 0, []middleware.CacheOption{hour}, 200, nil, 3600, ""},
		{"default over the store's", week, []middleware.CacheOption{hour}, 200, nil, 3600, ""},
		{"default over the heuristic", 0, []middleware.CacheOption{hour}, 200, []string{old}, 3600, ""},
		{"no default, the store's notwithstanding", week, []middleware.CacheOption{middleware.WithDefaultTTL(0)}, 200, nil, 0, "no-freshness"},
		{"no default, the heuristic", week, []middleware.CacheOption{middleware.WithDefaultTTL(0)}, 200, []string{old}, 100, ""},
		{"max-age before the default", 0, []middleware.CacheOption{hour}, 200, []string{"Cache-Control: max-age=5"}, 5, ""},
		{"max-age=0 before the default", 0, []middleware.CacheOption{hour}, 200, []string{"Cache-Control: max-age=0"}, 0, "stale"},
		{"Expires before the default", 0, []middleware.CacheOption{hour}, 200, []string{"Expires: 0"}, 0, "stale"},
		{"a target before the default", 0, []middleware.CacheOption{hour}, 200, []string{"CDN-Cache-Control: max-age=7"}, 7, ""},
		{"no-store", 0, []middleware.CacheOption{hour}, 200, []string{"Cache-Control: no-store"}, 0, "no-store"},
		{"private", 0, []middleware.CacheOption{hour}, 200, []string{"Cache-Control: private"}, 0, "private"},
		{"a cookie", 0, []middleware.CacheOption{hour}, 200, []string{"Set-Cookie: a=b"}, 0, "set-cookie"},
		{"default, a status that is not cacheable", 0, []middleware.CacheOption{hour}, 500, nil, 0, "no-freshness"},
		{"status", 0, []middleware.CacheOption{missing}, 404, nil, 10, ""},
		{"status over the default", 0, []middleware.CacheOption{hour, missing}, 404, nil, 10, ""},
		{"status, in whatever order", 0, []middleware.CacheOption{missing, hour}, 404, nil, 10, ""},
		{"status over the heuristic", 0, []middleware.CacheOption{missing}, 404, []string{old}, 10, ""},
		{"another status", 0, []middleware.CacheOption{hour, missing}, 410, nil, 3600, ""},
		{"max-age before the status's", 0, []middleware.CacheOption{missing}, 404, []string{"Cache-Control: max-age=60"}, 60, ""},
		{"a status's, no-store", 0, []middleware.CacheOption{missing}, 404, []string{"Cache-Control: no-store"}, 0, "no-store"},
		{"a status's, private", 0, []middleware.CacheOption{missing}, 404, []string{"Cache-Control: private"}, 0, "private"},
		{"none of the status", 0, []middleware.CacheOption{hour, middleware.WithStatusTTL(301, 0)}, 301, []string{old}, 0, "no-freshness"},
		{"none of the status, max-age", 0, []middleware.CacheOption{middleware.WithStatusTTL(301, 0)}, 301, []string{"Cache-Control: max-age=9"}, 9, ""},
		{"302 says nothing", 0, []middleware.CacheOption{middleware.WithStatusTTL(302, time.Hour)}, 302, nil, 0, "no-freshness"},
		{"302 says public", 0, []middleware.CacheOption{middleware.WithStatusTTL(302, time.Hour)}, 302, []string{"Cache-Control: public"}, 3600, ""},
		{"503 says nothing", 0, []middleware.CacheOption{middleware.WithStatusTTL(503, time.Second)}, 503, nil, 0, "no-freshness"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var settings []cache.Option
			if test.ttl > 0 {
				settings = append(settings, cache.WithTTL(test.ttl))
			}
			fields := slices.Clone(test.fields)
			if i := slices.Index(fields, old); i >= 0 {
				fields[i] = "Last-Modified: " + time.Now().Add(-1000*time.Second).UTC().Format(http.TimeFormat)
			}
			c := newCachedOn(t, testkit.Mini(t), settings, answering(test.status, fields...), test.options...)
			if test.want == 0 {
				c.get().isMiss("uri-miss", test.detail, false)
				c.get().isMiss("uri-miss", test.detail, false)
				return
			}
			c.get().isStored().hasBody(test.status, "body")
			ttl, _ := c.get().isHit().hasBody(test.status, "body").cacheStatus()["ttl"].(int64)
			if int(ttl) > test.want || int(ttl) < test.want-5 {
				t.Errorf("ttl: got %d; want about %d", ttl, test.want)
			}
		})
	}
}

// A 304 and a 200 to HEAD give what declares nothing its lifetime anew.
func TestCache_statusTTLFreshened(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCachedOn(t, testkit.Memory(t), nil, conditional(`"a"`, "body"), middleware.WithStatusTTL(200, 10*time.Second))
		c.get().isStored()
		time.Sleep(11 * time.Second)
		c.get().hasBody(200, "body")
		time.Sleep(9 * time.Second)
		c.get().isHit().hasBody(200, "body")
		c.called(2)
	})
}

// Jitter shortens what options and the heuristic give, by a part of what is left of it, and
// nothing that is declared. Red without storable's Declared, and without its left.
func TestCache_ttlJitter(t *testing.T) {
	t.Parallel()
	old := "Last-Modified: Fri, 31 Dec 1999 23:43:20 GMT" // 1000 s before synctest's midnight
	for _, test := range []struct {
		name   string
		fields []string
		random float64
		want   int64
	}{
		{"none drawn", nil, 0, 1000},
		{"half of it drawn", nil, 0.5, 750},
		{"nearly all of it drawn", nil, 0.998, 501},
		{"of what is left", []string{"Age: 900"}, 0.5, 75},
		{"heuristic", []string{old}, 0.5, 75},
		{"max-age", []string{"Cache-Control: max-age=100"}, 0.5, 100},
		{"s-maxage", []string{"Cache-Control: s-maxage=100"}, 0.5, 100},
		{"Expires", []string{"Expires: Sat, 01 Jan 2000 00:01:40 GMT"}, 0.5, 100},
		{"a target", []string{"CDN-Cache-Control: max-age=100"}, 0.5, 100},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				options := []middleware.CacheOption{middleware.WithTTLJitter(0.5), middleware.WithRandom(func() float64 { return test.random })}
				if test.name != "heuristic" {
					options = append(options, middleware.WithDefaultTTL(1000*time.Second))
				}
				c := newCachedOn(t, testkit.Memory(t), nil, page("x", test.fields...), options...)
				c.get().isStored()
				if ttl := c.get().isHit().cacheStatus()["ttl"]; ttl != test.want {
					t.Errorf("ttl: got %v; want %d", ttl, test.want)
				}
				time.Sleep(time.Duration(test.want)*time.Second - time.Millisecond)
				c.get().isHit()
				time.Sleep(time.Millisecond)
				c.get()
				c.called(2)
			})
		})
	}
}

// slowly answers like h after a time, by the clock of the test.
func slowly(d time.Duration, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(d)
		h(w, r)
	}
}

// Shortly before the end of a lifetime one request has the answer refreshed, and all are
// answered from the store, at once.
//
// Red when reuse does not look at sight.Early, or put does not say the Cost.
func TestCache_earlyRefresh(t *testing.T) {
	t.Parallel()
	for _, background := range []bool{true, false} {
		t.Run(fmt.Sprint("refresher ", background), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := middleware.NewRefresher()
				defer r.Close()
				options := []middleware.CacheOption{middleware.WithEarlyRefresh(20)}
				if background {
					options = append(options, middleware.WithRefresher(r))
				}
				var n atomic.Int64
				c := newCachedOn(t, testkit.Memory(t), nil, slowly(time.Second, func(w http.ResponseWriter, r *http.Request) {
					fresh(fmt.Sprint("version ", n.Add(1)), "X-Method: "+r.Method)(w, r)
				}), options...)
				c.get().isStored()
				// With a request a second all of them miss the last moment once in 10^14.
				refreshed := 0
				for at := range 200 {
					begun := time.Now()
					a := c.get().isHit()
					if took := time.Since(begun); background && took > 0 {
						t.Fatalf("an answer took %v; want none to wait for the refresh", took)
					}
					if ttl := a.cacheStatus()["ttl"].(int64); ttl <= 0 {
						t.Fatalf("after %d s: got %q; want what is fresh", at, a.header["Cache-Status"])
					}
					if a.body != fmt.Sprint("version ", refreshed+1) {
						refreshed++
					}
					time.Sleep(time.Second)
				}
				if calls := c.calls.Load(); calls < 4 || calls > 40 || refreshed < 3 {
					t.Errorf("%d calls for 200 s of a lifetime of 60, %d versions; want some 9", calls, refreshed+1)
				}
			})
		})
	}
}

// Of many requests over several instances one refreshes. Red when find.lua gives the claim
// to all.
func TestCache_earlyRefreshOnce(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	prefix := b.Prefix(t)
	release := make(chan struct{})
	let := sync.OnceFunc(func() { close(release) })
	var n atomic.Int64
	r := middleware.NewRefresher()
	defer r.Close()
	defer let()
	handler := func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			time.Sleep(100 * time.Millisecond) // its cost: at beta 100 a third of the draws is early
		} else {
			<-release
		}
		page(fmt.Sprint("version ", n.Load()), "Cache-Control: max-age=10")(w, r)
	}
	var cs []*cached
	for range 4 {
		cs = append(cs, newCachedFor(t, b.Client(t), prefix, nil, handler, middleware.WithRefresher(r), middleware.WithEarlyRefresh(100)))
	}
	cs[0].get().isStored()
	testkit.Eventually(t, "the refresh", func() bool {
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() { cs[i%4].get().isHit().hasBody(200, "version 1") })
		}
		wg.Wait()
		return n.Load() > 1
	})
	for i := range 40 {
		cs[i%4].get().isHit().hasBody(200, "version 1")
	}
	if got := n.Load(); got != 2 {
		t.Errorf("the handler was called %d times; want 2", got)
	}
	let()
	testkit.Eventually(t, "the refreshed", func() bool { return cs[3].get().isHit().body == "version 2" })
}

// A refresh that fails leaves what is stored, and leaves no mark by which nobody would wait
// for who makes it when it has ended.
//
// Red when decide yields with a pass for a refresh that failed.
func TestCache_earlyRefreshFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := middleware.NewRefresher()
		defer r.Close()
		var n atomic.Int64
		c := newCachedOn(t, testkit.Memory(t), nil, slowly(10*time.Second, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) == 2 {
				w.WriteHeader(503)
				return
			}
			page("body", "Cache-Control: max-age=60")(w, r)
		}), middleware.WithRefresher(r), middleware.WithEarlyRefresh(100))
		c.get().isStored()
		for range 100 { // of the draws 95 in 100 are early
			if c.calls.Load() == 2 {
				break
			}
			c.get().isHit()
			synctest.Wait()
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		c.called(2)
		if left, err := c.rdb.Keys(t.Context(), "*:l:*").Result(); len(left) > 0 || err != nil {
			t.Errorf("left: %v, %v", left, err)
		}
	})
}

// What a request says of its own freshness, a part, or HEAD begins no early refresh.
func TestCache_earlyRefreshOfWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCachedOn(t, testkit.Memory(t), nil, slowly(30*time.Second, fresh("body")), middleware.WithEarlyRefresh(100))
		c.get().isStored()
		c.do("HEAD", "/page").isHit()
		c.get("Range: bytes=0-0").isHit().hasBody(206, "b")
		c.get("Cache-Control: only-if-cached").isHit()
		c.called(1)
	})
}

func TestCache_lifetimeOptionsPanic(t *testing.T) {
	t.Parallel()
	for want, option := range map[string]func(){
		"middleware.WithDefaultTTL: -1s is no lifetime: write one from 1ms to 8784h0m0s, or 0 for the heuristic of RFC 9111": func() { middleware.WithDefaultTTL(-time.Second) },
		"middleware.WithDefaultTTL: 1ns is no lifetime: ":                                                                    func() { middleware.WithDefaultTTL(1) },
		"middleware.WithDefaultTTL: 8808h0m0s is no lifetime: ":                                                              func() { middleware.WithDefaultTTL(367 * 24 * time.Hour) },
		"middleware.WithStatusTTL(404): -1ns is no lifetime: ":                                                               func() { middleware.WithStatusTTL(404, -1) },
		"middleware.WithStatusTTL(206): a part is fresh as long as":                                                          func() { middleware.WithStatusTTL(206, time.Second) },
		"middleware.WithStatusTTL(304): no answer with this status":                                                          func() { middleware.WithStatusTTL(304, time.Second) },
		"middleware.WithStatusTTL(429): no answer with this status":                                                          func() { middleware.WithStatusTTL(429, time.Second) },
		"middleware.WithStatusTTL(199): no answer with this status":                                                          func() { middleware.WithStatusTTL(199, 0) },
		"middleware.WithStatusTTL(600): no answer with this status":                                                          func() { middleware.WithStatusTTL(600, 0) },
		"middleware.WithTTLJitter(0.6): must be from 0 to 0.5: ":                                                             func() { middleware.WithTTLJitter(0.6) },
		"middleware.WithTTLJitter(-0.1): must be from 0 to 0.5: ":                                                            func() { middleware.WithTTLJitter(-0.1) },
		"middleware.WithTTLJitter(NaN): must be from 0 to 0.5: ":                                                             func() { middleware.WithTTLJitter(math.NaN()) },
		"middleware.WithEarlyRefresh(0): must be from 0.1 to 100: ":                                                          func() { middleware.WithEarlyRefresh(0) },
		"middleware.WithEarlyRefresh(101): must be from 0.1 to 100: ":                                                        func() { middleware.WithEarlyRefresh(101) },
	} {
		panicsWith(t, want, option)
	}
}

// panicsWith checks that do panics with a message that begins so.
func panicsWith(t *testing.T, want string, do func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := fmt.Sprint(recover()); !strings.HasPrefix(got, want) {
			t.Errorf("got %q; want a panic that begins with %q", got, want)
		}
	}()
	do()
}
