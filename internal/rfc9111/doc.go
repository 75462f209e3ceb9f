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
// A cache asks these questions, in this order:
//
//	Bypass(r)                   is this a request for a cache at all?
//	Policy.Vary, Vary.AppendKey which stored response is meant?
//	Policy.Reuse                may it answer? then Select: with what of it?
//	Condition, Missing          if not, what is the origin to be asked for?
//	Updates, Policy.Freshen     what does its 304 or 206 make of what is stored?
//	Policy.OnError              and if it fails: may what is stored answer after all?
//	Invalidates, Invalidated    what does its answer to an unsafe method remove?
//	Policy.Storable             may the answer just made be stored, and
//	Policy.Keep                 for how long? then Complete, StoredHeader: what of it?
//
// Most answers are a [Verdict]: a number that says which rule decided, with a
// name fit for a log line or the detail of Cache-Status.
//
// # What is covered
//
//	RFC 9111 3      Policy.Storable, StoredHeader     3.3, 3.4  Complete, Missing, Combines, Join
//	RFC 9111 3.5    Policy.Storable                   4, 4.2    Policy.Reuse, Policy.Lifetime, InitialAge
//	RFC 9111 4.1    Policy.Vary                       4.3       Condition, Updates, Policy.Freshen, UpdatedByHead
//	RFC 9111 4.4    Invalidates, Invalidated          5.2       ParseRequestDirectives, ParseResponseDirectives
//	RFC 9110 13, 14 NotModified, ParseRange, Select   RFC 5861  Policy.Reuse, Policy.OnError
//	RFC 8246        Policy.Reuse                      RFC 9211  Status
//	RFC 9213        Policy.Directives                 RFC 9875  Groups, InvalidatedGroups
//	No-Vary-Search  ParseNoVarySearch
//
// # Guarantees
//
// Where RFC 9111 leaves a choice, the one taken can make a response less
// reusable, never more: a malformed directive keeps what it forbids and loses
// what it permits, freshness that cannot be read is stale, and a date that is
// not an HTTP-date is no date. The zero [Policy] is the [Safe] profile.
//
// # Limits
//
// Stored are answers to GET, and to POST where they give their own URI. A 206 of
// several parts is not stored, nor a 200 that was cut short. The parts of a
// representation that are stored are one run of octets.
//
// # Header maps
//
// Header fields are looked up by their canonical key, the form net/http makes
// of every request and http.Header.Set of every response. A handler that
// writes a map key of another spelling hides that field from these rules.
package rfc9111
