package middleware

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/go-weir/weir/internal/rdb"
)

// OneTrip is [Chain], but that what the wrappers among middlewares are going to read
// goes to Redis together with the first of them to ask, in one round trip: under
//
//	r.Use(middleware.OneTrip(
//	    middleware.RateLimit(limiter, middleware.KeyByIP),
//	    middleware.Session(sessions),
//	    middleware.Cache(responses),
//	))
//
// a hit costs one instead of two, and so does a page that looks at the session. Each
// decision stays what it was, and where it was made: only reads go ahead, of [Session]
// the session of the request's cookie, of [Cache] the stored response. They are used if
// they are asked for within 50 ms, else made again; a miss of the cache still claims the
// right to make the answer, by a round trip of its own. A read whose engine waits longer
// than the first one's (WithTimeout) goes at the same time, but not with it.
//
// What it costs: a request that RateLimit refuses, unless this process knows that it
// will, has read in vain, and so has one whose handler never looks at its session. Put
// in between only what does not change what one inside reads; the manager's and the
// store's own methods, under the request's context, are heeded.
//
// A condition of [When] and a rule of [WithBypass] are asked twice: before any wrapper has
// seen the request, where what they say only decides whether something is read, and in
// their place. Should they panic before, nothing is read ahead.
//
// Wrappers of this package are seen when they are given to OneTrip itself, or by
// [When]. Those on other clients are not served by the first one's trip. On a Cluster
// each master gets its part at the same time, and nobody waits for a master that is not
// asked by it.
//
// When Redis is silent, each wrapper does what its page says, and the request waits one
// budget in all.
//
// It panics if one of them is nil. The handler is safe for concurrent use.
func OneTrip(middlewares ...Middleware) Middleware {
	for i, m := range middlewares {
		if m == nil {
			panic(fmt.Sprintf("middleware.OneTrip: middleware %d of %d is nil: leave it out", i+1, len(middlewares)))
		}
	}
	middlewares = slices.Clone(middlewares) // the caller's slice may change
	return func(next http.Handler) http.Handler {
		var readers []reader
		for _, m := range slices.Backward(middlewares) {
			inside := next
			next = m(next)
			if r, ok := next.(reader); ok && next != inside { // unless m has wrapped nothing
				readers = append(readers, r)
			}
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r = r.WithContext(rdb.WithForesight(r.Context()))
			for _, reader := range readers {
				foresee(reader, r)
			}
			next.ServeHTTP(w, r)
		})
	}
}

// foresee has a reader tell. A rule of the user's that needs what a wrapper puts into the
// request may panic, as none has seen it yet: it is asked again in its place, and what it
// says counts there.
func foresee(reader reader, r *http.Request) {
	defer func() { _ = recover() }()
	reader.foresee(r)
}

// reader is a wrapper's handler that can tell what it is going to read.
type reader interface {
	http.Handler
	// foresee tells that under the request's context. It does no I/O.
	foresee(r *http.Request)
}

// reading is a handler with what it reads.
type reading struct {
	http.HandlerFunc
	ahead func(r *http.Request)
}

func (h *reading) foresee(r *http.Request) { h.ahead(r) }
