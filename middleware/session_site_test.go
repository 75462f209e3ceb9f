package middleware_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

const sessionCookie = "__Host-session"

// newSessions returns a manager with a budget that a busy machine does not
// exceed, unless an option sets another.
func newSessions(tb testing.TB, client redis.UniversalClient, options ...session.Option) *session.Manager {
	tb.Helper()
	m, err := session.New(client, append([]session.Option{session.WithTimeout(10 * time.Second)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// sessionKey is where the session of a token is stored.
func sessionKey(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "scs:session:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// isStored reports whether Redis holds a session for token, and not nothing or the
// mark of one that has ended.
func isStored(tb testing.TB, client redis.UniversalClient, token string) bool {
	tb.Helper()
	stored, err := client.Get(context.Background(), sessionKey(token)).Bytes()
	if err == redis.Nil {
		return false
	}
	if err != nil {
		tb.Fatal(err)
	}
	_, values, err := scs.GobCodec{}.Decode(stored)
	if err != nil {
		tb.Fatal(err)
	}
	return values["__weir.mark"] == nil
}

// A sessionSite is a handler served over TLS, with the means to visit it by
// hand-made cookies.
type sessionSite struct {
	t      *testing.T
	url    string
	client *http.Client
}

// serveSite serves handler over HTTP/1.1, or HTTP/2 if http2.
func serveSite(t *testing.T, http2 bool, handler http.Handler) *sessionSite {
	t.Helper()
	srv := httptest.NewUnstartedServer(handler)
	srv.EnableHTTP2 = http2
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	client := srv.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client.Timeout = 30 * time.Second
	return &sessionSite{t: t, url: srv.URL, client: client}
}

// newSessionSite serves sessionApp and more, by HTTP/1.1.
func newSessionSite(t *testing.T, m *session.Manager, more ...func(*http.ServeMux)) *sessionSite {
	return serveSite(t, false, middleware.Session(m)(sessionApp(m, more...)))
}

// bothProtocols runs a test over HTTP/1.1 and over HTTP/2.
func bothProtocols(t *testing.T, run func(t *testing.T, http2 bool)) {
	t.Helper()
	for _, http2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP1.1", true: "HTTP2"}[http2], func(t *testing.T) {
			t.Parallel()
			run(t, http2)
		})
	}
}

// sessionApp is a site with the usual pages.
func sessionApp(m *session.Manager, more ...func(*http.ServeMux)) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/untouched", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "user="+m.GetString(r.Context(), "user"))
	})
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, m.GetString(r.Context(), r.FormValue("key")))
	})
	mux.HandleFunc("/put", func(w http.ResponseWriter, r *http.Request) {
		m.Put(r.Context(), r.FormValue("key"), r.FormValue("value"))
		io.WriteString(w, "put")
	})
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := m.RenewToken(r.Context()); err != nil {
			http.Error(w, "cannot log in", http.StatusInternalServerError)
			return
		}
		m.Put(r.Context(), "user", r.FormValue("user"))
		if r.FormValue("remember") != "" {
			m.RememberMe(r.Context(), true)
		}
		http.Redirect(w, r, "/read", http.StatusSeeOther)
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); err != nil {
			http.Error(w, "cannot log out", http.StatusInternalServerError)
			return
		}
		io.WriteString(w, "bye")
	})
	for _, add := range more {
		add(mux)
	}
	return mux
}

// handle adds a page to a sessionApp.
func handle(path string, handler http.HandlerFunc) func(*http.ServeMux) {
	return func(mux *http.ServeMux) { mux.HandleFunc(path, handler) }
}

// A sessionAnswer is a response read to its end.
type sessionAnswer struct {
	*http.Response
	body string
	took time.Duration
	// token is what the response sets the session's cookie to; set tells
	// whether it does.
	token string
	set   bool
}

// tryWith visits a page with a Cookie field, none if it is empty.
func (s *sessionSite) tryWith(ctx context.Context, path, cookie string) (a sessionAnswer, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		return a, err
	}
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	started := time.Now()
	if a.Response, err = s.client.Do(r); err != nil {
		return a, err
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	a.body, a.took = string(body), time.Since(started)
	for _, c := range a.Cookies() {
		if c.Name == sessionCookie {
			a.token, a.set = c.Value, true
		}
	}
	return a, err
}

// visit visits a page with a session's token, "" for none, and fails the test
// if there is no answer. It is to be called from the test's goroutine.
func (s *sessionSite) visit(path, token string) sessionAnswer {
	s.t.Helper()
	cookie := ""
	if token != "" {
		cookie = sessionCookie + "=" + token
	}
	return s.visitWith(path, cookie)
}

func (s *sessionSite) visitWith(path, cookie string) sessionAnswer {
	s.t.Helper()
	a, err := s.tryWith(s.t.Context(), path, cookie)
	if err != nil {
		s.t.Fatalf("GET %s: %v", path, err)
	}
	return a
}

// login logs a user in and returns the token.
func (s *sessionSite) login(user string) string {
	s.t.Helper()
	a := s.visit("/login?user="+user, "")
	if a.StatusCode != http.StatusSeeOther || len(a.token) != 43 {
		s.t.Fatalf("login: got %s, cookie %q", a.Status, a.Header.Values("Set-Cookie"))
	}
	return a.token
}

// is checks status and body of an answer.
func (a sessionAnswer) is(t *testing.T, status int, body string) {
	t.Helper()
	if a.StatusCode != status || a.body != body {
		t.Errorf("%s: got %d %q; want %d %q", a.Request.URL.Path, a.StatusCode, a.body, status, body)
	}
}

// is503 checks that an answer is a refusal that tells nothing: secrets are what
// must not be in it, besides the usual.
func (a sessionAnswer) isRefusal(t *testing.T, status int, secrets ...string) {
	t.Helper()
	h := a.Header
	if a.StatusCode != status || h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" {
		t.Errorf("%s: got %d %v %q; want a problem of status %d", a.Request.URL.Path, a.StatusCode, h, a.body, status)
	}
	if got := h.Get("Retry-After"); (got == "1") != (status == http.StatusServiceUnavailable) {
		t.Errorf("%s: Retry-After: got %q", a.Request.URL.Path, got)
	}
	if a.ContentLength != int64(len(a.body)) {
		t.Errorf("%s: Content-Length: got %d of %d bytes", a.Request.URL.Path, a.ContentLength, len(a.body))
	}
	for name := range h {
		switch name {
		case "Content-Type", "Cache-Control", "Retry-After", "Content-Length", "X-Content-Type-Options", "Date":
		default:
			t.Errorf("%s: got field %s: %q; want none of the handler's", a.Request.URL.Path, name, h[name])
		}
	}
	if len(a.Trailer) > 0 {
		t.Errorf("%s: got trailers %v", a.Request.URL.Path, a.Trailer)
	}
	text := strings.ToLower(fmt.Sprint(h, a.body))
	for _, secret := range append(secrets, "redis", "127.0.0.1", "scs", "goroutine", "session") {
		if strings.Contains(text, strings.ToLower(secret)) {
			t.Errorf("%s: got %s; want nothing of %q", a.Request.URL.Path, text, secret)
		}
	}
}

// sharedSite is a site on the real server of the package, and the proxy in
// between.
func sharedSite(t *testing.T, more ...func(*session.Manager) func(*http.ServeMux)) (*sessionSite, *session.Manager, *testkit.Proxy) {
	t.Helper()
	p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
	m := newSessions(t, p.Client(t))
	pages := make([]func(*http.ServeMux), len(more))
	for i, page := range more {
		pages[i] = page(m)
	}
	return newSessionSite(t, m, pages...), m, p
}
