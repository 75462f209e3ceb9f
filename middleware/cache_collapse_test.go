package middleware_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// fleet is several instances of one service on one Redis.
type fleet struct {
	t      *testing.T
	stores []*cache.Store
	alone  []*httptest.Server
	calls  atomic.Int64
}

func newFleet(t *testing.T, b *testkit.Backend, n int, handler http.HandlerFunc, storeOptions []cache.Option, options ...middleware.CacheOption) *fleet {
	t.Helper()
	f := &fleet{t: t}
	prefix := b.Prefix(t)
	for range n {
		store, err := cache.New(b.Client(t), append([]cache.Option{cache.WithPrefix(prefix), cache.WithTimeout(10 * time.Second)}, storeOptions...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		h := middleware.Cache(store, options...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.calls.Add(1)
			handler(w, r)
		}))
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Host = "shop.example"
			h.ServeHTTP(w, r)
		}))
		t.Cleanup(s.Close)
		f.stores, f.alone = append(f.stores, store), append(f.alone, s)
	}
	return f
}

// get asks instance i, and returns the body and the header.
func (f *fleet) get(i int, path string, header ...string) (string, http.Header) {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.alone[i].URL+path, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	for n := 0; n+1 < len(header); n += 2 {
		r.Header.Set(header[n], header[n+1])
	}
	resp, err := f.alone[i].Client().Do(r)
	if err != nil {
		f.t.Error(err)
		return "", nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Error(err)
	}
	return string(body), resp.Header
}

// Four instances with 25 concurrent misses each: one call of the handler.
//
// Red when find.lua gives the claim to all, or answer does not wait.
func TestCache_collapsesOverInstances(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for name, options := range map[string][]cache.Option{"redis": nil, "near": {cache.WithNear(1 << 20)}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, b, 4, func(w http.ResponseWriter, r *http.Request) {
					patiently(r.Context(), 50*time.Millisecond)
					w.Header().Set("Cache-Control", "max-age=60")
					_, _ = io.WriteString(w, "page "+r.URL.Path)
				}, options)
				for round := range 3 {
					f.calls.Store(0)
					path := fmt.Sprint("/", round)
					var wg sync.WaitGroup
					for i := range 100 {
						wg.Go(func() {
							if body, _ := f.get(i%4, path); body != "page "+path {
								t.Errorf("got %q", body)
							}
						})
					}
					wg.Wait()
					if n := f.calls.Load(); n != 1 {
						t.Errorf("round %d: %d calls of the handler; want 1", round, n)
					}
				}
			})
		}
	})
}

func patiently(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// Users at once on one URL, over two instances: whatever keeps an answer from being
// shared, none sees another's.
//
// Red when variant is the same for all. That Storable's refusals are heeded has tests of its
// own: what it refuses has no lifetime either, so that this one cannot tell.
func TestCache_collapsesNobodysAnswer(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for name, fields := range map[string][]string{
			"no-store":      {"Cache-Control", "no-store"},
			"private":       {"Cache-Control", "private, max-age=60"},
			"authorization": {"Cache-Control", "max-age=60"},
			"vary":          {"Cache-Control", "max-age=60", "Vary", "X-User"},
			"cookie":        {"Cache-Control", "max-age=60", "Set-Cookie", "yes"},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, b, 2, func(w http.ResponseWriter, r *http.Request) {
					patiently(r.Context(), 10*time.Millisecond)
					user := r.Header.Get("X-User")
					for i := 0; i < len(fields); i += 2 {
						value := fields[i+1]
						if fields[i] == "Set-Cookie" {
							value = "user=" + user
						}
						w.Header().Set(fields[i], value)
					}
					_, _ = io.WriteString(w, user)
				}, nil)
				for round := range 5 {
					var wg sync.WaitGroup
					for i := range 20 {
						wg.Go(func() {
							user := fmt.Sprint("user ", i)
							header := []string{"X-User", user}
							if name == "authorization" {
								header = append(header, "Authorization", "Bearer "+user)
							}
							body, h := f.get(i%2, fmt.Sprint("/", round), header...)
							if cookie := h.Get("Set-Cookie"); body != user || cookie != "" && cookie != "user="+user {
								t.Errorf("%s got %q, cookie %q", user, body, cookie)
							}
						})
					}
					wg.Wait()
				}
			})
		}
	})
}

// What was purged is not served by any instance, and a soft purge has it validated.
func TestPurger(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		var version atomic.Int64
		f := newFleet(t, b, 2, func(w http.ResponseWriter, r *http.Request) {
			cache.Tag(r.Context(), "tagged")
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("Surrogate-Key", "one two")
			w.Header().Set("Cache-Groups", `"group"`)
			etag := fmt.Sprintf(`"%d"`, version.Load())
			w.Header().Set("Etag", etag)
			if r.Header.Get("If-None-Match") == etag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			fmt.Fprint(w, version.Load())
		}, []cache.Option{cache.WithNear(1 << 20)}, middleware.WithTagFields("Surrogate-Key"))
		ctx := t.Context()
		purger := middleware.NewPurger(f.stores[0])
		for name, purge := range map[string]func(*middleware.Purger) error{
			"url":    func(p *middleware.Purger) error { return p.URLs(ctx, "http://Shop.example/a?b=c") },
			"prefix": func(p *middleware.Purger) error { return p.Prefix(ctx, "http://shop.example/a") },
			"host":   func(p *middleware.Purger) error { return p.Prefix(ctx, "http://shop.example") },
			"tag":    func(p *middleware.Purger) error { return p.Tags(ctx, "tagged") },
			"key":    func(p *middleware.Purger) error { return p.Tags(ctx, "two") },
			"group":  func(p *middleware.Purger) error { return p.Groups(ctx, "http://shop.example", "group") },
			"all":    func(p *middleware.Purger) error { return p.All(ctx) },
		} {
			for _, soft := range []bool{false, true} {
				p := purger
				if soft {
					p = purger.Soft()
				}
				version.Add(1)
				if err := purger.All(ctx); err != nil {
					t.Fatal(err)
				}
				want := fmt.Sprint(version.Load())
				testkit.Eventually(t, "both to have it", func() bool {
					b1, _ := f.get(0, "/a?b=c")
					b2, h := f.get(1, "/a?b=c")
					return b1 == want && b2 == want && len(h["Age"]) > 0
				})
				version.Add(1)
				want = fmt.Sprint(version.Load())
				if err := purge(p); err != nil {
					t.Fatal(name, err)
				}
				if got, _ := f.get(0, "/a?b=c"); got != want {
					t.Errorf("%s, soft %v: who purged got version %q; want %q", name, soft, got, want)
				}
				testkit.Eventually(t, name+" to be heard of", func() bool { got, _ := f.get(1, "/a?b=c"); return got == want })
			}
		}
		for _, err := range []error{
			purger.URLs(ctx, "/a"), purger.Prefix(ctx, "shop.example/a"), purger.Groups(ctx, "http://shop.example/a", "g"), purger.Tags(ctx, ""),
		} {
			if err == nil {
				t.Error("bad argument: got no error")
			}
		}
	})
}
