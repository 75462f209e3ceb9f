package respw_test

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/respw"
)

const html = "<!DOCTYPE html><title>Weir</title>"

// paths are the ways a handler can answer with net/http's own means.
var paths = []struct {
	name    string
	method  string   // GET if empty
	header  []string // of the request
	sent    string   // body of the request
	handler http.HandlerFunc

	status           int
	body             string
	contentType      string
	trailer          http.Header
	informational    []string
	anyInformational bool
	written          int64 // len(body) if 0
	err              error
}{
	{
		name:    "nothing",
		handler: func(w http.ResponseWriter, r *http.Request) {},
		status:  200,
	},
	{
		name:        "Write",
		handler:     func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(html)) },
		status:      200,
		body:        html,
		contentType: "text/html; charset=utf-8",
	},
	{
		name: "WriteHeader, Write",
		handler: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(404)
			w.Write([]byte(html))
		},
		status:      404,
		body:        html,
		contentType: "text/html; charset=utf-8",
	},
	{
		name:    "WriteHeader only",
		handler: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(202) },
		status:  202,
	},
	{
		name:    "empty Write, WriteHeader",
		handler: func(w http.ResponseWriter, r *http.Request) { w.Write(nil); w.WriteHeader(500) },
		status:  200,
	},
	{
		name: "WriteString",
		handler: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, html)
			w.(io.StringWriter).WriteString("!")
		},
		status:      200,
		body:        html + "!",
		contentType: "text/html; charset=utf-8",
	},
	{
		name: "Flush, Write",
		handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			io.WriteString(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
			io.WriteString(w, "data: 2\n\n")
		},
		status:      200,
		body:        "data: 1\n\ndata: 2\n\n",
		contentType: "text/event-stream",
	},
	{
		name: "ResponseController.Flush, Write",
		handler: func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).Flush()
			io.WriteString(w, "a")
		},
		status: 200,
		body:   "a",
	},
	{
		name:        "Copy",
		handler:     func(w http.ResponseWriter, r *http.Request) { io.Copy(w, plainReader(bigBody)) },
		status:      200,
		body:        bigBody,
		contentType: "text/plain; charset=utf-8",
	},
	{
		name: "Copy of a source that fails at once, WriteHeader",
		handler: func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(w, failing{}); err != nil {
				http.Error(w, "no source", http.StatusBadGateway)
			}
		},
		status:      502,
		body:        "no source\n",
		contentType: "text/plain; charset=utf-8",
	},
	{
		name:        "ServeContent",
		handler:     serveBig,
		status:      200,
		body:        bigBody,
		contentType: "text/plain; charset=utf-8",
	},
	{
		name:        "ServeContent, range",
		header:      []string{"Range", "bytes=1000-99999"},
		handler:     serveBig,
		status:      206,
		body:        bigBody[1000:100000],
		contentType: "text/plain; charset=utf-8",
	},
	{
		name:    "ServeContent, not modified",
		header:  []string{"If-None-Match", `"big"`},
		handler: serveBig,
		status:  304,
	},
	{
		name: "Early Hints",
		handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(103)
			w.Header().Set("Link", "</b.css>")
			w.WriteHeader(103)
			w.WriteHeader(201)
			io.WriteString(w, "made")
		},
		status:        201,
		body:          "made",
		informational: []string{"103 </a.css>", "103 </b.css>"},
	},
	{
		name:          "Early Hints, nothing",
		handler:       func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(102) },
		status:        200,
		informational: []string{"102 "},
	},
	{
		name:   "100 Continue",
		method: "POST",
		sent:   "body",
		header: []string{"Expect", "100-continue"},
		handler: func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.WriteHeader(201)
			w.Write(b)
		},
		status:        201,
		body:          "body",
		informational: []string{"100 "},
	},
	{
		name:   "explicit 100 Continue",
		method: "POST",
		sent:   "body",
		header: []string{"Expect", "100-continue"},
		handler: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(100)
			b, _ := io.ReadAll(r.Body)
			w.Write(b)
		},
		status:           200,
		body:             "body",
		anyInformational: true, // HTTP/2 sends another one when the body is read
	},
	{
		name: "declared trailer",
		handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Sum")
			io.WriteString(w, "a")
			w.Header().Set("Sum", "1")
		},
		status:  200,
		body:    "a",
		trailer: http.Header{"Sum": {"1"}},
	},
	{
		name: "undeclared trailer",
		handler: func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			io.WriteString(w, "a")
			http.NewResponseController(w).Flush()
			h.Set(http.TrailerPrefix+"Sum", "1")
			w.Header().Set(http.TrailerPrefix+"Sum2", "2")
		},
		status:  200,
		body:    "a",
		trailer: http.Header{"Sum": {"1"}, "Sum2": {"2"}},
	},
	{
		name:        "HEAD",
		method:      "HEAD",
		handler:     func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(html)) },
		status:      200,
		contentType: "text/html; charset=utf-8",
		written:     int64(len(html)), // accepted, as net/http does
	},
	{
		name: "204",
		handler: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(204)
			if n, err := io.WriteString(w, "a"); n != 0 || err == nil {
				panic("204 took a body")
			}
		},
		status: 204,
		err:    http.ErrBodyNotAllowed,
	},
	{
		name: "304",
		handler: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(304)
			if n, err := io.Copy(w, plainReader("a")); n != 0 || err == nil {
				panic("304 took a body")
			}
		},
		status: 304,
		err:    http.ErrBodyNotAllowed,
	},
	{
		name: "deadlines",
		handler: func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			if err := errors.Join(
				rc.SetReadDeadline(time.Now().Add(time.Hour)),
				rc.SetWriteDeadline(time.Now().Add(time.Hour)),
				rc.EnableFullDuplex(),
			); err != nil {
				panic(err)
			}
			io.WriteString(w, "a")
		},
		status: 200,
		body:   "a",
	},
}

func TestResponse_passes(t *testing.T) {
	t.Parallel()
	for _, tt := range paths {
		for _, watch := range []bool{false, true} {
			name := tt.name
			if watch {
				name += ", watched"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				onEach(t, func(t *testing.T, proto string) {
					h, done := probed(probe{watch: watch}, tt.handler)
					srv, _ := serve(t, proto, h)
					got, err := ask(t, srv, method(tt.method), "/", tt.sent, tt.header...)
					if err != nil {
						t.Fatal(err)
					}
					p := <-done

					if got.Status != tt.status || got.Body != tt.body || got.BodyErr {
						t.Errorf("response: got %d %.80q (body cut: %v); want %d %.80q", got.Status, got.Body, got.BodyErr, tt.status, tt.body)
					}
					if ct := got.Header.Get("Content-Type"); tt.contentType != "" && ct != tt.contentType {
						t.Errorf("Content-Type: got %q; want %q", ct, tt.contentType)
					}
					if len(tt.trailer)+len(got.Trailer) > 0 && !reflect.DeepEqual(got.Trailer, tt.trailer) {
						t.Errorf("trailer: got %v; want %v", got.Trailer, tt.trailer)
					}
					if !tt.anyInformational && !slices.Equal(got.Informational, tt.informational) {
						t.Errorf("informational: got %q; want %q", got.Informational, tt.informational)
					}

					// The hook was asked once, in time for its field to leave.
					if want := []int{tt.status}; !slices.Equal(p.asked, want) {
						t.Errorf("hook: asked %v; want %v", p.asked, want)
					}
					if len(got.Header["Hook"]) != 1 {
						t.Errorf("Hook field: got %q; want it once", got.Header["Hook"])
					}
					written := max(tt.written, int64(len(tt.body)))
					if p.resp.Status() != tt.status || p.resp.Written() != written || p.resp.Hijacked() || p.resp.Discarded() {
						t.Errorf("Response: got status %d, written %d, hijacked %v, discarded %v; want %d, %d, false, false",
							p.resp.Status(), p.resp.Written(), p.resp.Hijacked(), p.resp.Discarded(), tt.status, written)
					}
					if err := p.resp.Err(); !errors.Is(err, tt.err) {
						t.Errorf("Err: got %v; want %v", err, tt.err)
					}
					if watch && int64(len(p.body)) != written {
						t.Errorf("watched: got %d bytes; want %d", len(p.body), written)
					}
					if watch && got.Body != "" && string(p.body) != got.Body {
						t.Errorf("watched: got %.80q; want %.80q", p.body, got.Body)
					}
				})
			})
		}
	}
}

// Without the loop in Response.Finish the handler's trailers come back; without
// a check of discarded in write, writeString or readFrom its body does.
func TestResponse_discards(t *testing.T) {
	t.Parallel()
	for _, tt := range paths {
		if tt.err != nil {
			continue // whether the body was allowed is not asked anymore
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			onEach(t, func(t *testing.T, proto string) {
				h, done := probed(probe{refuse: true}, tt.handler)
				srv, logged := serve(t, proto, h)
				got, err := ask(t, srv, method(tt.method), "/", tt.sent, tt.header...)
				if err != nil {
					t.Fatal(err)
				}
				p := <-done

				want := "refused\n"
				if tt.method == "HEAD" {
					want = ""
				}
				if got.Status != 503 || got.Body != want || got.BodyErr {
					t.Errorf("response: got %d %.80q (body cut: %v); want 503 %q", got.Status, got.Body, got.BodyErr, want)
				}
				if len(got.Trailer) > 0 {
					t.Errorf("trailer: got %v; want none", got.Trailer)
				}
				if !slices.Equal(p.asked, []int{tt.status}) {
					t.Errorf("hook: asked %v; want [%d]", p.asked, tt.status)
				}
				if p.resp.Status() != 0 || p.resp.Written() != 0 || p.resp.Err() != nil || !p.resp.Discarded() {
					t.Errorf("Response: got status %d, written %d, error %v, discarded %v; want 0, 0, nil, true",
						p.resp.Status(), p.resp.Written(), p.resp.Err(), p.resp.Discarded())
				}
				if s := logged.String(); s != "" {
					t.Errorf("server logged %q; want nothing", s)
				}
			})
		})
	}
}

// A discarded handler goes on as if all were well, and what it does goes
// nowhere: not into the header of the hook's answer (Response.header), not into
// the server's log (the first case of Response.writeHeader).
func TestResponse_discardedHandlerSeesNoError(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, proto string) {
		h, done := probed(probe{refuse: true}, func(w http.ResponseWriter, r *http.Request) {
			for range 2 {
				if n, err := w.Write([]byte("four")); n != 4 || err != nil {
					t.Errorf("Write: got %d, %v; want 4, nil", n, err)
				}
				if n, err := io.WriteString(w, "four"); n != 4 || err != nil {
					t.Errorf("WriteString: got %d, %v; want 4, nil", n, err)
				}
				src := strings.NewReader(bigBody)
				if n, err := io.Copy(w, struct{ io.Reader }{src}); n != int64(len(bigBody)) || err != nil || src.Len() != 0 {
					t.Errorf("Copy: got %d, %v and left %d; want %d, nil, 0", n, err, src.Len(), len(bigBody))
				}
				w.WriteHeader(103)
				w.WriteHeader(200)
				w.Header().Set("Late", "1")
				if got := w.Header().Get("Late"); got != "1" {
					t.Errorf("Header: got %q; want it to keep what is set", got)
				}
			}
			if err := http.NewResponseController(w).Flush(); err != respw.ErrDiscarded {
				t.Errorf("Flush: got %v; want %v", err, respw.ErrDiscarded)
			}
			if got := w.(interface{ Unwrap() http.ResponseWriter }).Unwrap().Header().Get("Late"); got != "" {
				t.Errorf("Late field in the answer's header: %q; want none", got)
			}
		})
		srv, logged := serve(t, proto, h)
		got, err := ask(t, srv, "GET", "/", "")
		if err != nil {
			t.Fatal(err)
		}
		if p := <-done; got.Status != 503 || len(got.Informational) > 0 || len(p.asked) != 1 {
			t.Errorf("got %d, informational %q, asked %v; want 503, none, once", got.Status, got.Informational, p.asked)
		}
		if s := logged.String(); s != "" {
			t.Errorf("server logged %q; want nothing", s)
		}
	})
}

// bigBody is longer than every buffer on its way.
var bigBody = strings.Repeat("0123456789abcde\n", 20000)

func plainReader(s string) io.Reader { return struct{ io.Reader }{strings.NewReader(s)} }

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("no source") }

func serveBig(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"big"`)
	http.ServeContent(w, r, "big.txt", time.Time{}, strings.NewReader(bigBody))
}

func bigFile(t testing.TB) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "big.txt")
	if err := os.WriteFile(name, []byte(bigBody), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func method(m string) string {
	if m == "" {
		return "GET"
	}
	return m
}
