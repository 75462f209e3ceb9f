package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// newLocker returns a Locker on which a loaded machine's calls do not fail.
func newLocker(tb testing.TB, client redis.UniversalClient, options ...lock.Option) *lock.Locker {
	tb.Helper()
	l, err := lock.New(client, append([]lock.Option{lock.WithTimeout(20 * time.Second)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// serialized is h as each of n processes serves it.
func serialized(tb testing.TB, b *testkit.Backend, n int, h http.HandlerFunc, options ...middleware.SerializeOption) []http.Handler {
	tb.Helper()
	all := make([]http.Handler, n)
	prefix := b.Prefix(tb)
	for i := range all {
		all[i] = middleware.Serialize(newLocker(tb, b.Client(tb), lock.WithPrefix(prefix)), byUser, options...)(h)
	}
	return all
}

// Requests of one key are served one at a time, over several processes; one of
// another key passes by.
//
// Red without the lock: remove the acquire from serve.
func TestSerialize_oneAtATime(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		var inside, most, last, served atomic.Int64
		hs := serialized(t, b, 3, func(w http.ResponseWriter, r *http.Request) {
			if n := inside.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer inside.Add(-1)
			lease, ok := lock.FromContext(r.Context())
			if !ok || lease.Token() <= last.Swap(lease.Token()) {
				t.Errorf("lease %v, after token %d", lease, last.Load())
			}
			served.Add(1)
			io.WriteString(w, "done")
		})
		var wg sync.WaitGroup
		for i := range 24 {
			wg.Go(func() {
				if resp := asAlice(hs[i%3]); resp.StatusCode != 200 {
					t.Errorf("got %d; want 200", resp.StatusCode)
				}
			})
		}
		wg.Wait()
		if most.Load() != 1 || served.Load() != 24 {
			t.Errorf("%d of 24 served, up to %d at a time", served.Load(), most.Load())
		}
	})
}

// busy is a Serialize whose handler has a request of alice's in it.
type busy struct {
	h       http.Handler
	enter   chan struct{}
	proceed chan struct{}
	done    chan *http.Response
}

func newBusy(tb testing.TB, b *testkit.Backend, options ...middleware.SerializeOption) *busy {
	tb.Helper()
	x := &busy{enter: make(chan struct{}, 100), proceed: make(chan struct{}), done: make(chan *http.Response, 100)}
	x.h = serialized(tb, b, 1, func(w http.ResponseWriter, r *http.Request) {
		x.enter <- struct{}{}
		if r.Header.Get("X-User") == "alice" {
			<-x.proceed
		}
	}, options...)[0]
	x.ask()
	<-x.enter
	return x
}

func (x *busy) ask() { go func() { x.done <- asAlice(x.h) }() }

func TestSerialize_refusals(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		options []middleware.SerializeOption
		waiting int
		want    int
	}{
		{"queue full", []middleware.SerializeOption{middleware.WithQueueLimit(2)}, 2, 409},
		{"locked", []middleware.SerializeOption{middleware.WithQueueLimit(2), middleware.WithLockedStatus()}, 2, 423},
		{"nobody waits", []middleware.SerializeOption{middleware.WithQueueLimit(0)}, 0, 409},
		{"waited long enough", []middleware.SerializeOption{middleware.WithQueueWait(time.Second)}, 0, 409},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newBusy(t, testkit.Mini(t), tt.options...)
			for range tt.waiting + 1 {
				x.ask()
			}
			resp := <-x.done // the others wait
			if resp.StatusCode != tt.want {
				t.Errorf("got %d; want %d", resp.StatusCode, tt.want)
			}
			if resp.Header.Get("Retry-After") != "1" || resp.Header.Get("Content-Type") != "application/problem+json" || resp.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("header: %v", resp.Header)
			}
			r := httptest.NewRequest("POST", "/", nil)
			r.Header.Set("X-User", "bob")
			if resp := answerTo(x.h, r); resp.StatusCode != 200 {
				t.Errorf("bob: %d; want 200: he has a lock of his own", resp.StatusCode)
			}
			close(x.proceed)
			for range 1 + tt.waiting {
				if resp := <-x.done; resp.StatusCode != 200 {
					t.Errorf("one that waited: %d; want 200", resp.StatusCode)
				}
			}
		})
	}
}

// The body is not read before the lock is held: a client that asks first
// (Expect: 100-continue) is not told to send it.
//
// Red when serve reads a byte of the body before acquire.
func TestSerialize_bodyWaits(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	x := newBusy(t, b)
	srv := httptest.NewServer(x.h)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nX-User: alice\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	var first [1]byte
	if n, err := conn.Read(first[:]); n != 0 {
		t.Fatalf("the server said %q, %v before the lock was held", first[:n], err)
	}
	close(x.proceed)
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("%v, %v; want 200", resp, err)
	}
}

// lose lets alice's lock go, as if it had expired while the handler was stopped.
func lose(t *testing.T, client redis.UniversalClient, prefix string, r *http.Request) {
	lease, ok := lock.FromContext(r.Context())
	if !ok {
		t.Error("there is no lease")
		return
	}
	client.Del(context.Background(), prefix+":lock:{"+lease.Key()+"}")
	if err := lease.Extend(context.Background(), time.Minute); !errors.Is(err, lock.ErrLost) {
		t.Errorf("extend: %v; want ErrLost", err)
	}
	<-r.Context().Done()
	if cause := context.Cause(r.Context()); cause != lock.ErrLost {
		t.Errorf("the request's context ended by %v; want ErrLost", cause)
	}
}

// A handler that outlives its lock tells nobody that it has succeeded.
//
// Red without the answer in BeforeHeader (the first three), without the guard (the
// writes after the header), or without the panic at the end (what is in buffers).
func TestSerialize_outlived(t *testing.T) {
	t.Parallel()
	const part = "the first half, "
	tests := []struct {
		name   string
		h      func(t *testing.T, w http.ResponseWriter, lose func())
		status int    // 0: no answer arrives
		body   string // what may arrive
	}{
		{"writes nothing", func(t *testing.T, w http.ResponseWriter, lose func()) { lose() }, 503, ""},
		{"writes", func(t *testing.T, w http.ResponseWriter, lose func()) {
			w.Header().Set("X-Done", "yes")
			lose()
			w.WriteHeader(201)
			io.WriteString(w, "done")
		}, 503, ""},
		{"flushes", func(t *testing.T, w http.ResponseWriter, lose func()) {
			lose()
			w.(http.Flusher).Flush()
		}, 503, ""},
		{"copies", func(t *testing.T, w http.ResponseWriter, lose func()) {
			lose()
			io.Copy(w, strings.NewReader("done"))
		}, 503, ""},
		{"had begun", func(t *testing.T, w http.ResponseWriter, lose func()) {
			io.WriteString(w, part)
			w.(http.Flusher).Flush()
			lose()
			if _, err := io.WriteString(w, "done"); err != lock.ErrLost {
				t.Errorf("WriteString: %v; want ErrLost", err)
			}
			if _, err := w.Write([]byte("done")); err != lock.ErrLost {
				t.Errorf("Write: %v; want ErrLost", err)
			}
			if n, err := io.Copy(w, strings.NewReader("done")); n != 0 || err != lock.ErrLost {
				t.Errorf("Copy: %d, %v; want ErrLost", n, err)
			}
			if err := http.NewResponseController(w).Flush(); err != lock.ErrLost {
				t.Errorf("Flush: %v; want ErrLost", err)
			}
		}, 200, part},
		{"has answered into a buffer", func(t *testing.T, w http.ResponseWriter, lose func()) {
			w.Header().Set("Content-Length", "4")
			io.WriteString(w, "done")
			lose()
		}, 0, ""},
		{"is copying", func(t *testing.T, w http.ResponseWriter, lose func()) {
			src := io.MultiReader(strings.NewReader(part), readerFunc(func([]byte) (int, error) {
				http.NewResponseController(w).Flush()
				lose()
				return 0, io.EOF
			}), strings.NewReader("done"))
			if _, err := io.Copy(w, struct{ io.Reader }{src}); err != lock.ErrLost {
				t.Errorf("Copy: %v; want ErrLost", err)
			}
		}, 200, part},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := testkit.Mini(t)
			client := b.Client(t)
			h := middleware.Serialize(newLocker(t, client), byUser)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				tt.h(t, w, func() { lose(t, client, "weir", r) })
			}))
			outside := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Outside", "yes")
				h.ServeHTTP(w, r)
			})
			srv := httptest.NewServer(outside)
			defer srv.Close()
			r, _ := http.NewRequest("POST", srv.URL, nil)
			r.Header.Set("X-User", "alice")
			resp, err := srv.Client().Do(r)
			if tt.status == 0 {
				if err == nil {
					t.Errorf("got %d; want a cut connection", resp.StatusCode)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || resp.Header.Get("X-Outside") != "yes" || resp.Header.Get("X-Done") != "" {
				t.Errorf("got %d, %v; want %d, and only the outer fields", resp.StatusCode, resp.Header, tt.status)
			}
			if tt.status == 503 && (err != nil || resp.Header.Get("Retry-After") != "" || !strings.Contains(string(body), "may have been carried out")) {
				t.Errorf("got %q, %v, Retry-After %q; want a problem, without", body, err, resp.Header.Get("Retry-After"))
			}
			if tt.status == 200 && (err == nil || string(body) != tt.body) {
				t.Errorf("got %q, %v; want %q and a cut connection", body, err, tt.body)
			}
		})
	}
}

// readerFunc is an io.Reader.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// The lock is given back whatever becomes of the handler and the client.
//
// Red when giveBack is not deferred, or Release works under the request's context.
func TestSerialize_givesBack(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	client := b.Client(t)
	locker := newLocker(t, client)
	ctx, leave := context.WithCancel(t.Context())
	tests := map[string]http.HandlerFunc{
		"returns": func(http.ResponseWriter, *http.Request) {},
		"panics":  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"is left": func(_ http.ResponseWriter, r *http.Request) { leave(); <-r.Context().Done() },
	}
	for name, h := range tests {
		r := httptest.NewRequestWithContext(ctx, "POST", "/", nil)
		r.Header.Set("X-User", name)
		func() {
			defer func() {
				if v := recover(); v != nil && v != http.ErrAbortHandler {
					t.Errorf("%s: panic %v", name, v)
				}
			}()
			if name != "is left" {
				r = r.WithContext(t.Context())
			}
			middleware.Serialize(locker, byUser)(h).ServeHTTP(httptest.NewRecorder(), r)
		}()
	}
	if keys := client.Keys(t.Context(), "weir:lock:*}").Val(); len(keys) != 0 {
		t.Errorf("locks are left: %q", keys)
	}
}

func TestSerialize_silence(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	locker, err := lock.New(b.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	h := middleware.Serialize(locker, byUser)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the handler runs") }))
	b.Pause()
	defer b.Resume()
	begun := time.Now()
	resp := asAlice(h)
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "1" {
		t.Errorf("got %d, %v; want 503 with Retry-After", resp.StatusCode, resp.Header)
	}
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("it took %v; want two budgets of 50 ms", d)
	}
	if resp := answerTo(h, httptest.NewRequest("POST", "/", nil)); resp.StatusCode != 400 {
		t.Errorf("without a key: %d; want 400", resp.StatusCode)
	}
}

// What names the key does not reach Redis: it may be a secret.
func TestSerialize_keyIsDigested(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	h := middleware.Serialize(newLocker(t, b.Client(t)), byUser)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, key := range b.Miniredis().Keys() {
			if strings.Contains(key, "alice") {
				t.Errorf("there is a key %q", key)
			}
		}
	}))
	if resp := asAlice(h); resp.StatusCode != 200 {
		t.Errorf("got %d; want 200", resp.StatusCode)
	}
}

func TestSerialize_mistakes(t *testing.T) {
	t.Parallel()
	defer func() {
		said := fmt.Sprint(recover())
		for _, want := range []string{"locker is nil", "key function is nil", "option 1 is nil", "WithLockTTL(0s)", "WithQueueLimit(-1)", "WithQueueWait(0s)"} {
			if !strings.Contains(said, want) {
				t.Errorf("the panic does not tell %q:\n%s", want, said)
			}
		}
	}()
	middleware.Serialize(nil, nil, nil, middleware.WithLockTTL(0), middleware.WithQueueLimit(-1), middleware.WithQueueWait(0))
}
