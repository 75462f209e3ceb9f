package middleware_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// A sessionPage is a handler made for a manager.
type sessionPage func(*session.Manager) http.HandlerFunc

// pageSite serves the usual pages and one more at /page.
func pageSite(t *testing.T, http2 bool, p sessionPage) *sessionSite {
	t.Helper()
	m := newSessions(t, testkit.Mini(t).Client(t))
	return serveSite(t, http2, middleware.Session(m)(sessionApp(m, handle("/page", p(m)))))
}

// However a response begins, its cookie is in the header and its data saved.
func TestSession_waysToBegin(t *testing.T) {
	t.Parallel()
	file := bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	put := func(m *session.Manager, r *http.Request) { m.Put(r.Context(), "key", "saved") }
	tests := []struct {
		name   string
		page   sessionPage
		status int
		body   string
	}{
		{"nothing written", func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { put(m, r) }
		}, 200, ""},
		{"WriteHeader", func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { put(m, r); w.WriteHeader(204) }
		}, 204, ""},
		{"Write", func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { put(m, r); w.Write([]byte("x")) }
		}, 200, "x"},
		{"Flush", func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				put(m, r)
				w.(http.Flusher).Flush()
				io.WriteString(w, "x")
			}
		}, 200, "x"},
		{"ResponseController", func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				put(m, r)
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Errorf("flush: %v", err)
				}
			}
		}, 200, ""},
		{"io.Copy", func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				put(m, r)
				io.Copy(w, bytes.NewReader(file))
			}
		}, 200, string(file)},
		{"ServeContent", func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				put(m, r)
				http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), bytes.NewReader(file))
			}
		}, 200, string(file)},
		{"ServeContent, a range", func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				put(m, r)
				r.Header.Set("Range", "bytes=16-31")
				http.ServeContent(w, r, "a.txt", time.Unix(1e9, 0), bytes.NewReader(file))
			}
		}, 206, string(file[16:32])},
		{"Redirect", func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) { put(m, r); http.Redirect(w, r, "/", http.StatusSeeOther) }
		}, 303, "<a href=\"/\">See Other</a>.\n\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bothProtocols(t, func(t *testing.T, http2 bool) {
				site := pageSite(t, http2, test.page)
				a := site.visit("/page", "")
				if a.StatusCode != test.status || a.body != test.body {
					t.Errorf("got %s and %d bytes; want %d and %d", a.Status, len(a.body), test.status, len(test.body))
				}
				if len(a.token) != 43 || a.Header.Get("Cache-Control") != "no-store" || a.Header.Get("Vary") != "Cookie" {
					t.Errorf("got %v; want the cookie and what goes with it", a.Header)
				}
				site.visit("/get?key=key", a.token).is(t, 200, "saved")
			})
		})
	}
}

// An event reaches the visitor before the handler ends, with the cookie.
func TestSession_events(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		seen := make(chan struct{})
		site := pageSite(t, http2, func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				m.Put(r.Context(), "key", "streaming")
				w.Header().Set("Content-Type", "text/event-stream")
				fmt.Fprint(w, "data: one\n\n")
				w.(http.Flusher).Flush()
				select {
				case <-seen:
				case <-r.Context().Done():
					t.Error("the event did not arrive while the handler ran")
				}
				fmt.Fprint(w, "data: two\n\n")
			}
		})
		r, err := site.client.Get(site.url + "/page")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if len(r.Cookies()) != 1 {
			t.Fatalf("cookies: got %v; want one", r.Cookies())
		}
		body := bufio.NewReader(r.Body)
		if line, err := body.ReadString('\n'); line != "data: one\n" || err != nil {
			t.Fatalf("got %q, %v", line, err)
		}
		// While the stream is open the session is there already.
		site.visit("/get?key=key", r.Cookies()[0].Value).is(t, 200, "streaming")
		close(seen)
		if rest, err := io.ReadAll(body); string(rest) != "\ndata: two\n\n" || err != nil {
			t.Errorf("got %q, %v", rest, err)
		}
	})
}

// 103 Early Hints leaves at once, and does not count as the header.
func TestSession_earlyHints(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		site := pageSite(t, http2, func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", "</style.css>; rel=preload")
				w.WriteHeader(http.StatusEarlyHints)
				m.Put(r.Context(), "key", "saved")
				io.WriteString(w, "page")
			}
		})
		var hints int
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(status int, h textproto.MIMEHeader) error {
				hints++
				if status != 103 || h.Get("Link") == "" || h.Get("Set-Cookie") != "" {
					t.Errorf("hint: got %d %v", status, h)
				}
				return nil
			},
		})
		a, err := site.tryWith(ctx, "/page", "")
		if err != nil {
			t.Fatal(err)
		}
		a.is(t, 200, "page")
		if hints != 1 || !a.set {
			t.Errorf("got %d hints, cookie %v; want both", hints, a.set)
		}
		site.visit("/get?key=key", a.token).is(t, 200, "saved")
	})
}

func TestSession_trailers(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		site := pageSite(t, http2, func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Trailer", "X-Sum")
				m.Put(r.Context(), "key", "saved")
				io.WriteString(w, "body")
				w.Header().Set("X-Sum", "42")
				w.Header().Set(http.TrailerPrefix+"X-More", "43")
			}
		})
		a := site.visit("/page", "")
		a.is(t, 200, "body")
		if !a.set || a.Trailer.Get("X-Sum") != "42" || a.Trailer.Get("X-More") != "43" {
			t.Errorf("got cookie %v, trailers %v", a.set, a.Trailer)
		}
	})
}

// An upgrade's 101 carries the cookie, and the session is stored before the
// connection is taken, not when it closes.
func TestSession_hijack(t *testing.T) {
	t.Parallel()
	for _, with101 := range []bool{true, false} {
		t.Run(fmt.Sprint("WriteHeader(101):", with101), func(t *testing.T) {
			t.Parallel()
			rdb := testkit.Mini(t).Client(t)
			m := newSessions(t, rdb, session.WithInsecureCookie())
			stored := make(chan string, 1)
			srv := httptest.NewServer(middleware.Session(m)(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				m.Put(r.Context(), "key", "saved")
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
				stored <- rdb.Get(r.Context(), sessionKey(m.Token(r.Context()))).Val()
				if !with101 {
					fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\n")
					w.Header().Write(rw)
					fmt.Fprint(rw, "\r\n")
				}
				line, _ := rw.ReadString('\n')
				// A late look: of a hijacked connection nothing is written back.
				m.Get(r.Context(), "key")
				fmt.Fprint(rw, "echo "+line)
				rw.Flush()
			})))
			defer srv.Close()
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
			in := bufio.NewReader(conn)
			if !with101 {
				fmt.Fprint(conn, "hello\n")
			}
			r, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != 101 || len(r.Cookies()) != 1 {
				t.Fatalf("got %s %v; want 101 and the cookie", r.Status, r.Header)
			}
			if with101 {
				fmt.Fprint(conn, "hello\n")
			}
			if line, err := in.ReadString('\n'); line != "echo hello\n" {
				t.Errorf("got %q, %v; want the echo", line, err)
			}
			if <-stored == "" {
				t.Error("not stored when the connection was taken")
			}
		})
	}
}

// A change after the header has left is saved if the visitor has the cookie.
func TestSession_lateChange(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		site := pageSite(t, http2, func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, "begun")
				w.(http.Flusher).Flush()
				m.Put(r.Context(), "key", "late")
			}
		})
		token := site.login("alice")
		site.visit("/page", token).is(t, 200, "begun")
		site.visit("/get?key=key", token).is(t, 200, "late")
		site.visit("/read", token).is(t, 200, "user=alice")

		// A new session's cookie cannot be sent any more: the answer is cut off,
		// so that the loss is seen. Red without ErrTooLate in Visit.lateness.
		if a, err := site.tryWith(t.Context(), "/page", ""); err == nil {
			t.Errorf("a late new session: got %s %q; want a broken connection", a.Status, a.body)
		}
	})
}

// A stream that changed its session first and looked at it later does not
// write it again at its end, over what was written meanwhile. Red without
// Visit.refresh.
func TestSession_streamDoesNotOverwrite(t *testing.T) {
	t.Parallel()
	begun, end := make(chan struct{}), make(chan struct{})
	site := pageSite(t, false, func(m *session.Manager) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			m.Put(r.Context(), "stream", "open")
			w.(http.Flusher).Flush()
			close(begun)
			<-end
			io.WriteString(w, m.GetString(r.Context(), "user"))
		}
	})
	token := site.login("alice")
	done := make(chan sessionAnswer)
	go func() {
		a, err := site.tryWith(t.Context(), "/page", sessionCookie+"="+token)
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	<-begun
	site.visit("/put?key=cart&value=3", token)
	close(end)
	a := <-done
	if a.body != "alice" {
		t.Errorf("stream: got %q; want alice", a.body)
	}
	site.visit("/get?key=cart", token).is(t, 200, "3")
	site.visit("/get?key=stream", token).is(t, 200, "open")
}

// What a handler does for a visitor who has left is saved all the same. Red
// without context.WithoutCancel in Visit.Commit, and in Store.DeleteCtx.
func TestSession_visitorLeaves(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		began, done := make(chan struct{}, 1), make(chan error, 1)
		site := pageSite(t, http2, func(m *session.Manager) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				ctx := r.Context()
				m.Get(ctx, "user")
				began <- struct{}{}
				<-ctx.Done()
				if strings.Contains(r.URL.RawQuery, "logout") {
					done <- m.Destroy(ctx)
					return
				}
				m.Put(ctx, "key", "landed")
				w.WriteHeader(204) // saves
				done <- nil
			}
		})
		token := site.login("alice")
		leave := func(path string) {
			ctx, cancel := context.WithCancel(t.Context())
			go func() { <-began; cancel() }()
			// Whether it still sees an answer is a race it does not care about.
			_, _ = site.tryWith(ctx, path, sessionCookie+"="+token)
			if err := <-done; err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		leave("/page")
		site.visit("/get?key=key", token).is(t, 200, "landed")
		leave("/page?logout")
		site.visit("/read", token).is(t, 200, "user=")
	})
}
