package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// NotModified reports whether a request that a stored response may answer is
// answered with 304, since the client has that response already (RFC 9111
// 4.3.2). It evaluates the two preconditions that apply to a cache, in the
// order of RFC 9110 13.2.2:
//
//   - If-None-Match, by weak comparison (8.8.3.2) with the stored ETag; "*"
//     alone matches every stored response. Where the field is present, even if
//     nothing in it can be read, If-Modified-Since is not looked at (13.1.3).
//   - If-Modified-Since, if it is one HTTP-date. A stored response without
//     Last-Modified was modified at its Date, or else when it was received.
//
// Only a stored 200, or a 206 which stands for one, is compared: a precondition is ignored where the answer
// without it would not be a success (RFC 9110 13.2.1). A field that is
// malformed, or an entity tag in no quotes, leads to the full response.
func NotModified(req Request, stored Stored, h http.Header) bool {
	if stored.Status != http.StatusOK && stored.Status != http.StatusPartialContent || req.Method != "GET" && req.Method != "HEAD" {
		return false
	}
	if lines := req.Header["If-None-Match"]; len(lines) > 0 {
		return matchesAny(lines, h["Etag"])
	}
	// The clock's part is the century of a two-digit year.
	now := stored.ResponseTime
	since, _, ok := dateField(req.Header, "If-Modified-Since", now)
	if !ok {
		return false
	}
	modified, present, ok := dateField(h, "Last-Modified", now)
	if !present {
		if modified, _, ok = dateField(h, "Date", now); !ok {
			modified, ok = now.Truncate(time.Second), true
		}
	}
	return ok && !modified.After(since)
}

// matchesAny compares the lines of If-None-Match with those of ETag. Of ETag,
// a singleton, there must be one line.
func matchesAny(lines, etag []string) bool {
	if len(lines) == 1 && trimOWS(lines[0]) == "*" {
		return true
	}
	if len(etag) != 1 {
		return false
	}
	ours, rest, ok := entityTag(trimOWS(etag[0]))
	if !ok || rest != "" {
		return false
	}
	for _, line := range lines {
		for {
			line = strings.TrimLeft(line, " \t,")
			if line == "" {
				break
			}
			theirs, rest, ok := entityTag(line)
			rest = strings.TrimLeft(rest, " \t")
			if !ok || rest != "" && rest[0] != ',' {
				// Where the next tag begins is anybody's guess.
				break
			}
			if theirs == ours {
				return true
			}
			line = rest
		}
	}
	return false
}

// entityTag cuts an entity-tag (RFC 9110 8.8.3) off s and returns its opaque
// tag, quotes and all, without the weakness that weak comparison overlooks.
func entityTag(s string) (opaque, rest string, ok bool) {
	s = strings.TrimPrefix(s, "W/")
	if s == "" || s[0] != '"' {
		return "", "", false
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return s[:i+1], s[i+1:], true
		case c <= 0x20 || c == 0x7f: // etagc is %x21 / %x23-7E / obs-text
			return "", "", false
		}
	}
	return "", "", false
}

// NotModifiedHeader makes h, the header of the answer that is being built from
// a stored response, that of a 304: without the fields that describe a body
// that is not sent, and without Last-Modified if there is an ETag (RFC 9110
// 15.4.5). Content-Location, Date, ETag, Vary, Cache-Control and Expires stay,
// as they must.
func NotModifiedHeader(h http.Header) {
	for _, key := range [...]string{"Content-Encoding", "Content-Language", "Content-Length", "Content-Range", "Content-Type"} {
		delete(h, key)
	}
	if len(h["Etag"]) > 0 {
		delete(h, "Last-Modified")
	}
}
