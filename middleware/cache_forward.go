package middleware

import (
	"context"
	"maps"
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
	intent  intent
	missing rfc9111.Span // with intentComplete
	noted   func() []string
	again   bool // the answer was of no use: the handler is to be asked as the client asks

	header   http.Header // of the answer being kept; nil if it is not
	rules    rfc9111.Stored
	vary     rfc9111.Vary
	answered time.Time
	out      *cache.BodyWriter // takes the body that is to be kept; nil before there is one
	received int64             // how much of it is of the handler's
	sniff    []byte            // the beginning of that, of an answer without Content-Type
	last     bool              // the last of it that was announced has come
	passed   int64             // how much of the part that completes what is stored the client has
	tail     *cache.Part       // what is stored behind that part
	joined   bool              // what is stored is in out as well
	long     bool              // it is longer than what may be stored
	tried    bool              // it was given to the store, which may have refused it
	broken   error             // why what is stored could not be read to its end
	kept     bool              // the answer is in the store
	trailer  http.Header       // of what was served in the handler's place
}

// intent is what the handler is asked for.
type intent uint8

const (
	intentPlain    intent = iota // what the client asks for
	intentValidate               // whether what is stored is still right (section 4.3.1)
	intentComplete               // the part that is missing of what is stored (section 3.4)
)

// forward lets the handler answer, and keeps the answer if that is allowed. It takes
// a's claim over.
func (c *responseCache) forward(w http.ResponseWriter, a *asked, next http.Handler) {
	f := &forwarded{asked: *a, cache: c, w: w, started: time.Now()}
	a.sight, a.sighted = cache.Found{}, ""
	defer func() {
		f.yield(false)
		if f.out != nil {
			f.out.Discard()
		}
	}()
	f.forwarding()
	request := f.request
	if f.keep {
		var ctx context.Context
		ctx, f.noted = cache.Noting(f.request.Context())
		f.request = f.request.WithContext(ctx)
		// Copies: the handler, and wrappers inside, may take the Authorization or
		// Accept-Encoding they have dealt with off the request's header. What may
		// be stored, and for whom, depends on how the request came.
		f.query.Header = f.request.Header.Clone()
		f.outside = canonical(w.Header())
		request = f.ask()
	}
	f.serve(next, request)
	if f.again {
		clear(w.Header())
		maps.Copy(w.Header(), f.outside)
		plain := *a
		plain.found, plain.sight, plain.sighted = nil, f.sight, f.sighted
		f.sight = cache.Found{}
		c.forward(w, &plain, next)
		return
	}
	f.finish()
	f.outcome()
}

// serve calls the handler. An answer that ends in a panic is not kept, nor is what
// was kept of it already.
func (f *forwarded) serve(next http.Handler, request *http.Request) {
	returned := false
	defer func() {
		if !returned {
			f.panicked()
		}
	}()
	next.ServeHTTP(f.response.Wrap(f.w, f), request)
	returned = true
	f.response.Finish()
}

// panicked has nothing kept of an answer whose handler has panicked.
func (f *forwarded) panicked() {
	if f.kept {
		f.kept = false
		f.drop(f.key)
	}
	f.unkept("panic")
}

// ask decides what the handler is asked for, and returns the request that says so.
func (f *forwarded) ask() *http.Request {
	if f.found == nil {
		return f.request
	}
	stored := f.found.header()
	complete := f.found.rules.Status != http.StatusPartialContent
	var ifRange string
	switch {
	case f.found.rules.Validator && (complete || f.has(stored)):
		f.intent = intentValidate
	case f.why == rfc9111.RequestRange && f.query.Method == http.MethodGet && len(f.query.Header["Range"]) == 0:
		var ok bool
		if f.missing, ifRange, ok = rfc9111.Missing(f.found.rules, stored, f.found.body.Len()); !ok {
			return f.request
		}
		f.intent = intentComplete
	default:
		return f.request
	}
	r := *f.request
	r.Header = f.query.Header.Clone()
	if f.intent == intentValidate {
		rfc9111.Condition(r.Header, stored, f.found.rules.ResponseTime)
	} else {
		r.Header["Range"] = []string{rfc9111.RangeOf(f.missing, f.found.rules.Size)}
		r.Header["If-Range"] = []string{ifRange}
	}
	return &r
}

// has reports whether a stored 206 has what the client asks for.
func (f *forwarded) has(stored http.Header) bool {
	selection, _ := f.selection(stored)
	return selection != rfc9111.SelectNone
}

// BeforeHeader says what the cache did, and decides whether to keep the answer.
func (f *forwarded) BeforeHeader(status int) bool {
	f.answered = time.Now()
	if f.event != nil {
		f.event.FwdStatus = status
	}
	if rfc9111.Invalidates(f.query.Method, status) && f.query.URL != nil {
		f.invalidate()
	}
	if f.found != nil && status != 0 && f.meet(status) {
		return false
	}
	if f.keep {
		f.decide(status)
	}
	said := rfc9111.Status{Fwd: f.fwd, Stored: f.header != nil && !f.sight.Silent, Collapsed: f.shared, Detail: f.detail}
	if said.Detail == "" && f.why != 0 && !f.why.OK() {
		said.Detail = f.why.String()
	}
	f.cache.say(f.w.Header(), &f.asked, f.missed(), said, 0)
	if f.header != nil {
		f.watch(status)
	}
	return true
}

// decide applies section 3 and prepares to keep the body.
func (f *forwarded) decide(status int) {
	h := canonical(f.w.Header())
	rules, verdict := f.cache.storable(f.query, rfc9111.Response{
		Status: status, Header: h, RequestTime: f.started, ResponseTime: f.answered,
	})
	f.why = verdict
	switch {
	case !verdict.OK():
		// Who waits for it need not; but one refresh that fails says nothing of the next.
		f.yield(status < 500 || !f.alone)
		return
	case session.Touched(f.request.Context()):
		f.detail = "session" // what the handler made of it is one visitor's
		f.yield(true)
		return
	case tooLong(h, f.cache.store.MaxBody()):
		f.detail = "too-large"
		f.yield(true)
		return
	}
	if f.learn(h); f.sighted != f.key && f.query.Method == http.MethodGet {
		// Nobody has looked where it is to be kept before it was made, so that a purge of
		// the meantime would not show. The next one is kept.
		f.detail = "no-vary-search"
		f.yield(false)
		return
	}
	f.header, f.rules, f.vary = h, rules, f.cache.policy.Vary(h)
	f.collect()
}

// watch has the body kept as it is passed on. Where its length is known, the client
// is done with it when it has the last octet: by then the answer is to be in the
// store, so that who asks next is answered from there.
func (f *forwarded) watch(status int) {
	length := f.header["Content-Length"]
	n := int64(-1)
	if len(length) == 1 {
		if v, err := strconv.ParseInt(length[0], 10, 64); err == nil {
			n = v
		}
	}
	if n == 0 || status == http.StatusNoContent {
		f.store()
		return
	}
	f.response.Watch(f)
	if n > 0 {
		f.response.BeforeLast(n, func(p []byte) {
			if f.last = true; f.take(p) {
				f.store()
			}
		})
		f.out.Grow(n)
	}
}

// Body keeps a copy of the body, up to the size that may be stored.
func (f *forwarded) Body(p []byte) bool {
	switch {
	case f.intent == intentComplete && f.response.Discarded():
		return f.pass(p)
	case f.last:
		f.lose() // p has been taken, and what may follow is more than was announced
		return false
	}
	return f.take(p)
}

// whole reports whether the body is all that there was to be.
func (f *forwarded) whole() bool {
	if f.response.Err() != nil || f.response.Hijacked() || !rfc9111.Complete(f.header, f.received) {
		return false
	}
	// A handler whose client has left, or whose time was up, may have returned in
	// the middle. Only a length it had announced shows that it has not.
	return f.request.Context().Err() == nil || len(f.header["Content-Length"]) > 0
}

// finish does what is left when the handler has returned.
func (f *forwarded) finish() {
	if f.tail != nil && f.passed == f.missing.Len() && f.broken == nil {
		f.joined = true
		f.broken = f.tail.Copy(f.request.Context(), both{f})
	}
	if f.broken != nil {
		f.fail(f.broken)
		f.cache.abort(f.request.Context(), f.broken)
	}
	maps.Copy(f.w.Header(), f.trailer) // the handler's own were taken off
	f.store()
}

// store keeps a whole answer.
func (f *forwarded) store() {
	// The handler may have looked at its session after the header had left.
	if f.header == nil || f.tried || !f.whole() || session.Touched(f.request.Context()) {
		return
	}
	f.tried = true
	h := f.cache.policy.StoredHeader(f.rules.Status, f.header, f.received, f.answered)
	f.nameType(h)
	fields := ownFields(h, f.outside)
	f.addTrailers(fields)
	if f.rules.Status == http.StatusPartialContent && !f.join(fields) {
		return
	}
	f.put(f.rules, f.vary, fields, f.out)
}

// put writes an answer to the store: with a new body, or with nil only its header, where
// the body that was found is stored still.
func (f *forwarded) put(rules rfc9111.Stored, vary rfc9111.Vary, fields map[string]storedField, body *cache.BodyWriter) {
	// The store counts the age from now on.
	rules.InitialAge += time.Since(f.answered)
	keep := f.cache.policy.Keep(rules)
	data := encodeResponse(rules, fields)
	long := len(data) > f.cache.store.MaxBytes() || body != nil && int64(len(data))+body.Len() > f.cache.store.MaxBody()
	if keep < time.Millisecond || long {
		f.unkept("too-large")
		f.yield(true)
		return
	}
	fresh := max(0, rules.Lifetime-rules.InitialAge).Truncate(time.Millisecond)
	if rules.NoCache {
		fresh = 0
	}
	variant := cache.Variant{
		By: strings.Join(vary.Names(), ", "), Name: f.cache.variant(vary, f.query.Header), Data: data,
		Body: body, SameBody: body == nil,
		Fresh: fresh, Keep: max(keep, fresh), Tags: f.tags(headerOf(fields)), Cost: f.answered.Sub(f.started),
	}
	// The client has its answer: its leaving is no reason not to keep it.
	ctx := context.WithoutCancel(f.request.Context())
	if f.sighted != f.key && (body == nil || !f.look(ctx)) {
		return // what is found there now need not have the body that was found
	}
	kept, err := f.sight.Keep(ctx, variant)
	if err != nil {
		f.failed(ctx, "not stored", err)
		return
	}
	f.kept = kept
}

// look finds the place of an answer to POST, which was not looked for.
func (f *forwarded) look(ctx context.Context) bool {
	f.yield(false)
	a := f.asked
	a.request = f.request.WithContext(ctx)
	var stored storedResponse
	a.sighted = ""
	f.cache.find(&a, false, &stored)
	f.sight, f.sighted = a.sight, a.sighted
	return f.sighted == f.key
}

// nameType puts the Content-Type right in the header to be stored.
func (f *forwarded) nameType(h http.Header) {
	switch typ, present := f.header["Content-Type"]; {
	case !present && len(f.sniff) > 0 && f.header.Get("Content-Encoding") == "":
		// As net/http does; an answer to HEAD has no body to find it from.
		h["Content-Type"] = []string{http.DetectContentType(f.sniff)}
	case present && len(typ) == 0: // net/http is told to leave it out
		h["Content-Type"] = nil
	}
}

// invalidate removes what is stored for the request's URL and for those that its
// answer names, before the client learns of its success (section 4.4).
func (f *forwarded) invalidate() {
	f.dropResource(f.resource)
	h := canonical(f.w.Header())
	for _, u := range rfc9111.Invalidated(f.query.URL, h) {
		f.dropResource(f.resource.at(f.request, u).by(f.cache.rules))
	}
	f.dropGroups(h)
}

// dropResource removes what is stored of a resource, by its plain key and by the
// one it has under a No-Vary-Search field that is known.
func (f *forwarded) dropResource(u resource) {
	f.drop(u.key())
	if key, field := f.cache.searches.keyOf(u); field != "" {
		f.drop(key)
	}
}

// drop removes what is stored under a key.
func (f *forwarded) drop(key string) {
	ctx := context.WithoutCancel(f.request.Context())
	if err := f.cache.store.DeleteResource(ctx, key); err != nil {
		f.failed(ctx, "not invalidated", err)
	}
}

// failed notes that Redis did not do its part: for the log, and for wrappers
// outside that have yet to ask it.
func (f *forwarded) failed(ctx context.Context, what string, err error) {
	f.cache.log.report(ctx, what, err)
	f.fail(err)
	rdb.Remember(ctx, err)
}

// tooLong reports whether a response's Content-Length already rules it out.
func tooLong(h http.Header, limit int64) bool {
	n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	return err == nil && n > limit
}
