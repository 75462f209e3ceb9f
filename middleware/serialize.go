package middleware

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/respw"
)

// Serialize serves one request of a key at a time, across all processes whose lockers
// share a Redis and a prefix. Requests of other keys are not delayed.
//
// A request waits for its turn: in one process first come, first served; among
// processes in no order. Its body is not read before. Once too many wait (16 a key and
// process, [WithQueueLimit]), or it has waited for too long (10 s, [WithQueueWait]),
// it is answered 409 Conflict (RFC 9110 section 15.5.10) or, by [WithLockedStatus],
// 423, with Retry-After: 1. Bodies are application/problem+json, or text/plain if
// Accept prefers that.
//
// The handler works under the context of the lock's lease: lock.FromContext finds it,
// and its fencing token, which what the handler writes to should compare. The lock is
// given back when the handler has returned or panicked, also if the client is gone.
//
// A handler that outlives its lock ([WithLockTTL]) finds its context ended with the
// cause lock.ErrLost, and nothing that it answers leaves any more: another request may
// be answered already, and two must not both be told that theirs is done. Before the
// header the answer is then 503 without Retry-After, as nobody knows what was done;
// after it, writes fail with lock.ErrLost, and the connection is cut, so that the client does
// not take what it has for the whole (http.ErrAbortHandler). A connection that the
// handler has taken over (Hijack) is its own: it has the context.
//
// When Redis is silent the answer is 503 with Retry-After, within the locker's budget,
// or when the wait is over if the locker was made with lock.WithOutageWait. A request
// without a key is answered 400; a KeyFunc's other errors, and a server that refuses
// the script, 500. What clients are not told is logged to slog.Default, at most a line
// a second.
//
// Several Serialize with one locker exclude each other for equal keys, whatever they
// wrap: use [JoinKeys] with [KeyByRoute] to tell routes apart. A handler must not call
// itself, through HTTP, under its own key.
//
// Mount it inside of RateLimit, Session and Quota, so that whoever waits has been let
// in, and directly around what must not run twice at a time.
//
// It panics, naming all mistakes, if locker, key or an option is nil, or an option is
// out of bounds. The handler is safe for concurrent use.
func Serialize(locker *lock.Locker, key KeyFunc, options ...SerializeOption) Middleware {
	c, mistakes := configureSerialize(locker, key, options)
	panicAtMount("middleware.Serialize", mistakes)
	s := &serializer{
		serializeConfig: c,
		locker:          locker,
		key:             key,
		crowd:           crowd{m: make(map[string]int)},
		log:             &reporter{name: "serialize"},
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, next) })
	}
}

// serializer is one mounted Serialize.
type serializer struct {
	*serializeConfig
	locker *lock.Locker
	key    KeyFunc
	crowd  crowd
	log    *reporter
}

func (s *serializer) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	key, err := s.key(r)
	if err != nil || key == "" {
		refuseKey(w, r, s.log, err)
		return
	}
	key = rdb.Digest(key) // such as an API key, which must not reach Redis
	if !s.crowd.join(key, s.queue+1) {
		s.busy.answer(w, r, time.Second)
		return
	}
	defer s.crowd.leave(key)
	ctx, end := context.WithCancel(r.Context())
	defer end()
	switch lease, err := s.acquire(ctx, end, key); {
	case err == nil:
		v := &serialized{gate: s, w: w, lease: lease, request: r.WithContext(lease.Context())}
		v.serve(next)
	case errors.Is(err, lock.ErrTaken), ctx.Err() != nil && r.Context().Err() == nil:
		s.busy.answer(w, r, time.Second)
	default:
		refuseUndecided(w, r, s.log, err)
	}
}

// acquire waits for the lock, but calls end when that takes too long: ctx bounds more
// than the wait, so it cannot be a deadline.
func (s *serializer) acquire(ctx context.Context, end context.CancelFunc, key string) (*lock.Lease, error) {
	if s.queue == 0 {
		lease, ok, err := s.locker.TryAcquire(ctx, key, s.ttl)
		if err == nil && !ok {
			err = lock.ErrTaken
		}
		return lease, err
	}
	timer := time.AfterFunc(s.wait, end)
	lease, err := s.locker.Acquire(ctx, key, s.ttl)
	if !timer.Stop() && err == nil { // both at once: the lease has ended with ctx
		s.giveBack(ctx, lease)
		err = lock.ErrTaken
	}
	return lease, err
}

func (s *serializer) giveBack(ctx context.Context, lease *lock.Lease) {
	if err := lease.Release(ctx); err != nil {
		_ = rdb.Remember(ctx, err) // whoever saves something outside need not wait again
		what := "a lock is left to end by itself"
		if errors.Is(err, lock.ErrLost) {
			what = "a handler has outlived its lock"
		}
		s.log.report(ctx, what, err)
	}
}

// serialized is one request that has its turn, and what stands between its handler
// and the client.
type serialized struct {
	response respw.Response
	gate     *serializer
	w        http.ResponseWriter
	outside  http.Header // as the handler found it; nil if empty
	request  *http.Request
	lease    *lock.Lease
}

func (v *serialized) serve(next http.Handler) {
	if h := v.w.Header(); len(h) > 0 {
		v.outside = maps.Clone(h)
	}
	defer v.gate.giveBack(v.request.Context(), v.lease)
	w := v.response.Wrap(v.w, v)
	v.response.Guard(v)
	next.ServeHTTP(w, v.request)
	v.response.Finish()
	if !v.response.Discarded() && !v.response.Hijacked() && v.lost() {
		// The header, or some of the body, may still be in a buffer. It must not
		// leave as a whole answer.
		panic(http.ErrAbortHandler)
	}
}

// lost reports whether somebody else may have the lock.
func (v *serialized) lost() bool {
	ctx := v.lease.Context()
	return ctx.Err() != nil && context.Cause(ctx) == lock.ErrLost
}

// BeforeHeader answers in the handler's place if that has outlived its lock.
func (v *serialized) BeforeHeader(int) bool {
	if !v.lost() {
		return true
	}
	h := v.w.Header()
	clear(h)
	maps.Copy(h, v.outside)
	refusalOutlived.answer(v.w, v.request, 0)
	return false
}

// BeforeWrite keeps back what comes after the lock was lost.
func (v *serialized) BeforeWrite() error {
	if v.lost() {
		return lock.ErrLost
	}
	return nil
}

// crowd counts the requests of each key in this process.
type crowd struct {
	mu sync.Mutex
	m  map[string]int
}

// join lets one more in, if there are then at most so many.
func (c *crowd) join(key string, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m[key] >= most {
		return false
	}
	c.m[key]++
	return true
}

func (c *crowd) leave(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m[key]--; c.m[key] == 0 {
		delete(c.m, key)
	}
}
