package respw_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/respw"
)

// base is a writer without any optional method, that notes what reaches it.
type base struct {
	calls []string
	fail  error
}

func (b *base) note(format string, args ...any) {
	b.calls = append(b.calls, fmt.Sprintf(format, args...))
}
func (b *base) Header() http.Header    { return http.Header{} }
func (b *base) WriteHeader(status int) { b.note("WriteHeader %d", status) }
func (b *base) Write(p []byte) (int, error) {
	b.note("Write %s", p)
	if b.fail != nil {
		return len(p) / 2, b.fail
	}
	return len(p), nil
}

// The optional methods, each to be put on a base.
type (
	flusher      struct{ b *base }
	flusherError struct{ b *base }
	hijacker     struct{ b *base }
	readerFrom   struct{ b *base }
)

func (f flusher) Flush()                 { f.b.note("Flush") }
func (f flusherError) FlushError() error { f.b.note("FlushError"); return f.b.fail }
func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	h.b.note("Hijack")
	return nil, nil, h.b.fail
}
func (r readerFrom) ReadFrom(src io.Reader) (int64, error) {
	b, err := io.ReadAll(src)
	r.b.note("ReadFrom %s", b)
	return int64(len(b)), errors.Join(err, r.b.fail)
}

// opaque is a middleware's writer that hides everything; unwrapping one that
// hides everything but Unwrap.
type (
	opaque     struct{ http.ResponseWriter }
	unwrapping struct{ http.ResponseWriter }
)

func (u unwrapping) Unwrap() http.ResponseWriter { return u.ResponseWriter }

// below lists writers with every combination of optional methods.
func below(b *base) []struct {
	name                       string
	w                          http.ResponseWriter
	flushes, hijacks, readFrom bool
} {
	type has = struct {
		name                       string
		w                          http.ResponseWriter
		flushes, hijacks, readFrom bool
	}
	full := struct {
		*base
		flusher
		hijacker
		readerFrom
	}{b, flusher{b}, hijacker{b}, readerFrom{b}}
	return []has{
		{"nothing", b, false, false, false},
		{"F", struct {
			*base
			flusher
		}{b, flusher{b}}, true, false, false},
		{"FlushError", struct {
			*base
			flusherError
		}{b, flusherError{b}}, true, false, false},
		{"H", struct {
			*base
			hijacker
		}{b, hijacker{b}}, false, true, false},
		{"R", struct {
			*base
			readerFrom
		}{b, readerFrom{b}}, false, false, true},
		{"FH", struct {
			*base
			flusher
			hijacker
		}{b, flusher{b}, hijacker{b}}, true, true, false},
		{"FR", struct {
			*base
			flusher
			readerFrom
		}{b, flusher{b}, readerFrom{b}}, true, false, true},
		{"HR", struct {
			*base
			hijacker
			readerFrom
		}{b, hijacker{b}, readerFrom{b}}, false, true, true},
		{"FHR", full, true, true, true},
		{"opaque FHR", opaque{full}, false, false, false},
		{"unwrapping FHR", unwrapping{full}, true, true, false},
		{"unwrapping twice FHR", unwrapping{unwrapping{full}}, true, true, false},
		{"unwrapping opaque FHR", unwrapping{opaque{full}}, false, false, false},
		{"unwrapping nil", unwrapping{nil}, false, false, false},
		{"wrapped nothing", wrap(b), false, false, false},
		{"wrapped FHR", wrap(full), true, true, true},
		{"wrapped unwrapping FHR", wrap(unwrapping{full}), true, true, false},
	}
}

func wrap(w http.ResponseWriter) http.ResponseWriter {
	p := &probe{w: w}
	return p.resp.Wrap(w, p)
}

func TestWrap_advertisesWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, tt := range below(new(base)) {
		t.Run(tt.name, func(t *testing.T) {
			w := wrap(tt.w)
			_, flushes := w.(http.Flusher)
			_, flushErrors := w.(interface{ FlushError() error })
			_, hijacks := w.(http.Hijacker)
			_, readFrom := w.(io.ReaderFrom)
			_, unwraps := w.(interface{ Unwrap() http.ResponseWriter })
			_, strings := w.(io.StringWriter)
			if flushes != tt.flushes || flushErrors != tt.flushes || hijacks != tt.hijacks || readFrom != tt.readFrom || !unwraps || !strings {
				t.Errorf("got Flush %v, FlushError %v, Hijack %v, ReadFrom %v, Unwrap %v, WriteString %v; want %v, %[7]v, %[8]v, %[9]v, true, true",
					flushes, flushErrors, hijacks, readFrom, unwraps, strings, tt.flushes, tt.hijacks, tt.readFrom)
			}
		})
	}
}

// Over a server's real writers: no Hijack on HTTP/2, and a controller that
// agrees with the bare writer's on every method.
func TestWrap_advertisesWhatTheProtocolHas(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, proto string) {
		srv, _ := serve(t, proto, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Proto != proto {
				t.Errorf("protocol: got %s; want %s", r.Proto, proto)
			}
			for _, wrapped := range []http.ResponseWriter{wrap(w), wrap(wrap(wrap(w)))} {
				_, hijacks := wrapped.(http.Hijacker)
				_, bareHijacks := w.(http.Hijacker)
				_, reads := wrapped.(io.ReaderFrom)
				_, bareReads := w.(io.ReaderFrom)
				_, flushes := wrapped.(http.Flusher)
				if hijacks != bareHijacks || reads != bareReads || !flushes {
					t.Errorf("got Hijack %v, ReadFrom %v, Flush %v; want %v, %v, true", hijacks, reads, flushes, bareHijacks, bareReads)
				}
				rc := http.NewResponseController(wrapped)
				if err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}), rc.EnableFullDuplex()); err != nil {
					t.Error(err)
				}
				if _, _, err := rc.Hijack(); proto == http2 && !errors.Is(err, http.ErrNotSupported) {
					t.Errorf("Hijack on HTTP/2: got %v; want %v", err, http.ErrNotSupported)
				}
				if proto == http1 {
					return // it is hijacked now
				}
			}
		}))
		ask(t, srv, "GET", "/", "") // HTTP/1.1 ends without a response
	})
}

// Whatever else a writer has, io.Copy reaches its ReadFrom and no other's.
func TestWrap_readsFromBelow(t *testing.T) {
	t.Parallel()
	for i, tt := range below(new(base)) {
		if tt.name == "unwrapping nil" {
			continue // has no Write
		}
		b := new(base)
		w := wrap(below(b)[i].w)
		w.WriteHeader(200)
		if n, err := io.Copy(w, plainReader("abc")); n != 3 || err != nil {
			t.Errorf("%s: got %d, %v; want 3, nil", tt.name, n, err)
		}
		want := []string{"WriteHeader 200", "Write abc"}
		if tt.readFrom {
			want[1] = "ReadFrom abc"
		}
		if !slices.Equal(b.calls, want) {
			t.Errorf("%s: calls %q; want %q", tt.name, b.calls, want)
		}
	}
}

// A Response that is used again starts anew.
func TestWrap_forgets(t *testing.T) {
	t.Parallel()
	p := &probe{w: new(base), refuse: true}
	io.WriteString(p.resp.Wrap(p.w, p), "lost")
	b := new(base)
	p.refuse, p.w = false, b
	io.WriteString(p.resp.Wrap(b, p), "kept")
	if p.resp.Discarded() || p.resp.Written() != 4 || len(p.asked) != 2 || !slices.Equal(b.calls, []string{"Write kept"}) {
		t.Errorf("got discarded %v, written %d, asked %v, calls %q; want false, 4, twice, one", p.resp.Discarded(), p.resp.Written(), p.asked, b.calls)
	}
}

// A ResponseController must not walk past the hook. It would, if Wrap asked only
// the writer right below (see reaches): "unwrapping FHR" goes red then.
func TestWrap_controllerMeetsTheHook(t *testing.T) {
	t.Parallel()
	calls := map[string]func(http.ResponseWriter) error{
		"Flush":  func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"Hijack": func(w http.ResponseWriter) error { _, _, err := http.NewResponseController(w).Hijack(); return err },
	}
	for name, call := range calls {
		for i, tt := range below(new(base)) {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				if tt.name == "unwrapping nil" {
					t.Skip("has no Write")
				}
				b := new(base)
				under := below(b)[i].w
				p := &probe{w: under}
				err := call(p.resp.Wrap(under, p))
				supported := name == "Flush" && tt.flushes || name == "Hijack" && tt.hijacks
				if !supported {
					if !errors.Is(err, http.ErrNotSupported) || len(p.asked) > 0 || len(b.calls) > 0 {
						t.Errorf("got %v, hook asked %v, calls %q; want %v, never, none", err, p.asked, b.calls, http.ErrNotSupported)
					}
					return
				}
				if err != nil || len(p.asked) != 1 || len(b.calls) != 1 {
					t.Errorf("got %v, hook asked %v, calls %q; want nil, once, one", err, p.asked, b.calls)
				}
				if got := p.resp.Hijacked(); got != (name == "Hijack") {
					t.Errorf("Hijacked: got %v", got)
				}
			})
		}
	}
}

func TestResponse_firstError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	tests := []struct {
		name    string
		do      func(http.ResponseWriter)
		written int64
		seen    string
	}{
		{"Write", func(w http.ResponseWriter) { w.Write([]byte("abcd")) }, 2, "ab"},
		{"WriteString", func(w http.ResponseWriter) { io.WriteString(w, "abcd") }, 2, "ab"},
		{"Copy", func(w http.ResponseWriter) { io.Copy(w, plainReader("abcd")) }, 2, "ab"},
		{"Flush", func(w http.ResponseWriter) { http.NewResponseController(w).Flush() }, 0, ""},
	}
	for _, tt := range tests {
		b := &base{fail: broken}
		under := struct {
			*base
			flusherError
			readerFrom
		}{b, flusherError{b}, readerFrom{b}}
		p := &probe{w: under, watch: true}
		w := p.resp.Wrap(under, p)
		tt.do(w)
		b.fail = errors.New("another")
		http.NewResponseController(w).Flush()
		if p.resp.Err() != broken || p.resp.Written() != tt.written || string(p.body) != tt.seen {
			t.Errorf("%s: got %v, written %d, seen %q; want %v, %d, %q", tt.name, p.resp.Err(), p.resp.Written(), p.body, broken, tt.written, tt.seen)
		}
	}
}

type shortWriter struct{ *base }

func (shortWriter) Write(p []byte) (int, error) { return len(p) - 1, nil }

func TestResponse_shortWrite(t *testing.T) {
	t.Parallel()
	b := new(base)
	under := struct {
		shortWriter
		readerFrom
	}{shortWriter{b}, readerFrom{b}}
	p := &probe{w: under, watch: true}
	n, err := io.Copy(p.resp.Wrap(under, p), plainReader("abc"))
	if n != 2 || err != io.ErrShortWrite || p.resp.Err() != err || string(p.body) != "ab" {
		t.Errorf("got %d, %v, Err %v, watched %q; want 2, %v twice, ab", n, err, p.resp.Err(), p.body, io.ErrShortWrite)
	}
}

func TestResponse_hijackFails(t *testing.T) {
	t.Parallel()
	b := &base{fail: errors.New("no")}
	under := struct {
		*base
		hijacker
	}{b, hijacker{b}}
	p := &probe{w: under}
	w := p.resp.Wrap(under, p)
	if _, _, err := w.(http.Hijacker).Hijack(); err != b.fail {
		t.Errorf("Hijack: got %v; want %v", err, b.fail)
	}
	w.WriteHeader(502)
	p.resp.Finish()
	if p.resp.Hijacked() || p.resp.Status() != 502 || !slices.Equal(p.asked, []int{0}) {
		t.Errorf("got hijacked %v, status %d, asked %v; want false, 502, [0]", p.resp.Hijacked(), p.resp.Status(), p.asked)
	}
}

// Without the range check in Response.writeHeader the hook is asked first.
func TestResponse_invalidStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []int{-1, 0, 99, 1000} {
		bare, wrapped := new(base), &probe{w: new(base)}
		w := wrapped.resp.Wrap(bare, wrapped)
		func() {
			defer func() {
				want := fmt.Sprintf("invalid WriteHeader code %d", status)
				if got := recover(); got != want {
					t.Errorf("WriteHeader(%d): panicked with %v; want %q", status, got, want)
				}
			}()
			w.WriteHeader(status)
		}()
		if len(wrapped.asked) > 0 || len(bare.calls) > 0 {
			t.Errorf("WriteHeader(%d): hook asked %v, calls %q; want neither", status, wrapped.asked, bare.calls)
		}
		w.WriteHeader(500)
		if !slices.Equal(wrapped.asked, []int{500}) {
			t.Errorf("asked %v afterwards; want [500]", wrapped.asked)
		}
		w.WriteHeader(status) // superfluous: not ours to judge, as in net/http
	}
}

var _ respw.Hook = (*probe)(nil)
var _ respw.Watcher = (*probe)(nil)
