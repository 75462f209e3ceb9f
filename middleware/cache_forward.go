package middleware

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/respw"
	"github.com/go-weir/weir/internal/rfc9111"
	"github.com/go-weir/weir/session"
)

// forwarded is a request that the handler answers, and the hook on its answer.
type forwarded struct {
	response respw.Response
	asked
	cache   *responseCache
	w       http.ResponseWriter
	outside http.Header // what middlewares outside had set
	started time.Time

	header   http.Header // of the answer being kept; nil if it is not
	rules    rfc9111.Stored
	vary     rfc9111.Vary
	answered time.Time
	body     []byte
}

// forward lets the handler answer, and keeps the answer if that is allowed.
func (c *responseCache) forward(w http.ResponseWriter, a *asked, next http.Handler) {
	f := &forwarded{asked: *a, cache: c, w: w, started: time.Now()}
	if f.keep {
		// Copies: the handler, and wrappers inside, may take the Authorization or
		// Accept-Encoding they have dealt with off the request's header. What may
		// be stored, and for whom, depends on how the request came.
		f.query.Header = f.request.Header.Clone()
		f.outside = canonical(w.Header())
	}
	next.ServeHTTP(f.response.Wrap(w, f), f.request)
	f.response.Finish()
	f.store()
}

// BeforeHeader says what the cache did, and decides whether to keep the answer.
func (f *forwarded) BeforeHeader(status int) bool {
	if f.invalidates(status) {
		f.invalidate()
	}
	f.answered = time.Now()
	if f.keep {
		f.decide(status)
	}
	said := rfc9111.Status{Cache: cacheName, Fwd: f.fwd, Stored: f.header != nil, Detail: f.detail}
	if said.Detail == "" && f.why != 0 && !f.why.OK() {
		said.Detail = f.why.String()
	}
	said.AddTo(f.w.Header())
	return true
}

// decide applies section 3 and prepares to keep the body.
func (f *forwarded) decide(status int) {
	h := canonical(f.w.Header())
	rules, verdict := f.cache.policy.Storable(f.query, rfc9111.Response{
		Status: status, Header: h, RequestTime: f.started, ResponseTime: f.answered,
	})
	f.why = verdict
	switch {
	case !verdict.OK():
		return
	case session.Touched(f.request.Context()):
		f.detail = "session" // what the handler made of it is one visitor's
		return
	case tooLong(h, f.cache.store.MaxBytes()):
		f.detail = "too-large"
		return
	}
	f.header, f.rules, f.vary = h, rules, f.cache.policy.Vary(h)
	f.response.Watch(f)
}

// Body keeps a copy of the body, up to the size that may be stored.
func (f *forwarded) Body(p []byte) bool {
	if len(f.body)+len(p) > f.cache.store.MaxBytes() {
		f.header, f.body = nil, nil
		return false
	}
	f.body = append(f.body, p...)
	return true
}

// whole reports whether the body is all that there was to be.
func (f *forwarded) whole() bool {
	if f.response.Err() != nil || f.response.Hijacked() || !rfc9111.Complete(f.header, int64(len(f.body))) {
		return false
	}
	// A handler whose client has left, or whose time was up, may have returned in
	// the middle. Only a length it had announced shows that it has not.
	return f.request.Context().Err() == nil || len(f.header["Content-Length"]) > 0
}

// store keeps a whole answer. It runs after the handler, so an answer that ended
// in a panic is not kept.
func (f *forwarded) store() {
	// The handler may have looked at its session after the header had left.
	if f.header == nil || !f.whole() || session.Touched(f.request.Context()) {
		return
	}
	// The store counts the age from now on.
	f.rules.InitialAge += time.Since(f.answered)
	ttl := f.rules.Lifetime - f.rules.InitialAge
	data := encodeResponse(f.rules, ownFields(f.storedHeader(), f.outside), f.body)
	if ttl < time.Millisecond || len(data) > f.cache.store.MaxBytes() {
		return
	}
	names := strings.Join(f.vary.Names(), ", ")
	variant := f.cache.variant(f.vary, f.query.Header)
	// The client has its answer: its leaving is no reason not to keep it.
	ctx := context.WithoutCancel(f.request.Context())
	if err := f.cache.store.KeepVariant(ctx, f.key, cache.Variant{By: names, Name: variant, Data: data, TTL: ttl}); err != nil {
		f.failed(ctx, "not stored", err)
	}
}

// storedHeader is what of the answer's header may be stored.
func (f *forwarded) storedHeader() http.Header {
	h := rfc9111.StoredHeader(f.rules.Status, f.header, int64(len(f.body)), f.answered)
	switch typ, present := f.header["Content-Type"]; {
	case !present && len(f.body) > 0 && f.header.Get("Content-Encoding") == "":
		// As net/http does; an answer to HEAD has no body to find it from.
		h["Content-Type"] = []string{http.DetectContentType(f.body)}
	case present && len(typ) == 0: // net/http is told to leave it out
		h["Content-Type"] = nil
	}
	return h
}

// invalidates reports whether the answer to an unsafe request makes what is
// stored for its URL invalid: one that is no error, to a method that is unsafe or
// not known to be safe (section 4.4).
func (f *forwarded) invalidates(status int) bool {
	if f.fwd != rfc9111.FwdMethod || status < 200 || status >= 400 {
		return false
	}
	switch f.query.Method {
	case http.MethodOptions, http.MethodTrace: // RFC 9110 section 9.2.1
		return false
	}
	return true
}

// invalidate removes what is stored for the request's URL, before the client
// learns of its success.
func (f *forwarded) invalidate() {
	ctx := context.WithoutCancel(f.request.Context())
	if err := f.cache.store.DropVariants(ctx, f.key); err != nil {
		f.failed(ctx, "not invalidated", err)
	}
}

// failed notes that Redis did not do its part: for the log, and for wrappers
// outside that have yet to ask it.
func (f *forwarded) failed(ctx context.Context, what string, err error) {
	f.cache.log.report(ctx, what, err)
	rdb.Remember(ctx, err)
}

// tooLong reports whether a response's Content-Length already rules it out.
func tooLong(h http.Header, limit int) bool {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	return err == nil && n > int64(limit)
}
