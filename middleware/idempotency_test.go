package middleware_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

func TestIdempotency_answers(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		next := new(payments)
		h := middleware.Idempotency(newOnce(t, b.Client(t), b.Prefix(t)), byUser)(next)
		checkPaid(t, answerTo(h, payRequest("k", "20")), "payment 1 of 20 by alice", false)
		checkPaid(t, answerTo(h, payRequest("k", "20")), "payment 1 of 20 by alice", true)
		checkPaid(t, answerTo(h, payRequest(`"k"`, "20")), "payment 1 of 20 by alice", true)
		checkProblem(t, answerTo(h, payRequest("k", "21")), 422)
		checkProblem(t, answerTo(h, payRequest("k", "20", "Content-Type: text/plain")), 422)
		checkPaid(t, answerTo(h, payRequest("other", "20")), "payment 2 of 20 by alice", false)
		checkPaid(t, answerTo(h, payRequest("", "20")), "payment 3 of 20 by alice", false)
		checkPaid(t, answerTo(h, payRequest("", "20")), "payment 4 of 20 by alice", false)
		r := payRequest("k", "20")
		r.Method = "GET"
		checkPaid(t, answerTo(h, r), "payment 5 of 20 by alice", false)
		r = payRequest("k", "20")
		r.Method = "PATCH"
		checkPaid(t, answerTo(h, r), "payment 6 of 20 by alice", false)
		r = payRequest("k", "20")
		r.Header.Set("X-User", "bob")
		checkPaid(t, answerTo(h, r), "payment 7 of 20 by bob", false)
		if n := next.made.Load(); n != 7 {
			t.Errorf("%d payments; want 7", n)
		}
	})
}

func TestIdempotency_keys(t *testing.T) {
	t.Parallel()
	next := new(payments)
	store := onMini(t)
	h := middleware.Idempotency(store, byUser)(next)
	strict := middleware.Idempotency(store, byUser, middleware.WithRequired(), middleware.WithQuotedKeys())(next)
	for _, key := range []string{`""`, `"`, `"a`, `a"`, `"a"b`, `"a";p=1`, "a b", `"a b"`, "a,b", "ä", "a\x7f", "\"a\\", `"\a"`, strings.Repeat("a", 256)} {
		checkProblem(t, answerTo(h, payRequest(key, "20")), 400)
	}
	checkProblem(t, answerTo(h, payRequest("a", "20", "Idempotency-Key: a")), 400)
	if p := checkProblem(t, answerTo(strict, payRequest("", "20")), 400); p.Title != "Idempotency-Key is missing" {
		t.Errorf("%+v", p)
	}
	checkProblem(t, answerTo(strict, payRequest("a", "20")), 400)
	r := payRequest("a", "20")
	r.Header.Del("X-User")
	checkProblem(t, answerTo(h, r), 400)
	if n := next.made.Load(); n != 0 {
		t.Fatalf("%d payments; want none", n)
	}
	checkPaid(t, answerTo(strict, payRequest(`"\"\\"`, "20")), "payment 1 of 20 by alice", false)
	checkPaid(t, answerTo(h, payRequest(strings.Repeat("a", 255), "20")), "payment 2 of 20 by alice", false)
}

func TestIdempotency_bodyCap(t *testing.T) {
	t.Parallel()
	next := new(payments)
	h := middleware.Idempotency(onMini(t), byUser, middleware.WithMaxBody(10))(next)
	checkProblem(t, answerTo(h, payRequest("k", "12345678901")), 413)
	r := payRequest("k", "12345678901")
	r.ContentLength = -1
	checkProblem(t, answerTo(h, r), 413)
	r = payRequest("k", "")
	r.ContentLength, r.Body = -1, io.NopCloser(io.MultiReader(strings.NewReader("123"), broken{}))
	checkProblem(t, answerTo(h, r), 400)
	if n := next.made.Load(); n != 0 {
		t.Fatalf("%d payments; want none", n)
	}
	checkPaid(t, answerTo(h, payRequest("k", "1234567890")), "payment 1 of 1234567890 by alice", false)
	checkPaid(t, answerTo(h, payRequest("", "12345678901")), "payment 2 of 12345678901 by alice", false)
}

// broken is a body that breaks off.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Where the route is known, a key is the route's: another path of it is another request.
func TestIdempotency_route(t *testing.T) {
	t.Parallel()
	next := new(payments)
	store := onMini(t)
	mux := http.NewServeMux()
	mux.Handle("POST /orders/{id}", middleware.Idempotency(store, byUser)(next))
	mux.Handle("POST /users/{id}", middleware.Idempotency(store, byUser)(next))
	ask := func(path string) *http.Response {
		r := payRequest("k", "20")
		r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
		if _, query, ok := strings.Cut(path, "?"); ok {
			r.URL.RawQuery = query
		}
		r.URL.Path, _, _ = strings.Cut(path, "?")
		return answerTo(mux, r)
	}
	checkPaid(t, ask("/orders/1"), "payment 1 of 20 by alice", false)
	checkProblem(t, ask("/orders/2"), 422)
	checkProblem(t, ask("/orders/1?a=b"), 422)
	checkPaid(t, ask("/users/1"), "payment 2 of 20 by alice", false)
	checkPaid(t, ask("/orders/1"), "payment 1 of 20 by alice", true)
	a, err := store.Look(t.Context(), middleware.IdempotencyKey("alice", "POST", "POST /orders/{id}", "k"))
	if err != nil || a.State != idempotency.Kept {
		t.Errorf("%+v, %v; want what an operator looks for", a, err)
	}
}

// Nobody is shown another's answer, and every answer is the first: any mix of who, what,
// where and how, against a model.
//
// Red if IdempotencyKey leaves out one of its arguments, or if fingerprint leaves out the
// query or the body.
func TestIdempotency_neverAnothers(t *testing.T) {
	t.Parallel()
	next := new(payments)
	h := middleware.Idempotency(onMini(t), byUser)(next)
	pick := func(of ...string) string { return of[rand.IntN(len(of))] }
	type asked struct{ print, answer string }
	model := make(map[string]asked)
	for range 3000 {
		user, key, method, path := pick("alice", "bob", "a", "b"), pick("k", "K", "kk", "ak", "bk"), pick("POST", "PATCH"), pick("/pay", "/pa", "/pay/")
		query, body := pick("", "x=1"), pick("", "20", "21")
		r := httptest.NewRequest(method, path+"?"+query, strings.NewReader(body))
		r.Header.Set("X-User", user)
		r.Header.Set("Idempotency-Key", key)
		response := answerTo(h, r)
		id, print := fmt.Sprintf("%q", []string{user, key, method, path}), query+" "+body
		first, known := model[id]
		switch {
		case !known:
			answer := fmt.Sprintf("payment %d of %s by %s", next.made.Load(), body, user)
			model[id] = asked{print, answer}
			checkPaid(t, response, answer, false)
		case first.print != print:
			checkProblem(t, response, 422)
		default:
			checkPaid(t, response, first.answer, true)
		}
		if t.Failed() {
			t.Fatalf("%s %s", id, print)
		}
	}
	if n := int(next.made.Load()); n != len(model) {
		t.Errorf("%d payments for %d keys", n, len(model))
	}
}

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

// What says that the request may be tried again lets go of the key.
func TestIdempotency_keepOn(t *testing.T) {
	t.Parallel()
	store := onMini(t)
	for status, kept := range map[int]bool{200: true, 400: true, 401: true, 404: true, 409: true, 422: true, 408: false, 425: false, 429: false, 500: false, 503: false, 599: false, 999: false} {
		calls := 0
		h := middleware.Idempotency(store, byUser)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls++
			w.WriteHeader(status)
		}))
		for range 2 {
			if got := answerTo(h, payRequest(fmt.Sprint(status), "")).StatusCode; got != status {
				t.Errorf("status %d; want %d", got, status)
			}
		}
		if (calls == 1) != kept {
			t.Errorf("%d: %d calls; want it kept: %t", status, calls, kept)
		}
	}
	calls := 0
	h := middleware.Idempotency(store, byUser, middleware.WithKeepOn(func(status int) bool { return status == 500 }))(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls++
		w.WriteHeader(500)
	}))
	for range 2 {
		answerTo(h, payRequest("all", ""))
	}
	if calls != 1 {
		t.Errorf("%d calls; want one, as 500 is kept", calls)
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

// A handler that panics has done nobody knows what.
func TestIdempotency_panic(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	for policy, later := range map[idempotency.Crash]int{idempotency.Block: 409, idempotency.Retry: 200} {
		calls := 0
		h := middleware.Idempotency(newOnce(t, client, fmt.Sprint("p", policy), idempotency.WithCrash(policy)), byUser)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if calls++; calls == 1 {
				io.WriteString(w, "half of it")
				panic("the till is on fire")
			}
		}))
		func() {
			defer func() {
				if p := recover(); p != "the till is on fire" {
					t.Errorf("recovered %v; want the handler's own", p)
				}
			}()
			answerTo(h, payRequest("k", ""))
		}()
		response := answerTo(h, payRequest("k", ""))
		if later == 409 {
			if p := checkProblem(t, response, 409); !strings.HasSuffix(p.Type, "#Interrupted") || response.Header.Get("Retry-After") != "" {
				t.Errorf("%+v", p)
			}
		} else if response.StatusCode != later || calls != 2 {
			t.Errorf("%d after %d calls; want %d after 2", response.StatusCode, calls, later)
		}
	}
}

// The client's leaving does not lose what was done.
func TestIdempotency_clientLeaves(t *testing.T) {
	t.Parallel()
	store := onMini(t)
	for _, tt := range []struct {
		name    string
		options []middleware.IdempotencyOption
		handler func(w http.ResponseWriter, r *http.Request)
		later   int
	}{
		{"goes on", nil, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(201) }, 201},
		{"gives up", nil, func(w http.ResponseWriter, r *http.Request) {}, 409},
		{"cannot know", []middleware.IdempotencyOption{middleware.WithCompletion()}, func(w http.ResponseWriter, r *http.Request) {
			if r.Context().Err() == nil {
				w.WriteHeader(201)
			}
		}, 201},
	} {
		ctx, leave := context.WithCancel(t.Context())
		h := middleware.Idempotency(store, byUser, tt.options...)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			leave()
			<-ctx.Done()
			tt.handler(w, r)
		}))
		answerTo(h, payRequest(tt.name[:2], "").WithContext(ctx))
		if got := answerTo(h, payRequest(tt.name[:2], "")); got.StatusCode != tt.later {
			t.Errorf("%s: later %d; want %d", tt.name, got.StatusCode, tt.later)
		}
		leave()
	}
}

// A request that comes while the first runs is told to come again, or waits.
func TestIdempotency_concurrent(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		store := newOnce(t, b.Client(t), b.Prefix(t))
		began, goOn := make(chan bool), make(chan bool)
		next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			began <- true
			<-goOn
			new(payments).ServeHTTP(w, r)
		})
		h := middleware.Idempotency(store, byUser)(next)
		waits := middleware.Idempotency(store, byUser, middleware.WithWait(time.Minute))(next)
		briefly := middleware.Idempotency(store, byUser, middleware.WithWait(time.Millisecond))(next)
		answers := make(chan *http.Response, 9)
		go func() { answers <- answerTo(h, payRequest("k", "20")) }()
		<-began
		for _, h := range []http.Handler{h, briefly} {
			response := answerTo(h, payRequest("k", "20"))
			if p := checkProblem(t, response, 409); !strings.HasSuffix(p.Type, "#Busy") || response.Header.Get("Retry-After") != "1" {
				t.Errorf("%+v, Retry-After %q", p, response.Header.Get("Retry-After"))
			}
		}
		for range 8 {
			go func() { answers <- answerTo(waits, payRequest("k", "20")) }()
		}
		close(goOn)
		again := 0
		for range 9 {
			response := <-answers
			if response.Header.Get("Idempotent-Replayed") != "" {
				again++
			}
			response.Header.Del("Idempotent-Replayed")
			checkPaid(t, response, "payment 1 of 20 by alice", false)
		}
		if again != 8 {
			t.Errorf("%d were replayed; want 8", again)
		}
	})
}

func TestIdempotency_mount(t *testing.T) {
	t.Parallel()
	store := onMini(t)
	for _, tt := range []struct {
		says    string
		options []middleware.IdempotencyOption
	}{
		{"option 1 is nil", []middleware.IdempotencyOption{nil}},
		{"WithMethods()", []middleware.IdempotencyOption{middleware.WithMethods()}},
		{`WithMethods("put")`, []middleware.IdempotencyOption{middleware.WithMethods("put")}},
		{"WithReplayFields(\"Set-Cookie\")", []middleware.IdempotencyOption{middleware.WithReplayFields("set-cookie")}},
		{"WithFingerprintFields", []middleware.IdempotencyOption{middleware.WithFingerprintFields("")}},
		{"WithKeepOn(nil)", []middleware.IdempotencyOption{middleware.WithKeepOn(nil)}},
		{"WithWait(-1s)", []middleware.IdempotencyOption{middleware.WithWait(-time.Second)}},
		{"WithMaxBody(-1)", []middleware.IdempotencyOption{middleware.WithMaxBody(-1)}},
		{"WithMaxAnswer(-1)", []middleware.IdempotencyOption{middleware.WithMaxAnswer(-1)}},
	} {
		func() {
			defer func() {
				text, _ := recover().(string)
				if !strings.Contains(text, tt.says) || !strings.Contains(text, "the principal function is nil") {
					t.Errorf("panic %q; want %s in it, and the principal", text, tt.says)
				}
			}()
			middleware.Idempotency(store, nil, tt.options...)
		}()
	}
}

func FuzzReadIdempotencyKey(f *testing.F) {
	for _, seed := range []string{`"a"`, "a", `"\""`, `"\\"`, "", `"`, "a b", `"a";x`, "8e03978e-40d5-43dd-bc93-6894a57f9324"} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, text string, quoted bool) {
		key, err := middleware.ReadIdempotencyKey([]string{text}, quoted)
		if err != nil {
			if key != "" {
				t.Errorf("%q beside %v", key, err)
			}
			return
		}
		if len(key) < 1 || len(key) > 255 || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
			t.Errorf("%q is not 1 to 255 visible ASCII", key)
		}
		// What was read is read again as the same, in quotes.
		again, err := middleware.ReadIdempotencyKey([]string{`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) + `"`}, true)
		if err != nil || again != key {
			t.Errorf("%q, %v; want %q", again, err, key)
		}
		if bare := strings.Trim(text, " \t"); quoted && bare[0] != '"' {
			t.Errorf("%q was taken without quotes", text)
		}
	})
}

func FuzzDecodeAnswer(f *testing.F) {
	f.Add(string(middleware.EncodedAnswer(201, "Location", "/7", []byte("body"))))
	f.Add("\x01\x01\x00")
	f.Add("")
	f.Fuzz(func(t *testing.T, data string) {
		status, body, noted, err := middleware.ReplayedAnswer(data)
		if err != nil {
			if !errors.Is(err, idempotency.ErrCorrupt) {
				t.Errorf("%v; want ErrCorrupt", err)
			}
			return
		}
		if status > 599 || !noted && status < 200 || len(body) > len(data) {
			t.Errorf("status %d, %d bytes of %d", status, len(body), len(data))
		}
	})
}
