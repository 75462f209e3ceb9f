package middleware_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// chunk is the length of the chunks in which long bodies are stored.
const chunk = 256 << 10

var noise = sync.OnceValue(func() string {
	b := make([]byte, 8*chunk)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(b)
	return string(b)
})

// long answers with n octets, in pieces, that differ from chunk to chunk, and their length
// if announce says so.
func long(n int, announce bool, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fresh("", append([]string{`ETag: "a"`, "Content-Type: a/b"}, fields...)...)(w, r)
		if announce {
			w.Header().Set("Content-Length", strconv.Itoa(n))
		}
		for rest := noise()[:n]; rest != ""; {
			piece := rest[:min(len(rest), 50_001)]
			_, _ = io.WriteString(w, piece)
			rest = rest[len(piece):]
		}
	}
}

// chunks are the keys of chunks that there are.
func (c *cached) chunks() []string { return c.keysOf("c") }

func (c *cached) keysOf(kind string) []string {
	c.t.Helper()
	return slices.DeleteFunc(testkit.Keys(c.t, c.rdb, c.prefix), func(key string) bool { return !strings.Contains(key, "}:"+kind+":") })
}

// isWhole checks that the body is the first n octets of noise, or those of a span.
func (a cacheAnswer) isWhole(status, from, end int) cacheAnswer {
	a.t.Helper()
	if a.status != status || a.body != noise()[from:end] {
		a.t.Errorf("got %d, %d octets; want %d, %d to %d", a.status, len(a.body), status, from, end)
	}
	return a
}

// Bodies of all lengths are served as they were made, by the process that has stored them
// and by another, near and not, whole and in parts; to HEAD and to who has them already,
// without being read.
func TestCache_longBodies(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for _, near := range []bool{false, true} {
			for _, n := range []int{0, 1, chunk - 1, chunk, chunk + 1, 4*chunk - 1, 5*chunk + 7} {
				t.Run(fmt.Sprint(n, near), func(t *testing.T) {
					t.Parallel()
					var settings []cache.Option
					if near {
						settings = append(settings, cache.WithNear(1<<24))
					}
					rdb, prefix := b.Client(t), b.Prefix(t)
					c := newCachedFor(t, rdb, prefix, settings, long(n, n%2 == 0))
					other := newCachedFor(t, rdb, prefix, settings, long(n, n%2 == 0))
					t.Cleanup(c.store.Close)
					t.Cleanup(other.store.Close)
					c.get().isStored().isWhole(200, 0, n)
					for range 2 {
						for _, c := range []*cached{c, other} {
							c.get().isHit().isWhole(200, 0, n).has("Content-Length", fmt.Sprint(n)).has("Content-Type", "a/b")
							c.do("HEAD", "/page").isHit().hasBody(200, "").has("Content-Length", fmt.Sprint(n))
							c.get(`If-None-Match: "a"`).isHit().hasBody(304, "")
							for _, span := range [][2]int{{0, 1}, {chunk - 1, chunk + 1}, {chunk, 2 * chunk}, {n - 1, n}, {1, n - 1}, {chunk - 3, 3*chunk + 3}} {
								if span[0] < 0 || span[0] >= n || span[1] > n || span[0] >= span[1] {
									continue
								}
								c.get(fmt.Sprintf("Range: bytes=%d-%d", span[0], span[1]-1)).isHit().isWhole(206, span[0], span[1]).
									has("Content-Range", fmt.Sprintf("bytes %d-%d/%d", span[0], span[1]-1, n)).has("Content-Length", fmt.Sprint(span[1]-span[0]))
							}
						}
					}
					c.called(1)
					other.called(0)
				})
			}
		}
	})
}

// Several spans of a long body, in one answer of the length that it says.
func TestCache_severalRangesOfLongBody(t *testing.T) {
	t.Parallel()
	c := newCached(t, long(4*chunk, true))
	c.get().isStored()
	a := c.get(fmt.Sprintf("Range: bytes=0-1, %d-%d, %d-", chunk-2, chunk+1, 3*chunk)).isHit()
	want := func(from, end int) string {
		return fmt.Sprintf("Content-Range: bytes %d-%d/%d\r\nContent-Type: a/b\r\n\r\n%s\r\n", from, end-1, 4*chunk, noise()[from:end])
	}
	for _, span := range [][2]int{{0, 2}, {chunk - 2, chunk + 2}, {3 * chunk, 4 * chunk}} {
		if !strings.Contains(a.body, want(span[0], span[1])) {
			t.Errorf("%v is not in the answer", span)
		}
	}
	if a.status != 206 || a.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
		t.Errorf("got %d, %d octets; says %s", a.status, len(a.body), a.header.Get("Content-Length"))
	}
}

// A hit on what stands beside its header is one round trip, of up to 256 KiB; of a longer
// body each chunk is one at most, and to HEAD and 304 none. Without Body in find the first
// would be one more.
func TestCache_roundTripsOfBodies(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	for _, test := range []struct {
		n, most int
		fields  []string
	}{
		{1, 1, nil}, {chunk, 1, nil}, {chunk, 1, []string{"Range: bytes=0-1"}},
		{3*chunk + 1, 4, nil},
		{3*chunk + 1, 1, []string{`If-None-Match: "a"`}},
		{3*chunk + 1, 2, []string{fmt.Sprintf("Range: bytes=%d-%d", chunk, chunk+9)}},
		{3*chunk + 1, 3, []string{fmt.Sprintf("Range: bytes=%d-%d", chunk-1, chunk)}},
	} {
		c := newCachedFor(t, p.Client(t), b.Prefix(t), nil, long(test.n, true))
		testkit.Eventually(t, "a hit", func() bool { return c.get().cacheStatus()["hit"] == true })
		c.get(test.fields...).isHit() // Redis may not know a script
		p.Reset()
		c.get(test.fields...).isHit()
		if got := p.Commands(); got != test.most {
			// Whether the rest is there is asked along with the first chunk.
			if got != test.most+1 || test.n <= chunk {
				t.Errorf("%d octets, %q: got %d commands; want %d", test.n, test.fields, got, test.most)
			}
		}
		if got := p.RoundTrips(); got > test.most {
			t.Errorf("%d octets, %q: got %d round trips; want %d", test.n, test.fields, got, test.most)
		}
	}
}

// The client has each piece of a long body as it is made.
func TestCache_longBodyStreams(t *testing.T) {
	t.Parallel()
	eachHTTP(t, func(t *testing.T, serve func(*cached) *httptest.Server) {
		const n = 3*chunk + 9
		seen := make(chan bool)
		c := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			for rest := noise()[:n]; rest != ""; {
				piece := rest[:min(len(rest), chunk/2+1)]
				_, _ = io.WriteString(w, piece)
				w.(http.Flusher).Flush()
				<-seen
				rest = rest[len(piece):]
			}
		})
		s := serve(c)
		resp, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, n)
		for at := 0; at < n; {
			end := min(n, at+chunk/2+1)
			if _, err := io.ReadFull(resp.Body, got[at:end]); err != nil {
				t.Fatal(err)
			}
			seen <- true // the handler is still there, and writes on only now
			at = end
		}
		if _, err := io.ReadAll(resp.Body); err != nil || string(got) != noise()[:n] {
			t.Errorf("got something else, %v", err)
		}
		resp.Body.Close()
		resp, err = s.Client().Get(s.URL)
		received(t, resp, err).isHit().isWhole(200, 0, n)
	})
}

// A 304, and a 200 to HEAD, make a stored answer fresh without its body being sent again.
// Without SameBody in put it would be.
func TestCache_freshensHeaderAlone(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for _, n := range []int{0, 1000, chunk, 3*chunk + 1} {
			version := 0
			c := newCachedOn(t, b, nil, func(w http.ResponseWriter, r *http.Request) {
				version++
				if r.Header.Get("If-None-Match") != "" {
					fresh("", `ETag: "a"`, fmt.Sprint("X-Version: ", version))(&headless{w}, r)
					w.WriteHeader(http.StatusNotModified)
					return
				}
				long(n, true, fmt.Sprint("X-Version: ", version))(w, r)
			})
			c.get().isStored()
			key := middleware.KeyOf(httptest.NewRequest("GET", "/page", nil))
			held := c.held()
			c.get("Cache-Control: no-cache").isWhole(200, 0, n).has("X-Version", "2")
			if got := c.held(); !slices.Equal(got, held) {
				t.Errorf("%d: stands in %q; want %q as before", n, got, held)
			}
			c.get().isHit().isWhole(200, 0, n).has("X-Version", "2")
			if err := c.store.ExpireResource(t.Context(), key); err != nil {
				t.Fatal(err)
			}
			c.do("HEAD", "/page").hasBody(200, "")
			c.get().isHit().isWhole(200, 0, n).has("X-Version", "3")
			if got := c.held(); !slices.Equal(got, held) {
				t.Errorf("%d: stands in %q after HEAD; want %q as before", n, got, held)
			}
		}
	})
}

// headless drops a body.
type headless struct{ http.ResponseWriter }

func (headless) WriteHeader(int)             {}
func (headless) Write(p []byte) (int, error) { return len(p), nil }

// held names what the bodies in Redis stand in: chunks by their key, others by their text.
func (c *cached) held() []string {
	held := c.chunks()
	for _, key := range c.keysOf("r") {
		held = append(held, fmt.Sprintf("%.20x", c.rdb.HGet(c.t.Context(), key, "b:").Val()))
	}
	slices.Sort(held)
	return held
}

// A 304 for a body that is not all there any more: the handler is asked for it.
func TestCache_freshensNothingBroken(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("ETag", `"a"`)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		long(3*chunk, true)(w, r)
	})
	c.get().isStored()
	for _, fields := range [][]string{{"Cache-Control: no-cache"}, {"Cache-Control: no-cache", "Range: bytes=300000-300001"}} {
		for _, key := range c.chunks() {
			if strings.HasSuffix(key, ":1") {
				c.rdb.Del(t.Context(), key)
			}
		}
		c.get(fields...).isWhole(200, 0, 3*chunk)
	}
}

// What is missing of a long body that is stored in part is asked for alone, and joined to
// it as it passes.
func TestCache_completesLongBody(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		const n = 4 * chunk
		for _, first := range []string{fmt.Sprintf("bytes=0-%d", 2*chunk+5), fmt.Sprintf("bytes=%d-", chunk+5), "bytes=0-9", "bytes=-9"} {
			var asked []string
			c := newCachedOn(t, b, nil, func(w http.ResponseWriter, r *http.Request) {
				asked = append(asked, r.Header.Get("Range"))
				ranged(`"a"`, noise()[:n])(w, r)
			})
			c.get("Range: "+first).isMiss("uri-miss", "", true)
			c.get().isWhole(200, 0, n)
			c.get().isHit().isWhole(200, 0, n).has("Content-Length", fmt.Sprint(n))
			if len(asked) != 2 || asked[1] == "" {
				t.Errorf("%s: the handler was asked for %q", first, asked)
			}
		}
	})
}

// No more of a long body is in memory than some chunks, while it is stored and while it is
// served. Without settle in send, all of it may be.
func TestCache_longBodyInMemory(t *testing.T) { // not parallel: it measures the heap
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out a Redis that is not in this heap")
	}
	const n = 256 << 20
	b := testkit.Server(t)
	part := make([]byte, 64<<10)
	var most uint64
	sample := func() {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
	}
	c := newCachedOn(t, b, []cache.Option{cache.WithMaxBody(n + 1<<20)}, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		for i := range n / len(part) {
			part[0] = byte(i)
			_, _ = w.Write(part)
			if i%256 == 0 {
				sample()
			}
		}
	})
	sample()
	before := most
	w := &weigher{discard: discard{h: http.Header{}}, sample: sample}
	c.ServeHTTP(w, httptest.NewRequest("GET", "/page", nil))
	made := most - before
	most = before
	hit := &weigher{discard: discard{h: http.Header{}}, sample: sample}
	c.ServeHTTP(hit, httptest.NewRequest("GET", "/page", nil))
	c.called(1)
	if hit.n != n || w.n != n {
		t.Errorf("got %d and %d octets; want %d", w.n, hit.n, n)
	}
	t.Logf("a body of %d MiB: %d KiB more in the heap while it was made, %d KiB while it was served", n>>20, made>>10, (most-before)>>10)
	if made > 8<<20 || most-before > 8<<20 {
		t.Errorf("got %d and %d octets more in the heap", made, most-before)
	}
}

// weigher counts octets, and takes a sample now and then.
type weigher struct {
	discard
	n, last int
	sample  func()
}

func (w *weigher) Write(p []byte) (int, error) { return w.WriteString(string(p)) }
func (w *weigher) WriteString(s string) (int, error) {
	if w.n += len(s); w.n-w.last > 16<<20 {
		w.last = w.n
		w.sample()
	}
	return len(s), nil
}
