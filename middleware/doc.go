// Package middleware wraps HTTP handlers: each wrapper names who is asking and
// what is asked, leaves the decision to an engine (ratelimit, session, cache,
// cache/lock) and says it in HTTP.
//
// # Usage
//
// With chi:
//
//	r := chi.NewRouter()
//	r.Use(middleware.RateLimit(limiter, middleware.KeyByIP))
//	r.Use(middleware.Session(sessions))
//	r.With(middleware.Cache(responses)).Get("/products/{id}", showProduct)
//
// With net/http alone:
//
//	mux.Handle("/report", middleware.RateLimit(reports, middleware.KeyByIP)(report))
//
// # Guarantees
//
//   - A wrapper passes on what it does not decide: 1xx answers, Flush, Hijack,
//     ReadFrom, trailers, HTTP/2 and http.ResponseController work inside of it.
//   - No internal address, key or error text reaches a client. Refusals are
//     application/problem+json (RFC 9457) with Cache-Control: no-store.
//   - What can never work (a nil engine, key function, option or middleware, a
//     field without a name) panics at mount time, as a nil handler does with
//     http.Handle.
//
// # The response cache and its standards
//
//	RFC 9111    all of it, as a shared cache; Age, Vary, validation with merged 304s
//	            and 200s to HEAD, invalidation by unsafe methods, every directive
//	RFC 9110    conditional requests and ranges answered from what is stored; parts
//	            stored, joined, and completed by asking for what is missing; trailers
//	            stored and sent again, if no Content-Length was announced
//	RFC 5861    stale-while-revalidate, refreshed once; stale-if-error
//	RFC 8246    immutable
//	RFC 9211    Cache-Status on every answer, named weir or by WithCacheName
//	RFC 9213    CDN-Cache-Control, or the fields of WithTargets
//	RFC 9875    Cache-Groups and Cache-Group-Invalidation
//
// There are two profiles. The default is safe; WithRFCProfile does all that the RFC
// allows a shared cache. Of the public suite of HTTP cache behaviour, edition of 2026,
// the RFC profile passes 159 of 160 required and 99 of 105 optimal tests. The safe one
// gives up three of them: headers-store-Set-Cookie, other-set-cookie and
// other-authorization-must-revalidate; and 304-etag-update-response-Set-Cookie, which the
// older edition on npm (`make conformance`) requires and that of 2026 only asks about.
// In examples/gateway/conformance, expected-2026.json and expected.json list each test
// that is not passed, and why.
//
// # When Redis is silent
//
// A request waits in vain for at most one budget (50 ms) in all, however many
// wrappers it passes: what the first has waited for a silent server, the others do
// not wait again. What each does then is on its own page. While Redis is merely
// slow, each call may take up to its budget.
//
// # Keys in Redis
//
// Those of the engines, see their pages.
//
// # Architecture
//
// A request goes one way, in three steps for each wrapper, and each step knows one
// thing:
//
//	request → wrapper   who is asking, and what is asked: a plan, no I/O
//	        → engine    the plan in one round trip, and the reply as a verdict
//	        → wrapper   the verdict in HTTP: fields, a refusal, or the next handler
//
// Engines (ratelimit, session, cache, cache/lock, cache/event, cache/idempotency) know
// Redis and no HTTP; this package knows HTTP and no Redis. All share the client that the
// program has already, and with it one breaker, so that the silence one has met is no
// news to the others, and one connection for messages.
//
// What each costs, in round trips, where nothing is refused or lost:
//
//	RateLimit    1; 0 for a refusal that this process foresees
//	Session      0 if nothing looks at it, else 1; and 1 when it is changed, or when
//	             its idle timeout is to be pushed back
//	Idempotency  0 without a key, else 2: reserve, keep
//	Quota        1
//	Cache        1 for a hit, 0 for one in the near tier; 2 for a miss: claim, keep
//	Serialize    2: acquire, release
//	Events       none for each client: all hear on one connection
//
// [OneTrip] has what RateLimit, Session and Cache ask of Redis first go in one.
//
// # Order among middlewares
//
// From the outside, each with the reason for its place:
//
//  1. recovery from panics, request ids, logging, chi's ClientIPFrom…: they know
//     every request and its final status, and KeyByIP needs the address that the last
//     of them found;
//  2. RateLimit: refuses before anything is spent; one that counts by
//     KeyBySession goes inside Session, behind one that counts by KeyByIP;
//  3. Session: inside RateLimit, so that floods do not load sessions, and outside of
//     all that asks who the visitor is;
//  4. http.CrossOriginProtection, and whatever decides who may do what: inside
//     Session, outside of what acts;
//  5. Idempotency: inside of what finds out who is asking, and outside of Quota, so
//     that nobody pays for a first answer that is replayed;
//  6. Quota: behind RateLimit, so that nobody pays for what is refused, and
//     outside of Cache where hits are to be paid for as well;
//  7. Cache, per route: inside Session, it knows whether the handler looked at
//     one, and does not store what did;
//  8. Serialize, per route: directly around what must not run twice at a time, so
//     that whoever waits has been let in, and a hit waits for nobody;
//  9. the handler. [Events] is one: RateLimit outside of it needs room for browsers
//     that come back, as one that is answered 429 never does again.
//
// Compression goes outside of Cache: it then compresses hits as well, and one
// stored response serves all codings. http.TimeoutHandler holds back what it wraps: where
// a handler needs it, it goes directly around it, inside of Cache.
package middleware
