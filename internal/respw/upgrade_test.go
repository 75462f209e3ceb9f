package respw_test

import (
	"bufio"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/respw"
)

// switching is a handler that takes the connection over with take, after which
// the 101 header has been sent, and echoes a line.
func switching(t *testing.T, take func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		conn, rw, err := take(w)
		if err != nil {
			if !errors.Is(err, respw.ErrDiscarded) {
				t.Errorf("Hijack: %v", err)
			}
			w.WriteHeader(502) // as ReverseProxy does
			return
		}
		defer conn.Close()
		if _, err := w.Write([]byte("late")); err != http.ErrHijacked {
			t.Errorf("Write on a hijacked connection: got %v; want %v", err, http.ErrHijacked)
		}
		w.WriteHeader(200)
		line, _ := rw.ReadString('\n')
		rw.WriteString("echo " + line)
		rw.Flush()
	}
}

var takes = []struct {
	name   string
	asked  int // status given to the hook
	status int // afterwards
	field  bool
	take   func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error)
}{
	{"Hijack, raw header", 0, 0, false, func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err == nil {
			rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
			rw.Flush()
		}
		return conn, rw, err
	}},
	{"ResponseController.Hijack, own header", 0, 0, true, func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err == nil {
			rw.WriteString("HTTP/1.1 101 Switching Protocols\r\n")
			w.Header().Write(rw)
			rw.WriteString("\r\n")
			rw.Flush()
		}
		return conn, rw, err
	}},
	{"WriteHeader(101), Hijack", 101, 101, true, func(w http.ResponseWriter) (net.Conn, *bufio.ReadWriter, error) {
		w.WriteHeader(101)
		return w.(http.Hijacker).Hijack()
	}},
}

// upgrade asks for the echo protocol. It returns the response, and the line
// echoed if the protocol was switched.
func upgrade(t *testing.T, addr string) (*http.Response, string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: weir\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 101 {
		return res, ""
	}
	io.WriteString(conn, "hello\n")
	line, err := br.ReadString('\n')
	if err != nil {
		t.Errorf("after the switch: %v", err)
	}
	return res, line
}

func TestResponse_upgrade(t *testing.T) {
	t.Parallel()
	for _, tt := range takes {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, done := probed(probe{watch: true}, switching(t, tt.take))
			srv, logged := serve(t, http1, h)
			res, line := upgrade(t, srv.Listener.Addr().String())
			p := <-done
			if res.StatusCode != 101 || line != "echo hello\n" {
				t.Errorf("got %d, %q; want 101, \"echo hello\"", res.StatusCode, line)
			}
			if got := res.Header.Get("Hook") != ""; got != tt.field {
				t.Errorf("Hook field arrived: %v; want %v", got, tt.field)
			}
			if !slices.Equal(p.asked, []int{tt.asked}) || !p.resp.Hijacked() || p.resp.Status() != tt.status || len(p.body) > 0 {
				t.Errorf("asked %v, hijacked %v, status %d, watched %q; want [%d], true, %d, nothing",
					p.asked, p.resp.Hijacked(), p.resp.Status(), p.body, tt.asked, tt.status)
			}
			if s := logged.String(); !strings.Contains(s, "response.WriteHeader on hijacked connection") {
				t.Errorf("server logged %q; want its complaint about WriteHeader", s)
			}
		})
	}
}

func TestResponse_upgradeRefused(t *testing.T) {
	t.Parallel()
	for _, tt := range takes {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, done := probed(probe{refuse: true}, switching(t, tt.take))
			srv, _ := serve(t, http1, h)
			res, _ := upgrade(t, srv.Listener.Addr().String())
			p := <-done
			if res.StatusCode != 503 || p.resp.Hijacked() || !p.resp.Discarded() || len(p.asked) != 1 {
				t.Errorf("got %d, hijacked %v, discarded %v, asked %v; want 503, false, true, once",
					res.StatusCode, p.resp.Hijacked(), p.resp.Discarded(), p.asked)
			}
		})
	}
}

// proxyTo returns a ReverseProxy to a backend that is h.
func proxyTo(t *testing.T, h http.Handler) *httputil.ReverseProxy {
	t.Helper()
	backend, _ := serve(t, http1, h)
	u, err := url.Parse(backend.URL)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Rewrite:  func(pr *httputil.ProxyRequest) { pr.SetURL(u) },
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// ReverseProxy hijacks first and then sends the header map itself, so a hook's
// fields reach the client even so.
func TestResponse_reverseProxyUpgrade(t *testing.T) {
	t.Parallel()
	proxy := proxyTo(t, switching(t, takes[0].take))
	h, done := probed(probe{}, proxy.ServeHTTP)
	srv, _ := serve(t, http1, h)
	res, line := upgrade(t, srv.Listener.Addr().String())
	p := <-done
	if res.StatusCode != 101 || line != "echo hello\n" || res.Header.Get("Hook") != "0" {
		t.Errorf("got %d, %q, Hook %q; want 101, \"echo hello\", \"0\"", res.StatusCode, line, res.Header.Get("Hook"))
	}
	if !slices.Equal(p.asked, []int{0}) || !p.resp.Hijacked() {
		t.Errorf("asked %v, hijacked %v; want [0], true", p.asked, p.resp.Hijacked())
	}
}

// The proxy's own answer to the refused Hijack, a 502, is discarded.
func TestResponse_reverseProxyUpgradeRefused(t *testing.T) {
	t.Parallel()
	proxy := proxyTo(t, switching(t, takes[0].take))
	h, _ := probed(probe{refuse: true}, proxy.ServeHTTP)
	srv, _ := serve(t, http1, h)
	if res, _ := upgrade(t, srv.Listener.Addr().String()); res.StatusCode != 503 {
		t.Errorf("got %d; want 503", res.StatusCode)
	}
}

// Flushed at once (-1), and by ReverseProxy's own goroutine after a moment,
// which the race detector watches.
func TestResponse_reverseProxyStreams(t *testing.T) {
	t.Parallel()
	for _, interval := range []time.Duration{-1, time.Millisecond} {
		t.Run(interval.String(), func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, proto string) {
				read := make(chan struct{})
				proxy := proxyTo(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Trailer", "Sum")
					w.Header().Set("Link", "</a.css>")
					w.WriteHeader(103)
					for range 3 {
						io.WriteString(w, "event\n")
						w.(http.Flusher).Flush()
						<-read
					}
					w.Header().Set("Sum", "18")
				}))
				proxy.FlushInterval = interval
				h, done := probed(probe{watch: true}, proxy.ServeHTTP)
				srv, _ := serve(t, proto, h)
				res, err := srv.Client().Get(srv.URL)
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				lines := bufio.NewReader(res.Body)
				for range 3 {
					if line, err := lines.ReadString('\n'); line != "event\n" {
						t.Errorf("got %q, %v; want an event", line, err)
					}
					read <- struct{}{}
				}
				lines.ReadString('\n') // the end, and the trailer
				p := <-done
				if !slices.Equal(p.asked, []int{200}) || string(p.body) != "event\nevent\nevent\n" || p.resp.Err() != nil {
					t.Errorf("asked %v, watched %q, error %v; want [200], three events, nil", p.asked, p.body, p.resp.Err())
				}
				if got := res.Trailer.Get("Sum"); got != "18" || res.Header.Get("Hook") != "200" {
					t.Errorf("trailer %q, Hook %q; want 18, 200", got, res.Header.Get("Hook"))
				}
			})
		})
	}
}
