package middleware_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
	"github.com/go-weir/weir/session"
)

// keyedBySession is what KeyBySession says of a request with a session cookie.
func keyedBySession(m *session.Manager, token string, mounts ...middleware.Middleware) (key string, answer *http.Response, err error) {
	h := middleware.Chain(mounts...)(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		key, err = middleware.KeyBySession(m)(r)
	}))
	answer = pass(h, "/", token)
	return key, answer, err
}

// A stored session is a key; whatever else a cookie says is none.
//
// Red when the key is made of the cookie.
func TestKeyBySession(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	mount := middleware.Session(m)
	site := mount(sessionApp(m))
	alice := pass(site, "/login?user=alice", "").Cookies()[0].Value
	bob := pass(site, "/login?user=bob", "").Cookies()[0].Value

	keyA, answer, err := keyedBySession(m, alice, mount)
	if keyA == "" || err != nil || strings.Contains(keyA, alice) || answer.Header.Get("Vary") != "Cookie" {
		t.Errorf("alice: %q, %v, %v; want a key that does not tell the token, and Vary", keyA, err, answer.Header)
	}
	if again, _, err := keyedBySession(m, alice, mount); again != keyA || err != nil {
		t.Errorf("alice again: %q, %v; want %q", again, err, keyA)
	}
	if keyB, _, err := keyedBySession(m, bob, mount); keyB == "" || keyB == keyA || err != nil {
		t.Errorf("bob: %q, %v; want a key of his own", keyB, err)
	}
	for name, token := range map[string]string{"no cookie": "", "no token": "x", "a forged token": strings.Repeat("A", 43), "a longer one": alice + "A"} {
		if key, _, err := keyedBySession(m, token, mount); key != "" || !errors.Is(err, middleware.ErrNoKey) {
			t.Errorf("%s: %q, %v; want ErrNoKey", name, key, err)
		}
	}
	pass(site, "/logout", alice)
	if key, _, err := keyedBySession(m, alice, mount); key != "" || !errors.Is(err, middleware.ErrNoKey) {
		t.Errorf("after the logout: %q, %v; want ErrNoKey", key, err)
	}

	// Without its manager's Session outside there is no telling.
	other := newSessions(t, testkit.Mini(t).Client(t))
	for name, mounts := range map[string][]middleware.Middleware{"not mounted": nil, "another's": {middleware.Session(other)}} {
		key, _, err := keyedBySession(m, bob, mounts...)
		if key != "" || err == nil || errors.Is(err, middleware.ErrNoKey) || !strings.Contains(err.Error(), "mount middleware.Session") {
			t.Errorf("%s: %q, %v; want what is missing", name, key, err)
		}
	}
}

// Sessions limit visitors, and made-up cookies are no way around.
func TestRateLimit_bySession(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	m := newSessions(t, client)
	next := new(countedHandler)
	limited := middleware.RateLimit(newLimiter(t, client, ratelimit.PerHour(2)), middleware.KeyBySession(m))(next)
	site := middleware.Session(m)(sessionApp(m, handle("/page", limited.ServeHTTP)))
	alice := pass(site, "/login?user=alice", "").Cookies()[0].Value
	for i, want := range []int{200, 200, 429} {
		if got := pass(site, "/page", alice); got.StatusCode != want {
			t.Errorf("request %d: %d; want %d", i+1, got.StatusCode, want)
		}
	}
	for i := range 50 {
		if got := pass(site, "/page", fmt.Sprintf("%043d", i)); got.StatusCode != 400 {
			t.Errorf("forged cookie %d: %d; want 400", i, got.StatusCode)
		}
	}
	if next.calls.Load() != 2 {
		t.Errorf("%d passed; want 2", next.calls.Load())
	}
	checkProblem(t, pass(limited, "/page", alice), 500) // Session is not mounted
}

// While Redis is silent nobody's session can be told, which is 503, and not one
// limit for all.
//
// Red when KeyBySession lets the failure be a missing key, or the panic pass.
func TestRateLimit_bySessionWithoutRedis(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	b.Miniredis().Close()
	m := newSessions(t, b.Client(t, func(o *redis.UniversalOptions) { o.MaxRetries = -1 }))
	next := new(countedHandler)
	inner := middleware.RateLimit(newLimiter(t, &brokenRedis{err: errUnreachable}, ratelimit.PerHour(2)), middleware.KeyBySession(m))(next)
	var panicked any
	site := middleware.Session(m)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if panicked = recover(); panicked != nil {
				panic(panicked)
			}
		}()
		inner.ServeHTTP(w, r)
	}))
	for range 3 {
		got := pass(site, "/", strings.Repeat("A", 43))
		checkProblem(t, got, 503)
		if seconds(t, got.Header, "Retry-After") != 1 || panicked != nil {
			t.Errorf("%v, panic %v; want Retry-After 1, none", got.Header, panicked)
		}
	}
	// Whatever else asks for the key, such as JoinKeys, is told the truth as well.
	if key, _, err := keyedBySession(m, strings.Repeat("A", 43), middleware.Session(m)); key != "" || !errors.Is(err, session.ErrUnavailable) || errors.Is(err, middleware.ErrNoKey) {
		t.Errorf("%q, %v; want ErrUnavailable", key, err)
	}
	if got := pass(site, "/", ""); got.StatusCode != 400 { // without a cookie there is nothing to ask
		t.Errorf("without a cookie: %d; want 400", got.StatusCode)
	}
	if next.calls.Load() != 0 {
		t.Error("the handler ran")
	}
}

// A user's own panic in a key function passes.
func TestKeyBySession_otherPanics(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	defer func() {
		if got := recover(); got != "a context's own" {
			t.Errorf("recovered %v", got)
		}
	}()
	r := httptest.NewRequest("GET", "/", nil)
	_, _ = middleware.KeyBySession(m)(r.WithContext(panickingContext{r}))
}

type panickingContext struct{ *http.Request }

func (c panickingContext) Deadline() (time.Time, bool) { return c.Context().Deadline() }
func (c panickingContext) Done() <-chan struct{}       { return c.Context().Done() }
func (c panickingContext) Err() error                  { return nil }
func (panickingContext) Value(any) any                 { panic("a context's own") }
