package middleware_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// An observed is what an observer was told.
type observed struct {
	mu     sync.Mutex
	events []session.Event
}

func (o *observed) option() session.Option {
	return session.WithObserver(func(_ context.Context, e session.Event) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.events = append(o.events, e)
	})
}

// take returns the kinds of what was told since.
func (o *observed) take() (kinds []session.EventKind, errs []error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.events {
		kinds, errs = append(kinds, e.Kind), append(errs, e.Err)
	}
	o.events = nil
	return kinds, errs
}

// A session that grows too large is a clean 500, with nothing of the handler's, and
// stays as it was, whichever way it grows; one that was to begin with does not. Red
// without Manager.fits in Visit.encode.
func TestSession_tooLarge(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		b := testkit.Mini(t)
		m := newSessions(t, b.Client(t), session.WithMaxSize(2048))
		big := strings.Repeat("secret", 1000)
		site := serveSite(t, http2, middleware.Session(m)(sessionApp(m, enterPage(m),
			handle("/big", func(w http.ResponseWriter, r *http.Request) {
				ctx := r.Context()
				w.Header().Set("Etag", `"secret"`)
				w.Header().Set("X-Secret", "secret")
				http.SetCookie(w, &http.Cookie{Name: "secret", Value: "x"})
				switch r.FormValue("by") {
				case "put":
					m.Put(ctx, "big", big)
				case "pieces":
					for i := range 100 {
						m.Put(ctx, fmt.Sprint("big", i), strings.Repeat("secret", 10))
					}
				case "renew":
					if err := m.RenewToken(ctx); err != nil {
						t.Error(err)
					}
					m.Put(ctx, "big", big)
				case "flush":
					m.Put(ctx, "big", big)
					w.(http.Flusher).Flush()
				}
				io.WriteString(w, "secret body")
			}),
			handle("/told", func(w http.ResponseWriter, r *http.Request) {
				ctx := r.Context()
				m.Get(ctx, "user")
				if err := m.Update(ctx, "big", func(any) any { return big }); !errors.Is(err, session.ErrTooLarge) && r.FormValue("new") == "" {
					t.Errorf("update: got %v; want ErrTooLarge", err)
				}
			}),
		)))
		token := site.login("alice")
		before := dumpRedis(t, b)
		for _, by := range []string{"put", "pieces", "renew", "flush"} {
			for _, token := range []string{token, ""} {
				site.visit("/big?by="+by, token).isRefusal(t, 500, "secret", "large", "size")
			}
		}
		site.visit("/told", token).is(t, 200, "")
		if after := dumpRedis(t, b); after != before {
			t.Errorf("Redis: got %q; want %q as before", after, before)
		}
		site.visit("/read", token).is(t, 200, "user=alice")
		site.visit("/put?key=small&value=x", token).is(t, 200, "put")
	})
}

// What is stored does not decode: a visitor without a session, told to the observer,
// and one who can begin another at once. Not a lasting error. Red without the case of
// ErrCorrupt in Visit.load.
func TestSession_undecodable_isANewSession(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		rdb := testkit.Mini(t).Client(t)
		o := new(observed)
		m := newSessions(t, rdb, o.option())
		site := newSessionSite(t, m, enterPage(m))
		for name, bytes := range map[string]string{"empty": "", "no gob": "{\"user\":\"alice\"}", "cut short": "\x0f\xff\x81", "zeros": strings.Repeat("\x00", 100)} {
			token := site.enter(way, "alice", "")
			if err := rdb.Set(t.Context(), sessionKey(token), bytes, time.Minute).Err(); err != nil {
				t.Fatal(err)
			}
			o.take()
			for range 2 {
				a := site.visit("/read", token)
				a.is(t, 200, "user=")
				a.isSilent(t, name)
				kinds, errs := o.take()
				if !slices.Equal(kinds, []session.EventKind{session.Damaged}) || !errors.Is(errs[0], session.ErrCorrupt) {
					t.Errorf("%s: got %v, %v; want damaged", name, kinds, errs)
				}
			}
			a := site.visit("/put?key=a&value=b", token)
			if a.StatusCode != 200 || a.token == "" || a.token == token {
				t.Errorf("%s: put: got %s, the token %q; want a new one", name, a.Status, a.token)
			}
			site.visit("/get?key=a", a.token).is(t, 200, "b")
			site.visit("/read", site.enter(way, "alice", token)).is(t, 200, "user=alice")
		}
	})
}

// The observer hears of each thing once, and of nothing that has not happened.
func TestSession_observer(t *testing.T) {
	t.Parallel()
	o := new(observed)
	rdb := testkit.Mini(t).Client(t)
	m := newSessions(t, rdb, o.option(), session.WithRenewal(time.Minute))
	site := newSessionSite(t, m, enterPage(m))
	check := func(what string, a sessionAnswer, want ...session.EventKind) string {
		t.Helper()
		if got, _ := o.take(); !slices.Equal(got, want) {
			t.Errorf("%s: got %v; want %v", what, got, want)
		}
		return a.token
	}
	check("untouched", site.visit("/untouched", ""))
	check("a look", site.visit("/read", ""))
	token := check("put", site.visit("/put?key=a&value=b", ""), session.Created)
	check("the same", site.visit("/put?key=a&value=b", token))
	check("another", site.visit("/put?key=a&value=c", token))
	old := token
	token = check("RenewToken", site.visit("/enter?way=RenewToken&user=alice", token), session.Renewed)
	check("the old token", site.visit("/read", old))
	token = check("Login", site.visit("/enter?way=Login&user=alice", token), session.LoggedIn)
	ageToken(t, rdb, token)
	next := check("a renewal", site.visit("/read", token), session.Renewed)
	if again := check("the lost answer", site.visit("/read", token)); again != next {
		t.Errorf("the lost answer: got %q; want %q", again, next)
	}
	check("logout", site.visit("/logout", next), session.Ended)
	check("logout again", site.visit("/logout", next))
	check("unknown", site.visit("/read", strings.Repeat("A", 43)), session.Expired)
	check("malformed", site.visit("/read", "A"))
}

// readerFrom is a ResponseWriter that counts what arrives by ReadFrom, as net/http's
// own does with sendfile.
type readerFrom struct {
	*httptest.ResponseRecorder
	n int64
}

func (w *readerFrom) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(w.Body, r)
	w.n += n
	return n, err
}

// A file keeps its way to sendfile, with the cookie before it.
func TestSession_sendfile(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	content := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	m := newSessions(t, testkit.Mini(t).Client(t))
	page := func(w http.ResponseWriter, r *http.Request) {
		m.Put(r.Context(), "user", "alice")
		f, err := os.Open(name)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		if _, err := io.Copy(w, f); err != nil {
			t.Error(err)
		}
	}
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	middleware.Session(m)(http.HandlerFunc(page)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.n < int64(len(content))-512 || !bytes.Equal(w.Body.Bytes(), content) {
		t.Errorf("got %d bytes by ReadFrom, %d in all; want %d", w.n, w.Body.Len(), len(content))
	}
	if len(w.Result().Cookies()) != 1 {
		t.Errorf("got %v; want the cookie", w.Result().Header)
	}
	site := newSessionSite(t, m, handle("/file", page))
	a := site.visit("/file", "")
	if a.body != string(content) || a.token == "" {
		t.Errorf("got %d bytes, token %q; want %d and one", len(a.body), a.token, len(content))
	}
	site.visit("/read", a.token).is(t, 200, "user=alice")
}

// Several informational answers before, and the cookie in none of them but in the last
// header. A handler that changes the session between them is saved once.
func TestSession_informationalAnswers(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		site := pageSite(t, http2, func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusProcessing)
				m.Put(r.Context(), "key", "one")
				w.Header().Set("Link", "</a.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				m.Put(r.Context(), "key", "two")
				w.WriteHeader(http.StatusEarlyHints)
				m.Put(r.Context(), "key", "three")
				w.WriteHeader(http.StatusAccepted)
			}
		})
		a := site.visit("/page", "")
		if a.StatusCode != http.StatusAccepted || a.token == "" || a.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %s %v; want 202 and the cookie", a.Status, a.Header)
		}
		site.visit("/get?key=key", a.token).is(t, 200, "three")
	})
}

// A WebSocket holds its connection for long, while other requests change the session,
// end it, or log in: when it closes nothing stale is written back, whatever it looked
// at or changed before. Red when swap.lua does not compare.
func TestSession_hijackDoesNotWriteBack(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"nothing", "reads", "writes"} {
		for _, after := range []string{"nothing", "reads", "writes"} {
			t.Run(before+" first, then "+after, func(t *testing.T) {
				t.Parallel()
				rdb := testkit.Mini(t).Client(t)
				m := newSessions(t, rdb)
				closed := make(chan struct{}, 1)
				do := func(r *http.Request, deed, value string) {
					switch deed {
					case "reads":
						m.Get(r.Context(), "cart")
					case "writes":
						m.Put(r.Context(), "socket", value)
					}
				}
				site := newSessionSite(t, m, handle("/socket", func(w http.ResponseWriter, r *http.Request) {
					do(r, before, "open")
					conn, rw, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					defer func() { closed <- struct{}{} }()
					defer conn.Close()
					fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
					rw.Flush()
					rw.ReadString('\n')
					do(r, after, "closed")
				}))
				socket := func(token string, meanwhile func()) {
					t.Helper()
					conn := site.dial()
					defer conn.Close()
					fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\nCookie: %s=%s\r\n\r\n", sessionCookie, token)
					if a, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || a.StatusCode != 101 {
						t.Fatalf("got %v, %v; want 101", a, err)
					}
					meanwhile()
					fmt.Fprint(conn, "bye\n")
					<-closed
				}
				token := site.login("alice")
				socket(token, func() { site.visit("/put?key=cart&value=3", token).is(t, 200, "put") })
				want := ""
				switch {
				case after == "writes":
					want = "closed"
				case before == "writes":
					want = "open"
				}
				testkit.Eventually(t, "the socket's end", func() bool { return site.visit("/get?key=socket", token).body == want })
				site.visit("/get?key=cart", token).is(t, 200, "3")

				socket(token, func() { site.visit("/logout", token).is(t, 200, "bye") })
				testkit.Eventually(t, "an answer", func() bool { return site.visit("/untouched", "").StatusCode == 200 })
				site.visit("/read", token).is(t, 200, "user=")
				if isStored(t, rdb, token) {
					t.Error("the socket has brought the session back")
				}
			})
		}
	}
}

// Late, with the header gone: an existing session's change is saved and its logout is
// one; what would need a cookie, and what cannot be saved, cuts the connection.
func TestSession_lateDeeds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		deed    func(m *session.Manager, ctx context.Context) error
		cut     bool // for who has a session
		cutNew  bool // for who has none
		isAlice bool // afterwards
	}{
		{"a change", func(m *session.Manager, ctx context.Context) error { m.Put(ctx, "a", 1); return nil }, false, true, true},
		{"a look", func(m *session.Manager, ctx context.Context) error { m.Get(ctx, "a"); return nil }, false, false, true},
		{"a renewal", func(m *session.Manager, ctx context.Context) error { return m.RenewToken(ctx) }, true, true, true},
		{"a logout", func(m *session.Manager, ctx context.Context) error { return m.Destroy(ctx) }, false, false, false},
		{"too much", func(m *session.Manager, ctx context.Context) error {
			m.Put(ctx, "a", strings.Repeat("x", 1<<17))
			return nil
		}, true, true, true},
		{"what does not encode", func(m *session.Manager, ctx context.Context) error { m.Put(ctx, "a", func() {}); return nil }, true, true, true},
		{"a login", func(m *session.Manager, ctx context.Context) error {
			if err := m.Login(ctx, "bob"); !errors.Is(err, session.ErrTooLate) {
				return fmt.Errorf("login: got %w; want ErrTooLate", err)
			}
			return nil
		}, false, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bothProtocols(t, func(t *testing.T, http2 bool) {
				for _, lookedBefore := range []bool{false, true} {
					site := pageSite(t, http2, func(m *session.Manager) http.HandlerFunc {
						return func(w http.ResponseWriter, r *http.Request) {
							if lookedBefore {
								m.Get(r.Context(), "user")
							}
							io.WriteString(w, "begun")
							w.(http.Flusher).Flush()
							if err := test.deed(m, r.Context()); err != nil {
								t.Error(err)
							}
						}
					})
					token := site.login("alice")
					if _, err := site.tryWith(t.Context(), "/page", sessionCookie+"="+token); (err != nil) != test.cut {
						t.Errorf("looked before %v: got %v; want a cut connection: %v", lookedBefore, err, test.cut)
					}
					if _, err := site.tryWith(t.Context(), "/page", ""); (err != nil) != test.cutNew {
						t.Errorf("new, looked before %v: got %v; want a cut connection: %v", lookedBefore, err, test.cutNew)
					}
					want := map[bool]string{true: "user=alice", false: "user="}[test.isAlice]
					site.visit("/read", token).is(t, 200, want)
				}
			})
		})
	}
}
