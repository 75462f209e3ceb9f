package middleware

import (
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"

	"github.com/go-weir/weir/internal/rfc9111"
)

// choose says what of a stored response answers the request.
func choose(a *asked, stored *storedResponse) (rfc9111.Selection, []rfc9111.Span) {
	if stored.rules.Status != http.StatusPartialContent && !a.query.Conditional() {
		return rfc9111.SelectWhole, nil
	}
	return rfc9111.Select(a.query, stored.rules, stored.header(), int64(len(stored.body)), nil)
}

// serveStored answers out of the cache.
func (c *responseCache) serveStored(w http.ResponseWriter, a *asked, stored *storedResponse, d rfc9111.Decision, selection rfc9111.Selection, spans []rfc9111.Span) {
	said := rfc9111.Status{Hit: !a.shared, TTL: d.TTL, HasTTL: true, Collapsed: a.shared}
	if a.shared {
		said.Fwd = a.fwd // another request went, for both
	}
	kind := CacheHit
	if d.Verdict != rfc9111.Fresh {
		kind, said.Detail = CacheStale, d.Verdict.String()
	}
	h := w.Header()
	stored.setHeader(h)
	rfc9111.SetAge(h, d.Age)
	c.say(h, a, kind, said, d.Age)
	writeStored(w, a.query.Method, stored, selection, spans)
}

// writeStored sends what was chosen of a stored response, whose header is w's.
func writeStored(w http.ResponseWriter, method string, stored *storedResponse, selection rfc9111.Selection, spans []rfc9111.Span) {
	h := w.Header()
	if selection != rfc9111.SelectWhole {
		dropTrailers(h) // which are about the whole
	}
	switch selection {
	case rfc9111.SelectNotModified:
		rfc9111.NotModifiedHeader(h)
		w.WriteHeader(http.StatusNotModified)
	case rfc9111.SelectUnsatisfiable:
		for _, name := range [...]string{"Content-Encoding", "Content-Type", "Etag", "Last-Modified"} {
			delete(h, name) // of what is not sent
		}
		h["Content-Range"] = []string{rfc9111.Unsatisfied(stored.size())}
		h["Content-Length"] = []string{"0"}
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	case rfc9111.SelectSpans:
		if len(spans) > 1 {
			writeParts(w, stored, spans)
			return
		}
		h["Content-Range"] = []string{rfc9111.ContentRange(spans[0], stored.size())}
		h["Content-Length"] = []string{strconv.FormatInt(spans[0].Len(), 10)}
		w.WriteHeader(http.StatusPartialContent)
		writeText(w, stored.part(spans[0]))
	default:
		w.WriteHeader(stored.rules.Status)
		if method != http.MethodHead && stored.body != "" {
			writeText(w, stored.body)
		}
	}
}

// pieces are what writeText copies to.
var pieces = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// writeText writes a body, or less of it if the client is gone. net/http takes a long
// string by 2 KiB, and makes a system call for two of them; but bytes as they come.
func writeText(w io.Writer, text string) {
	if len(text) <= 2<<10 {
		_, _ = io.WriteString(w, text)
		return
	}
	piece := pieces.Get().(*[64 << 10]byte)
	defer pieces.Put(piece)
	for text != "" {
		n := copy(piece[:], text)
		if _, err := w.Write(piece[:n]); err != nil {
			return
		}
		text = text[n:]
	}
}

// writeParts sends several spans as multipart/byteranges (RFC 9110 section 14.6).
func writeParts(w http.ResponseWriter, stored *storedResponse, spans []rfc9111.Span) {
	h := w.Header()
	var b strings.Builder
	m := multipart.NewWriter(&b)
	for _, span := range spans {
		head := textproto.MIMEHeader{"Content-Range": {rfc9111.ContentRange(span, stored.size())}}
		if typ := h["Content-Type"]; len(typ) == 1 {
			head["Content-Type"] = typ
		}
		part, err := m.CreatePart(head)
		if err == nil { // a strings.Builder takes all
			_, _ = io.WriteString(part, stored.part(span))
		}
	}
	_ = m.Close()
	h["Content-Type"] = []string{"multipart/byteranges; boundary=" + m.Boundary()}
	h["Content-Length"] = []string{strconv.Itoa(b.Len())}
	w.WriteHeader(http.StatusPartialContent)
	writeText(w, b.String())
}

// size is the size of the whole that is stored, or stored a part of; -1 if it is
// not known.
func (s *storedResponse) size() int64 {
	if s.rules.Status == http.StatusPartialContent {
		return s.rules.Size
	}
	return int64(len(s.body))
}

// part is a span of the whole that lies within what is stored.
func (s *storedResponse) part(span rfc9111.Span) string {
	return s.body[span.First-s.rules.First : span.End-s.rules.First]
}
