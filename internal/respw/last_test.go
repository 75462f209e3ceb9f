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

// scripted is a hook that runs a function, and a watcher that collects.
type scripted struct {
	before func() bool
	seen   strings.Builder
}

func (s *scripted) BeforeHeader(int) bool   { return s.before() }
func (s *scripted) Body(p []byte) bool      { s.seen.Write(p); return true }
func (s *scripted) collected() (got string) { return s.seen.String() }

// The piece that completes the length is announced before it is passed on. Without
// the call in write the client has it first.
func TestResponse_BeforeLast(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		length int64
		write  func(http.ResponseWriter)
		last   string // the piece announced
		out    string // what has left by then
	}{
		{"in pieces", 4, func(w http.ResponseWriter) { _, _ = w.Write([]byte("ab")); _, _ = io.WriteString(w, "cd") }, "cd", "ab"},
		{"in one", 4, func(w http.ResponseWriter) { _, _ = io.WriteString(w, "abcd") }, "abcd", ""},
		{"too many", 4, func(w http.ResponseWriter) { _, _ = io.WriteString(w, "abc"); _, _ = io.WriteString(w, "def") }, "def", "abc"},
		{"too few", 4, func(w http.ResponseWriter) { _, _ = io.WriteString(w, "abc") }, "-", "-"},
		{"empty pieces", 4, func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, "abcd")
			_, _ = w.Write(nil)
		}, "abcd", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r respw.Response
			rec := httptest.NewRecorder()
			last, out, calls := "-", "-", 0
			s := &scripted{}
			s.before = func() bool {
				r.Watch(s)
				r.BeforeLast(tt.length, func(p []byte) { last, out = string(p), rec.Body.String(); calls++ })
				return true
			}
			tt.write(r.Wrap(rec, s))
			r.Finish()
			if last != tt.last || out != tt.out || calls > 1 {
				t.Errorf("got %q with %q out, %d calls; want %q with %q", last, out, calls, tt.last, tt.out)
			}
			if s.collected() != rec.Body.String() {
				t.Errorf("the watcher saw %q of %q", s.collected(), rec.Body.String())
			}
		})
	}
}

// What a hook that has answered itself discards can be watched, however it is written.
func TestResponse_watchesWhatIsDiscarded(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(http.ResponseWriter){
		"Write":       func(w http.ResponseWriter) { _, _ = w.Write([]byte("ab")); _, _ = w.Write([]byte("cd")) },
		"WriteString": func(w http.ResponseWriter) { _, _ = io.WriteString(w, "abcd") },
		"ReadFrom":    func(w http.ResponseWriter) { _, _ = io.Copy(w, io.LimitReader(strings.NewReader("abcd"), 4)) },
	} {
		var r respw.Response
		rec := httptest.NewRecorder()
		s := &scripted{}
		s.before = func() bool {
			_, _ = io.WriteString(rec, "own")
			r.Watch(s)
			return false
		}
		write(r.Wrap(rec, s))
		r.Finish()
		if s.collected() != "abcd" || rec.Body.String() != "own" {
			t.Errorf("%s: saw %q, sent %q; want abcd and own", name, s.collected(), rec.Body.String())
		}
	}
}

// Nothing leaves of a response that was withdrawn, not even its header by a Flush.
func TestResponse_Withdraw(t *testing.T) {
	t.Parallel()
	var r respw.Response
	rec := httptest.NewRecorder()
	s := &scripted{before: func() bool { r.Withdraw(); return false }}
	w := r.Wrap(rec, s)
	w.WriteHeader(http.StatusNotModified)
	if err := http.NewResponseController(w).Flush(); !errors.Is(err, respw.ErrDiscarded) || rec.Flushed {
		t.Errorf("Flush: got %v, flushed %v; want %v and nothing sent", err, rec.Flushed, respw.ErrDiscarded)
	}
	r.Finish()
	if rec.Flushed || rec.Body.Len() > 0 {
		t.Errorf("sent %d %q", rec.Code, rec.Body)
	}
}
