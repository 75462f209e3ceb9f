package respw_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The first event is at the client while the handler still runs, watched or not.
func TestResponse_streams(t *testing.T) {
	t.Parallel()
	for _, watch := range []bool{false, true} {
		onEach(t, func(t *testing.T, proto string) {
			read := make(chan struct{})
			h, done := probed(probe{watch: watch}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for _, event := range []string{"data: 1\n", "data: 2\n"} {
					io.WriteString(w, event)
					if err := http.NewResponseController(w).Flush(); err != nil {
						t.Error(err)
					}
					select {
					case <-read:
					case <-time.After(10 * time.Second):
						t.Error("the event did not arrive")
					}
				}
			})
			srv, _ := serve(t, proto, h)
			res, err := srv.Client().Get(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			lines := bufio.NewReader(res.Body)
			for _, want := range []string{"data: 1\n", "data: 2\n"} {
				if got, err := lines.ReadString('\n'); got != want {
					t.Errorf("got %q, %v; want %q", got, err, want)
				}
				read <- struct{}{}
			}
			if p := <-done; !slices.Equal(p.asked, []int{200}) || res.Header.Get("Hook") != "200" {
				t.Errorf("hook asked %v, field %q; want [200], \"200\"", p.asked, res.Header.Get("Hook"))
			}
		})
	}
}

// A refusal leaves with the handler's first flush: a client must not wait for
// it as long as the handler streams into the void. Red if Response.flush does
// not pass on the flush of a discarded response.
func TestResponse_refusalIsNotHeldBack(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, proto string) {
		h, done := probed(probe{refuse: true}, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				io.WriteString(w, "data: 1\n")
				w.(http.Flusher).Flush()
			}
		})
		srv, _ := serve(t, proto, h)
		res, err := srv.Client().Get(srv.URL)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 503 {
			t.Errorf("got %d; want 503", res.StatusCode)
		}
		res.Body.Close() // ends the handler
		<-done
	})
}

// A sourceListener's connections note what their ReadFrom is given: net/http
// calls it to let the kernel copy (sendfile).
type sourceListener struct {
	net.Listener
	mu      sync.Mutex
	sources []string
}

type sourceConn struct {
	*net.TCPConn
	l *sourceListener
}

func (l *sourceListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return sourceConn{c.(*net.TCPConn), l}, nil
}

func (c sourceConn) ReadFrom(src io.Reader) (int64, error) {
	inner := src
	if limited, ok := src.(*io.LimitedReader); ok {
		inner = limited.R
	}
	c.l.mu.Lock()
	c.l.sources = append(c.l.sources, fmt.Sprintf("%T", inner))
	c.l.mu.Unlock()
	return c.TCPConn.ReadFrom(src)
}

// A file gets to the connection as the file it is, except while somebody
// watches.
func TestResponse_sendfile(t *testing.T) {
	t.Parallel()
	file := fmt.Sprintf("%T", new(os.File))
	copyFile := func(w http.ResponseWriter, r *http.Request, f *os.File) {
		w.Header().Set("Content-Length", fmt.Sprint(len(bigBody)))
		// LimitedReader keeps *os.File's own WriteTo, which ends in the same
		// ReadFrom, out of the way.
		io.CopyN(w, f, int64(len(bigBody)))
	}
	tests := []struct {
		name    string
		kind    probe
		depth   int
		serve   func(http.ResponseWriter, *http.Request, *os.File)
		sources []string
		watched int
	}{
		{"Copy", probe{}, 1, copyFile, []string{file}, 0},
		{"Copy after WriteHeader", probe{}, 1, func(w http.ResponseWriter, r *http.Request, f *os.File) {
			w.Header().Set("Content-Length", fmt.Sprint(len(bigBody)))
			w.WriteHeader(200)
			io.CopyN(w, f, int64(len(bigBody)))
		}, []string{file}, 0},
		{"ServeContent", probe{}, 1, func(w http.ResponseWriter, r *http.Request, f *os.File) {
			http.ServeContent(w, r, "big.txt", time.Time{}, f)
		}, []string{file}, 0},
		{"three deep", probe{}, 3, copyFile, []string{file}, 0},
		{"watched", probe{watch: true}, 1, copyFile, nil, len(bigBody)},
		{"watched, then enough", probe{watch: true, limit: 1}, 1, copyFile, []string{file}, 512},
		{"refused", probe{refuse: true}, 1, copyFile, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := bigFile(t)
			h, done := probed(tt.kind, func(w http.ResponseWriter, r *http.Request) {
				for range tt.depth - 1 {
					w = wrap(w)
				}
				tt.serve(w, r, f)
			})
			inner, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			l := &sourceListener{Listener: inner}
			srv := &http.Server{Handler: h}
			go srv.Serve(l)
			t.Cleanup(func() { srv.Close() })

			res, err := http.Get("http://" + inner.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			p := <-done

			if want := bigBody; !tt.kind.refuse && string(body) != want {
				t.Errorf("body: got %d bytes; want %d, the file's", len(body), len(want))
			}
			if !slices.Equal(l.sources, tt.sources) {
				t.Errorf("the connection read from %q; want %q", l.sources, tt.sources)
			}
			if !tt.kind.refuse && p.resp.Written() != int64(len(bigBody)) {
				t.Errorf("Written: got %d; want %d", p.resp.Written(), len(bigBody))
			}
			if len(p.body) != tt.watched || !strings.HasPrefix(bigBody, string(p.body)) {
				t.Errorf("watched %d bytes; want the first %d", len(p.body), tt.watched)
			}
		})
	}
}

// A source that fails once the header is out cuts the body short, and Err knows.
func TestResponse_sourceFails(t *testing.T) {
	t.Parallel()
	for _, watch := range []bool{false, true} {
		h, done := probed(probe{watch: watch}, func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(w, io.MultiReader(plainReader("abc"), failing{}))
			if n != 3 || err == nil {
				t.Errorf("Copy: got %d, %v; want 3 and an error", n, err)
			}
		})
		srv, _ := serve(t, http1, h)
		got, err := ask(t, srv, "GET", "/", "")
		if err != nil {
			t.Fatal(err)
		}
		if p := <-done; p.resp.Err() == nil || p.resp.Written() != 3 || got.Body != "abc" {
			t.Errorf("watch %v: got error %v, written %d, body %q; want one, 3, \"abc\"", watch, p.resp.Err(), p.resp.Written(), got.Body)
		}
	}
}

// The watcher of a long body may stop; nothing else changes.
func TestResponse_watcherStops(t *testing.T) {
	t.Parallel()
	h, done := probed(probe{watch: true, limit: 3}, func(w http.ResponseWriter, r *http.Request) {
		for _, s := range []string{"a", "bcd", "ef", "g"} {
			io.WriteString(w, s)
		}
	})
	srv, _ := serve(t, http1, h)
	got, err := ask(t, srv, "GET", "/", "")
	if err != nil {
		t.Fatal(err)
	}
	p := <-done
	if got.Body != "abcdefg" || string(p.body) != "abcd" || p.resp.Written() != 7 {
		t.Errorf("got body %q, watched %q, written %d; want abcdefg, abcd, 7", got.Body, p.body, p.resp.Written())
	}
	if !reflect.DeepEqual(p.asked, []int{200}) {
		t.Errorf("asked %v; want [200]", p.asked)
	}
}
