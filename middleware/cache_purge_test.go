package middleware_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// ways are what a Purger can do to http://shop.example/a/… with the tag and the group.
var ways = map[string]func(*testing.T, *middleware.Purger, string) error{
	"url": func(t *testing.T, p *middleware.Purger, path string) error {
		return p.URLs(t.Context(), "http://shop.example"+path)
	},
	"prefix": func(t *testing.T, p *middleware.Purger, _ string) error {
		return p.Prefix(t.Context(), "http://shop.example/a")
	},
	"tag": func(t *testing.T, p *middleware.Purger, _ string) error { return p.Tags(t.Context(), "tagged") },
	"group": func(t *testing.T, p *middleware.Purger, _ string) error {
		return p.Groups(t.Context(), "http://shop.example", "group")
	},
	"all": func(t *testing.T, p *middleware.Purger, _ string) error { return p.All(t.Context()) },
}

// tagged answers with a body that any of ways finds.
func tagged(w http.ResponseWriter, r *http.Request, body string) {
	cache.Tag(r.Context(), "tagged")
	if w.Header().Get("Cache-Control") == "" {
		w.Header().Set("Cache-Control", "max-age=60")
	}
	w.Header().Set("Cache-Groups", `"group"`)
	_, _ = io.WriteString(w, body)
}

// What is purged while it is made is not kept, under whatever key and by whatever
// request it came.
//
// Red when keep.lua compares no numbers, or decide keeps by a key that nobody has looked
// under.
func TestPurger_whileMade(t *testing.T) {
	t.Parallel()
	for name, made := range map[string]struct {
		field  string // of the answer
		before bool   // there is something stale before
	}{
		"page":             {"", false},
		"variant":          {"Vary: Accept", false},
		"no-vary-search":   {`No-Vary-Search: params=("utm")`, false},
		"refresh":          {"Cache-Control: max-age=0, stale-while-revalidate=60", true},
		"validated as new": {`Cache-Control: no-cache`, true},
	} {
		for way, purge := range ways {
			if made.field[:min(1, len(made.field))] == "N" && way == "url" {
				continue // as its documentation says
			}
			t.Run(name+" by "+way, func(t *testing.T) {
				t.Parallel()
				var c *cached
				during := false
				version := 1
				c = newCached(t, func(w http.ResponseWriter, r *http.Request) {
					body := fmt.Sprint("version ", version)
					if during {
						during = false
						version++
						if err := purge(t, middleware.NewPurger(c.store), r.URL.String()[len("http://shop.example"):]); err != nil {
							t.Error(err)
						}
					}
					if name, value, ok := strings.Cut(made.field, ": "); ok {
						w.Header().Set(name, value)
					}
					if made.before {
						w.Header().Set("Etag", fmt.Sprintf(`"%d"`, version))
					}
					tagged(w, r, body)
				})
				get := func() cacheAnswer {
					return c.serve(httptest.NewRequest("GET", "http://shop.example/a/b?utm=1", nil))
				}
				if made.before {
					get()
				}
				during = true
				get()
				if got := get(); got.body != "version 2" {
					t.Errorf("got %q, Cache-Status %q; want version 2", got.body, got.header["Cache-Status"])
				}
			})
		}
	}
}

// A purge costs as many commands for 10,000 objects as for ten, as the client counts
// them and as the server counts those of scripts.
func TestPurger_commands(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	p := testkit.NewProxy(t, b.Addrs()[0])
	for way, purge := range ways {
		var sent, ran, trips [2]int
		for i, objects := range []int{10, campaign(1000, 10_000)} {
			prefix := b.Prefix(t) + fmt.Sprint(way, i)
			c := newCachedFor(t, b.Client(t), prefix, nil, func(w http.ResponseWriter, r *http.Request) { tagged(w, r, "x") })
			store, err := cache.New(p.Client(t), cache.WithPrefix(prefix), cache.WithTimeout(cachePatience))
			if err != nil {
				t.Fatal(err)
			}
			fill := func() {
				for n := range objects {
					c.do("GET", fmt.Sprint("http://shop.example/a/", n))
				}
				c.do("GET", "http://shop.example/a/0").isHit()
			}
			count := func() (ran int) {
				stats, err := b.Client(t).Info(t.Context(), "commandstats").Result()
				if err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(stats) {
					name, calls, _ := strings.Cut(line, ":calls=")
					var n int
					if _, err := fmt.Sscanf(calls, "%d,", &n); err == nil && name != "cmdstat_info" && !strings.HasPrefix(name, "cmdstat_hello") && !strings.HasPrefix(name, "cmdstat_client") {
						ran += n
					}
				}
				return ran
			}
			for range 2 { // the first one loads the scripts
				fill()
				before := count()
				p.Reset()
				if err := purge(t, middleware.NewPurger(store), "/a/0"); err != nil {
					t.Fatal(err)
				}
				sent[i], trips[i], ran[i] = p.Commands(), p.RoundTrips(), count()-before
				c.do("GET", "http://shop.example/a/0").isStored()
			}
		}
		t.Logf("%s: %d commands in %d round trip, %d ran on the server", way, sent[1], trips[1], ran[1])
		if sent[0] != sent[1] || ran[0] != ran[1] || trips != [2]int{1, 1} {
			t.Errorf("%s: %d sent, %d ran, %d round trips; want as many for ten objects as for many", way, sent, ran, trips)
		}
	}
}

// Races of purges against what is being made, over three instances: when the purge has
// returned, no instance answers with what a call of the handler brought that began before
// it; one with a near tier not later than the message comes. The long form has 10,000.
//
// Red when keep.lua compares no numbers, or near.put does not.
func TestPurger_races(t *testing.T) {
	t.Parallel()
	for _, near := range []bool{false, true} {
		t.Run(fmt.Sprint("near ", near), func(t *testing.T) {
			t.Parallel()
			var options []cache.Option
			if near {
				options = append(options, cache.WithNear(16<<20))
			}
			var version atomic.Int64
			f := newFleet(t, testkit.Shared(t, "server"), 3, func(w http.ResponseWriter, r *http.Request) {
				begun := version.Load()
				time.Sleep(rand.N(time.Millisecond)) // the purge comes somewhere in here
				switch {
				case strings.HasPrefix(r.URL.Path, "/a/vary"):
					w.Header().Set("Vary", "Accept")
				case strings.HasPrefix(r.URL.Path, "/a/search"):
					w.Header().Set("No-Vary-Search", `params=("utm")`)
				}
				tagged(w, r, fmt.Sprint(begun))
			}, options)
			races := campaign(300, 5000)
			var late []time.Duration
			for race := range races {
				kind := []string{"page", "vary", "search"}[race%3]
				for way, purge := range ways {
					if kind == "search" && way == "url" {
						continue
					}
					if race%5 != len(way)%5 && way != "tag" {
						continue
					}
					path := fmt.Sprintf("/a/%s%d", kind, race%(races/10+1))
					late = append(late, f.race(near, path, way, purge, &version))
				}
				if t.Failed() {
					return
				}
			}
			t.Logf("%d races; an old answer was given after the purge had returned: %s", len(late), spread(late))
		})
	}
}

// race has two instances ask while the third purges, and then all three ask. It returns
// how long after the purge the last old answer was asked for.
func (f *fleet) race(near bool, path, way string, purge func(*testing.T, *middleware.Purger, string) error, version *atomic.Int64) (late time.Duration) {
	f.t.Helper()
	purger := rand.IntN(3)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { f.get(i, path) })
	}
	time.Sleep(rand.N(1500 * time.Microsecond))
	want := version.Add(1)
	if err := purge(f.t, middleware.NewPurger(f.stores[purger]), path); err != nil {
		f.t.Error(err)
	}
	done := time.Now()
	for begun := done; ; begun = time.Now() {
		old := false
		for i := range 3 {
			asked := time.Since(done)
			body, header := f.get(i, path)
			var got int64
			if _, err := fmt.Sscan(body, &got); err != nil || got < want {
				old, late = true, asked
				if !near || i == purger {
					f.t.Errorf("%s of %s: instance %d gives version %q; want %d, Cache-Status %q", way, path, i, body, want, header["Cache-Status"])
				}
			}
		}
		if !old {
			break
		}
		if begun.Sub(done) > time.Second {
			f.t.Errorf("%s of %s: an old answer %v after the purge", way, path, begun.Sub(done))
			break
		}
	}
	wg.Wait()
	return late
}
