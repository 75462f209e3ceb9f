package middleware

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/rdb"
)

// Idempotency runs the handler once for an Idempotency-Key, and gives every request
// that repeats it the first answer again.
//
// It follows draft-ietf-httpapi-idempotency-key-header-07, and Stripe's rules of what is
// replayed. It applies to POST and PATCH ([WithMethods]). A key is 1 to 255 visible ASCII
// characters, in quotes as the draft has it or bare ([WithQuotedKeys]); anything else is
// answered 400. A request without a key passes, or is answered 400 by [WithRequired].
//
// A key belongs to its principal, method and route, so nobody gets another's answer.
// principal says who is asking, such as [KeyByUser]; route is the pattern that the
// request has matched, or its path where none is known yet. The same key with another
// path, query, Content-Type ([WithFingerprintFields]) or body is answered 422.
//
// The first request claims the key, in one round trip, and runs. Its answer is held
// until it is kept in Redis, in another round trip, and only then sent: no client has
// seen an answer that is not replayed later. It is replayed with its status, its body
// byte for byte, and these fields: Cache-Control, Content-Disposition, Content-Encoding,
// Content-Language, Content-Length, Content-Location, Content-Type, ETag, Last-Modified,
// Link, Location, Retry-After, Vary, WWW-Authenticate, X-Content-Type-Options, and those
// of [WithReplayFields]; with Idempotent-Replayed: true; without trailers; never with Set-Cookie, Date or what
// belongs to a connection. (Browsers show Idempotent-Replayed to scripts of other
// origins only if Access-Control-Expose-Headers names it.)
//
// Answers of 408, 425, 429 and from 500 on are not kept ([WithKeepOn]): the key is let
// go before they are sent, and the next request with it runs. What else may happen:
//
//   - The first request still runs: 409 with Retry-After, or by [WithWait] its answer as
//     soon as there is one.
//   - Its process has died: 409 without Retry-After, as nobody knows what was done,
//     until the key's time is over or somebody calls [idempotency.Store.Forget] with
//     what [IdempotencyKey] returns; or, under idempotency.Retry, the request runs. The
//     same goes for a handler that panics, and for one that returns without an answer
//     because its client is gone; a panic passes on.
//   - The request's body is larger than 1 MiB ([WithMaxBody]): 413. It is read whole,
//     for the fingerprint, before the handler runs.
//   - The answer's body is larger than 1 MiB ([WithMaxAnswer]): from there on it is
//     streamed. Instead of it a note is kept, before the first byte leaves, and requests
//     that repeat it are answered 409 and told the status: the handler does not run
//     again. So it is with an event stream (text/event-stream) at its first Flush, with
//     101, with a hijacked connection, and with an answer shorter than its
//     Content-Length. Any other Flush is held back as the answer is.
//   - The client is gone: the handler goes on unless it looks at its context, see
//     [WithCompletion]; its answer is kept as if the client were there.
//
// When Redis is silent, requests with a key are answered 503 with Retry-After, within
// twice the store's budget, before the handler runs; those without pass. If it falls
// silent while the handler runs, the answer goes to the client all the same, but may not
// be kept: requests that repeat it are then answered as if the process had died. What
// clients are not told is logged to slog.Default, at most a line a second.
//
// The memory of a request is that of both bodies. Mount it inside of RateLimit and of
// what finds out who is asking, and outside of Quota and of what reads the body.
//
// It panics if store, principal or an option is nil, or an option cannot be, and tells
// all of it at once. The handler is safe for concurrent use.
func Idempotency(store *idempotency.Store, principal KeyFunc, options ...IdempotencyOption) Middleware {
	g := &idempotencyGate{
		store:     store,
		principal: principal,
		methods:   []string{http.MethodPost, http.MethodPatch},
		print:     []string{"Content-Type"},
		replay:    slices.Clone(replayedFields),
		keep:      keepsByDefault,
		maxBody:   defaultMaxBody,
		maxAnswer: defaultMaxBody,
		log:       &reporter{name: "idempotency"},
	}
	var mistakes []string
	mistake := func(wrong bool, format string, args ...any) {
		if wrong {
			mistakes = append(mistakes, "middleware.Idempotency: "+fmt.Sprintf(format, args...))
		}
	}
	mistake(store == nil, "the store is nil: check the error of idempotency.New")
	mistake(principal == nil, "the principal function is nil: say who is asking, such as middleware.KeyByUser")
	for i, o := range options {
		mistake(o == nil, "option %d is nil: leave it out", i+1)
		if o != nil {
			o(g)
		}
	}
	mistake(len(g.methods) == 0, "WithMethods(): name one, or leave it out for POST and PATCH")
	for _, m := range g.methods {
		mistake(m == "" || m != strings.ToUpper(m), "WithMethods(%q): write it in capitals, such as PUT", m)
	}
	for _, name := range g.print {
		mistake(name == "", "WithFingerprintFields: a field has no name")
	}
	for _, name := range g.replay {
		mistake(name == "" || slices.Contains(neverReplayed, name), "WithReplayFields(%q): it speaks of one answer or one connection, and is never replayed", name)
	}
	mistake(g.keep == nil, "WithKeepOn(nil): leave it out to keep all but 408, 425, 429 and 5xx")
	mistake(g.maxWait < 0 || g.maxWait > maxIdempotencyWait, "WithWait(%v): must be from 0 to %v; leave it out not to wait", g.maxWait, maxIdempotencyWait)
	mistake(g.maxBody < 0 || g.maxBody > mostHeld, "WithMaxBody(%d): must be from 0 to %d; leave it out for %d", g.maxBody, mostHeld, defaultMaxBody)
	mistake(g.maxAnswer < 0 || g.maxAnswer > mostHeld, "WithMaxAnswer(%d): must be from 0 to %d; leave it out for %d", g.maxAnswer, mostHeld, defaultMaxBody)
	if len(mistakes) > 0 {
		panic(strings.Join(mistakes, "\n"))
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, next) })
	}
}

// idempotencyGate is one mounted Idempotency.
type idempotencyGate struct {
	store      *idempotency.Store
	principal  KeyFunc
	methods    []string
	print      []string // fields that are part of the fingerprint
	replay     []string // fields that are replayed
	keep       func(status int) bool
	required   bool
	quoted     bool
	completion bool
	maxWait    time.Duration
	maxBody    int
	maxAnswer  int
	log        *reporter
}

func (g *idempotencyGate) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if !slices.Contains(g.methods, r.Method) {
		next.ServeHTTP(w, r)
		return
	}
	key, err := requestIdempotencyKey(r.Header["Idempotency-Key"], g.quoted)
	switch {
	case errors.Is(err, errNoIdempotencyKey) && g.required:
		refusalKeyMissing.answer(w, r, 0)
		return
	case errors.Is(err, errNoIdempotencyKey):
		next.ServeHTTP(w, r)
		return
	case err != nil:
		refusalKeyMalformed.answer(w, r, 0)
		return
	}
	principal, err := g.principal(r)
	if err != nil || principal == "" {
		refuseKey(w, r, g.log, err)
		return
	}
	route := r.Pattern
	if route == "" {
		route = r.URL.EscapedPath()
	}
	body, err := readBody(r, g.maxBody)
	switch {
	case errors.Is(err, errBodyTooLarge):
		refusalBodyTooLarge.answer(w, r, 0)
		return
	case err != nil:
		refusalBodyBroken.answer(w, r, 0)
		return
	}
	ctx := r.Context()
	if g.completion {
		ctx = context.WithoutCancel(ctx)
	}
	answer, err := g.store.Wait(ctx, IdempotencyKey(principal, r.Method, route, key), fingerprint(r, g.print, body), g.maxWait)
	if err != nil {
		// Whoever saves something outside need not wait for the same silence.
		_ = rdb.Remember(r.Context(), err)
		refuseUndecided(w, r, g.log, err)
		return
	}
	g.decide(w, r, next, answer, body)
}

// decide answers what is known of the key, or has next do so.
func (g *idempotencyGate) decide(w http.ResponseWriter, r *http.Request, next http.Handler, answer idempotency.Answer, body []byte) {
	switch answer.State {
	case idempotency.Claimed:
		g.visit(w, r, answer.Claim, body).serve(next)
	case idempotency.Kept:
		kept, err := decodeAnswer(answer.Outcome)
		switch {
		case err != nil:
			refuseUndecided(w, r, g.log, err)
		case kept.noted:
			refusalNoted(kept.status).answer(w, r, 0)
		default:
			kept.replay(w)
		}
	case idempotency.Busy:
		refusalOutstanding.answer(w, r, time.Second)
	case idempotency.Differs:
		refusalDiffers.answer(w, r, 0)
	default:
		refusalInterrupted.answer(w, r, 0)
	}
}
