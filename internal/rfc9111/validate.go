package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// HasValidator reports whether a response's header has what a stored copy can be
// validated by (RFC 9111 4.3.1): one ETag that is an entity tag, or one
// Last-Modified that is an HTTP-date.
func HasValidator(h http.Header, responseTime time.Time) bool {
	if _, ok := etagOf(h); ok {
		return true
	}
	_, _, ok := dateField(h, "Last-Modified", responseTime)
	return ok
}

// etagOf returns the entity tag of a header as it is written.
func etagOf(h http.Header) (etag string, ok bool) {
	lines := h["Etag"]
	if len(lines) != 1 {
		return "", false
	}
	etag = trimOWS(lines[0])
	_, rest, ok := entityTag(etag)
	return etag, ok && rest == ""
}

// strong reports whether an entity tag is (RFC 9110 8.8.1).
func strong(etag string) bool { return !strings.HasPrefix(etag, "W/") }

// preconditions are the fields that make a request conditional (RFC 9110 13.1),
// but for If-Range.
var preconditions = [...]string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"}

// Condition makes a request's header that of a conditional request which
// validates a stored response (RFC 9111 4.3.1). The client's own conditions go:
// they are evaluated when the stored response has been validated. A Range stays;
// the origin looks at it only if the response has changed (RFC 9110 13.2.2).
func Condition(request, stored http.Header, responseTime time.Time) {
	for _, key := range preconditions {
		delete(request, key)
	}
	if etag, ok := etagOf(stored); ok {
		request["If-None-Match"] = []string{etag}
	}
	if _, _, ok := dateField(stored, "Last-Modified", responseTime); ok {
		request["If-Modified-Since"] = []string{trimOWS(stored["Last-Modified"][0])}
	}
}

// Updates reports whether a 304 is about the stored response, which it may then
// freshen (RFC 9111 4.3.4): its strong validator must be the stored one's; or
// else its weak one; or it has none, and only one response was asked about.
func Updates(notModified, stored http.Header) bool {
	etag, ok := etagOf(notModified)
	if !ok {
		modified := notModified["Last-Modified"]
		ours := stored["Last-Modified"]
		return len(modified) == 0 || len(ours) == 0 || modified[0] == ours[0]
	}
	ours, ok := etagOf(stored)
	if strong(etag) {
		return ok && ours == etag
	}
	return ok && strings.TrimPrefix(ours, "W/") == strings.TrimPrefix(etag, "W/")
}

// fixed are the fields that an update leaves as they are stored (RFC 9111 3.2):
// they describe the very octets that are stored, or have been processed.
var fixed = [...]string{"Content-Length", "Content-Encoding", "Content-Range", "Content-Md5", "Content-Digest", "Etag"}

// Freshen returns a stored response's header, updated by that of a 304 or of an
// answer to HEAD (RFC 9111 3.2): a new map, of fields that may be stored. Only
// what is about the response as a whole changes, not what describes the octets that
// are stored. An update without a Date is of responseTime.
func (p Policy) Freshen(stored, update http.Header, responseTime time.Time) http.Header {
	out := stored.Clone()
	if out == nil {
		out = http.Header{}
	}
	update = p.passable(update)
	for _, key := range fixed {
		delete(update, key)
	}
	for key, values := range update {
		out[key] = values
	}
	// What was said of the time when the response was stored is said anew, or not.
	if _, ok := update["Age"]; !ok {
		delete(out, "Age")
	}
	if _, _, ok := dateField(update, "Date", responseTime); !ok {
		out["Date"] = []string{responseTime.UTC().Format(http.TimeFormat)}
	}
	return out
}

// UpdatedByHead reports whether the 200 to a HEAD request is about what is stored
// of a GET, which it then freshens; if not, what is stored is stale (RFC 9111
// 4.3.5). size is that of the whole stored body.
func UpdatedByHead(head, stored http.Header, size int64) bool {
	for _, key := range [...]string{"Etag", "Last-Modified"} {
		if lines := head[key]; len(lines) > 0 && (len(stored[key]) != 1 || len(lines) != 1 || trimOWS(lines[0]) != trimOWS(stored[key][0])) {
			return false
		}
	}
	return Complete(head, size)
}
