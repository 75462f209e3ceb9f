package middleware

import (
	"encoding/binary"
	"errors"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/rfc9111"
)

// storedResponse is a response as a Store's entry holds it.
type storedResponse struct {
	rules  rfc9111.Stored // ResponseTime is the Store's to know
	fields string         // encoded, and known to be well-formed
	lines  int            // how many values there are in fields
	body   *cache.Body
}

// storedField is a header field as it goes into an entry.
type storedField struct {
	values []string
	added  bool // to what middlewares outside had set, not in its place
}

// entryVersion is the first byte of an entry. A process of another version takes
// what it does not know for a miss.
const entryVersion = 3

var errEntry = errors.New("the entry is not a stored response of this version")

const (
	flagNoCache = 1 << iota
	flagRevalidate
	flagPublic
	flagDeclared
	flagImmutable
	flagValidator
)

// flagsOf and setFlags turn the rules' booleans into a byte and back.
func flagsOf(rules *rfc9111.Stored) (flags byte) {
	for i, on := range [...]bool{rules.NoCache, rules.Revalidate, rules.Public, rules.Declared, rules.Immutable, rules.Validator} {
		if on {
			flags |= 1 << i
		}
	}
	return flags
}

func setFlags(rules *rfc9111.Stored, flags byte) {
	rules.NoCache = flags&flagNoCache != 0
	rules.Revalidate = flags&flagRevalidate != 0
	rules.Public = flags&flagPublic != 0
	rules.Declared = flags&flagDeclared != 0
	rules.Immutable = flags&flagImmutable != 0
	rules.Validator = flags&flagValidator != 0
}

// encodeResponse writes
//
//	version, flags, status, initial age µs, lifetime µs, stale-while-revalidate µs,
//	stale-if-error µs, if the status is 206: first octet, size of the whole + 1,
//	number of fields, { name, number of values × 2 + added, { value } }
//
// with all numbers as uvarints and strings behind their length. The body is the Store's to
// keep, so that a header which is made fresh is all that is written then.
func encodeResponse(rules rfc9111.Stored, fields map[string]storedField) []byte {
	size := 64
	for name, f := range fields {
		size += len(name) + 4
		for _, v := range f.values {
			size += len(v) + 4
		}
	}
	b := append(make([]byte, 0, size), entryVersion, flagsOf(&rules))
	b = binary.AppendUvarint(b, uint64(rules.Status))
	for _, d := range [...]time.Duration{rules.InitialAge, rules.Lifetime, rules.WhileRevalidate, rules.IfError} {
		b = binary.AppendUvarint(b, uint64(max(0, d.Microseconds())))
	}
	if rules.Status == http.StatusPartialContent {
		b = binary.AppendUvarint(b, uint64(rules.First))
		b = binary.AppendUvarint(b, uint64(rules.Size+1))
	}
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		n := uint64(len(f.values)) << 1
		if f.added {
			n |= 1
		}
		b = binary.AppendUvarint(appendString(b, name), n)
		for _, v := range f.values {
			b = appendString(b, v)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decodeResponse reads what encodeResponse wrote, all of it, and allocates
// nothing: what it believes of an entry's numbers it has seen. The result shares
// data's memory. body is the length of its body.
func decodeResponse(data string, body int64) (storedResponse, error) {
	r := entryReader{rest: data}
	if r.byte() != entryVersion {
		return storedResponse{}, errEntry
	}
	flags := r.byte()
	s := storedResponse{rules: rfc9111.Stored{
		Status:          int(r.number(599)),
		InitialAge:      r.duration(),
		Lifetime:        r.duration(),
		WhileRevalidate: r.duration(),
		IfError:         r.duration(),
	}}
	setFlags(&s.rules, flags)
	if s.rules.Status == http.StatusPartialContent {
		s.rules.First, s.rules.Size = int64(r.number(math.MaxInt64-1)), int64(r.number(math.MaxInt64-1))-1
	}
	block := r.rest
	for n := r.length(); n > 0 && !r.failed; n-- {
		r.string()
		for v := r.length() >> 1; v > 0 && !r.failed; v-- {
			r.string()
			s.lines++
		}
	}
	s.fields = block[:len(block)-len(r.rest)]
	if r.failed || r.rest != "" || s.rules.Status < 200 || !s.fits(body) {
		return storedResponse{}, errEntry
	}
	return s, nil
}

// decodeStored is decodeResponse for a Store to call, whose near tier keeps the result.
func decodeStored(data string, body int64) (any, error) {
	s, err := decodeResponse(data, body)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// fits reports whether the body of a 206 lies within the whole it is a part of.
func (s *storedResponse) fits(body int64) bool {
	if s.rules.Status != http.StatusPartialContent {
		return true
	}
	end := s.rules.First + body
	return body > 0 && end > 0 && (s.rules.Size < 0 || end <= s.rules.Size)
}

// own returns the fields as they were encoded.
func (s *storedResponse) own() map[string]storedField {
	r := entryReader{rest: s.fields}
	n := r.length()
	own := make(map[string]storedField, n)
	for range n {
		name := r.string()
		count := r.length()
		values := make([]string, count>>1)
		for i := range values {
			values[i] = r.string()
		}
		own[name] = storedField{values, count&1 != 0}
	}
	return own
}

// header returns the fields as a header of their own.
func (s *storedResponse) header() http.Header { return headerOf(s.own()) }

func headerOf(fields map[string]storedField) http.Header {
	h := make(http.Header, len(fields))
	for name, f := range fields {
		h[name] = f.values
	}
	return h
}

// setHeader makes h, with what middlewares outside have set, the header of an
// answer: as if the handler had run. No two answers share a slice.
func (s *storedResponse) setHeader(h http.Header) {
	r := entryReader{rest: s.fields}
	lines := make([]string, 0, s.lines)
	for n := r.length(); n > 0; n-- {
		name := r.string()
		count := r.length()
		first := len(lines)
		for range count >> 1 {
			lines = append(lines, r.string())
		}
		values := slices.Clip(lines[first:])
		if count&1 != 0 {
			before := h[name]
			values = append(before[:len(before):len(before)], values...)
		}
		h[name] = values
	}
}

// entryReader reads an entry front to back; after a mistake it reads zeros.
type entryReader struct {
	rest   string
	failed bool
}

func (r *entryReader) fail() { r.rest, r.failed = "", true }

func (r *entryReader) byte() byte {
	if r.rest == "" {
		r.fail()
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

// number reads a uvarint of at most limit.
func (r *entryReader) number(limit uint64) uint64 {
	var n uint64
	for shift := 0; shift < 63; shift += 7 {
		b := r.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			if n > limit {
				r.fail()
				return 0
			}
			return n
		}
	}
	r.fail()
	return 0
}

// length reads a number of bytes or of things that each take a byte at least:
// there cannot be more than there is left to read. A number of values has a bit
// more, but a field that has values has their bytes as well.
func (r *entryReader) length() int { return int(r.number(2*uint64(len(r.rest)) + 1)) }

func (r *entryReader) duration() time.Duration {
	return time.Duration(r.number(uint64(rfc9111.MaxDelta/time.Microsecond))) * time.Microsecond
}

func (r *entryReader) string() string {
	n := r.length()
	if n > len(r.rest) {
		r.fail()
		return ""
	}
	s := r.rest[:n]
	r.rest = r.rest[n:]
	return s
}

// canonical returns a copy of a response's header under the names that the rules
// know. net/http sends whatever key a handler puts into the map, and
// h["set-cookie"] is a cookie as well.
func canonical(h http.Header) http.Header {
	out := h.Clone()
	for name, values := range h {
		if key := http.CanonicalHeaderKey(name); key != name {
			delete(out, name)
			out[key] = append(out[key], values...)
		}
	}
	return out
}

// ownFields picks what the handler itself has set out of header, its response's.
// What stands as middlewares outside had set it speaks of one request, of its
// limit or its id; outside sets it anew before every answer, stored ones too. Of
// a field to which the handler added lines only those are its own, and are added
// again; a field it has set in place of theirs takes their place again. A field
// of theirs that it removed is back when the answer is a stored one.
func ownFields(header, outside http.Header) map[string]storedField {
	own := make(map[string]storedField, len(header))
	for name, values := range header {
		before := outside[name]
		switch n := len(before); {
		case n > 0 && slices.Equal(values, before):
		case n > 0 && len(values) > n && slices.Equal(values[:n], before):
			own[name] = storedField{values: values[n:], added: true}
		default:
			// What outside says in Vary is true of each of its answers.
			own[name] = storedField{values: values, added: name == "Vary"}
		}
	}
	return own
}
