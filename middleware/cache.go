package middleware

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/rfc9111"
)

// Cache answers GET and HEAD from a stored response when RFC 9111 allows a
// shared cache to, else lets the handler answer and keeps what it may.
//
// Stored are complete answers to GET: by s-maxage, max-age or Expires, or without
// those by [WithStatusTTL], [WithDefaultTTL], the store's TTL, or for a tenth of the age
// of Last-Modified (sections 3 and 4.2); CDN-Cache-Control takes the place of the first
// three (RFC 9213). So are answers to a range, which later ones complete (3.4), and
// answers to POST that give their own URL in Content-Location (RFC 9110 section 9.3.3).
// Never stored are answers that say private or no-store, that set a cookie (see
// [WithRFCProfile]), whose handler looked at its session (with [Session] outside of
// Cache), that are cut short or longer than the store's MaxBody (64 MiB). Trailers are
// stored with whole answers that announced no Content-Length, apart from the header, and
// sent again behind the whole; cookies in them, and fields that may not stand there (RFC
// 9110 section 6.5.1), are left out. An answer goes to the client as it is made; its end
// leaves when it is stored, one round trip later. Of a body of more than 256 KiB two such
// chunks are in memory, while it is stored and while it is served; an answer with a chunk
// that is missing, or is not what was stored, is made anew or, if it has begun, cut short:
// never finished as if whole. See cache's page, "Bodies".
//
// What is stored and stale, or says no-cache, is validated: the handler sees If-None-
// Match and If-Modified-Since, and its 304 makes the stored answer fresh again
// (4.3.4), as its 200 to HEAD does (4.3.5). Stale answers are served while they are
// refreshed, if they say stale-while-revalidate, and while the handler fails; see
// [WithKeepStale]. A client's own conditions and ranges are answered from what is
// stored (RFC 9110 sections 13 and 14).
//
// Of the requests that miss the same answer at the same time, over all instances, one
// goes to the handler; the others wait, and have what it brings if it may be stored and
// its Vary fits them. If not, all go at once: see [WithCollapseWait]. Nobody waits for an
// answer to a range, or to a request that says no-cache. If the one's client leaves, or
// its handler panics, the next one goes.
//
// A successful request of an unsafe method removes what is stored for its URL, and
// for those in its answer's Location and Content-Location (section 4.4), and the groups
// in its Cache-Group-Invalidation (RFC 9875). A [Purger] removes more. What is being made
// meanwhile is not stored.
//
// A store with cache.WithNear keeps decoded answers in the process as well: a hit is
// then no round trip, and at most a second older than what Redis has. Of bodies of more
// than 256 KiB it keeps the header: HEAD and 304 are no round trip.
//
// Requests are for the same resource if scheme, path and query are the same, octet
// for octet, and Host whatever its case, before and after what http.StripPrefix
// and its like did to them. What an answer says in No-Vary-Search is learnt by each
// process as it comes by, and the answers after it are kept by that; [WithKeyQuery] says
// which parts of a query count at all. Which handler answers is no part of it: services
// that answer the same URL differently need a cache.WithPrefix each on a shared Redis.
// Requests with a body or If-Match, and those that [WithBypass] names, go to the handler.
//
// Each answer has a Cache-Status field (RFC 9211): "weir;hit;ttl=42" or, say,
// "weir;fwd=uri-miss;stored", which is said before the body is seen to be whole
// and not too long. [WithCacheObserver] tells what became of it, [WithCacheName] names the
// cache. On a hit there is Age. Header fields of middlewares outside are not stored, and
// are theirs to set on a hit as well.
//
// When Redis is silent the handler answers, within the store's budget, and nothing is
// stored; of the requests for the same that come within a second, each process has one go
// to the handler. The near tier serves what it has for up to a second. Nor is anything
// removed, so that what an unsafe request made old may be served until its lifetime ends.
// What clients are not told is logged to slog.Default, at most a line a second.
//
// It panics if store or an option is nil. The handler is safe for concurrent use.
func Cache(store *cache.Store, options ...CacheOption) Middleware {
	if store == nil {
		panic("middleware.Cache: the store is nil: check the error of cache.New")
	}
	c := &responseCache{
		store:  store,
		policy: rfc9111.Policy{DefaultLifetime: store.TTL()},
		wait:   defaultCollapseWait,
		random: rand.Float64,
		name:   defaultCacheName,
		log:    &reporter{name: "cache"},
	}
	for i, o := range options {
		if o == nil {
			panic(fmt.Sprintf("middleware.Cache: option %d is nil: leave it out", i+1))
		}
		o(c)
	}
	return func(next http.Handler) http.Handler {
		return &reading{func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, next) }, c.foresee}
	}
}

type responseCache struct {
	store     *cache.Store
	name      string // in Cache-Status
	policy    rfc9111.Policy
	wait      time.Duration // for somebody else's answer
	jitter    float64
	random    func() float64
	early     float64 // beta of WithEarlyRefresh; 0: never
	rules     []QueryRule
	bypass    func(r *http.Request) bool // nil: no rule
	observe   func(context.Context, CacheEvent)
	tagFields []string   // names of fields that hold tags
	refresher *Refresher // nil: the request's own goroutine refreshes
	refreshes refreshes
	searches  searches
	varies    varies
	log       *reporter
}

// maxVaries bounds a varies.
const maxVaries = 1 << 10

// varies remembers the rules that names of selecting fields are, which saves a hit from
// reading them anew. The zero value is ready.
type varies struct {
	mu sync.RWMutex
	m  map[string]rfc9111.Vary
}

func (v *varies) get(names string) (rule rfc9111.Vary, ok bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	rule, ok = v.m[names]
	return rule, ok
}

func (v *varies) put(names string, rule rfc9111.Vary) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.m == nil || len(v.m) >= maxVaries {
		v.m = make(map[string]rfc9111.Vary)
	}
	v.m[names] = rule
}

// asked is a request as the cache sees it, and what the cache makes of it.
type asked struct {
	request *http.Request
	query   rfc9111.Request
	resource
	key     string          // of the resource, under search
	search  string          // the No-Vary-Search field that key is by
	fwd     rfc9111.Forward // why it goes to the handler
	why     rfc9111.Verdict // in detail; 0 if there is none
	detail  string          // the same, of what is no rule of RFC 9111
	keep    bool            // the answer is to be kept if the rules allow
	found   *storedResponse // what is stored, where it may not answer as it is
	now     time.Time       // when it was found, by the store's clock
	alone   bool            // nobody waits for the answer: it is a refresh
	sight   cache.Found     // of key, with the claim to make it anew if that was given
	sighted string          // the key that sight is of; "" if there is none
	shared  bool            // it has waited for somebody else's answer
	event   *CacheEvent     // for the observer; nil without one, or when it has been told
	broken  bool            // what is stored is not all there
}

func (c *responseCache) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	a := asked{request: r, query: rfc9111.NewRequest(r.Method, r.Header), resource: resourceOf(r).by(c.rules), event: c.newEvent(r)}
	a.query.Host = r.Host
	a.key, a.search = c.searches.keyOf(a.resource)
	if a.event != nil {
		defer c.tell(&a)
	}
	verdict, bypass := rfc9111.Bypass(r)
	if verdict == rfc9111.MethodNotCached {
		a.query.URL = effectiveURL(r)
	}
	switch {
	case c.bypass != nil && c.bypass(r):
		a.fwd, a.detail = rfc9111.FwdBypass, "bypass-rule"
		c.forward(w, &a, next)
		return
	case bypass:
		a.why, a.fwd = verdict, verdict.Forward()
		a.keep = r.Method == http.MethodPost
	default:
		// Whatever becomes of the request, others are not to wait for it.
		defer a.yield(false)
		if c.answer(w, &a, next) {
			return
		}
	}
	if a.query.Directives.OnlyIfCached && a.fwd != rfc9111.FwdMethod {
		// Section 5.2.1.7: no answer but a stored one is wanted.
		c.say(w.Header(), &a, CacheRefused, rfc9111.Status{Detail: "only-if-cached"}, 0)
		WriteProblem(w, Problem{Status: http.StatusGatewayTimeout, Detail: "There is no stored response that may be used."}, 0)
		return
	}
	c.forward(w, &a, next)
}

// answer serves a stored response if there is one that may be used. If not, it
// notes in a why. While somebody else is making one, it waits.
func (c *responseCache) answer(w http.ResponseWriter, a *asked, next http.Handler) bool {
	claim := a.collapsible() && c.wait > 0
	var stored storedResponse
	ok := c.find(a, claim, &stored)
	again := false // what was found is not all there: Redis finds what is
	for until := time.Now().Add(c.wait); ; {
		if ok && c.reuse(w, a, &stored, next) {
			return true
		}
		if a.broken && !again {
			again = true
			a.yield(false)
			ok = c.find(a, claim, &stored)
			continue
		}
		left := time.Until(until)
		if !a.sight.Busy || a.request.Context().Err() != nil {
			return false
		}
		if left <= 0 {
			a.detail = "collapse-timeout"
			return false
		}
		made, given := a.sight.Wait(a.request.Context(), left)
		a.found, a.shared = nil, true
		if given {
			a.sight, a.now = made, made.Now
			if stored.take(&made) && c.reuse(w, a, &stored, next) {
				return true
			}
			a.found = nil // it is in no store
			return false
		}
		a.key, a.search = c.searches.keyOf(a.resource) // by what the other one has learnt
		ok = c.find(a, claim, &stored)
	}
}

// reuse answers with what is stored, if that may be.
func (c *responseCache) reuse(w http.ResponseWriter, a *asked, stored *storedResponse, next http.Handler) bool {
	decision := c.policy.Reuse(a.query, stored.rules, a.now)
	if decision.OK() {
		selection, spans := choose(a, stored)
		if selection != rfc9111.SelectNone {
			o, err := stored.open(a.request.Context(), a.query.Method, selection, spans)
			switch {
			case err != nil:
				c.unread(a, err)
				return false
			case decision.Verdict == rfc9111.StaleRefreshing || a.sight.Early:
				c.serveAndRefresh(w, a, stored, decision, o, next)
			default:
				a.yield(false) // not when the client has it all, who may be slow
				c.serveStored(w, a, stored, decision, o)
			}
			return true
		}
		decision.Verdict = rfc9111.RequestRange
	}
	a.why, a.fwd = decision.Verdict, decision.Verdict.Forward()
	if decision.Verdict != rfc9111.Credentials {
		kept := *stored // apart, so that a hit's stays off the heap
		a.found = &kept
	}
	return false
}

// collapsible reports whether the answer to the request may be one that others are
// given as well: who asks for less, or for what is newer, makes it for itself.
func (a *asked) collapsible() bool {
	d := &a.query.Directives
	return a.query.Method == http.MethodGet && len(a.query.Header["Range"]) == 0 && !d.NoCache && !d.NoStore && !d.OnlyIfCached
}

// find reads what is stored for the request, and with claim takes the right to make it.
// Where that is nothing, it notes in a why, and whether the answer is to be kept.
func (c *responseCache) find(a *asked, claim bool, stored *storedResponse) (ok bool) {
	r := a.request
	sought := c.sought(r, a.key, a.resource)
	if sought.Claim = claim; !a.collapsible() {
		sought.Early = 0
	}
	if a.broken {
		sought.Afresh, sought.Body = true, true
	}
	found, err := c.store.Find(r.Context(), sought)
	if a.event != nil {
		a.event.Near, a.event.Err = found.Near, err
	}
	switch {
	case errors.Is(err, cache.ErrCorrupt):
		c.log.report(r.Context(), "a stored response does not decode", err)
	case err != nil:
		c.silent(a, err)
		// Who waits for its answer is given it all the same.
		a.sight, a.sighted, a.keep = found, a.key, found.Claimed
		return false
	}
	a.keep, a.sight, a.sighted, a.now = true, found, a.key, found.Now
	if !stored.take(&found) {
		a.fwd = rfc9111.FwdURIMiss
		if found.Others {
			a.fwd = rfc9111.FwdVaryMiss
		}
		return false
	}
	return true
}

// take makes s what was found; false if nothing was.
func (s *storedResponse) take(found *cache.Found) bool {
	held, ok := found.Value.(*storedResponse)
	if !ok {
		return false
	}
	*s = *held // others share it
	s.body = found.Body
	s.rules.ResponseTime = found.StoredAt
	if found.Expired {
		s.rules.Lifetime = 0
	}
	return true
}

// sought is what the store is asked for.
func (c *responseCache) sought(r *http.Request, key string, of resource) cache.Resource {
	asks := rfc9111.Request{Header: r.Header}
	return cache.Resource{
		Key: key, Name: of.name, Early: c.early, Decode: decodeStored,
		// Who asks for a part, or has it already, may need none of a long body.
		Body:    r.Method == http.MethodGet && !asks.Conditional(),
		Variant: func(names string) string { return c.variant(c.vary(names), r.Header) },
	}
}

// foresee tells what serve is going to find.
func (c *responseCache) foresee(r *http.Request) {
	if _, bypass := rfc9111.Bypass(r); bypass || c.bypass != nil && c.bypass(r) {
		return
	}
	of := resourceOf(r).by(c.rules)
	key, _ := c.searches.keyOf(of)
	c.store.Foresee(r.Context(), c.sought(r, key, of))
}

// silent notes that Redis is not to be asked again for this request.
func (c *responseCache) silent(a *asked, err error) {
	r := a.request
	a.keep, a.fwd, a.detail = false, rfc9111.FwdMiss, "unavailable"
	if r.Context().Err() == nil {
		c.log.report(r.Context(), "answered without Redis", err)
		a.request = r.WithContext(rdb.Remember(r.Context(), err))
	}
}

// yield ends the request's claim, if it has one; with pass nobody is to wait for what it
// asks for.
func (a *asked) yield(pass bool) { a.sight.Yield(a.request.Context(), pass) }

// vary turns the names a Store keeps back into a rule.
func (c *responseCache) vary(names string) rfc9111.Vary {
	if names == "" {
		return rfc9111.Vary{}
	}
	rule, ok := c.varies.get(names)
	if !ok {
		rule = c.policy.Vary(http.Header{"Vary": {names}})
		c.varies.put(names, rule)
	}
	return rule
}

// variant names the variant that a request header selects. The values can be long, and
// can be secrets (Vary: Cookie): the store digests them.
func (c *responseCache) variant(v rfc9111.Vary, h http.Header) string {
	var buf [256]byte // most keys stay off the heap
	key, ok := v.AppendKey(buf[:0], h)
	if !ok || len(key) == 0 {
		return ""
	}
	return string(key)
}
