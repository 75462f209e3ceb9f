// Package session answers: who is this visitor?
//
// A [Manager] is an [scs.SessionManager] (alexedwards/scs/v2) whose sessions
// live in Redis, under the keys and in the bytes of scs/redisstore: sessions of
// a service that used that one go on with this one, if it hashed its tokens (see
// [WithInsecurePlainTokens] if it did not).
//
// # Usage
//
//	sessions, err := session.New(rdb)
//	...
//	r.Use(middleware.Session(sessions))
//
//	func login(w http.ResponseWriter, r *http.Request) {
//	    // ... the password is right:
//	    if err := sessions.Login(r.Context(), user.ID); err != nil { ... } // a new token, bound to the user
//	    sessions.Put(r.Context(), "name", user.Name)
//	}
//
//	func logout(w http.ResponseWriter, r *http.Request) {
//	    if err := sessions.Destroy(r.Context()); err != nil { ... }
//	}
//
// Login is what lets a user list and end their sessions: [Manager.Sessions],
// [Manager.End], [Manager.EndOthers], [Manager.EndAll], [WithMaxSessions]. Handlers
// that log in as scs has it, by RenewToken and Put, go on as they are.
//
// Values of types other than the basic ones need no gob.Register under a [Key];
// messages for the next page are a [Flash]; counters and the like are changed by
// [Manager.Update]:
//
//	var cart = session.NewKey[Cart](sessions, "cart")
//	...
//	err := cart.Update(ctx, func(c Cart) (Cart, error) { c.Add(item); return c, nil })
//
// # Guarantees
//
//   - A request that does not look at its session costs no Redis command and
//     gets no Vary, Set-Cookie or Cache-Control. A look is one round trip,
//     saving a change one more, and one more for each request that changed the same
//     session meanwhile. What is changed to what it was is not written. Reading writes
//     nothing, but for a PEXPIRE when a tenth of the idle timeout has passed.
//   - An ended session stays ended, whatever was under way: a logout, a login (which
//     ends the session under its old token), End, EndOthers, EndAll and an expiry all
//     hold against requests that loaded the session before. What these would have
//     written is dropped, and told ([Visit.Warning], an [Event]).
//   - Changes of requests that run side by side are merged key by key; none
//     is lost. Of the same key the later one's holds, unless it is changed by Update,
//     Pop or a Flash, which see what the one before has made.
//   - A login, RenewToken and a periodic renewal store the session under its new
//     token before they end the old one: a failure in between loses neither, unless
//     Redis falls silent for two budgets between the mark in the old one's place
//     and its reply.
//   - The absolute deadline holds also for a key that lost its expiry, and no key is
//     written without one.
//   - The cookie is right with Flush first, server-sent events, 1xx answers and
//     Hijack; a change that comes after the header is saved too, and a look after
//     it is not taken for one.
//   - A change is saved before the response's first byte leaves, also when the
//     visitor has left. When it cannot be saved the answer is a clean 5xx and
//     not the handler's. A handler that panics first has nothing saved.
//   - Redis holds the token's SHA-256, never the token. A cookie that is not of
//     a token's form never reaches Redis; an unknown token is never adopted. Of
//     several cookies of the name the first that Redis knows counts, among four.
//   - Data that does not decode or decrypt is a new session, not an error page for
//     ever.
//
// Not promised:
//
//   - Redis replicates asynchronously: a failover may forget the last writes, a logout
//     among them, and the session is then as the new master has it.
//   - A request that outlasts a periodic renewal beside it by more than 30 s does not
//     find the session any more: what it changes is dropped, and told. If the session is
//     bound to no user, its Destroy returns ErrUnavailable, and the browser keeps the
//     cookie of the new token, under which it lives on.
//   - What is merged is whole keys. Of a map or slice under one key that two requests
//     change, the later one's holds, unless by Update.
//   - [WithStore]: other stores cannot compare, so changes may be lost, and an ended
//     session may come back, within the time of two calls to it.
//   - The embedded SessionManager is scs's own: its LoadAndSave, mounted by hand, writes
//     whatever it has loaded. Its key in contexts is found by unsafe, and otherwise by
//     scs.New; how scs calls the store, by the names of its methods. The tests fail with
//     an scs in which these differ.
//   - The limit of sessions counts those that have expired, up to a tenth of the idle
//     timeout longer.
//
// # How it is done
//
// scs finds its data in the request's context. middleware.Session gives the handler a
// context, a [Visit], that loads the data when scs first asks for it, and remembers
// the bytes. A commit writes by a script that compares: if what is stored is what was
// loaded, it is replaced; if not, the script returns it, both are merged over what
// was loaded, and the write is tried again over that; if there is nothing, or the
// mark of an ended session, nothing is written.
//
//	loaded ──changed──▶ compare and set ──same──────────▶ saved
//	                        ▲    │──other──▶ merge ──┐
//	                        │    └──ended──▶ dropped │
//	                        └────────────────────────┘
//
// A session that is bound to a user is alive as long as its id is in that user's
// index. Its token tells both, so that a look asks for the session and the index in one
// round trip. That makes "log out everywhere" one write, whatever else there is.
//
// # Encryption, codecs
//
// [WithEncryption] keeps sessions' data secret from who can read Redis. gob, scs's own
// codec, is the default; [JSONCodec] is for services in other languages that read the
// sessions.
//
// # Cross-site requests
//
// SameSite=Lax keeps the cookie from cross-site POSTs in browsers that know it. Mount
// net/http's CrossOriginProtection outside of middleware.Session as well: it refuses
// them before a session is looked at, and costs no token in forms.
//
//	protection := http.NewCrossOriginProtection()
//	r.Use(protection.Handler)
//	r.Use(middleware.Session(sessions))
//
// It lets GET, HEAD and OPTIONS pass: they must change nothing.
//
// # When Redis is silent
//
// A request passes that does not look at its session, or carries no session cookie
// and changes nothing. Others are answered 503 with Retry-After within the budget (50 ms, [WithTimeout]),
// and at once when the breaker is open. No visitor is taken for an anonymous
// one and no cookie is cleared, but on routes that middleware.AnonymousFallback names. The
// handler is left by a panic, as scs's methods return no error; in a goroutine of
// its own, where nothing would recover that, it finds an empty session and the request
// is refused all the same. Methods that return an error return ErrUnavailable.
//
// When Redis is out of memory sessions end all the same, but none begins or changes.
//
// On a Cluster a session and its user's index may be on different masters: if either
// is silent, so is that session.
//
// # Keys in Redis
//
//	key                             type        lifetime
//	scs:session:{sha256}            string      the idle timeout, at most until the absolute deadline; the mark of an ended one 30 s
//	weir:session-user:{tag}:ids     sorted set  until the user's last session ends, and a tenth of the idle timeout
//	weir:session-user:{tag}:info    hash        the same
//	weir:session-user:{tag}:ended   string      1 h after EndAll or EndOthers
//	weir:session-user:{tag}:gone:…  hash        while EndAll clears up; at most 1 h
//
// The braces of the first are not part of the key; tag is a digest of the user. If
// Redis loses a user's index, by eviction or FLUSHDB, the user is logged out
// everywhere: run it with an eviction policy that spares them, such as noeviction.
//
// # Order among middlewares
//
// Outside of it: recovery from panics, so that the 503 is not taken for a crash;
// CrossOriginProtection.
// Inside of it: what looks at the session. A response cache inside of it does
// not store answers of handlers that looked at the session.
package session
