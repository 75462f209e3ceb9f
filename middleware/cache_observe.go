package middleware

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
	"github.com/go-weir/weir/session"
)

// CacheEventKind says who answered a request, and by what right.
type CacheEventKind int

const (
	// CacheHit: a stored answer, which is fresh.
	CacheHit CacheEventKind = iota + 1
	// CacheStale: a stored answer, which is stale: Detail says why it may stand in.
	CacheStale
	// CacheRevalidated: a stored answer, which a 304 of the handler's has confirmed.
	CacheRevalidated
	// CacheMiss: the handler; Fwd says why nothing stored could.
	CacheMiss
	// CacheBypass: the handler, as the request is none that is answered from the cache:
	// Fwd is bypass or method.
	CacheBypass
	// CacheRefused: the cache, with a 504: there was nothing stored for a request that
	// says only-if-cached.
	CacheRefused
	// CacheRefresh: nobody. The handler was asked in the background, for what is stored
	// to be fresh.
	CacheRefresh
)

var cacheEventNames = [...]string{
	CacheHit: "hit", CacheStale: "stale", CacheRevalidated: "revalidated", CacheMiss: "miss",
	CacheBypass: "bypass", CacheRefused: "refused", CacheRefresh: "refresh",
}

// String names the kind in lower case, as "hit".
func (k CacheEventKind) String() string {
	if k < CacheHit || int(k) >= len(cacheEventNames) {
		return "unknown"
	}
	return cacheEventNames[k]
}

// CacheEvent is what an observer is told of one request: see [WithCacheObserver].
type CacheEvent struct {
	Kind CacheEventKind
	// Request is the request as it came, or the cache's own of a refresh. It is not to be
	// changed, nor kept.
	Request *http.Request
	// Fwd is why the handler was asked, in the words of Cache-Status (RFC 9211 section
	// 2.2), such as uri-miss, vary-miss or stale; empty if it was not.
	Fwd string
	// FwdStatus is what the handler answered; 0 if it was not asked, or did not.
	FwdStatus int
	// Stored says that what the handler answered is stored. Cache-Status says so before it
	// is known.
	Stored bool
	// Detail is the rule that decided, as in Cache-Status: why an answer is not stored, or
	// why a stale one was served. Cache-Status cannot say yet: incomplete, too-large,
	// session, invalidated, unavailable, panic.
	Detail string
	// Collapsed says that the request has waited for another one's answer.
	Collapsed bool
	// Near says that the stored answer came from the near tier, not from Redis.
	Near bool
	// Age and TTL are of the stored answer that was served: since when it is, and how long
	// it still is fresh, negative if it is stale.
	Age, TTL time.Duration
	// Err is of kind cache.ErrUnavailable when Redis was silent, of kind cache.ErrCorrupt
	// when what is stored does not decode, or the request's own end.
	Err error
}

// WithCacheObserver has f called once for each request, when its answer has been written,
// and once for each refresh in the background: in the goroutine that answered, with the
// request's context, without a lock or claim that others wait for. Without it nothing is
// allocated for it. f must be safe for concurrent use, and quick: the end of an answer may
// wait for it. If f panics, the request ends as if its handler had; after a refresh the
// panic is logged. Given several times, each is called. It panics if f is nil.
func WithCacheObserver(f func(context.Context, CacheEvent)) CacheOption {
	if f == nil {
		panic("middleware.WithCacheObserver: the observer is nil: leave the option out")
	}
	return func(c *responseCache) {
		if before := c.observe; before != nil {
			c.observe = func(ctx context.Context, e CacheEvent) { before(ctx, e); f(ctx, e) }
			return
		}
		c.observe = f
	}
}

// newEvent begins what is told of a request; nil if nobody observes.
func (c *responseCache) newEvent(r *http.Request) *CacheEvent {
	if c.observe == nil {
		return nil
	}
	return &CacheEvent{Request: r}
}

// tell tells the observer what became of a request, once.
func (c *responseCache) tell(a *asked) {
	if e := a.event; e != nil {
		a.event = nil
		c.observe(a.request.Context(), *e)
	}
}

// tellRefresh tells the observer of a refresh, whatever it has brought. There may be no
// request whose end a panic of the observer's could be.
func (c *responseCache) tellRefresh(a *asked) {
	if a.event == nil {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			c.log.report(a.request.Context(), "the observer of a refresh panicked", fmt.Errorf("%v", p))
		}
	}()
	a.event.Kind, a.event.Age, a.event.TTL = CacheRefresh, 0, 0
	c.tell(a)
}

// forwarding notes that the handler is asked, for the case that it gives no answer.
func (f *forwarded) forwarding() {
	if e := f.event; e != nil {
		e.Kind, e.Fwd = f.missed(), f.fwd.String()
	}
}

// missed is what the handler's own answer is to an observer.
func (f *forwarded) missed() CacheEventKind {
	if f.fwd == rfc9111.FwdBypass || f.fwd == rfc9111.FwdMethod {
		return CacheBypass
	}
	return CacheMiss
}

// unkept notes why an answer is not stored.
func (a *asked) unkept(why string) {
	if a.event != nil {
		a.event.Detail = why
	}
}

// fail notes that Redis did not do its part.
func (a *asked) fail(err error) {
	if a.event != nil {
		a.event.Err = err
	}
}

// outcome notes whether the handler's answer is stored, and if not, why.
func (f *forwarded) outcome() {
	e := f.event
	if e == nil {
		return
	}
	e.Stored = f.kept
	if f.kept || e.Detail != "" || !f.keep || e.Kind == CacheRevalidated {
		return
	}
	switch {
	case e.Err != nil:
		e.Detail = "unavailable"
	case f.long:
		e.Detail = "too-large"
	case f.header != nil && !f.whole():
		e.Detail = "incomplete"
	case session.Touched(f.request.Context()):
		e.Detail = "session"
	default:
		e.Detail = "invalidated"
	}
}
