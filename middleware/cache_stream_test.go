package middleware_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
)

// each version of HTTP that net/http serves.
func eachHTTP(t *testing.T, run func(t *testing.T, serve func(*cached) *httptest.Server)) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			run(t, func(c *cached) *httptest.Server {
				s := httptest.NewUnstartedServer(c.Handler)
				s.Config.ErrorLog = quiet
				if version == "HTTP/2.0" {
					s.EnableHTTP2 = true
					s.StartTLS()
				} else {
					s.Start()
				}
				t.Cleanup(s.Close)
				return s
			})
		})
	}
}

// The first byte is at the client while the handler still runs, stored or not;
// and what was streamed is stored whole.
func TestCache_streams(t *testing.T) {
	t.Parallel()
	eachHTTP(t, func(t *testing.T, serve func(*cached) *httptest.Server) {
		for _, control := range []string{"max-age=60", "no-store"} {
			seen := make(chan bool)
			c := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", control)
				_, _ = io.WriteString(w, "first,")
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Error(err)
				}
				<-seen
				_, _ = io.Copy(w, strings.NewReader("second,"))
				w.(http.Flusher).Flush()
				<-seen
				_, _ = io.WriteString(w, "third")
			})
			s := serve(c)
			resp, err := s.Client().Get(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			body := bufio.NewReader(resp.Body)
			for _, want := range []string{"first,", "second,"} {
				if got, err := body.ReadString(','); got != want {
					t.Fatalf("got %q, %v; want %q before the handler ends", got, err, want)
				}
				seen <- true
			}
			if got, err := io.ReadAll(body); string(got) != "third" || err != nil {
				t.Fatalf("got %q, %v", got, err)
			}
			resp.Body.Close()
			if control == "no-store" {
				continue
			}
			resp, err = s.Client().Get(s.URL)
			received(t, resp, err).isHit().hasBody(200, "first,second,third").has("Content-Length", "18")
		}
	})
}

// 103 passes at once and is not the answer.
func TestCache_earlyHints(t *testing.T) {
	t.Parallel()
	eachHTTP(t, func(t *testing.T, serve func(*cached) *httptest.Server) {
		c := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</style.css>")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("Cache-Control", "max-age=60")
			_, _ = io.WriteString(w, "body")
		})
		s := serve(c)
		hints := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				if hints++; code != 103 || h.Get("Cache-Status") != "" {
					t.Errorf("got %d %v", code, h)
				}
				return nil
			},
		})
		for i := range 2 {
			req, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
			resp, err := s.Client().Do(req)
			a := received(t, resp, err).hasBody(200, "body").has("Link", "</style.css>")
			if i == 1 {
				a.isHit()
			}
		}
		if hints != 1 {
			t.Errorf("got %d hints; want 1", hints)
		}
	})
}

// An upgraded connection is the handler's: 101 is no answer to keep.
func TestCache_upgrade(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nCache-Control: max-age=60\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.CopyN(conn, rw, 4)
	})
	s := c.served()
	for _, upgrade := range []string{"Connection: Upgrade\r\nUpgrade: echo\r\n", ""} { // some hijack unasked
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", upgrade)
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 101 {
			t.Fatalf("got %v, %v; want 101", resp, err)
		}
		_, _ = io.WriteString(conn, "echo")
		if got, err := io.ReadAll(r); string(got) != "echo" || err != nil {
			t.Errorf("got %q, %v; want the echo", got, err)
		}
		conn.Close()
	}
	if len(c.keys()) != 0 {
		t.Errorf("stored: %q", c.keys())
	}
}

// A connection taken in the middle of an answer: who knows how it went on.
// Protected by respw's Hijacked in whole.
func TestCache_hijackedInTheMiddle(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
		fresh("part")(w, nil)
		w.(http.Flusher).Flush()
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(rw, "5\r\n, all\r\n0\r\n\r\n")
		_ = rw.Flush()
		conn.Close()
	})
	s := c.served()
	resp, err := s.Client().Get(s.URL)
	received(t, resp, err).hasBody(200, "part, all")
	s.Close() // waits for the handler
	if len(c.keys()) != 0 {
		t.Errorf("stored: %q", c.keys())
	}
}

// A source that breaks in the middle: the handler's copy fails, and what it says
// of it or not, nothing is stored. Protected by respw's Err in whole.
func TestCache_brokenSource(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = io.Copy(w, io.MultiReader(strings.NewReader("12345"), brokenReader{}))
	})
	s := c.served()
	resp, err := s.Client().Get(s.URL)
	received(t, resp, err)
	if len(c.keys()) != 0 {
		t.Errorf("stored: %q", c.keys())
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// A proxy whose origin breaks off: the client sees that it did, and nothing is
// stored; a whole answer is, and without the fields of its connection.
func TestCache_reverseProxy(t *testing.T) {
	t.Parallel()
	eachHTTP(t, func(t *testing.T, serve func(*cached) *httptest.Server) {
		origin, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { origin.Close() })
		answers := map[string]string{
			"/short":   "Content-Length: 10\r\n\r\n12345",
			"/chunked": "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
			"/chunk":   "Transfer-Encoding: chunked\r\n\r\na\r\n12345",
			"/nothing": "Content-Length: 5\r\n\r\n",
			"/whole":   "Content-Length: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nX-End: 1\r\n\r\n12345",
			"/whole2":  "Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n0\r\n\r\n",
		}
		go func() {
			for {
				conn, err := origin.Accept()
				if err != nil {
					return
				}
				req, err := http.ReadRequest(bufio.NewReader(conn))
				if err == nil {
					fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n%s", answers[req.URL.Path])
				}
				conn.Close()
			}
		}()
		target, _ := url.Parse("http://" + origin.Addr().String())
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.Transport = &http.Transport{DisableKeepAlives: true}
		proxy.ErrorLog = quiet
		c := newCached(t, proxy.ServeHTTP)
		s := serve(c)
		for _, path := range []string{"/short", "/chunked", "/chunk", "/nothing"} {
			resp, err := s.Client().Get(s.URL + path)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if err == nil {
				t.Errorf("%s: the client took a part for the whole", path)
			}
			if len(c.keys()) != 0 {
				t.Fatalf("%s: stored: %q", path, c.keys())
			}
		}
		for _, path := range []string{"/whole", "/whole2"} {
			resp, err := s.Client().Get(s.URL + path)
			received(t, resp, err).isStored().hasBody(200, "12345")
			resp, err = s.Client().Get(s.URL + path)
			received(t, resp, err).isHit().hasBody(200, "12345").has("X-Hop").has("Keep-Alive")
		}
	})
}

// HTTP/2 has no connection to take, and the cache promises none.
func TestCache_http2HasNoHijack(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) {
		_, _, err := http.NewResponseController(w).Hijack()
		_, can := w.(http.Hijacker)
		fresh(fmt.Sprint(r.ProtoMajor, err != nil, can))(w, r)
	})
	s := httptest.NewUnstartedServer(c.Handler)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	resp, err := s.Client().Get(s.URL)
	received(t, resp, err).hasBody(200, "2 true false")
	resp, err = s.Client().Get(s.URL)
	received(t, resp, err).isHit()
}

// https and http are different resources, and so are hosts.
func TestCache_schemeAndHost(t *testing.T) {
	t.Parallel()
	c := newCached(t, func(w http.ResponseWriter, r *http.Request) { fresh(r.Host)(w, r) })
	ask := func(host string, state *tls.ConnectionState) cacheAnswer {
		r := httptest.NewRequestWithContext(context.Background(), "GET", "/", nil)
		r.Host, r.TLS = host, state
		return c.serve(r)
	}
	ask("a.example", nil).isStored()
	ask("b.example", nil).isStored()
	ask("a.example", &tls.ConnectionState{}).isStored()
	ask("A.Example", nil).isHit().hasBody(200, "a.example")
	c.called(3)
}
