package middleware

import (
	"context"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"sync"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/rfc9111"
)

// choose says what of a stored response answers the request.
func choose(a *asked, stored *storedResponse) (rfc9111.Selection, []rfc9111.Span) {
	if stored.rules.Status != http.StatusPartialContent && !a.query.Conditional() {
		return rfc9111.SelectWhole, nil
	}
	return rfc9111.Select(a.query, stored.rules, stored.header(), stored.body.Len(), nil)
}

// serveStored answers out of the cache.
func (c *responseCache) serveStored(w http.ResponseWriter, a *asked, stored *storedResponse, d rfc9111.Decision, o opened) {
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
	if err := writeStored(a.request.Context(), w, a.query.Method, stored, o); err != nil {
		a.fail(err)
		c.abort(a.request.Context(), err)
	}
}

// writeStored sends what was opened of a stored response, whose header is w's. An error says
// that the rest of it could not be read.
func writeStored(ctx context.Context, w http.ResponseWriter, method string, stored *storedResponse, o opened) error {
	h := w.Header()
	if o.selection != rfc9111.SelectWhole {
		dropTrailers(h) // which are about the whole
	}
	switch o.selection {
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
		if len(o.spans) > 1 {
			return writeParts(ctx, w, stored, o)
		}
		h["Content-Range"] = []string{rfc9111.ContentRange(o.spans[0], stored.size())}
		h["Content-Length"] = []string{strconv.FormatInt(o.spans[0].Len(), 10)}
		w.WriteHeader(http.StatusPartialContent)
		return copyPart(ctx, w, o.part)
	default:
		w.WriteHeader(stored.rules.Status)
		if method != http.MethodHead {
			return copyPart(ctx, w, o.part)
		}
	}
	return nil
}

// copyPart writes a part of a stored body, or less of it if the client is gone. An error
// says that the rest of it could not be read.
func copyPart(ctx context.Context, w io.Writer, part cache.Part) error {
	if part.Len() > shortText {
		w = inPieces{w}
	}
	return part.Copy(ctx, w)
}

// writeText writes a body, or less of it if the client is gone.
func writeText(w io.Writer, text string) {
	if len(text) > shortText {
		w = inPieces{w}
	}
	_, _ = io.WriteString(w, text)
}

// inPieces writes long strings by the piece: net/http takes one by 2 KiB, and makes a
// system call for two of them; but bytes as they come.
type inPieces struct{ io.Writer }

const shortText = 2 << 10

var pieces = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// WriteString is io.StringWriter's.
func (w inPieces) WriteString(text string) (written int, err error) {
	piece := pieces.Get().(*[64 << 10]byte)
	defer pieces.Put(piece)
	for text != "" {
		n, err := w.Write(piece[:copy(piece[:], text)])
		written += n
		if err != nil {
			return written, err
		}
		text = text[n:]
	}
	return written, nil
}

// writeParts sends several spans as multipart/byteranges (RFC 9110 section 14.6).
func writeParts(ctx context.Context, w http.ResponseWriter, stored *storedResponse, o opened) error {
	h := w.Header()
	typ := h["Content-Type"]
	var length counter
	m := multipart.NewWriter(&length)
	for _, span := range o.spans {
		_ = partOf(m, stored, span, typ)
		length += counter(span.Len())
	}
	_ = m.Close()
	h["Content-Type"] = []string{"multipart/byteranges; boundary=" + m.Boundary()}
	h["Content-Length"] = []string{strconv.FormatInt(int64(length), 10)}
	w.WriteHeader(http.StatusPartialContent)
	out := multipart.NewWriter(w)
	if err := out.SetBoundary(m.Boundary()); err != nil {
		return err
	}
	for i, span := range o.spans {
		part := o.part
		if i > 0 {
			var err error
			if part, err = stored.openSpan(ctx, span); err != nil {
				return err
			}
		}
		if err := partOf(out, stored, span, typ); err != nil {
			return nil // the client is gone
		}
		if err := copyPart(ctx, w, part); err != nil {
			return err
		}
	}
	_ = out.Close()
	return nil
}

// partOf begins a part of a multipart answer.
func partOf(m *multipart.Writer, stored *storedResponse, span rfc9111.Span, typ []string) error {
	head := textproto.MIMEHeader{"Content-Range": {rfc9111.ContentRange(span, stored.size())}}
	if len(typ) == 1 {
		head["Content-Type"] = typ
	}
	_, err := m.CreatePart(head)
	return err
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// size is the size of the whole that is stored, or stored a part of; -1 if it is
// not known.
func (s *storedResponse) size() int64 {
	if s.rules.Status == http.StatusPartialContent {
		return s.rules.Size
	}
	return s.body.Len()
}
