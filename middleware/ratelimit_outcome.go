package middleware

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/internal/respw"
	"github.com/go-weir/weir/ratelimit"
)

// Outcome is how a counted request went, as far as it can be seen where its
// RateLimit is mounted: see [WithRefund].
type Outcome struct {
	// Request is the request as the handler got it; its Pattern is set if a router
	// inside matched it.
	Request *http.Request
	// Status is that of the answer: the one the handler sent, 101 for an upgrade
	// included; 200 if it returned without sending any, and 500 if it panicked
	// before. It is 0 when nobody can tell: the connection was taken over (Hijack)
	// without a status, or the request's context had ended before the handler
	// sent any.
	Status int
	// Panicked says that the handler panicked, be it with http.ErrAbortHandler.
	Panicked bool
	// Aborted says that the answer was not seen to reach the client whole: the
	// client went away before the handler was done, or a write failed.
	Aborted bool
}

// OnSuccess is for [WithRefund]: it takes back requests answered with a status
// below 400, so that only failures count, such as failed logins.
func OnSuccess(o Outcome) bool {
	return o.Status > 0 && o.Status < http.StatusBadRequest && !o.Panicked
}

// OnFailure is for [WithRefund]: it takes back requests answered with a status of
// 400 or above, so that only successes count. One whose client went away counts,
// whatever its status: a handler that is cancelled answers with an error, and so
// clients could have the work done for nothing.
func OnFailure(o Outcome) bool { return o.Status >= http.StatusBadRequest && !o.Aborted }

// OnAbort is for [WithRefund]: it takes back requests whose handler panicked, or
// whose client went away. Whoever leaves in time then works the handler for
// nothing: use it where the work ends with the request's context.
func OnAbort(o Outcome) bool { return o.Aborted || o.Panicked }

// Refund takes the count of a request back once its handler has returned, in each
// RateLimit outside that has [WithRefund]. It reports whether there is one. It may
// be called from any goroutine of the handler, and more than once.
func Refund(ctx context.Context) bool {
	a, _ := ctx.Value(admissionKey{}).(*admission)
	for outer := a; outer != nil; outer = outer.outer {
		outer.word.Store(true)
	}
	return a != nil
}

type admissionKey struct{}

// admission is one admitted request on its way through the handler, after which
// something is to be given back. It is the request's context if refunds are on.
type admission struct {
	context.Context
	limit   *rateLimit
	limiter *ratelimit.Limiter
	key     string
	ticket  ratelimit.Ticket

	request  *http.Request
	response respw.Response
	outer    *admission  // the RateLimit with refunds outside
	word     atomic.Bool // the handler has asked for a refund

	mu    sync.Mutex
	lease time.Duration // of AtOnce; 0 if no place is held
	timer *time.Timer   // renews the lease
	ended bool
}

// Value answers Refund's question.
func (a *admission) Value(key any) any {
	if key == (admissionKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// String keeps keys out of logs that print contexts.
func (a *admission) String() string { return "middleware.RateLimit" }

// BeforeHeader lets every response pass: only its status is of interest.
func (a *admission) BeforeHeader(int) bool { return true }

// serve calls the handler, and gives back what is due whatever becomes of it. A
// panic passes as it is: nothing here recovers.
func (a *admission) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if a.lease > 0 {
		a.mu.Lock() // the timer may fire before it is known
		a.timer = time.AfterFunc(a.lease/3, a.renew)
		a.mu.Unlock()
	}
	if a.limit.refunds {
		a.outer, _ = a.Context.Value(admissionKey{}).(*admission)
		r = r.WithContext(a)
		w = a.response.Wrap(w, a)
	}
	a.request = r
	returned := false
	defer func() { a.end(returned) }()
	next.ServeHTTP(w, r)
	returned = true
}

// end gives back the count, if that is due, else the place of AtOnce.
func (a *admission) end(returned bool) {
	a.stop()
	refund := false
	// Deferred: a user's function that panics must not keep the place.
	defer func() { a.settle(refund) }()
	if a.limit.refunds {
		refund = a.word.Load() || a.limit.wantsBack(a.outcome(returned))
	}
}

// settle survives the end of the request's context: a client who leaves keeps no
// place, nor a count that is to be taken back.
func (a *admission) settle(refund bool) {
	if a.ticket == "" {
		return // nothing was counted
	}
	ctx := context.WithoutCancel(a.Context)
	if refund {
		if _, err := a.limiter.Refund(ctx, a.key, a.ticket); err != nil { // releases too
			a.limit.log.report(ctx, "a request stays counted", err)
		}
		return
	}
	if a.lease > 0 {
		if err := a.limiter.Release(ctx, a.key, a.ticket); err != nil {
			a.limit.log.report(ctx, "a place is held until its lease ends", err)
		}
	}
}

// outcome is how the request went.
func (a *admission) outcome(returned bool) Outcome {
	gone := a.Context.Err()
	o := Outcome{Request: a.request, Status: a.response.Status(), Panicked: !returned}
	switch err := a.response.Err(); {
	case gone != nil && !errors.Is(gone, context.DeadlineExceeded):
		o.Aborted = true
	case err != nil && !errors.Is(err, http.ErrBodyNotAllowed) && !errors.Is(err, http.ErrContentLength):
		o.Aborted = true // but those two are the handler's doing
	}
	switch {
	case o.Status != 0 || a.response.Hijacked():
	case o.Panicked:
		o.Status = http.StatusInternalServerError
	case gone == nil:
		o.Status = http.StatusOK // net/http sends it
	}
	return o
}

// renew prolongs the lease while the handler runs, each third of it: two attempts
// may fail. It is called by the timer.
//
// It holds the lock until Redis has answered, and so stop waits for it: a
// renewal that overtook the release would take the place anew, with nobody left
// to give it back.
func (a *admission) renew() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		return
	}
	ctx := context.WithoutCancel(a.Context)
	switch kept, err := a.limiter.Renew(ctx, a.key, a.ticket); {
	case err != nil:
		a.limit.log.report(ctx, "a lease was not renewed", err)
	case !kept:
		a.limit.log.report(ctx, "a lease was lost", errLeaseLost)
		return
	}
	a.timer.Reset(a.lease / 3)
}

var errLeaseLost = errors.New("others have taken the place while the handler ran: one more request is in flight")

// stop ends the renewals. A lease that is 0 has none.
func (a *admission) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended = true
	if a.timer != nil {
		a.timer.Stop()
	}
}
