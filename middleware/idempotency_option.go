package middleware

import (
	"net/http"
	"slices"
	"time"
)

// The defaults of Idempotency, and the bounds of what may be set.
const (
	defaultMaxBody     = 1 << 20
	mostHeld           = 64 << 20
	maxIdempotencyWait = 5 * time.Minute
)

// replayedFields are what of an answer's header is replayed, by default. They describe
// the body, or the thing that was made; what speaks of one exchange is not among them.
var replayedFields = []string{
	"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length",
	"Content-Location", "Content-Type", "Etag", "Last-Modified", "Link", "Location", "Retry-After",
	"Vary", "Www-Authenticate", "X-Content-Type-Options",
}

// neverReplayed are fields that nobody may have replayed: a cookie is one visitor's, and
// the others belong to a connection (RFC 9110 section 7.6.1) or are made for each answer.
var neverReplayed = []string{
	"Connection", "Date", "Idempotent-Replayed", "Keep-Alive", "Proxy-Authenticate", "Proxy-Connection",
	"Set-Cookie", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// keepsByDefault leaves out what says that the request may be tried again: timeouts, too
// early, too many, and the failures of servers.
func keepsByDefault(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return status < 500
}

// IdempotencyOption configures [Idempotency].
type IdempotencyOption func(*idempotencyGate)

// WithRequired answers 400 to a request without an Idempotency-Key, where by default it
// passes.
func WithRequired() IdempotencyOption {
	return func(g *idempotencyGate) { g.required = true }
}

// WithQuotedKeys takes only keys in quotes, as the draft has them; a bare one, as most
// clients send it, is answered 400. By default "abc" and abc are the same key.
func WithQuotedKeys() IdempotencyOption {
	return func(g *idempotencyGate) { g.quoted = true }
}

// WithMethods says which methods have keys, in place of POST and PATCH. Requests of
// others pass.
func WithMethods(methods ...string) IdempotencyOption {
	return func(g *idempotencyGate) { g.methods = slices.Clone(methods) }
}

// WithFingerprintFields says which fields of the request must be the same when it is
// repeated, in place of Content-Type; none for none. Method, path, query and body are
// always compared.
func WithFingerprintFields(names ...string) IdempotencyOption {
	return func(g *idempotencyGate) { g.print = canonicalNames(names) }
}

// WithReplayFields has more fields of the answer replayed, beside those that
// [Idempotency] names. It takes no Set-Cookie, Date, or field of a connection.
func WithReplayFields(names ...string) IdempotencyOption {
	return func(g *idempotencyGate) { g.replay = append(g.replay, canonicalNames(names)...) }
}

// WithKeepOn says which answers are kept, by their status. The default is all but 408,
// 425, 429 and those from 500 on. What is not kept must not have done anything that may
// not be done again: its key is let go. A status above 599 is never kept.
func WithKeepOn(keep func(status int) bool) IdempotencyOption {
	return func(g *idempotencyGate) { g.keep = keep }
}

// WithWait has a request whose first is still running wait for its answer, for max at
// the longest, and only then be answered 409. The default, and a max of 0, is not to
// wait; at most 5 minutes. Each that waits keeps its connection and body for so long.
func WithWait(max time.Duration) IdempotencyOption {
	return func(g *idempotencyGate) { g.maxWait = max }
}

// WithMaxBody sets the largest body of a request with a key, in bytes; a larger one is
// answered 413. The default is 1 MiB; from 0 to 64 MiB.
func WithMaxBody(n int) IdempotencyOption {
	return func(g *idempotencyGate) { g.maxBody = n }
}

// WithMaxAnswer sets the largest body of an answer that is kept, in bytes; of a larger
// one only its status is. The default is 1 MiB; from 0 to 64 MiB.
func WithMaxAnswer(n int) IdempotencyOption {
	return func(g *idempotencyGate) { g.maxAnswer = n }
}

// WithCompletion keeps the handler's context from ending with its client: what was begun
// is brought to an end, and the client finds the answer when it comes back. By default
// the handler's context ends as net/http has it.
func WithCompletion() IdempotencyOption {
	return func(g *idempotencyGate) { g.completion = true }
}

func canonicalNames(names []string) []string {
	canonical := make([]string, len(names))
	for i, name := range names {
		canonical[i] = http.CanonicalHeaderKey(name)
	}
	return canonical
}
