package rfc9111

import (
	"net/http"
	"strconv"
	"strings"
)

// Span is a part of a representation: the octets from First to before End.
type Span struct{ First, End int64 }

// Len is how many octets the span has.
func (s Span) Len() int64 { return s.End - s.First }

// maxSpans bounds the ranges of one request: many small or overlapping ones are
// an old way to make a server work (RFC 9110 14.2, 17.15).
const maxSpans = 16

// Ranges is what a Range field asks for, before the size is known. The zero
// value asks for nothing.
type Ranges struct {
	specs [maxSpans]rangeSpec
	n     int
}

// rangeSpec is "first-last", "first-" (last is -1) or "-last" (first is -1).
type rangeSpec struct{ first, last int64 }

// ParseRange reads a request's Range field (RFC 9110 14.2). ok is false if there
// is nothing to be heeded: no field, two lines, another unit than bytes, one that
// breaks the grammar, or more than 16 ranges; the whole response answers then.
func ParseRange(h http.Header) (r Ranges, ok bool) {
	lines := h["Range"]
	if len(lines) != 1 {
		return Ranges{}, false
	}
	unit, set, found := strings.Cut(trimOWS(lines[0]), "=")
	if !found || !fold(unit, "bytes") {
		return Ranges{}, false
	}
	for member := range strings.SplitSeq(set, ",") {
		member = trimOWS(member)
		if member == "" {
			continue // RFC 9110 5.6.1.2
		}
		from, to, found := strings.Cut(member, "-")
		spec := rangeSpec{-1, -1}
		if from != "" {
			if spec.first, ok = length(from); !ok {
				return Ranges{}, false
			}
		}
		if to != "" {
			if spec.last, ok = length(to); !ok {
				return Ranges{}, false
			}
		}
		if !found || from == "" && to == "" || from != "" && to != "" && spec.last < spec.first || r.n == maxSpans {
			return Ranges{}, false
		}
		r.specs[r.n] = spec
		r.n++
	}
	return r, r.n > 0
}

// AppendSpans appends the parts of a representation of the given size that are
// asked for, in the order asked, and returns the extended slice. If none is, the
// range is not satisfiable (RFC 9110 15.5.17). Where they overlap, or are more
// octets in all than the representation, they are one part: from the first octet
// asked for to the last (RFC 9110 15.3.7.2).
func (r *Ranges) AppendSpans(dst []Span, size int64) []Span {
	start := len(dst)
	for _, spec := range r.specs[:r.n] {
		s := Span{spec.first, size}
		switch {
		case spec.first < 0:
			s.First = max(0, size-spec.last)
		case spec.last >= 0 && spec.last < size:
			s.End = spec.last + 1
		}
		if s.First < s.End {
			dst = append(dst, s)
		}
	}
	spans := dst[start:]
	for i := range spans {
		for j := range spans[:i] {
			if spans[i].First < spans[j].End && spans[j].First < spans[i].End {
				return append(dst[:start], hull(spans))
			}
		}
	}
	return dst
}

func hull(spans []Span) Span {
	all := spans[0]
	for _, s := range spans[1:] {
		all = Span{min(all.First, s.First), max(all.End, s.End)}
	}
	return all
}

// Part is what of a representation a stored 206 has.
type Part struct {
	Span
	Size int64 // of the whole, -1 if unknown
}

// ParseContentRange reads the Content-Range field of a 206 with one part (RFC
// 9110 14.4). ok is false if it is not there, is not about bytes or is invalid;
// then nothing may be combined with the response.
func ParseContentRange(h http.Header) (p Part, ok bool) {
	lines := h["Content-Range"]
	if len(lines) != 1 {
		return Part{}, false
	}
	unit, rest, found := strings.Cut(trimOWS(lines[0]), " ")
	span, size, found2 := strings.Cut(rest, "/")
	first, last, found3 := strings.Cut(span, "-")
	if !found || !found2 || !found3 || !fold(unit, "bytes") {
		return Part{}, false
	}
	a, ok1 := length(first)
	b, ok2 := length(last)
	if !ok1 || !ok2 || b < a || b == 1<<63-1 {
		return Part{}, false
	}
	p = Part{Span{a, b + 1}, -1}
	if size != "*" {
		if p.Size, ok = length(size); !ok || p.Size <= b {
			return Part{}, false
		}
	}
	return p, true
}

// ContentRange writes the field of an answer with one part.
func ContentRange(s Span, size int64) string {
	b := append(make([]byte, 0, 64), "bytes "...)
	b = append(strconv.AppendInt(b, s.First, 10), '-')
	b = append(strconv.AppendInt(b, s.End-1, 10), '/')
	if size < 0 {
		return string(append(b, '*'))
	}
	return string(strconv.AppendInt(b, size, 10))
}

// Unsatisfied writes the field of a 416 (RFC 9110 15.5.17).
func Unsatisfied(size int64) string { return "bytes */" + strconv.FormatInt(size, 10) }

// IfRange reports whether a request's ranges apply to the stored response with
// header h (RFC 9110 13.1.5): there is no If-Range, or it is the strong entity
// tag of what is stored, or exactly its Last-Modified, where that is a strong
// validator: at least a second older than the Date (8.8.2.2).
func IfRange(req Request, stored Stored, h http.Header) bool {
	lines := req.Header["If-Range"]
	if len(lines) == 0 {
		return true
	}
	if len(lines) != 1 {
		return false
	}
	value := trimOWS(lines[0])
	if etag, rest, ok := entityTag(value); ok {
		ours, have := etagOf(h)
		return rest == "" && have && strong(value) && strong(ours) && ours == etag
	}
	_, ok := strongModified(stored, h)
	return ok && value == trimOWS(h["Last-Modified"][0])
}

// strongModified returns the Last-Modified of a stored response if it is strong.
func strongModified(stored Stored, h http.Header) (value string, ok bool) {
	modified, _, ok := dateField(h, "Last-Modified", stored.ResponseTime)
	date, _, dated := dateField(h, "Date", stored.ResponseTime)
	if !ok || !dated || date.Unix()-modified.Unix() < 1 {
		return "", false
	}
	return trimOWS(h["Last-Modified"][0]), true
}

// Missing says how to ask for what a stored 206 lacks of the whole: the Range and
// the If-Range of the request, so that the answer can be combined with it (RFC
// 9111 3.4). ok is false if that cannot be: it needs a strong validator, a known
// size, and what is stored at one end of the whole.
func Missing(stored Stored, h http.Header, have int64) (span Span, ifRange string, ok bool) {
	if stored.Status != http.StatusPartialContent || stored.Size <= 0 {
		return Span{}, "", false
	}
	end := stored.First + have
	switch {
	case stored.First == 0 && end < stored.Size:
		span = Span{end, stored.Size}
	case stored.First > 0 && end == stored.Size:
		span = Span{0, stored.First}
	default:
		return Span{}, "", false
	}
	if etag, ok := etagOf(h); ok {
		return span, etag, strong(etag)
	}
	ifRange, ok = strongModified(stored, h)
	return span, ifRange, ok
}

// RangeOf writes the Range field that asks for one span; one that ends with the
// whole is left open, as the whole may have grown.
func RangeOf(s Span, size int64) string {
	b := append(make([]byte, 0, 48), "bytes="...)
	b = append(strconv.AppendInt(b, s.First, 10), '-')
	if s.End < size {
		b = strconv.AppendInt(b, s.End-1, 10)
	}
	return string(b)
}

// Combines reports whether the parts of two responses belong to one
// representation (RFC 9111 3.4): both have the same strong validator.
func Combines(a, b http.Header) bool {
	x, ok1 := etagOf(a)
	y, ok2 := etagOf(b)
	if ok1 || ok2 {
		return ok1 && ok2 && strong(x) && x == y
	}
	// Without an entity tag, the date: strongModified has seen to its strength
	// before the part was asked for.
	m, n := a["Last-Modified"], b["Last-Modified"]
	return len(m) == 1 && len(n) == 1 && trimOWS(m[0]) == trimOWS(n[0])
}
