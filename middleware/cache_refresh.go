package middleware

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/rfc9111"
)

const (
	// refreshTimeout bounds a refresh, whatever became of the client it is due to.
	refreshTimeout = 30 * time.Second
	// refreshPause is how long a response whose refresh failed is served stale
	// before another is tried.
	refreshPause = time.Second
	// maxRefreshes is how many a Refresher runs at once, and maxRefreshNotes how many
	// responses a cache knows to be refreshed or to have failed to.
	maxRefreshes    = 64
	maxRefreshNotes = 4096
)

// Refresher runs refreshes of stale responses in the background, at most 64 at a
// time; see [WithRefresher]. Each ends after 30 seconds at most. It starts no
// goroutine before there is something to refresh, and is safe for concurrent use.
type Refresher struct {
	ctx   context.Context
	stop  context.CancelFunc
	mu    sync.Mutex // over closed, and the WaitGroup's Add
	over  bool
	slots chan struct{}
	wg    sync.WaitGroup
}

// NewRefresher returns a Refresher, to be closed when the server is shut down.
func NewRefresher() *Refresher {
	r := &Refresher{slots: make(chan struct{}, maxRefreshes)}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Close cancels the refreshes under way and returns when they have ended. Afterwards
// none is begun: stale responses are served within their rules and not refreshed. It
// may be called again.
func (r *Refresher) Close() {
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	r.stop()
	r.wg.Wait()
}

// run runs f in the background, with a context that Close cancels; false if the
// Refresher is closed or busy.
func (r *Refresher) run(f func(stop context.Context)) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	select {
	case r.slots <- struct{}{}:
	default:
		return false
	}
	r.wg.Go(func() {
		defer func() { <-r.slots }()
		f(r.ctx)
	})
	return true
}

// refreshes are the responses that are being refreshed, or must not be for a
// while since it has failed. The zero value is ready.
type refreshes struct {
	mu    sync.Mutex
	until map[string]time.Time // zero while the refresh is under way
}

// begin reports whether the caller is to refresh; it must call end.
func (s *refreshes) begin(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if until, ok := s.until[id]; ok && (until.IsZero() || now.Before(until)) {
		return false
	}
	if len(s.until) >= maxRefreshNotes {
		maps.DeleteFunc(s.until, func(_ string, until time.Time) bool { return !until.IsZero() && !now.Before(until) })
		if len(s.until) >= maxRefreshNotes {
			return false
		}
	}
	if s.until == nil {
		s.until = make(map[string]time.Time)
	}
	s.until[id] = time.Time{}
	return true
}

func (s *refreshes) end(id string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ok {
		delete(s.until, id)
	} else {
		s.until[id] = time.Now().Add(refreshPause)
	}
}

// serveAndRefresh answers with a stale response, or one that is due early, and has it
// refreshed unless that is being done (RFC 5861 section 3).
func (c *responseCache) serveAndRefresh(w http.ResponseWriter, a *asked, stored *storedResponse, d rfc9111.Decision, o opened, next http.Handler) {
	id := a.key + c.variant(c.policy.Vary(stored.header()), a.query.Header)
	if a.sight.Busy || !c.refreshes.begin(id) {
		a.yield(false)
		c.serveStored(w, a, stored, d, o)
		return
	}
	b := c.refreshRequest(a, stored)
	a.sight = cache.Found{} // the claim is the refresh's
	if c.refresher != nil {
		if !c.refresher.run(func(stop context.Context) { c.refresh(stop, b, id, next) }) {
			c.refreshes.end(id, true)
			b.yield(false)
		}
		c.serveStored(w, a, stored, d, o)
		return
	}
	// The answer leaves now. Another request of the client's must not wait behind it
	// on the same connection; over HTTP/2 none would.
	if a.request.ProtoMajor == 1 {
		w.Header()["Connection"] = []string{"close"}
	}
	served := false
	defer func() {
		if !served { // it was cut short
			c.refreshes.end(id, true)
			b.yield(false)
		}
	}()
	c.serveStored(w, a, stored, d, o)
	served = true
	_ = http.NewResponseController(w).Flush() // it leaves later, then
	c.refresh(context.Background(), b, id, next)
}

// refreshRequest is a request for the whole of a stale response, as the client
// would make it. It outlives the client's.
func (c *responseCache) refreshRequest(a *asked, stored *storedResponse) *asked {
	ctx := context.WithoutCancel(a.request.Context())
	if route := chi.RouteContext(ctx); route != nil && c.refresher != nil {
		// chi uses it again for another request when this one has ended.
		own := *route
		own.URLParams.Keys, own.URLParams.Values = slices.Clone(route.URLParams.Keys), slices.Clone(route.URLParams.Values)
		own.RoutePatterns = slices.Clone(route.RoutePatterns)
		ctx = context.WithValue(ctx, chi.RouteCtxKey, &own)
	}
	r := a.request.Clone(ctx)
	r.Method, r.Body = http.MethodGet, http.NoBody
	for _, name := range [...]string{"Range", "If-Range", "If-None-Match", "If-Modified-Since", "Cache-Control", "Pragma"} {
		delete(r.Header, name)
	}
	kept := *stored
	query := rfc9111.NewRequest(r.Method, r.Header)
	query.Host = a.query.Host
	return &asked{request: r, query: query, resource: a.resource, key: a.key, search: a.search, fwd: rfc9111.FwdStale, keep: true, found: &kept, alone: true, sight: a.sight, sighted: a.sighted, event: c.newEvent(r)}
}

// refresh asks the handler for a request whose client has its answer.
func (c *responseCache) refresh(stop context.Context, a *asked, id string, next http.Handler) {
	ctx, cancel := context.WithTimeout(a.request.Context(), refreshTimeout)
	defer cancel()
	defer context.AfterFunc(stop, cancel)()
	a.request = a.request.WithContext(ctx)
	defer c.tellRefresh(a)
	ok := false
	defer func() {
		if p := recover(); p != nil {
			// Nobody waits for the answer, and the server must not stop for it.
			c.log.report(ctx, "a refresh panicked", fmt.Errorf("%v", p))
		}
		c.refreshes.end(id, ok)
		a.yield(false)
	}()
	w := &nowhere{header: make(http.Header)}
	c.forward(w, a, next)
	ok = w.status < 500
}

// nowhere is the writer of an answer that goes to nobody.
type nowhere struct {
	header http.Header
	status int
}

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w *nowhere) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
}
func (w *nowhere) Flush() {}
