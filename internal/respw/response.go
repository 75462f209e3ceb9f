package respw

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

// ErrDiscarded is what Hijack and FlushError say once the hook has answered in
// the handler's place. Write does not say it: handlers log write errors, and
// this one is not theirs.
var ErrDiscarded = errors.New("respw: the response was discarded")

// A Hook is asked about one response.
type Hook interface {
	// BeforeHeader is called once, right before the final header is sent: the
	// last moment to change it. It returns true to let the response pass.
	//
	// If it returns false, it must have answered on the writer that was given
	// to Wrap: all that the handler writes from then on is discarded. It finds
	// the header as the handler left it and must itself delete what does not
	// belong to its answer, such as Content-Length and Trailer.
	//
	// status is 0 if the connection is about to be hijacked: whoever takes it
	// writes a header of their own, with these fields (as ReverseProxy does) or
	// without. Should taking it fail, the response goes on without another call.
	BeforeHeader(status int) (pass bool)
}

// A Watcher reads a response's body along with the client, or in its place.
type Watcher interface {
	// Body is called with each piece that the writer below has accepted, after
	// it did; or, of a response that the hook has answered itself, with each
	// piece that is discarded. It must not keep or change p. Once it returns
	// false it is not called again.
	Body(p []byte) (more bool)
}

// A Guard is asked before anything of a response leaves.
type Guard interface {
	// BeforeWrite is called before each Write, each piece of a ReadFrom, Flush and
	// Hijack of the handler's, after the Hook was. With an error nothing leaves, and
	// the handler gets the error. It says nothing of what has left already: that the
	// client does not take it for the whole is up to the middleware, by a panic with
	// http.ErrAbortHandler.
	BeforeWrite() error
}

// A Response is one response on its way from a handler to the client, as the
// middleware sees it that wrapped the writer. Its zero value is ready for
// [Response.Wrap]. It may be a field of a larger struct but not be copied.
//
// A Response and its writer are not safe for concurrent use.
type Response struct {
	w       http.ResponseWriter
	hook    Hook
	watcher Watcher     // nil if nobody watches
	guard   Guard       // nil if nobody is asked
	lost    http.Header // the handler's header once its response is discarded
	err     error
	last    func(p []byte) // see BeforeLast; nil if nobody asked
	length  int64
	written int64
	status  int // of the final header; 0 until it is sent

	asked     bool // the hook has been called
	discarded bool
	withdrawn bool
	hijacked  bool
}

// Watch sends each piece of body written from now on to b. It is meant to be
// called from BeforeHeader, which is before the first piece. While a watcher is
// there, ReadFrom copies through memory; after it has seen enough, ReadFrom goes
// to the writer below again.
func (r *Response) Watch(b Watcher) { r.watcher = b }

// Guard has g asked before anything leaves. It is to be called right after Wrap. A
// response with a guard is copied through memory, piece by piece.
func (r *Response) Guard(g Guard) { r.guard = g }

// admit asks the guard.
func (r *Response) admit() error {
	if r.guard == nil {
		return nil
	}
	err := r.guard.BeforeWrite()
	if err != nil {
		r.wrote(0, err)
	}
	return err
}

// BeforeLast has before called once, right before the piece of body that completes
// length bytes is passed on, with that piece: a client that knows the length is
// done with it. It is not called for a body of no bytes, nor for one that ReadFrom
// passes on unwatched. It is meant to be called along with Watch.
func (r *Response) BeforeLast(length int64, before func(p []byte)) {
	r.length, r.last = length, before
}

// Withdraw is for a hook that returns false and answers later, after the handler
// has returned: nothing leaves until then, not even by a Flush of the handler's.
func (r *Response) Withdraw() { r.withdrawn = true }

// Finish tells the response that the handler has returned. If nothing was
// written, it calls the hook for the 200 that net/http is about to send.
//
// It is to be called once, after the handler returned, and not be deferred:
// while a panic unwinds, the response must be left to whoever recovers.
func (r *Response) Finish() {
	if r.ask(http.StatusOK) {
		return
	}
	// net/http collects these from the header when ServeHTTP returns. The
	// handler may have kept the map from before its response was discarded.
	for k := range r.w.Header() {
		if strings.HasPrefix(k, http.TrailerPrefix) {
			delete(r.w.Header(), k)
		}
	}
}

// Status returns the status of the final header that the handler sent, or 0 if
// there was none: not yet, because it was discarded, or because the connection
// was hijacked before.
func (r *Response) Status() int { return r.status }

// Written returns how many bytes of the handler's body the writer below has
// accepted. Like net/http, it counts a body written in response to HEAD, which
// is accepted and never sent; not one refused with [http.ErrBodyNotAllowed].
func (r *Response) Written() int64 { return r.written }

// Err returns the first error of a Write, ReadFrom or Flush that was passed on.
// A ReadFrom whose source failed in the middle counts, as the body is cut short.
// What net/http still holds when the handler returns may fail unseen.
func (r *Response) Err() error { return r.err }

// Hijacked reports whether the handler has taken over the connection.
func (r *Response) Hijacked() bool { return r.hijacked }

// Discarded reports whether the hook has answered in the handler's place.
func (r *Response) Discarded() bool { return r.discarded }

// ask calls the hook unless it was called before, and reports whether the
// handler's call may pass. If so, a header with this status goes out with it,
// unless one did before or status is 0.
func (r *Response) ask(status int) bool {
	if !r.asked {
		r.asked = true // before the call: a hook that panics is not asked again
		r.discarded = !r.hook.BeforeHeader(status)
	}
	if r.discarded {
		return false
	}
	if r.status == 0 && !r.hijacked {
		r.status = status
	}
	return true
}

func (r *Response) header() http.Header {
	if !r.discarded {
		return r.w.Header()
	}
	// Not the header of the hook's answer: net/http would send what the handler
	// adds to it from now on as trailers.
	if r.lost == nil {
		r.lost = make(http.Header)
	}
	return r.lost
}

func (r *Response) writeHeader(status int) {
	switch {
	case r.discarded:
		return
	case r.status != 0 || r.hijacked:
		// Superfluous. It is net/http's to ignore and to log.
	case status < 100 || status > 999:
		// net/http's own panic would come too late, after the hook.
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	case status < 200 && status != http.StatusSwitchingProtocols:
		// More headers follow an informational one; none follows 101 (RFC
		// 9110, section 15.2).
	case !r.ask(status):
		return
	}
	r.w.WriteHeader(status)
}

func (r *Response) write(p []byte) (int, error) {
	if !r.ask(http.StatusOK) {
		r.watch(p)
		return len(p), nil
	}
	if err := r.admit(); err != nil {
		return 0, err
	}
	if r.last != nil && r.written+int64(len(p)) >= r.length && len(p) > 0 {
		before := r.last
		r.last = nil
		before(p)
	}
	n, err := r.w.Write(p)
	r.wrote(int64(n), err)
	r.watch(p[:n])
	return n, err
}

// watch shows a piece of body to who watches.
func (r *Response) watch(p []byte) {
	if r.watcher != nil && len(p) > 0 && !r.watcher.Body(p) {
		r.watcher = nil
	}
}

func (r *Response) writeString(s string) (int, error) {
	pass := r.ask(http.StatusOK)
	if r.watcher != nil || r.last != nil {
		return r.write([]byte(s))
	}
	if !pass {
		return len(s), nil
	}
	if err := r.admit(); err != nil {
		return 0, err
	}
	n, err := io.WriteString(r.w, s)
	r.wrote(int64(n), err)
	return n, err
}

// readFrom is called only if r.w is an io.ReaderFrom.
func (r *Response) readFrom(src io.Reader) (n int64, err error) {
	if r.inPieces() || r.status == 0 && !r.hijacked && !r.discarded {
		var ended bool
		n, ended, err = r.relay(src)
		if ended || err != nil {
			return n, err
		}
	}
	var rest int64
	if r.discarded {
		rest, err = io.Copy(io.Discard, src)
	} else {
		rest, err = r.w.(io.ReaderFrom).ReadFrom(src)
		r.wrote(rest, err)
	}
	return n + rest, err
}

// inPieces reports whether a copy must go through memory, for somebody is to see it.
func (r *Response) inPieces() bool { return r.watcher != nil || r.guard != nil && !r.discarded }

// sniffLen is how much net/http reads of a source, to find its Content-Type,
// before it leaves the rest to sendfile.
const sniffLen = 512

var relayBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// relay copies src by Write, at least until a byte was there to start the
// response with, and for as long as somebody watches. It reports whether src
// ended.
//
// The hook is not called before the first byte, for the reason net/http does
// not send the header before it (golang.org/issue/5660): if the source fails at
// once, the handler can still answer with an error status.
func (r *Response) relay(src io.Reader) (n int64, ended bool, err error) {
	buf := relayBuffers.Get().(*[32 << 10]byte)
	defer relayBuffers.Put(buf)
	for {
		p := buf[:]
		if !r.inPieces() {
			p = buf[:sniffLen] // what is read here is lost to sendfile
		}
		nr, readErr := src.Read(p)
		if nr > 0 {
			nw, err := r.write(p[:nr])
			n += int64(nw)
			if err == nil && nw < nr {
				err = io.ErrShortWrite
				r.wrote(0, err)
			}
			if err != nil {
				return n, false, err
			}
		}
		if readErr == io.EOF {
			return n, true, nil
		}
		if readErr != nil {
			if r.status != 0 {
				r.wrote(0, readErr)
			}
			return n, false, readErr
		}
		if nr > 0 && !r.inPieces() {
			return n, false, nil
		}
	}
}

func (r *Response) flush() error {
	pass := r.ask(http.StatusOK)
	if r.withdrawn {
		return ErrDiscarded
	}
	if pass {
		if err := r.admit(); err != nil {
			return err
		}
	}
	// Also if discarded. It is the hook's answer that leaves then, or a client
	// would wait for it as long as the handler goes on streaming.
	err := http.NewResponseController(r.w).Flush()
	if !pass {
		return ErrDiscarded
	}
	r.wrote(0, err)
	return err
}

func (r *Response) hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !r.ask(0) {
		return nil, nil, ErrDiscarded
	}
	if err := r.admit(); err != nil {
		return nil, nil, err
	}
	conn, rw, err := http.NewResponseController(r.w).Hijack()
	if err == nil {
		r.hijacked = true
	}
	return conn, rw, err
}

// wrote notes what the writer below said to a write of the handler's.
func (r *Response) wrote(n int64, err error) {
	r.written += n
	if r.err == nil {
		r.err = err
	}
}
