// Package session answers: who is this visitor?
//
// A [Manager] is an [scs.SessionManager] (alexedwards/scs/v2) whose sessions
// live in Redis, under the keys and in the bytes of scs/redisstore: sessions of
// a service that used that one go on with this one, if it hashed its tokens.
//
// # Usage
//
//	sessions, err := session.New(rdb)
//	...
//	r.Use(middleware.Session(sessions))
//
//	func login(w http.ResponseWriter, r *http.Request) {
//	    if err := sessions.RenewToken(r.Context()); err != nil { ... } // OWASP: a new token at each login
//	    sessions.Put(r.Context(), "user", "alice")
//	}
//
// Values other than the basic types must be known to gob: gob.Register them.
//
// # Guarantees
//
//   - A request that does not look at its session costs no Redis command and
//     gets no Vary, Set-Cookie or Cache-Control. A look is one round trip,
//     saving a change one more. Reading writes nothing, but for a PEXPIRE when
//     a tenth of the idle timeout has passed.
//   - An ended session stays ended: a request that was under way during a
//     logout, or an expiry, cannot write it back. The absolute deadline holds
//     also for a key that lost its expiry.
//   - The cookie is right with Flush first, server-sent events, 1xx answers and
//     Hijack; a change that comes after the header is saved too, and a look after
//     it is not taken for one.
//   - A change is saved before the response's first byte leaves, also when the
//     visitor has left. When it cannot be saved the answer is a clean 5xx and
//     not the handler's. A handler that panics first has nothing saved.
//   - Redis holds the token's SHA-256, never the token. A cookie that is not of
//     a token's form never reaches Redis; an unknown token is never adopted. Of
//     several cookies of the name the first that Redis knows counts, among four.
//   - Data that does not decode is a new session, not an error page for ever.
//
// Not guaranteed yet: of two requests that change one session at the same time
// the one that commits last wins, whole. RenewToken deletes the old session
// before the new one is saved, as in scs: if that fails both are lost, and one
// that runs beside a logout takes the data along to its new token. The old token
// is dead in either case.
//
// # When Redis is silent
//
// A request passes that does not look at its session, or carries no session cookie
// and changes nothing. Others are answered 503 with Retry-After within the budget (50 ms, [WithTimeout]),
// and at once when the breaker is open. No visitor is taken for an anonymous
// one and no cookie is cleared. The handler is left by a panic, as scs's methods
// return no error; a goroutine of its own should not be the first to look, as
// nothing recovers panics there.
//
// # Keys in Redis
//
//	key                    type    lifetime
//	scs:session:{sha256}   string  the idle timeout, at most until the absolute deadline
//
// (The braces are not part of the key.)
//
// # Order among middlewares
//
// Outside of it: recovery from panics, so that the 503 is not taken for a crash.
// Inside of it: what looks at the session. A response cache inside of it does
// not store answers of handlers that looked at the session.
package session
