package respw

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// Wrap returns the writer to hand to the handler in place of w. It forgets
// whatever r knew of another response.
//
// The writer has the optional methods that w has; see the package's Guarantees.
// Wrap allocates nothing: every kind of writer below is a single pointer to r,
// which an interface holds as it is. BenchmarkResponse shows the one allocation,
// of r itself with the hook around it.
func (r *Response) Wrap(w http.ResponseWriter, h Hook) http.ResponseWriter {
	*r = Response{w: w, hook: h}

	const (
		flushes = 1 << iota
		hijacks
		readsFrom
	)
	can := 0
	if reaches[interface{ FlushError() error }](w) || reaches[http.Flusher](w) {
		can |= flushes
	}
	if reaches[http.Hijacker](w) {
		can |= hijacks
	}
	// Not through Unwrap: that would pass by a Write in between.
	if _, ok := w.(io.ReaderFrom); ok {
		can |= readsFrom
	}

	plain := writer{r}
	switch can {
	case flushes:
		return writerF{plain}
	case hijacks:
		return writerH{plain}
	case readsFrom:
		return writerR{plain}
	case flushes | hijacks:
		return writerFH{writerF{plain}}
	case flushes | readsFrom:
		return writerFR{writerF{plain}}
	case hijacks | readsFrom:
		return writerHR{writerH{plain}}
	case flushes | hijacks | readsFrom:
		return writerFHR{writerFH{writerF{plain}}}
	}
	return plain
}

// reaches reports whether an http.ResponseController of w would find a T: in w
// or in what it unwraps to. Asking w alone is not enough. A ResponseController
// of our writer would, finding no Flush in ours, unwrap down to that T and send
// the header behind the hook's back.
func reaches[T any](w http.ResponseWriter) bool {
	for {
		if _, ok := w.(T); ok {
			return true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// writer is what a handler sees of a Response. The kinds after it add the
// optional methods: F flushes, H hijacks, R reads from. There is a type for each
// combination because a handler finds out by type assertion what it can do.
type writer struct{ r *Response }

func (w writer) Header() http.Header               { return w.r.header() }
func (w writer) WriteHeader(status int)            { w.r.writeHeader(status) }
func (w writer) Write(p []byte) (int, error)       { return w.r.write(p) }
func (w writer) WriteString(s string) (int, error) { return w.r.writeString(s) }
func (w writer) Unwrap() http.ResponseWriter       { return w.r.w }

type writerF struct{ writer }

func (w writerF) Flush()            { _ = w.r.flush() }
func (w writerF) FlushError() error { return w.r.flush() }

type writerH struct{ writer }

func (w writerH) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.r.hijack() }

type writerR struct{ writer }

func (w writerR) ReadFrom(src io.Reader) (int64, error) { return w.r.readFrom(src) }

type writerFH struct{ writerF }

func (w writerFH) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.r.hijack() }

type writerFR struct{ writerF }

func (w writerFR) ReadFrom(src io.Reader) (int64, error) { return w.r.readFrom(src) }

type writerHR struct{ writerH }

func (w writerHR) ReadFrom(src io.Reader) (int64, error) { return w.r.readFrom(src) }

type writerFHR struct{ writerFH }

func (w writerFHR) ReadFrom(src io.Reader) (int64, error) { return w.r.readFrom(src) }
