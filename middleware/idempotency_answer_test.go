package middleware_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// speak sends one request and returns all that comes, without what may differ.
func speak(t *testing.T, addr, method, key string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s /pay HTTP/1.1\r\nHost: x\r\nX-User: alice\r\nIdempotency-Key: %s\r\nConnection: close\r\nContent-Length: 2\r\n\r\n20", method, key)
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	var kept []string
	for line := range strings.SplitAfterSeq(string(all), "\r\n") {
		if !strings.HasPrefix(line, "Date: ") && line != "Idempotent-Replayed: true\r\n" {
			kept = append(kept, line)
		}
	}
	if len(kept) == 0 {
		t.Fatalf("no answer: %q", all)
	}
	return strings.Join(kept, "")
}

// The second answer is the first, to the byte on the wire.
func TestIdempotency_replaysBytes(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	for _, tt := range []struct {
		name    string
		methods string
		handler http.HandlerFunc
		holds   string // somewhere in the answer
	}{
		{"nothing", "POST HEAD", func(http.ResponseWriter, *http.Request) {}, "200 OK"},
		{"sniffed", "POST HEAD", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html><body>") }, "text/html"},
		{"unsniffed", "POST", func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html><body>")
		}, "Content-Length: 12"},
		{"long", "POST HEAD", func(w http.ResponseWriter, _ *http.Request) { w.Write(bytes.Repeat([]byte("a"), 100_000)) }, "Content-Length: 100000"},
		{"in pieces", "POST", func(w http.ResponseWriter, _ *http.Request) {
			for range 50 {
				io.WriteString(w, "a piece ")
				_ = http.NewResponseController(w).Flush()
			}
		}, "Content-Length: 400"},
		{"copied", "POST", func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, strings.NewReader(strings.Repeat("b", 5000))) }, "Content-Length: 5000"},
		{"no content", "POST HEAD", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(204)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Errorf("write after 204: %v", err)
			}
		}, "204 No Content"},
		{"not modified", "POST HEAD", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"1"`)
			w.WriteHeader(304)
		}, `Etag: "1"`},
		{"announced", "HEAD", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "7") }, "Content-Length: 7"},
		{"measured", "POST HEAD", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "7")
			io.WriteString(w, "1234567")
			if _, err := io.WriteString(w, "8"); !errors.Is(err, http.ErrContentLength) {
				t.Errorf("write beyond Content-Length: %v", err)
			}
		}, "Content-Length: 7"},
		{"created", "POST", func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h.Set("Location", "/payments/7")
			h.Add("Link", "</a>; rel=a")
			h.Add("Link", "</b>; rel=b")
			w.WriteHeader(201)
			h.Set("Location", "/too/late")
			w.WriteHeader(500)
			io.WriteString(w, "done")
		}, "Location: /payments/7"},
		{"refused", "POST", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", 404) }, "404 Not Found"},
		{"elsewhere", "POST HEAD", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/there", http.StatusSeeOther) }, "Location: /there"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			h := middleware.Idempotency(newOnce(t, b.Client(t), b.Prefix(t)), byUser, middleware.WithMethods("POST", "HEAD"))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls++
				tt.handler(w, r)
			}))
			server := httptest.NewServer(h)
			defer server.Close()
			addr := server.Listener.Addr().String()
			methods := strings.Fields(tt.methods)
			for _, method := range methods {
				first := speak(t, addr, method, tt.name[:2])
				if !strings.Contains(first, tt.holds) {
					t.Errorf("%s: %q; want %s in it", method, first, tt.holds)
				}
				for range 2 {
					if again := speak(t, addr, method, tt.name[:2]); again != first {
						t.Errorf("%s: replayed %q; first %q", method, again, first)
					}
				}
			}
			if calls != len(methods) {
				t.Errorf("%d calls; want one for each of %v", calls, methods)
			}
		})
	}
}

// What is of one exchange, or of one visitor, is not replayed.
//
// Red if replayedFields has Set-Cookie, or if fields keeps what outside has set.
func TestIdempotency_replaysFields(t *testing.T) {
	t.Parallel()
	visit, lower := 0, "set-cookie"
	outside := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			visit++
			w.Header().Set("Vary", "Origin")
			w.Header().Set("X-Visit", fmt.Sprint(visit))
			next.ServeHTTP(w, r)
		})
	}
	h := outside(middleware.Idempotency(onMini(t), byUser, middleware.WithReplayFields("x-order"))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range []string{"Set-Cookie", "Date", "Connection", "X-Other", "X-Order", "Content-Language", "Cache-Control", "Location", "ETag", "Last-Modified", "Www-Authenticate"} {
			w.Header().Set(name, "of the first")
		}
		w.Header().Add("Vary", "Accept")
		w.Header()[lower] = []string{"a=b"} // as net/http sends it, too
	})))
	answerTo(h, payRequest("k", ""))
	got := answerTo(h, payRequest("k", "")).Header
	for _, name := range []string{"X-Order", "Content-Language", "Cache-Control", "Location", "ETag", "Last-Modified", "Www-Authenticate"} {
		if got.Get(name) != "of the first" {
			t.Errorf("%s: %q; want that of the first", name, got.Get(name))
		}
	}
	for _, name := range []string{"Set-Cookie", "Date", "Connection", "X-Other"} {
		if got.Get(name) != "" {
			t.Errorf("%s: %q; want none", name, got.Get(name))
		}
	}
	if vary := strings.Join(got["Vary"], ", "); vary != "Origin, Accept" || got.Get("X-Visit") != "2" {
		t.Errorf("Vary %q, X-Visit %q; want Origin and Accept once each, and 2", vary, got.Get("X-Visit"))
	}
	if _, ok := got[lower]; ok {
		t.Error("a cookie was replayed")
	}
}

// An answer beyond the cap, an event stream and a connection that is taken over reach
// their client whole, and are not made a second time.
func TestIdempotency_tooLargeToKeep(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		status  int
		body    string
		later   int
	}{
		{"large", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(201)
			for range 30 {
				io.WriteString(w, "0123456789")
			}
		}, 201, strings.Repeat("0123456789", 30), 409},
		{"large at once", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("a", 300)) }, 200, strings.Repeat("a", 300), 409},
		{"events", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			io.WriteString(w, "data: 1\n\n")
			_ = http.NewResponseController(w).Flush()
			io.WriteString(w, "data: 2\n\n")
		}, 200, "data: 1\n\ndata: 2\n\n", 409},
		{"hijacked", func(w http.ResponseWriter, _ *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
			rw.Flush()
		}, 200, "hi", 409},
		{"large failure", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			io.WriteString(w, strings.Repeat("a", 300))
		}, 500, strings.Repeat("a", 300), 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			server := httptest.NewServer(middleware.Idempotency(onMini(t), byUser, middleware.WithMaxAnswer(100))(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				calls++
				tt.handler(w, r)
			})))
			defer server.Close()
			ask := func() *http.Response {
				r, _ := http.NewRequest("POST", server.URL, nil)
				r.Header.Set("X-User", "alice")
				r.Header.Set("Idempotency-Key", "k")
				response, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { response.Body.Close() })
				return response
			}
			first := ask()
			if body, err := io.ReadAll(first.Body); err != nil || first.StatusCode != tt.status || string(body) != tt.body {
				t.Errorf("%d %q, %v; want %d %q", first.StatusCode, body, err, tt.status, tt.body)
			}
			second := ask()
			if tt.later != 409 {
				if second.StatusCode != tt.later || calls != 2 {
					t.Errorf("%d after %d calls; want it tried again", second.StatusCode, calls)
				}
				return
			}
			if p := checkProblem(t, second, 409); !strings.HasSuffix(p.Type, "#Kept") || second.Header.Get("Retry-After") != "" || calls != 1 {
				t.Errorf("%+v after %d calls", p, calls)
			}
		})
	}
}

// An answer that is shorter than it said is no answer to show again.
func TestIdempotency_shortAnswer(t *testing.T) {
	t.Parallel()
	h := middleware.Idempotency(onMini(t), byUser)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "123")
	}))
	answerTo(h, payRequest("k", ""))
	checkProblem(t, answerTo(h, payRequest("k", "")), 409)
}

// 1xx and trailers of the first answer are the first one's.
func TestIdempotency_informational(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(middleware.Idempotency(onMini(t), byUser)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "body")
		w.Header().Set("X-Sum", "7")
		w.Header().Set(http.TrailerPrefix+"X-More", "8")
	})))
	defer server.Close()
	addr := server.Listener.Addr().String()
	first := speak(t, addr, "POST", "k")
	if !strings.HasPrefix(first, "HTTP/1.1 103") || !strings.Contains(first, "X-Sum: 7\r\n") || !strings.Contains(first, "X-More: 8\r\n") {
		t.Errorf("first %q; want 103, and both trailers", first)
	}
	again, err := http.ReadResponse(bufio.NewReader(strings.NewReader(speak(t, addr, "POST", "k"))), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(again.Body); err != nil || again.StatusCode != 200 || string(body) != "body" || len(again.Trailer) != 0 {
		t.Errorf("%d %q, %v, trailers %v; want 200 body", again.StatusCode, body, err, again.Trailer)
	}
}
