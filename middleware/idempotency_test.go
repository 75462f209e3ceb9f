package middleware_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
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
