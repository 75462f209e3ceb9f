package middleware

import (
	"maps"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// heldAnswer is a writer that holds an answer until it is kept, or grows too large.
type heldAnswer struct {
	w       http.ResponseWriter
	visit   *idempotentVisit
	limit   int
	status  int         // 0 until the handler has said it
	header  http.Header // as it was then
	length  int64       // the Content-Length in it, or -1
	written int64       // what the handler wished to write
	body    []byte
	passing bool // nothing is held any more
}

// heldFlusher is a heldAnswer on a writer that can flush.
type heldFlusher struct{ *heldAnswer }

// writer returns a itself, with a Flush if there is one below.
func (a *heldAnswer) writer() http.ResponseWriter {
	for w := a.w; ; {
		switch below := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return heldFlusher{a}
		case interface{ Unwrap() http.ResponseWriter }:
			w = below.Unwrap()
		default:
			return a
		}
	}
}

func (a *heldAnswer) Header() http.Header         { return a.w.Header() }
func (a *heldAnswer) Unwrap() http.ResponseWriter { return a.w }

func (a *heldAnswer) WriteHeader(status int) {
	switch {
	case a.passing || status < 200:
		a.w.WriteHeader(status)
	case a.status == 0:
		a.status, a.header, a.length = status, a.w.Header().Clone(), -1
		if n, err := strconv.ParseInt(a.header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
			a.length = n
		}
	}
}

// Write holds p. Its errors are those of net/http.
func (a *heldAnswer) Write(p []byte) (int, error) {
	if a.passing {
		return a.w.Write(p)
	}
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if !hasBody(a.status) {
		return 0, http.ErrBodyNotAllowed
	}
	a.written += int64(len(p))
	if a.length >= 0 && a.written > a.length {
		return 0, http.ErrContentLength
	}
	if len(a.body)+len(p) > a.limit {
		a.visit.pass()
		return a.w.Write(p)
	}
	a.body = append(a.body, p...)
	return len(p), nil
}

// FlushError lets only event streams pass: what is flushed to be seen early may be
// lost, and then nobody could show it again.
func (a heldFlusher) FlushError() error {
	if !a.passing {
		if a.status == 0 {
			a.WriteHeader(http.StatusOK)
		}
		media, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
		if media != "text/event-stream" {
			return nil
		}
		a.visit.pass()
	}
	return http.NewResponseController(a.w).Flush()
}

// settle gives a finished answer its Content-Length, so that the first one and all later
// ones have the same. It reports whether the body is as long as the handler has said.
func (a *heldAnswer) settle(method string) (whole bool) {
	n := int64(len(a.body))
	if a.length >= 0 {
		return a.length == n || method == http.MethodHead && n == 0 || !hasBody(a.status)
	}
	_, chunked := a.header["Transfer-Encoding"]
	if hasBody(a.status) && !chunked && len(a.trailers()) == 0 && (method != http.MethodHead || n > 0) {
		a.header["Content-Length"] = []string{strconv.FormatInt(n, 10)}
	}
	return true
}

// send sends what is held, with the header as it was when the handler wrote it.
func (a *heldAnswer) send() {
	h, trailers := a.w.Header(), a.trailers()
	clear(h)
	maps.Copy(h, a.header)
	a.w.WriteHeader(a.status)
	if len(a.body) > 0 {
		_, _ = a.w.Write(a.body) // the client may be gone
	}
	a.body = nil
	maps.Copy(h, trailers)
}

// trailers are the fields that the handler has set for behind the body, so far.
func (a *heldAnswer) trailers() http.Header {
	found := make(http.Header)
	h := a.w.Header()
	for name, values := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			found[name] = values
		}
	}
	for _, line := range a.header["Trailer"] {
		for name := range strings.SplitSeq(line, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			found[name] = h[name]
		}
	}
	return found
}
