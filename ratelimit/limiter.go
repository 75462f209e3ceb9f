package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Limiter decides whether a request may happen now.
//
// It is safe for concurrent use. It starts no goroutine, opens no connection
// and needs no Close.
type Limiter struct {
	conn    *rdb.Conn
	limits  []Limit // shortest window first
	prefix  string
	name    string
	longest string // the longest window, as text
	// tail is the script's arguments behind the request's id; plan copies it.
	tail    []any
	standin standin
}

// standin gives the verdict while Redis is silent. key is the key in Redis: it
// is short, whatever the user's is. cause says how Redis is silent.
type standin func(key string, cause error) (Result, error)

// New returns a Limiter that keeps limit, and those among options, for every
// key. It does no I/O: it works while Redis is down.
//
// Limiters on one Redis with the same limits share their counts, unless they have
// names: see [WithName].
//
// Its errors are of kind ErrConfig, all mistakes joined: a nil client, a limit
// below 1, a window outside of 1 ms to 366 days, two limits of one window, a
// budget outside of 1 ms to 30 s, options that exclude each other.
func New(client redis.UniversalClient, limit Limit, options ...Option) (*Limiter, error) {
	cfg, mistakes := configure(limit, options)
	conn, err := rdb.Open(client, cfg.budget)
	if err := rdb.Misconfigured("ratelimit.New", append(mistakes, err)...); err != nil {
		return nil, err
	}
	longest := cfg.limits[len(cfg.limits)-1].window
	l := &Limiter{conn: conn, limits: cfg.limits, prefix: cfg.prefix, name: cfg.name, longest: longest.String()}
	l.tail = append(l.tail, longest.Microseconds())
	for _, limit := range cfg.limits {
		l.tail = append(l.tail, limit.window.Microseconds(), limit.requests)
	}
	switch {
	case cfg.open:
		l.standin = l.admitAll
	case cfg.closed:
		l.standin = func(_ string, cause error) (Result, error) { return Result{}, cause }
	default:
		l.standin = newLocal(cfg.limits, cfg.instances).admit
	}
	return l, nil
}

// Limits returns the limits kept, shortest window first.
func (l *Limiter) Limits() []Limit { return slices.Clone(l.limits) }

// Result is a verdict. Its numbers speak of one limit: on a denial the one that
// keeps the request out longest, else the one with the least room.
type Result struct {
	// Allowed says that the request may happen; it has then been counted, but
	// not under WithFailOpen while Redis is silent.
	Allowed bool
	// Limit is the limit the other numbers are about.
	Limit Limit
	// Remaining is how many more requests the limit admits now, never below 0.
	// When Standin is set it speaks of this process's part of the limit; under
	// WithFailOpen it is the whole limit, and ResetAfter 0.
	Remaining int
	// ResetAfter is the time until Remaining grows: the oldest counted request
	// leaves the window. It is 0 when none is counted.
	ResetAfter time.Duration
	// RetryAfter is the time until a denied request would be admitted if nobody
	// else came. It is 0 when Allowed.
	RetryAfter time.Duration
	// At is the instant of the decision by Redis's clock, or by this process's
	// when Standin is set.
	At time.Time
	// Standin is nil when Redis decided. Otherwise it is the error that kept it
	// from doing so, of kind ErrUnavailable, and the verdict is the stand-in's:
	// see "When Redis is silent" in the package's page.
	Standin error
}

// Allow asks whether one request of key may happen now, and counts it if so. A
// denied request changes nothing: whoever keeps asking is admitted as early as
// whoever waits.
//
// It costs one round trip, and takes at most the budget (50 ms, see
// WithTimeout). When Redis is silent the stand-in decides, by default a local
// count, and Result.Standin says so; under WithFailClosed the error is of kind
// ErrUnavailable. Other errors: ErrEmptyKey; ctx.Err() when ctx ends first; a
// refusal by the server (NOPERM, NOAUTH); ErrCorrupt, should the server not answer
// the script as Redis does. A reply lost on the way is asked for
// again and does not count twice.
func (l *Limiter) Allow(ctx context.Context, key string) (Result, error) {
	if key == "" {
		return Result{}, ErrEmptyKey
	}
	key = l.redisKey(key)
	cmd := l.plan(key)
	err := l.conn.Exec(ctx, cmd)
	var result Result
	if err == nil {
		result, err = l.verdict(cmd.Slice())
	} else if errors.Is(err, ErrUnavailable) {
		result, err = l.standin(key, err)
	}
	if err != nil && err != ctx.Err() { // the caller's own end passes as it is
		err = fmt.Errorf("ratelimit: allow: %w", err)
	}
	return result, err
}

// admitAll is the stand-in of WithFailOpen.
func (l *Limiter) admitAll(_ string, cause error) (Result, error) {
	first := l.limits[0]
	return Result{Allowed: true, Limit: first, Remaining: first.requests, At: time.Now(), Standin: cause}, nil
}
