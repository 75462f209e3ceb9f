package rfc9111

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Vary is what a response's Vary field says: which request header fields
// selected it (RFC 9111 4.1, RFC 9110 12.5.5). The zero Vary is that of a
// response without the field; it matches every request.
type Vary struct {
	any   bool
	names []string // canonical, sorted, each once
}

// Vary reads the Vary lines of a response's header as one list. A "*" in any
// member of any line makes it match no request; so does a member that is no
// field name, for nothing could be compared. Order, case and repetition of the
// names mean nothing.
//
// Host may be named, but a request's Host is not in its header map in net/http;
// the key of a cache has it anyway.
func (p Policy) Vary(h http.Header) Vary {
	lines := h["Vary"]
	if len(lines) == 0 {
		return Vary{}
	}
	var v Vary
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			member = trimOWS(member)
			switch {
			case member == "": // ignored (RFC 9110 5.6.1.2)
			case member == "*" || !isToken(member):
				return Vary{any: true}
			default:
				v.names = append(v.names, http.CanonicalHeaderKey(member))
			}
		}
	}
	slices.Sort(v.names)
	v.names = slices.Compact(v.names)
	return v
}

// Any reports whether the response matches no request at all.
func (v Vary) Any() bool { return v.any }

// has reports whether the field of a canonical name is among them.
func (v Vary) has(name string) bool {
	_, found := slices.BinarySearch(v.names, name)
	return found
}

// Names returns the canonical field names, sorted. The slice is a copy.
func (v Vary) Names() []string { return slices.Clone(v.names) }

// AppendKey appends the values that the request's header has for the fields
// named, in a form in which two requests are equal if and only if RFC 9111 4.1
// lets them match: the key under which the variant is stored. A field that is
// absent differs from one that is empty. It is written
//
//	Accept-Encoding:7=gzip,br;Accept-Language:-;
//
// with each value's length before it, so that no value a client sends can look
// like the next field. ok is false if the response matches no request.
//
// Of what 4.1 lets a cache normalise, this does three things: lines of one field
// are combined; the white space around the commas of a list goes, a field being
// taken for a list unless RFC 9110 defines it otherwise; and the members of
// Accept-Encoding and Accept-Language, whose letters' case (8.4.1, 8.5.1) and
// order (12.5.3, 12.5.4) mean nothing, are sorted in lower case.
func (v Vary) AppendKey(dst []byte, h http.Header) (key []byte, ok bool) {
	if v.any {
		return dst, false
	}
	for _, name := range v.names {
		dst = append(dst, name...)
		dst = append(dst, ':')
		lines := h[name]
		if len(lines) == 0 {
			dst = append(dst, '-', ';')
			continue
		}
		start := len(dst)
		dst = appendValue(dst, lines, list(name))
		if name == "Accept-Encoding" || name == "Accept-Language" {
			sortMembers(dst[start:])
		}
		dst = insertLength(dst, start)
		dst = append(dst, ';')
	}
	return dst, true
}

// Match reports whether a request with this header has the given key, which
// AppendKey made of the request that the stored response answered.
func (v Vary) Match(key []byte, h http.Header) bool {
	var buf [256]byte
	k, ok := v.AppendKey(buf[:0], h)
	return ok && string(k) == string(key)
}

// list reports whether the field is taken for a comma-separated list: all are,
// but those that are none by their definition or have comments or quoted parts
// in which white space may count.
func list(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Date", "From", "Host", "If-Modified-Since", "If-Range",
		"If-Unmodified-Since", "Max-Forwards", "Origin", "Proxy-Authorization", "Range",
		"Referer", "User-Agent", "Via":
		return false
	}
	return true
}

// sortMembers puts the members of a list, without white space beside its commas,
// into one case and one order. It works in place: the members are the same octets.
func sortMembers(value []byte) {
	for i, c := range value {
		if 'A' <= c && c <= 'Z' {
			value[i] = c + 'a' - 'A'
		}
	}
	if bytes.IndexByte(value, ',') < 0 || bytes.IndexByte(value, '"') >= 0 {
		return
	}
	// Large enough for what browsers send, and then off the heap; a longer value is
	// left in its order, and is a variant of its own.
	var text [256]byte
	var members [16]struct{ start, end int }
	n, start := 0, 0
	if len(value) > len(text) || bytes.Count(value, []byte{','}) >= len(members) {
		return
	}
	copy(text[:], value)
	for i := 0; i <= len(value); i++ {
		if i < len(value) && value[i] != ',' {
			continue
		}
		at := n // insertion sort: the members are few
		for ; at > 0 && bytes.Compare(text[start:i], text[members[at-1].start:members[at-1].end]) < 0; at-- {
			members[at] = members[at-1]
		}
		members[at].start, members[at].end = start, i
		n, start = n+1, i+1
	}
	out := value[:0]
	for i, m := range members[:n] {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, text[m.start:m.end]...)
	}
}

// appendValue appends the lines of a field as one value. In a list no white
// space is left beside a comma, but inside a quoted string it is content; the
// lines are joined before they are read, so a quote may run from one into the
// next.
func appendValue(dst []byte, lines []string, list bool) []byte {
	quoted, escaped := false, false
	start := len(dst)
	for i, line := range lines {
		line = trimOWS(line)
		if i > 0 {
			dst = append(dst, ',')
			if !list || quoted {
				dst = append(dst, ' ')
			}
			escaped = false
		}
		if !list {
			dst = append(dst, line...)
			continue
		}
		for j := 0; j < len(line); j++ {
			c := line[j]
			switch {
			case escaped:
				escaped = false
			case quoted && c == '\\':
				escaped = true
			case c == '"':
				quoted = !quoted
			case quoted:
			case c == ',':
				dst = trimRightOWS(dst, start)
			case isOWS(c) && len(dst) > start && dst[len(dst)-1] == ',':
				continue
			}
			dst = append(dst, c)
		}
	}
	// An empty last line leaves the space of its comma, which in one line would
	// have been white space around the value.
	return trimRightOWS(dst, start)
}

// trimRightOWS cuts white space off the end of what follows start.
func trimRightOWS(dst []byte, start int) []byte {
	for len(dst) > start && isOWS(dst[len(dst)-1]) {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// insertLength puts "<n>=" before the n octets that follow start.
func insertLength(dst []byte, start int) []byte {
	var buf [20]byte
	head := append(strconv.AppendInt(buf[:0], int64(len(dst)-start), 10), '=')
	return slices.Insert(dst, start, head...)
}
