package middleware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/rfc9111"
)

// CacheOption configures [Cache].
type CacheOption func(*responseCache)

// WithRFCProfile makes the cache store and serve all that RFC 9111 allows a
// shared cache, save Set-Cookie. The default, safe profile moreover stores the
// answer to a request with a Cookie or Authorization field only if it says
// public, and serves such a request only from one that does.
func WithRFCProfile() CacheOption {
	return func(c *responseCache) { c.policy.Profile = rfc9111.RFC }
}

// Cache answers GET and HEAD from a stored response when RFC 9111 allows a
// shared cache to, else lets the handler answer and keeps what it may.
//
// Stored are complete answers to GET that are fresh: by s-maxage, max-age or
// Expires, or without those for the store's TTL or a tenth of the age of
// Last-Modified (sections 3 and 4.2). Never stored are answers that say private
// or no-store, that set a cookie, whose handler looked at its session (with
// [Session] outside of Cache), that are cut short or longer than the store's
// MaxBytes. Trailers are not stored. An answer goes to the client as it is made;
// what net/http still holds at its end (a small answer: all of it) leaves when
// it is stored, one round trip later. A successful request of an unsafe method
// removes what is stored for its URL (section 4.4).
//
// Requests are for the same resource if scheme, path and query are the same, octet
// for octet, and Host whatever its case, before and after what http.StripPrefix
// and its like did to them. Which handler answers is no part of it: services that
// answer the same URL differently need a cache.WithPrefix each on a shared Redis.
// Requests with a body, a Range or If-Match go to the handler.
//
// Each answer has a Cache-Status field (RFC 9211): "weir;hit;ttl=42" or, say,
// "weir;fwd=uri-miss;stored", which is said before the body is seen to be whole
// and not too long. On a hit there is Age, and 304 if the client has the response
// already. Header fields of middlewares outside are not stored, and are theirs to
// set on a hit as well.
//
// When Redis is silent the handler answers, within the store's budget, and
// nothing is stored; nor is anything removed, so that what an unsafe request
// made old may be served until its lifetime ends. What clients are not told is
// logged to slog.Default, at most a line a second.
//
// It panics if store or an option is nil. The handler is safe for concurrent use.
func Cache(store *cache.Store, options ...CacheOption) Middleware {
	if store == nil {
		panic("middleware.Cache: the store is nil: check the error of cache.New")
	}
	c := &responseCache{
		store:  store,
		policy: rfc9111.Policy{DefaultLifetime: store.TTL()},
		log:    &reporter{name: "cache"},
	}
	for i, o := range options {
		if o == nil {
			panic(fmt.Sprintf("middleware.Cache: option %d is nil: leave it out", i+1))
		}
		o(c)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, next) })
	}
}

// cacheName is this cache's name in Cache-Status.
const cacheName = "weir"

type responseCache struct {
	store  *cache.Store
	policy rfc9111.Policy
	log    *reporter
}

// asked is a request as the cache sees it, and what the cache makes of it.
type asked struct {
	request *http.Request
	query   rfc9111.Request
	key     string
	fwd     rfc9111.Forward // why it goes to the handler
	why     rfc9111.Verdict // in detail; 0 if there is none
	detail  string          // the same, of what is no rule of RFC 9111
	keep    bool            // the answer is to be kept if the rules allow
}

func (c *responseCache) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	// The key is of the request as it came: handlers rewrite URLs.
	a := asked{request: r, query: rfc9111.NewRequest(r.Method, r.Header), key: keyOf(r)}
	if verdict, bypass := rfc9111.Bypass(r); bypass {
		a.why, a.fwd = verdict, verdict.Forward()
	} else if c.answer(w, &a) {
		return
	}
	if a.query.Directives.OnlyIfCached && a.fwd != rfc9111.FwdMethod {
		// Section 5.2.1.7: no answer but a stored one is wanted.
		rfc9111.Status{Cache: cacheName, Detail: "only-if-cached"}.AddTo(w.Header())
		WriteProblem(w, Problem{Status: http.StatusGatewayTimeout, Detail: "There is no stored response that may be used."}, 0)
		return
	}
	c.forward(w, &a, next)
}

// answer serves a stored response if there is one that may be used. If not, it
// notes in a why.
func (c *responseCache) answer(w http.ResponseWriter, a *asked) bool {
	r := a.request
	variant := func(names string) string { return c.variant(c.vary(names), r.Header) }
	entry, ok, err := c.store.FindVariant(r.Context(), a.key, variant)
	switch {
	case errors.Is(err, cache.ErrCorrupt):
		c.log.report(r.Context(), "a stored response does not decode", err)
	case err != nil:
		// Redis is not to be asked again for this request.
		a.fwd, a.detail = rfc9111.FwdMiss, "unavailable"
		if r.Context().Err() == nil {
			c.log.report(r.Context(), "answered without Redis", err)
			a.request = r.WithContext(rdb.Remember(r.Context(), err))
		}
		return false
	}
	a.keep = true
	if !ok {
		a.fwd = rfc9111.FwdURIMiss
		if !entry.Now.IsZero() {
			a.fwd = rfc9111.FwdVaryMiss
		}
		return false
	}
	stored, err := decodeResponse(entry.Data)
	if err != nil {
		c.log.report(r.Context(), "a stored response does not decode", err)
		a.fwd = rfc9111.FwdURIMiss
		return false
	}
	stored.rules.ResponseTime = entry.StoredAt
	decision := c.policy.Reuse(a.query, stored.rules, entry.Now)
	if !decision.OK() {
		a.why, a.fwd = decision.Verdict, decision.Verdict.Forward()
		return false
	}
	serveStored(w, a, &stored, decision)
	return true
}

// serveStored answers out of the cache.
func serveStored(w http.ResponseWriter, a *asked, stored *storedResponse, d rfc9111.Decision) {
	h := w.Header()
	stored.setHeader(h)
	rfc9111.SetAge(h, d.Age)
	rfc9111.Status{Cache: cacheName, Hit: true, TTL: d.TTL, HasTTL: true}.AddTo(h)
	if rfc9111.NotModified(a.query, stored.rules, h) {
		rfc9111.NotModifiedHeader(h)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.WriteHeader(stored.rules.Status)
	if a.query.Method != http.MethodHead && stored.body != "" {
		_, _ = io.WriteString(w, stored.body) // the client may be gone
	}
}

// vary turns the names a Store keeps back into a rule.
func (c *responseCache) vary(names string) rfc9111.Vary {
	if names == "" {
		return rfc9111.Vary{}
	}
	return c.policy.Vary(http.Header{"Vary": {names}})
}

// variant names the variant that a request header selects. The values can be
// long, and can be secrets (Vary: Cookie): only their digest reaches Redis.
func (c *responseCache) variant(v rfc9111.Vary, h http.Header) string {
	var buf [256]byte // most keys stay off the heap
	key, ok := v.AppendKey(buf[:0], h)
	if !ok || len(key) == 0 {
		return ""
	}
	return rdb.Digest(string(key))
}

// keyOf names the resource that a request is about: all of what makes two
// requests ask for different ones, each part behind its length.
func keyOf(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	path, query := r.URL.EscapedPath(), r.URL.RawQuery
	parts := [...]string{scheme, strings.ToLower(r.Host), path, query, ""}
	// Of two handlers behind different prefixes that http.StripPrefix took off,
	// each has its own resources.
	if target := originForm(r.RequestURI); target != "" && !isTarget(target, path, query) {
		parts[4] = target
	}
	var buf [256]byte
	key := buf[:0]
	for _, p := range parts {
		key = append(binary.AppendUvarint(key, uint64(len(p))), p...)
	}
	return string(key)
}

// originForm cuts scheme and authority off a request target in absolute form
// (RFC 9112 section 3.2.2): they are the Host.
func originForm(target string) string {
	if strings.HasPrefix(target, "/") {
		return target
	}
	if _, rest, ok := strings.Cut(target, "://"); ok {
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			return rest[i:]
		}
		return ""
	}
	return target
}

// isTarget reports whether target is path and query.
func isTarget(target, path, query string) bool {
	rest, ok := strings.CutPrefix(target, path)
	if !ok || query == "" {
		return ok && rest == ""
	}
	return len(rest) == len(query)+1 && rest[0] == '?' && rest[1:] == query
}
