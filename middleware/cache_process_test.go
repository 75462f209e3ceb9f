package middleware_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// storefront is one process of a service behind a cache. What it answers is told by the
// first segment of the path; how often it was asked is a number in Redis for each path,
// which the tests reach by themselves.
type storefront struct {
	Spec, Prefix string
	Near, RFC    bool
	Origin       time.Duration // what the handler takes
}

func init() { testkit.Role("storefront", runStorefront) }

func runStorefront(ctx context.Context, args []string) error {
	var s storefront
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	client, err := testkit.Connect(s.Spec)
	if err != nil {
		return err
	}
	defer client.Close()
	options := []cache.Option{cache.WithPrefix(s.Prefix), cache.WithTimeout(cachePatience)}
	if s.Near {
		options = append(options, cache.WithNear(64<<20))
	}
	store, err := cache.New(client, options...)
	if err != nil {
		return err
	}
	defer store.Close()
	var profile []middleware.CacheOption
	if s.RFC {
		profile = append(profile, middleware.WithRFCProfile())
	}
	h := middleware.Cache(store, profile...)(s.origin(client))
	return serveChild(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "shop.example"
		h.ServeHTTP(w, r)
	}))
}

// madeFor are the fields of answers that are one user's.
var madeFor = map[string][]string{
	"no-store":      {"Cache-Control", "no-store"},
	"private":       {"Cache-Control", "private, max-age=60"},
	"authorization": {"Cache-Control", "max-age=60"},
	"vary":          {"Cache-Control", "max-age=60", "Vary", "X-User"},
	"vary-cookie":   {"Cache-Control", "public, max-age=60", "Vary", "Cookie"},
	"cookie":        {"Cache-Control", "max-age=60", "Set-Cookie", "user=%s"},
}

// origin answers with path, user and the number of the call. Its first call for a path
// under /stop, /leave, /panic or /abort does not come to an end.
func (s *storefront) origin(client redis.UniversalClient) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := context.WithoutCancel(r.Context())
		n, err := client.Incr(ctx, s.count(r.URL.Path)).Result()
		if err != nil {
			panic(err)
		}
		kind, _, _ := strings.Cut(r.URL.Path[1:], "/")
		user := r.Header.Get("X-User")
		w.Header().Set("Cache-Control", "max-age=60")
		for fields := madeFor[kind]; len(fields) > 0; fields = fields[2:] {
			w.Header().Set(fields[0], strings.ReplaceAll(fields[1], "%s", user))
		}
		if kind == "tagged" {
			s.tagged(ctx, client, w)
			return
		}
		if n == 1 && (kind == "stop" || kind == "leave") {
			testkit.Emit(kind)
		}
		patiently(ctx, s.Origin)
		switch {
		case n > 1:
		case kind == "stop":
			select {}
		case kind == "leave":
			<-r.Context().Done()
			return
		case kind == "panic":
			panic("the first call")
		case kind == "abort":
			_, _ = io.WriteString(w, "a part of the")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		fmt.Fprintf(w, "%s for %q, call %d", r.URL.Path, user, n)
	})
}

// tagged answers with the version that is current when it is asked, which is a number in
// Redis.
func (s *storefront) tagged(ctx context.Context, client redis.UniversalClient, w http.ResponseWriter) {
	version, err := client.Get(ctx, s.Prefix+":version").Result()
	if err != nil {
		panic(err)
	}
	cache.Tag(ctx, "tagged")
	_, _ = io.WriteString(w, version)
}

// count is the key of how often the handler was asked for a path.
func (s *storefront) count(path string) string { return s.Prefix + ":calls:" + path }

// chain is the processes of one service, as their clients see them.
type chain struct {
	storefront
	t        *testing.T
	rdb      redis.UniversalClient
	client   *http.Client
	children *testkit.Processes
	addrs    []string
}

func openChain(t *testing.T, n int, s storefront) *chain {
	t.Helper()
	b := testkit.Shared(t, "server")
	s.Spec, s.Prefix = b.Spec(), b.Prefix(t)
	c := &chain{storefront: s, t: t, rdb: b.Client(t)}
	c.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}}
	t.Cleanup(c.client.CloseIdleConnections)
	c.children, c.addrs = openChildren(t, n, "storefront", s)
	// Connections are there, and the near tiers in use, before anything is measured.
	c.together(100, func(i int) { _, _ = c.get(t.Context(), i, "/warm/"+fmt.Sprint(i)) })
	return c
}

// together calls f(0) to f(n-1) at once.
func (c *chain) together(n int, f func(int)) {
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { <-begin; f(i) })
	}
	close(begin)
	wg.Wait()
}

// sold is an answer of a storefront.
type sold struct {
	header http.Header
	body   string
	took   time.Duration
}

// get asks process i, modulo their number, with header fields.
func (c *chain) get(ctx context.Context, i int, path string, fields ...string) (sold, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.addrs[i%len(c.addrs)]+path, nil)
	if err != nil {
		return sold{}, err
	}
	for ; len(fields) > 0; fields = fields[2:] {
		r.Header.Set(fields[0], fields[1])
	}
	begun := time.Now()
	response, err := c.client.Do(r)
	if err != nil {
		return sold{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(response.Status)
	}
	return sold{response.Header, string(body), time.Since(begun)}, err
}

// calls is how often the handler was asked for a path, in all processes.
func (c *chain) calls(path string) int {
	c.t.Helper()
	n, err := c.rdb.Get(c.t.Context(), c.count(path)).Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		c.t.Fatal(err)
	}
	return n
}

// bare sends n requests at once past the cache, and returns how long the slowest took: what
// the handler, the processes and this machine take at the moment.
func (c *chain) bare(n int) time.Duration {
	c.t.Helper()
	took := make([]time.Duration, n)
	c.together(n, func(i int) {
		s, err := c.get(c.t.Context(), i, "/bare/", "If-Match", "*")
		if err != nil {
			c.t.Error(err)
		}
		took[i] = s.took
	})
	return slices.Max(took)
}

// idle reports whether this machine is: whether what goes past the cache, of which bare is
// the slowest, takes little more than the handler. Otherwise no time can be checked.
func (c *chain) idle(bare, limit time.Duration) bool {
	c.t.Helper()
	if bare > c.Origin+limit/2 {
		c.t.Logf("this machine is too busy to check times: past the cache one took %v", bare)
		return false
	}
	return true
}

// bounded checks a time where that is asked for: in the long form, which has the machine
// to itself.
func (c *chain) bounded(what string, took, limit time.Duration) {
	c.t.Helper()
	if took > limit && campaign(0, 1) == 1 {
		c.t.Errorf("%s took %v; want at most %v", what, took, limit)
	}
}
