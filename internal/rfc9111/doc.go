// Package rfc9111 holds the rules of HTTP caching (RFC 9111) for a shared
// cache as pure functions: what may be stored, what a stored response may
// answer, how old it is, which request header fields select it, and how the
// cache says what it did (RFC 9211).
//
// Nothing here does I/O, reads a clock or keeps state. Times are arguments, so
// a caller can use the time of its store, and a test any time it likes.
//
// # Usage
//
// A cache asks four questions, in this order:
//
//	Bypass(r)                  is this a request for a cache at all?
//	Policy.Vary, Vary.Key      which stored response is meant?
//	Policy.Reuse               may it answer?   then NotModified: with a 304?
//	Policy.Storable            may the answer just made be stored?
//	                           then Complete, and StoredHeader: what of it?
//
// Each answer is a [Verdict]: a number that says which rule decided, with a
// name fit for a log line or the detail of Cache-Status.
//
// # Guarantees
//
// Where RFC 9111 leaves a choice, the one taken can make a response less
// reusable, never more: a malformed directive keeps what it forbids and loses
// what it permits, freshness that cannot be read is stale, and a date that is
// not an HTTP-date is no date. The zero [Policy] is the [Safe] profile.
//
// # Limits of this version
//
// Only GET is stored. A response that could be reused only after validation
// (no-cache, stale on arrival) is not stored, since nothing here validates yet.
// 206 and 304 are not stored. The qualified forms no-cache="f" and private="f"
// count as unqualified, as sections 5.2.2.4 and 5.2.2.7 note many caches do.
//
// # Header maps
//
// Header fields are looked up by their canonical key, the form net/http makes
// of every request and http.Header.Set of every response. A handler that
// writes a map key of another spelling hides that field from these rules.
package rfc9111
