package middleware

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/rfc9111"
)

// sniffBytes is how much of a body http.DetectContentType looks at.
const sniffBytes = 512

// opened is what of a stored response answers, the beginning of its body in memory: what
// cannot be read is found out before the header leaves, but for what fails later on.
type opened struct {
	selection rfc9111.Selection
	spans     []rfc9111.Span
	part      cache.Part // of several spans the first
}

// open opens what was chosen of a stored response.
func (s *storedResponse) open(ctx context.Context, method string, selection rfc9111.Selection, spans []rfc9111.Span) (o opened, err error) {
	o = opened{selection: selection, spans: spans}
	switch {
	case selection == rfc9111.SelectSpans:
		o.part, err = s.openSpan(ctx, spans[0])
	case selection == rfc9111.SelectWhole && method != http.MethodHead:
		o.part, err = s.body.Open(ctx, 0, s.body.Len())
	}
	return o, err
}

// openSpan opens a span of the whole that lies within what is stored.
func (s *storedResponse) openSpan(ctx context.Context, span rfc9111.Span) (cache.Part, error) {
	return s.body.Open(ctx, span.First-s.rules.First, span.End-s.rules.First)
}

// unread notes why what is stored cannot answer.
func (c *responseCache) unread(a *asked, err error) {
	a.fail(err)
	if !errors.Is(err, cache.ErrCorrupt) {
		c.silent(a, err)
		return
	}
	c.log.report(a.request.Context(), "a stored body is not whole", err)
	a.broken, a.fwd = true, rfc9111.FwdURIMiss
}

// abort ends an answer whose rest could not be read, such that the client sees that it is cut
// short.
func (c *responseCache) abort(ctx context.Context, err error) {
	c.log.report(ctx, "an answer was cut short", err)
	panic(http.ErrAbortHandler)
}

// collect has the answer's body kept.
func (f *forwarded) collect() {
	f.out = f.cache.store.NewBody(f.request.Context(), f.key)
}

// take keeps a copy of a piece of the handler's body, and reports whether it could.
func (f *forwarded) take(p []byte) bool {
	if room := sniffBytes - len(f.sniff); room > 0 && len(f.header["Content-Type"]) == 0 {
		f.sniff = append(f.sniff, p[:min(room, len(p))]...)
	}
	f.received += int64(len(p))
	return f.copied(p)
}

// copied keeps a copy of octets.
func (f *forwarded) copied(p []byte) bool {
	if f.header == nil {
		return false
	}
	_, err := f.out.Write(p)
	switch {
	case err == nil:
		return true
	case errors.Is(err, cache.ErrUnavailable):
		f.failed(context.WithoutCancel(f.request.Context()), "not stored", err)
		if f.sight.Silent {
			f.yield(true)
		}
	default: // it is too long: who waits for it need not
		f.long = true
		f.yield(true)
	}
	f.lose()
	return false
}

// lose has the answer not kept.
func (f *forwarded) lose() {
	f.header = nil
	if f.out != nil {
		f.out.Discard()
	}
}

// both is where octets go that are the client's and are kept.
type both struct{ *forwarded }

func (b both) Write(p []byte) (int, error) {
	n, err := b.w.Write(p)
	if err != nil {
		b.lose()
	}
	b.copied(p[:n])
	return n, err
}
