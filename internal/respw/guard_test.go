package respw_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/respw"
)

// guarded is a hook that lets all pass, and a guard that lets so many pieces pass.
type guarded struct {
	resp  respw.Response
	left  int
	asked int
}

var errShut = errors.New("shut")

func (g *guarded) BeforeHeader(int) bool { return true }

func (g *guarded) BeforeWrite() error {
	g.asked++
	if g.asked > g.left {
		return errShut
	}
	return nil
}

// Whatever way the handler writes, the guard is asked before, and what it refuses does
// not leave.
//
// Red without admit in write, writeString, flush or hijack, or with a ReadFrom that
// goes to the writer below.
func TestResponse_guard(t *testing.T) {
	t.Parallel()
	ways := map[string]func(w http.ResponseWriter) error{
		"Write":       func(w http.ResponseWriter) error { _, err := w.Write([]byte("x")); return err },
		"WriteString": func(w http.ResponseWriter) error { _, err := io.WriteString(w, "x"); return err },
		"ReadFrom": func(w http.ResponseWriter) error {
			_, err := w.(io.ReaderFrom).ReadFrom(strings.NewReader("x"))
			return err
		},
		"Flush": func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"Hijack": func(w http.ResponseWriter) error {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
			return err
		},
	}
	for name, way := range ways {
		for _, begun := range []bool{false, true} {
			var got, first error
			var passed int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				g := new(guarded)
				if begun {
					g.left = 1
				}
				wrapped := g.resp.Wrap(w, g)
				g.resp.Guard(g)
				if begun {
					io.WriteString(wrapped, "begun")
				}
				got = way(wrapped)
				first, passed = g.resp.Err(), g.resp.Written()
				panic(http.ErrAbortHandler)
			}))
			resp, err := srv.Client().Get(srv.URL)
			if err == nil {
				resp.Body.Close()
				t.Errorf("%s, begun %v: an answer arrived", name, begun)
			}
			srv.Close()
			if !errors.Is(got, errShut) || !errors.Is(first, errShut) {
				t.Errorf("%s, begun %v: got %v, first error %v; want the guard's", name, begun, got, first)
			}
			if want := int64(len("begun")); begun && passed != want || !begun && passed != 0 {
				t.Errorf("%s, begun %v: %d bytes passed", name, begun, passed)
			}
		}
	}
}

// A copy stops at the piece that the guard refuses.
func TestResponse_guardStopsACopy(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	g := &guarded{left: 2}
	w := g.resp.Wrap(struct {
		http.ResponseWriter
		io.ReaderFrom
	}{rec, readFrom{rec}}, g)
	g.resp.Guard(g)
	src := io.MultiReader(strings.NewReader("a"), strings.NewReader("b"), strings.NewReader("c"), strings.NewReader("d"))
	n, err := w.(io.ReaderFrom).ReadFrom(struct{ io.Reader }{src})
	if n != 2 || !errors.Is(err, errShut) || rec.Body.String() != "ab" {
		t.Errorf("%d copied, %v, %q; want 2, the guard's error, ab", n, err, rec.Body)
	}
}

// readFrom copies all at once, past any guard.
type readFrom struct{ w io.Writer }

func (r readFrom) ReadFrom(src io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{r.w}, src)
}
