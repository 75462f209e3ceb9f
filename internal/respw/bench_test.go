package respw_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/go-weir/weir/internal/respw"
)

// sink has net/http's optional methods and drops everything.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header                          { return s.header }
func (s *sink) WriteHeader(int)                              {}
func (s *sink) Write(p []byte) (int, error)                  { return len(p), nil }
func (s *sink) WriteString(p string) (int, error)            { return len(p), nil }
func (s *sink) Flush()                                       {}
func (s *sink) FlushError() error                            { return nil }
func (s *sink) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }
func (s *sink) ReadFrom(src io.Reader) (int64, error)        { return 0, nil }
func (s *sink) BeforeHeader(int) bool                        { return true }
func (s *sink) Body([]byte) bool                             { return true }

// passing is the smallest wrapper: a response and the hook around it.
type passing struct {
	resp  respw.Response
	watch bool
}

func (h *passing) BeforeHeader(int) bool {
	if h.watch {
		h.resp.Watch(h)
	}
	return true
}
func (h *passing) Body([]byte) bool { return true }

// within runs handler behind n wrappers.
func within(n int, watch bool, handler func(http.ResponseWriter)) func(http.ResponseWriter) {
	if n == 0 {
		return handler
	}
	next := within(n-1, watch, handler)
	return func(w http.ResponseWriter) {
		h := &passing{watch: watch}
		next(h.resp.Wrap(w, h))
		h.resp.Finish()
	}
}

var page = make([]byte, 4<<10)

func answerTwice(w http.ResponseWriter) {
	w.WriteHeader(http.StatusOK)
	w.Write(page)
	w.(http.Flusher).Flush()
	w.Write(page)
}

// One allocation for each wrapper, its own struct, whatever it then does: about
// 65 ns and 128 bytes here.
func BenchmarkResponse(b *testing.B) {
	for _, c := range []struct {
		name  string
		deep  int
		watch bool
	}{
		{"bare", 0, false},
		{"wrapped", 1, false},
		{"watched", 1, true},
		{"three deep", 3, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			serve := within(c.deep, c.watch, answerTwice)
			w := &sink{header: make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				serve(w)
			}
		})
	}
}

func TestResponse_allocatesNothingButItself(t *testing.T) {
	for deep := range 4 {
		serve := within(deep, true, answerTwice)
		w := &sink{header: make(http.Header)}
		if got := testing.AllocsPerRun(100, func() { serve(w) }); got != float64(deep) {
			t.Errorf("allocations with %d wrappers: got %v; want %d", deep, got, deep)
		}
	}
}
