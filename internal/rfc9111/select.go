package rfc9111

import "net/http"

// Selection says what of a stored response answers a request that may be
// answered by it.
type Selection uint8

const (
	SelectNone          Selection = iota // nothing: the part that is stored is not what is asked for
	SelectWhole                          // all of it
	SelectNotModified                    // a 304: the client has it already (4.3.2)
	SelectSpans                          // a 206 with the spans (RFC 9110 15.3.7)
	SelectUnsatisfiable                  // a 416: there are no such octets (RFC 9110 15.5.17)
)

// Conditional reports whether [Select] needs to see a stored 200's header: if
// not, all of it answers.
func (r *Request) Conditional() bool {
	return len(r.Header["If-None-Match"]) > 0 || len(r.Header["If-Modified-Since"]) > 0 || len(r.Header["Range"]) > 0
}

// Select chooses what of a stored response with header h and a body of have octets
// answers the request: its preconditions first, then its ranges (RFC 9110 13.2.2).
// Spans are appended to dst.
//
// Of a stored 206, only what it has can answer (RFC 9111 3.3).
func Select(req Request, stored Stored, h http.Header, have int64, dst []Span) (Selection, []Span) {
	if NotModified(req, stored, h) {
		return SelectNotModified, dst
	}
	partial := stored.Status == http.StatusPartialContent
	size := have
	if partial {
		size = stored.Size
	}
	whole := SelectWhole
	if partial {
		whole = SelectNone
	}
	// Range is defined for GET (RFC 9110 14.2), and here for what is a 200 but for
	// the range.
	if req.Method != "GET" || !partial && stored.Status != http.StatusOK {
		return whole, dst
	}
	ranges, ok := ParseRange(req.Header)
	if !ok || !IfRange(req, stored, h) {
		return whole, dst
	}
	if size < 0 { // of an unknown size no end can be asked for
		size = 1<<63 - 1
	}
	start := len(dst)
	dst = ranges.AppendSpans(dst, size)
	spans := dst[start:]
	if len(spans) == 0 {
		if partial && stored.Size < 0 {
			return SelectNone, dst
		}
		return SelectUnsatisfiable, dst
	}
	if partial {
		for _, s := range spans {
			if s.First < stored.First || s.End > stored.First+have {
				return SelectNone, dst[:start]
			}
		}
	}
	return SelectSpans, dst
}

// Join puts the octets of two parts of one representation together (RFC 9111
// 3.4). The second, newer one has its way where they overlap. ok is false if
// there is a gap between them.
func Join(a Span, first []byte, b Span, second []byte) (Span, []byte, bool) {
	if a.End < b.First || b.End < a.First {
		return Span{}, nil, false
	}
	all := Span{min(a.First, b.First), max(a.End, b.End)}
	out := make([]byte, all.Len())
	copy(out[a.First-all.First:], first)
	copy(out[b.First-all.First:], second)
	return all, out, true
}
