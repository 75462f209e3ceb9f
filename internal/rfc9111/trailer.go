package rfc9111

import (
	"net/http"
	"slices"
	"strings"
)

// notTrailing are fields that a trailer section must not have (RFC 9110 6.5.1): they are
// about framing, routing, authentication, how to treat the response, or how to read its
// content. A recipient that obeyed one would be told by the end of a response what its
// beginning was. perConnection adds to it.
var notTrailing = [...]string{
	"Host", "Authorization", "Www-Authenticate", "Set-Cookie",
	"Age", "Cache-Control", "Cache-Status", "Date", "Expires", "Location", "Pragma", "Retry-After", "Vary", "Warning",
	"Content-Encoding", "Content-Length", "Content-Range", "Content-Type",
}

// StoredTrailer returns the part of a response's trailer section that a shared cache
// stores, apart from the header (RFC 9111 3.1), as a new map that shares no slice with
// trailer. What is left out: fields that may not stand in a trailer section, Set-Cookie
// whatever the profile, and those that Connection, no-cache="…" or private="…" in the
// header h name.
func (p Policy) StoredTrailer(h, trailer http.Header) http.Header {
	d := p.Directives(h)
	drop := slices.Concat(notTrailing[:], perConnection[:], d.NoCache.Fields, d.Private.Fields)
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			drop = append(drop, http.CanonicalHeaderKey(trimOWS(name)))
		}
	}
	out := make(http.Header, len(trailer))
	for name, values := range trailer {
		if isToken(name) && len(values) > 0 && !slices.Contains(drop, name) {
			out[name] = slices.Clone(values)
		}
	}
	return out
}
