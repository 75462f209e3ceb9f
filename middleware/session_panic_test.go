package middleware_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"

	chi "github.com/go-chi/chi/v5/middleware"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// quietRecoverer is chi's Recoverer without its log.
func quietRecoverer(next http.Handler) http.Handler {
	recoverer := chi.Recoverer(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		recoverer.ServeHTTP(w, chi.WithLogEntry(r, noEntry{}))
	})
}

type noEntry struct{ chi.LogEntry }

func (noEntry) Panic(any, []byte) {}

// A handler that panics has nothing saved, unless it had written before. Red when
// Session's Finish is deferred.
func TestSession_panic(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	app := sessionApp(m,
		handle("/half", func(w http.ResponseWriter, r *http.Request) {
			m.Put(r.Context(), "key", "half")
			panic("a bug")
		}),
		handle("/written", func(w http.ResponseWriter, r *http.Request) {
			m.Put(r.Context(), "key", "written")
			io.WriteString(w, "begun")
			w.(http.Flusher).Flush()
			m.Put(r.Context(), "more", "x")
			panic("a bug")
		}),
		handle("/abort", func(w http.ResponseWriter, r *http.Request) {
			m.Put(r.Context(), "key", "aborted")
			panic(http.ErrAbortHandler)
		}),
	)
	site := serveSite(t, false, quietRecoverer(middleware.Session(m)(app)))
	token := site.login("alice")

	a := site.visit("/half", token)
	a.is(t, 500, "")
	if a.set {
		t.Error("half: the cookie was set")
	}
	site.visit("/get?key=key", token).is(t, 200, "")

	if _, err := site.tryWith(t.Context(), "/abort", sessionCookie+"="+token); err == nil {
		t.Error("abort: got an answer; want a broken connection")
	}
	site.visit("/get?key=key", token).is(t, 200, "")

	site.tryWith(t.Context(), "/written", sessionCookie+"="+token)
	site.visit("/get?key=key", token).is(t, 200, "written")
	site.visit("/get?key=more", token).is(t, 200, "")
	site.visit("/read", token).is(t, 200, "user=alice")
}

// Panics that are not Session's pass as they are.
func TestSession_panicPasses(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	for _, value := range []any{http.ErrAbortHandler, "a bug", io.EOF} {
		func() {
			defer func() {
				if got := recover(); got != value {
					t.Errorf("got %v; want %v", got, value)
				}
			}()
			middleware.Session(m)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				m.Put(r.Context(), "x", 1)
				panic(value)
			})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
		}()
	}
}

// A recovery outside, or inside, does not turn the 503 of a silent Redis into a
// 500, nor into the handler's answer; nor does a handler that recovers and goes
// on, or one with a deferred write. Red without v.err in Visit.Commit.
func TestSession_recoverersAndSilence(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
	m := newSessions(t, p.Client(t), session.WithTimeout(outageBudget))
	guard := middleware.Session(m)
	app := sessionApp(m,
		handle("/stubborn", func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				recover()
				w.Header().Set("X-Secret", "secret")
				io.WriteString(w, "secret")
			}()
			m.Get(r.Context(), "user")
		}),
		handle("/silent", func(w http.ResponseWriter, r *http.Request) {
			defer func() { recover() }()
			m.Get(r.Context(), "user")
		}),
		handle("/deferred", func(w http.ResponseWriter, r *http.Request) {
			defer io.WriteString(w, "secret trailer of a compressor")
			m.Get(r.Context(), "user")
		}),
		handle("/hijacks", func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				recover()
				if _, _, err := http.NewResponseController(w).Hijack(); err == nil {
					t.Error("the connection was taken after the refusal")
				}
			}()
			m.Get(r.Context(), "user")
		}),
	)
	sites := map[string]*sessionSite{
		"none":    serveSite(t, false, guard(app)),
		"outside": serveSite(t, false, quietRecoverer(guard(app))),
		"inside":  serveSite(t, false, guard(quietRecoverer(app))),
		"both":    serveSite(t, false, quietRecoverer(guard(quietRecoverer(app)))),
		"nested":  serveSite(t, false, middleware.Session(newSessions(t, testkit.Mini(t).Client(t)))(guard(app))),
	}
	p.Hang()
	for name, site := range sites {
		for _, path := range []string{"/read", "/put?key=a&value=b", "/stubborn", "/silent", "/deferred", "/hijacks"} {
			a, err := site.tryWith(t.Context(), path, sessionCookie+"="+sessionKey("x")[len("scs:session:"):])
			if err != nil {
				t.Errorf("%s, recoverer %s: %v", path, name, err)
				continue
			}
			a.isRefusal(t, 503, "secret")
		}
	}

	// Answered once. Red without Discarded in answerFailure.
	r := httptest.NewRequest(http.MethodGet, "/deferred", nil)
	r.Header.Set("Cookie", sessionCookie+"="+sessionKey("x")[len("scs:session:"):])
	w := httptest.NewRecorder()
	guard(app).ServeHTTP(w, r)
	if got := w.Header().Get("Content-Length"); w.Code != 503 || got != strconv.Itoa(w.Body.Len()) {
		t.Errorf("deferred: got %d, %s of %d bytes", w.Code, got, w.Body.Len())
	}
}
