package rfc9111

import (
	"net/http"
	"strconv"
	"time"
)

// Forward is why a request went to the origin (RFC 9211 2.2). The zero value
// is that it did not.
type Forward uint8

const (
	FwdNone      Forward = iota
	FwdBypass            // the cache was set up not to handle the request
	FwdMethod            // the method's semantics require it
	FwdURIMiss           // no stored response for the URI
	FwdVaryMiss          // one for the URI, none for the selecting header fields
	FwdMiss              // none, and it is not known which of the two
	FwdRequest           // a fresh one, but the request did not allow its use
	FwdStale             // one, but stale
	FwdPartial           // one, but not all of the range asked for
	forwardCount         // not a value
)

var forwardNames = [forwardCount]string{"", "bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"}

// String returns the token of RFC 9211, empty for FwdNone.
func (f Forward) String() string {
	if f < forwardCount {
		return forwardNames[f]
	}
	return ""
}

// Status is what one cache did with one request: a member of the Cache-Status
// list (RFC 9211 2).
type Status struct {
	// Cache names the cache. A name that is a structured-field token is written
	// as one, any other as a string. Required: without it nothing is written.
	Cache string

	Hit       bool          // answered from the cache; leaves out what concerns forwarding (2.1)
	Fwd       Forward       // why it went forward
	FwdStatus int           // what the origin answered, if that is not what the client got; 0: not said
	TTL       time.Duration // what is left of the lifetime, rounded down; negative when stale
	HasTTL    bool          // TTL is to be said
	Stored    bool          // the answer that came was stored
	Collapsed bool          // the request waited for another's answer
	Key       string        // the cache key; empty: not said. It may tell more than clients should know
	Detail    string        // for people; empty: not said. Verdict.String fits
}

// AddTo appends the member to the Cache-Status list of a response's header. The
// caches on a response's way stand in the list in that order, the one closest to
// the origin first (RFC 9211 2), so this is the last. The field's slice is
// replaced, never written to, as it may be shared with a stored header.
func (s Status) AddTo(h http.Header) {
	if s.Cache == "" {
		return
	}
	var buf [160]byte
	lines := h["Cache-Status"]
	h["Cache-Status"] = append(lines[:len(lines):len(lines)], string(s.Append(buf[:0])))
}

// Append appends the member, as one structured-field item with parameters (RFC
// 9651 3.3), and returns the extended slice.
func (s Status) Append(dst []byte) []byte {
	if s.Cache == "" {
		return dst
	}
	dst = appendName(dst, s.Cache)
	if s.Hit {
		dst = append(dst, ";hit"...)
	} else {
		dst = s.appendForward(dst)
	}
	if s.HasTTL {
		dst = append(dst, ";ttl="...)
		dst = strconv.AppendInt(dst, floorSeconds(s.TTL), 10)
	}
	if s.Key != "" {
		dst = append(dst, ";key="...)
		dst = appendString(dst, s.Key) // a String even if it could be a Token (2.7)
	}
	if s.Detail != "" {
		dst = append(dst, ";detail="...)
		dst = appendName(dst, s.Detail)
	}
	return dst
}

// appendForward appends the parameters that mean something only without hit.
func (s Status) appendForward(dst []byte) []byte {
	if name := s.Fwd.String(); name != "" {
		dst = append(dst, ";fwd="...)
		dst = append(dst, name...)
	}
	if s.FwdStatus > 0 {
		dst = append(dst, ";fwd-status="...)
		dst = strconv.AppendInt(dst, int64(s.FwdStatus), 10)
	}
	if s.Stored {
		dst = append(dst, ";stored"...)
	}
	if s.Collapsed {
		dst = append(dst, ";collapsed"...)
	}
	return dst
}

func floorSeconds(d time.Duration) int64 {
	n := int64(d / time.Second)
	if d%time.Second < 0 {
		n-- // a response stale by half a second is not at 0
	}
	return n
}

// appendName appends a structured-field Token if s is one, else a String.
func appendName(dst []byte, s string) []byte {
	if isSFToken(s) {
		return append(dst, s...)
	}
	return appendString(dst, s)
}

// isSFToken is ( ALPHA / "*" ) *( tchar / ":" / "/" ) (RFC 9651 3.3.4).
func isSFToken(s string) bool {
	if c := s[0] | 0x20; (c < 'a' || c > 'z') && s[0] != '*' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; !tchar[c] && c != ':' && c != '/' {
			return false
		}
	}
	return true
}

// appendString appends a structured-field String (RFC 9651 3.3.3). It holds
// printable ASCII alone; other octets, which a cache key made of a URI does not
// have, are percent-encoded rather than lost.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20 || c > 0x7e:
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
