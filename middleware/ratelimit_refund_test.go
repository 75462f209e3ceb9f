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
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

// left is how many requests of key limiter has left.
func left(t *testing.T, limiter *ratelimit.Limiter, key string) int {
	t.Helper()
	result, err := limiter.Peek(t.Context(), key)
	if err != nil || result.Standin != nil {
		t.Fatalf("%+v, %v", result, err)
	}
	return result.Remaining
}

// brokenPipe is a writer whose client has gone.
type brokenPipe struct{ http.ResponseWriter }

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("write: broken pipe") }

// How each way that a request can end is seen, and what is taken back for it.
//
// Red when end is not deferred (the panics), when a status is taken from the
// first WriteHeader alone (103), and when Aborted is left out of OnFailure.
func TestRateLimit_refundByOutcome(t *testing.T) {
	t.Parallel()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	gone := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			r.Context().Value(cancelKey{}).(func())()
			h(w, r)
		}
	}
	type counts struct{ success, failure, abort int } // how much each leaves counted
	const kept, back = 1, 0
	tests := []struct {
		name    string
		h       http.HandlerFunc
		outcome middleware.Outcome
		counts
	}{
		{"200", status(200), middleware.Outcome{Status: 200}, counts{back, kept, kept}},
		{"nothing written", func(http.ResponseWriter, *http.Request) {}, middleware.Outcome{Status: 200}, counts{back, kept, kept}},
		{"a body alone", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, middleware.Outcome{Status: 200}, counts{back, kept, kept}},
		{"303", status(303), middleware.Outcome{Status: 303}, counts{back, kept, kept}},
		{"304 with a body", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304); _, _ = io.WriteString(w, "x") }, middleware.Outcome{Status: 304}, counts{back, kept, kept}},
		{"401", status(401), middleware.Outcome{Status: 401}, counts{kept, back, kept}},
		{"500", status(500), middleware.Outcome{Status: 500}, counts{kept, back, kept}},
		{"103, then 401", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(103); w.WriteHeader(401) }, middleware.Outcome{Status: 401}, counts{kept, back, kept}},
		{"103, then nothing", status(103), middleware.Outcome{Status: 200}, counts{back, kept, kept}},
		{"401, then 200", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401); w.WriteHeader(200) }, middleware.Outcome{Status: 401}, counts{kept, back, kept}},
		{"panic", func(http.ResponseWriter, *http.Request) { panic("a bug") }, middleware.Outcome{Status: 500, Panicked: true}, counts{kept, back, back}},
		{"200, then panic", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200); panic(http.ErrAbortHandler) }, middleware.Outcome{Status: 200, Panicked: true}, counts{kept, kept, back}},
		{"gone, 200", gone(status(200)), middleware.Outcome{Status: 200, Aborted: true}, counts{back, kept, back}},
		{"gone, 502", gone(status(502)), middleware.Outcome{Status: 502, Aborted: true}, counts{kept, kept, back}},
		{"gone, nothing", gone(func(http.ResponseWriter, *http.Request) {}), middleware.Outcome{Aborted: true}, counts{kept, kept, back}},
		{"gone, panic", gone(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), middleware.Outcome{Status: 500, Panicked: true, Aborted: true}, counts{kept, kept, back}},
		{"write fails", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }, middleware.Outcome{Status: 200, Aborted: true}, counts{back, kept, back}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			client := testkit.Mini(t).Client(t)
			for kind, counted := range map[string]int{"success": tt.success, "failure": tt.failure, "abort": tt.abort} {
				when := map[string]func(middleware.Outcome) bool{"success": middleware.OnSuccess, "failure": middleware.OnFailure, "abort": middleware.OnAbort}[kind]
				limiter := newLimiter(t, client, ratelimit.PerHour(10), ratelimit.WithName(kind))
				var seen middleware.Outcome
				note := func(o middleware.Outcome) bool { seen = o; return false }
				mux := http.NewServeMux()
				mux.Handle("GET /page/{id}", tt.h)
				h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithRefund(note, when))(mux)
				ctx, cancel := withCancelInside(t)
				defer cancel()
				r := httptest.NewRequestWithContext(ctx, "GET", "/page/7", nil)
				var w http.ResponseWriter = httptest.NewRecorder()
				if tt.name == "write fails" {
					w = brokenPipe{httptest.NewRecorder()}
				}
				panicked := func() (recovered any) {
					defer func() { recovered = recover() }()
					h.ServeHTTP(w, r)
					return nil
				}()
				if (panicked != nil) != tt.outcome.Panicked {
					t.Errorf("%s: panic %v", kind, panicked)
				}
				if seen.Request == nil || seen.Request.Pattern != "GET /page/{id}" {
					t.Errorf("%s: request %+v; want the handler's", kind, seen.Request)
				}
				if seen.Request = nil; seen != tt.outcome {
					t.Errorf("%s: %+v; want %+v", kind, seen, tt.outcome)
				}
				if got := 10 - left(t, limiter, "k"); got != counted {
					t.Errorf("%s: %d counted; want %d", kind, got, counted)
				}
			}
		})
	}
}

type cancelKey struct{}

// withCancelInside is a context that whoever has it can cancel.
func withCancelInside(t *testing.T) (context.Context, func()) {
	ctx, cancel := context.WithCancel(t.Context())
	return context.WithValue(ctx, cancelKey{}, (func())(cancel)), cancel
}

// A request whose time was up is nobody's leaving, and without an answer neither a
// success nor a failure.
func TestRateLimit_refundAfterDeadline(t *testing.T) {
	t.Parallel()
	limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(10))
	var seen middleware.Outcome
	h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithRefund(func(o middleware.Outcome) bool { seen = o; return true }))(
		http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	// Long enough for the admission, whatever the machine is busy with.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	answerTo(h, httptest.NewRequestWithContext(ctx, "GET", "/", nil))
	if seen.Status != 0 || seen.Aborted || seen.Panicked || middleware.OnSuccess(seen) || middleware.OnFailure(seen) || middleware.OnAbort(seen) {
		t.Errorf("%+v; want neither", seen)
	}
	// Red without context.WithoutCancel in settle.
	if got := left(t, limiter, "k"); got != 10 {
		t.Errorf("%d left; want the count back", got)
	}
}

// "Count only failed logins", and "count only successes", over a real server.
func TestRateLimit_countsOnly(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for name, tt := range map[string]struct {
			when     func(middleware.Outcome) bool
			statuses [6]int // to logins with good, bad, good, bad, good, bad passwords
		}{
			"failures":  {middleware.OnSuccess, [6]int{200, 401, 200, 401, 429, 429}},
			"successes": {middleware.OnFailure, [6]int{200, 401, 200, 429, 429, 429}},
		} {
			limiter := newLimiter(t, b.Client(t), ratelimit.PerHour(2), ratelimit.WithPrefix(b.Prefix(t)), ratelimit.WithName(name))
			login := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.FormValue("password") != "good" {
					http.Error(w, "no", http.StatusUnauthorized)
				}
			})
			server := httptest.NewServer(middleware.RateLimit(limiter, middleware.KeyByIP, middleware.WithRefund(tt.when))(login))
			for i, want := range tt.statuses {
				response, err := http.Get(server.URL + "/?password=" + [2]string{"good", "bad"}[i%2])
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
				if response.StatusCode != want {
					t.Errorf("%s, request %d: %d; want %d", name, i+1, response.StatusCode, want)
				}
			}
			server.Close()
		}
	})
}

// The handler's own word counts in every RateLimit with refunds outside, each of
// which gives back its own; without one it says so.
//
// Red when an inner admission hides the outer, and when Refund is another's
// ticket.
func TestRefund(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	outer := newLimiter(t, client, ratelimit.PerHour(10), ratelimit.WithName("outer"))
	plain := newLimiter(t, client, ratelimit.PerHour(10), ratelimit.WithName("plain"))
	inner := newLimiter(t, client, ratelimit.PerHour(10), ratelimit.WithName("inner"))
	var found bool
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refund" {
			middleware.Refund(r.Context())
			found = middleware.Refund(r.Context()) // again: it is taken back once
		}
		w.WriteHeader(404)
	})
	h := middleware.Chain(
		middleware.RateLimit(outer, fixedKey("k"), middleware.WithRefund()),
		middleware.RateLimit(plain, fixedKey("k")),
		middleware.RateLimit(inner, fixedKey("other"), middleware.WithRefund(middleware.OnSuccess), middleware.WithCost(3)),
	)(page)
	check := func(what string, wantOuter, wantPlain, wantInner int) {
		t.Helper()
		if o, p, i := left(t, outer, "k"), left(t, plain, "k"), left(t, inner, "other"); o != wantOuter || p != wantPlain || i != wantInner {
			t.Errorf("%s: %d, %d, %d left; want %d, %d, %d", what, o, p, i, wantOuter, wantPlain, wantInner)
		}
	}
	answerTo(h, httptest.NewRequest("GET", "/", nil))
	check("without a word", 9, 9, 7)
	answerTo(h, httptest.NewRequest("GET", "/refund", nil))
	check("with it", 9, 8, 7)
	if !found {
		t.Error("Refund found no RateLimit with refunds")
	}
	found = true
	answerTo(middleware.RateLimit(plain, fixedKey("k"))(page), httptest.NewRequest("GET", "/refund", nil))
	if found || middleware.Refund(t.Context()) {
		t.Error("Refund found a RateLimit with refunds where there is none")
	}
}

// While Redis is silent the request stays counted, the answer is the handler's,
// and it is logged; a count of the stand-in's own is taken back.
func TestRateLimit_refundWithoutRedis(t *testing.T) {
	lines := capture(t) // not parallel: the default logger is everybody's
	b := testkit.Mini(t)
	limiter := newLimiter(t, b.Client(t, func(o *redis.UniversalOptions) { o.MaxRetries = -1 }), ratelimit.PerHour(10))
	h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithRefund(middleware.OnSuccess))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/cut" {
			b.Miniredis().Close()
		}
		_, _ = io.WriteString(w, "the answer")
	}))
	answerTo(h, httptest.NewRequest("GET", "/", nil))
	got := answerTo(h, httptest.NewRequest("GET", "/cut", nil))
	if body, _ := io.ReadAll(got.Body); got.StatusCode != 200 || string(body) != "the answer" {
		t.Errorf("%d %q; want the handler's answer", got.StatusCode, body)
	}
	if !strings.Contains(lines.String(), "a request stays counted") {
		t.Errorf("logged %q; want what stays counted", lines)
	}
	for range 20 {
		if got := answerTo(h, httptest.NewRequest("GET", "/", nil)); got.StatusCode != 200 {
			t.Fatalf("without Redis: %d; want each taken back", got.StatusCode)
		}
	}
}

// A client that leaves a real server, over both protocols.
func TestRateLimit_refundWhenClientLeaves(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(10))
		began, done := make(chan struct{}), make(chan struct{})
		note := func(o middleware.Outcome) bool { return false }
		h := middleware.RateLimit(limiter, fixedKey("k"), middleware.WithRefund(note, middleware.OnAbort))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(began)
			<-r.Context().Done()
		}))
		site := serveSite(t, http2, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			h.ServeHTTP(w, r)
			close(done)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-began; cancel() }()
		if _, err := site.tryWith(ctx, "/", ""); err == nil {
			t.Error("the client got an answer")
		}
		<-done
		if got := left(t, limiter, "k"); got != 10 {
			t.Errorf("%d left; want 10", got)
		}
	})
}

// A connection that is taken over: an upgrade is 101, whoever sends another status
// by hand is unknown, and so neither success nor failure.
func TestRateLimit_refundOfUpgrades(t *testing.T) {
	t.Parallel()
	for _, with101 := range []bool{true, false} {
		t.Run(fmt.Sprint("WriteHeader(101):", with101), func(t *testing.T) {
			t.Parallel()
			limiter := newLimiter(t, testkit.Mini(t).Client(t), ratelimit.PerHour(10))
			outcomes := make(chan middleware.Outcome, 1)
			note := func(o middleware.Outcome) bool { outcomes <- o; return true }
			server := httptest.NewServer(middleware.RateLimit(limiter, fixedKey("k"), middleware.WithRefund(note))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Upgrade", "echo")
				w.Header().Set("Connection", "Upgrade")
				if with101 {
					w.WriteHeader(http.StatusSwitchingProtocols)
				}
				conn, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				if !with101 {
					fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\n")
					w.Header().Write(rw)
					fmt.Fprint(rw, "\r\n")
					rw.Flush()
				}
				line, _ := rw.ReadString('\n')
				fmt.Fprint(rw, "echo "+line)
				rw.Flush()
			})))
			defer server.Close()
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
			in := bufio.NewReader(conn)
			r, err := http.ReadResponse(in, nil)
			if err != nil || r.StatusCode != 101 || r.Header.Get("X-RateLimit-Remaining") != "9" {
				t.Fatalf("%v, %v; want 101 with the fields", r, err)
			}
			fmt.Fprint(conn, "hello\n")
			if line, err := in.ReadString('\n'); line != "echo hello\n" {
				t.Errorf("got %q, %v; want the echo", line, err)
			}
			want := 0
			if with101 {
				want = 101
			}
			if o := <-outcomes; o.Status != want || o.Aborted || o.Panicked {
				t.Errorf("%+v; want status %d", o, want)
			}
			testkit.Eventually(t, "the count to be given back", func() bool { return left(t, limiter, "k") == 10 })
		})
	}
}
