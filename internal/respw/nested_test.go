package respw_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/respw"
)

// A layer is one of several nested hooks. They share the log.
type layer struct {
	resp   respw.Response
	w      http.ResponseWriter
	name   string
	refuse bool
	log    *[]string
	seen   []byte
}

func (l *layer) BeforeHeader(status int) bool {
	*l.log = append(*l.log, fmt.Sprint(l.name, " ", status, " ", l.w.Header()["By"]))
	if l.refuse {
		l.w.WriteHeader(503)
		io.WriteString(l.w, "refused by "+l.name)
		return false
	}
	l.w.Header().Add("By", l.name)
	l.resp.Watch(l)
	return true
}

func (l *layer) Body(p []byte) bool { l.seen = append(l.seen, p...); return true }

// Three deep: each hook once, the innermost first, and each outer one asked for
// what the inner one let out.
func TestResponse_nested(t *testing.T) {
	t.Parallel()
	ways := []struct {
		name   string
		do     func(w http.ResponseWriter)
		status int
		body   string
	}{
		{"nothing", func(w http.ResponseWriter) {}, 200, ""},
		{"WriteHeader", func(w http.ResponseWriter) { w.WriteHeader(404); w.WriteHeader(200) }, 404, ""},
		{"Write", func(w http.ResponseWriter) { w.Write([]byte("a")); w.Write([]byte("b")) }, 200, "ab"},
		{"WriteString", func(w http.ResponseWriter) { io.WriteString(w, "a") }, 200, "a"},
		{"Copy", func(w http.ResponseWriter) { io.Copy(w, plainReader(bigBody)) }, 200, bigBody},
		{"Flush", func(w http.ResponseWriter) { w.(http.Flusher).Flush(); io.WriteString(w, "a") }, 200, "a"},
		{"Early Hints", func(w http.ResponseWriter) { w.WriteHeader(103); w.WriteHeader(201) }, 201, ""},
	}
	refusals := []struct {
		by   string
		log  string // with %d for the handler's status
		body string
	}{
		{"", "in %[1]d []; mid %[1]d [in]; out %[1]d [in mid]", ""},
		{"in", "in %d []; mid 503 []; out 503 [mid]", "refused by in"},
		{"mid", "in %[1]d []; mid %[1]d [in]; out 503 [in]", "refused by mid"},
		{"out", "in %[1]d []; mid %[1]d [in]; out %[1]d [in mid]", "refused by out"},
	}
	for _, way := range ways {
		for _, refusal := range refusals {
			t.Run(way.name+", refused by "+refusal.by, func(t *testing.T) {
				t.Parallel()
				onEach(t, func(t *testing.T, proto string) {
					var log []string
					layers := make(chan *layer, 3)
					var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { way.do(w) })
					for _, name := range []string{"in", "mid", "out"} {
						next := h
						h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							l := &layer{w: w, name: name, refuse: name == refusal.by, log: &log}
							next.ServeHTTP(l.resp.Wrap(w, l), r)
							l.resp.Finish()
							layers <- l
						})
					}
					srv, _ := serve(t, proto, h)
					got, err := ask(t, srv, "GET", "/", "")
					if err != nil {
						t.Fatal(err)
					}
					status, body := way.status, way.body
					if refusal.by != "" {
						status, body = 503, refusal.body
					}
					if got.Status != status || got.Body != body {
						t.Errorf("got %d %.80q; want %d %.80q", got.Status, got.Body, status, body)
					}
					refused := false
					for range 3 { // in, mid, out
						l := <-layers
						want := body
						switch {
						case l.name == refusal.by:
							refused = true
							want = ""
						case !refused && refusal.by != "":
							continue // it saw what it let out, which was lost above it
						}
						if string(l.seen) != want {
							t.Errorf("%s saw %.80q; want %.80q", l.name, l.seen, want)
						}
					}
					if want := fmt.Sprintf(refusal.log, way.status); strings.Join(log, "; ") != want {
						t.Errorf("hooks: got %q; want %q", strings.Join(log, "; "), want)
					}
				})
			})
		}
	}
}

func TestResponse_nestedUpgrade(t *testing.T) {
	t.Parallel()
	for _, tt := range takes {
		var log []string
		h, done := probed(probe{}, func(w http.ResponseWriter, r *http.Request) {
			for _, name := range []string{"out", "mid", "in"} {
				l := &layer{w: w, name: name, log: &log}
				w = l.resp.Wrap(w, l)
			}
			switching(t, tt.take)(w, r)
		})
		srv, _ := serve(t, http1, h)
		res, line := upgrade(t, srv.Listener.Addr().String())
		<-done
		want := strings.ReplaceAll("in N []; mid N [in]; out N [in mid]", "N", fmt.Sprint(tt.asked))
		if res.StatusCode != 101 || line != "echo hello\n" || strings.Join(log, "; ") != want {
			t.Errorf("%s: got %d, %q, %q; want 101, \"echo hello\", %q", tt.name, res.StatusCode, line, log, want)
		}
	}
}

// Superfluous calls reach net/http, which ignores and logs them as it always
// does, once, and not the hook.
func TestResponse_superfluousWriteHeader(t *testing.T) {
	t.Parallel()
	h, done := probed(probe{}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(201)
		w.WriteHeader(500)
		w.WriteHeader(103)
	})
	srv, logged := serve(t, http1, h)
	got, err := ask(t, srv, "GET", "/", "")
	if err != nil {
		t.Fatal(err)
	}
	p := <-done
	if got.Status != 201 || !slices.Equal(p.asked, []int{201}) || p.resp.Status() != 201 || len(got.Informational) > 0 {
		t.Errorf("got %d, asked %v, Status %d, informational %q; want 201, once, 201, none", got.Status, p.asked, p.resp.Status(), got.Informational)
	}
	if n := strings.Count(logged.String(), "superfluous response.WriteHeader"); n != 2 {
		t.Errorf("logged %d times; want 2: %s", n, logged)
	}
}

// A handler's panic, http.ErrAbortHandler too, reaches net/http with the hook
// left alone.
func TestResponse_handlerPanics(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, proto string) {
		for _, value := range []any{http.ErrAbortHandler, "oops"} {
			for _, write := range []bool{false, true} {
				h, done := probed(probe{}, func(w http.ResponseWriter, r *http.Request) {
					if write {
						io.WriteString(w, "a")
						http.NewResponseController(w).Flush()
					}
					panic(value)
				})
				srv, logged := serve(t, proto, h)
				got, err := ask(t, srv, "GET", "/", "")
				p := <-done
				if !write && err == nil || write && !got.BodyErr {
					t.Errorf("%v, write %v: got %+v; want it cut", value, write, got)
				}
				if asked := len(p.asked) > 0; asked != write {
					t.Errorf("%v, write %v: hook asked %v", value, write, p.asked)
				}
				srv.Close()
				// HTTP/2 logs after it has reset the stream, which nobody waits for.
				if quiet := logged.String() == ""; proto == http1 && quiet != (value == http.ErrAbortHandler) {
					t.Errorf("%v: server logged %q", value, logged)
				}
			}
		}
	})
}

type panicking struct {
	resp  respw.Response
	calls int
}

func (p *panicking) BeforeHeader(int) bool { p.calls++; panic("hook") }

// A hook's panic passes the handler; what a recovery writes goes out unasked.
func TestResponse_hookPanics(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, proto string) {
		srv, _ := serve(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p := new(panicking)
			w = p.resp.Wrap(w, p)
			func() {
				defer func() {
					if v := recover(); v != "hook" {
						t.Errorf("recovered %v; want the hook's panic", v)
					}
					w.WriteHeader(500)
					io.WriteString(w, "recovered")
				}()
				io.WriteString(w, "page")
			}()
			p.resp.Finish()
			if p.calls != 1 || p.resp.Status() != 500 {
				t.Errorf("hook called %d times, status %d; want once, 500", p.calls, p.resp.Status())
			}
		}))
		got, err := ask(t, srv, "GET", "/", "")
		if err != nil || got.Status != 500 || got.Body != "recovered" {
			t.Errorf("got %d %q, %v; want 500 recovered", got.Status, got.Body, err)
		}
	})
}
