package rfc9111

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// perConnection are the fields that concern one connection (RFC 9110 7.6.1), and
// those about a proxy that is not part of the cache key (3.1).
var perConnection = [...]string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization",
}

// StoredHeader returns the part of a response's header that a shared cache
// stores (RFC 9111 3.1), as a new map that shares no slice with h. What is left
// out:
//
//   - Connection and every field it names, Keep-Alive, Proxy-Connection, TE,
//     Transfer-Encoding and Upgrade;
//   - Proxy-Authenticate, Proxy-Authentication-Info and Proxy-Authorization;
//   - the fields that no-cache="…" or private="…" name (5.2.2.4, 5.2.2.7);
//   - Set-Cookie in the Safe profile, whatever [Policy.Storable] said before;
//   - Trailer, the fields it declares and net/http's "Trailer:" keys: they are for
//     [Policy.StoredTrailer].
//
// And what is put right: Content-Length is the length of the body that was
// stored, or is absent with a 204 (RFC 9110 8.6); a Date that is missing or not
// one HTTP-date is responseTime (RFC 9110 6.6.1), or else net/http would date
// each reuse anew. Content-Range goes from a 206: each answer made of it has its
// own.
//
// Call it before the cache adds fields of its own, Age and Cache-Status.
func (p Policy) StoredHeader(status int, h http.Header, bodyLen int64, responseTime time.Time) http.Header {
	out := p.passable(h)
	if status != http.StatusNoContent {
		out["Content-Length"] = []string{strconv.FormatInt(bodyLen, 10)}
	}
	if status == http.StatusPartialContent {
		delete(out, "Content-Range")
	}
	if _, _, ok := dateField(out, "Date", responseTime); !ok {
		out["Date"] = []string{responseTime.UTC().Format(http.TimeFormat)}
	}
	return out
}

// passable is what of a header may be stored, but for Content-Length.
func (p Policy) passable(h http.Header) http.Header {
	out := h.Clone()
	if out == nil {
		out = http.Header{}
	}
	for _, key := range [...]string{"Connection", "Trailer"} {
		for _, line := range h[key] {
			for name := range strings.SplitSeq(line, ",") {
				delete(out, http.CanonicalHeaderKey(trimOWS(name)))
			}
		}
	}
	for _, key := range perConnection {
		delete(out, key)
	}
	delete(out, "Content-Length")
	if !p.cookies() {
		delete(out, "Set-Cookie")
	}
	d := p.Directives(h)
	for _, fields := range [...][]string{d.NoCache.Fields, d.Private.Fields} {
		for _, key := range fields {
			delete(out, key)
		}
	}
	for key, values := range out {
		// A handler sets a key to nil to keep net/http from filling it in.
		if len(values) == 0 || strings.HasPrefix(key, http.TrailerPrefix) {
			delete(out, key)
		}
	}
	return out
}

// Complete reports whether a body of bodyLen octets is all that the header
// promised. A 200 that is not complete is not stored here (RFC 9111 3.3 allows it,
// marked as such): whether its end is missing or more is wrong nobody knows. Without Content-Length, or with
// Transfer-Encoding, which overrides it (RFC 9112 6.3), the header promises
// nothing and the answer is true. A length that is no number, or two that
// differ, is never kept (RFC 9112 6.3: an unrecoverable error).
func Complete(h http.Header, bodyLen int64) bool {
	if len(h["Transfer-Encoding"]) > 0 {
		return true
	}
	// "42, 42" in one line or two is 42 (RFC 9110 8.6).
	for _, line := range h["Content-Length"] {
		for member := range strings.SplitSeq(line, ",") {
			if n, ok := length(trimOWS(member)); !ok || n != bodyLen {
				return false
			}
		}
	}
	return true
}

// length reads 1*DIGIT; unlike delta-seconds it does not saturate.
func length(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 63) // takes no sign
	return int64(n), err == nil
}
