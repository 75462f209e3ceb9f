package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Limiter decides whether a request may happen now.
//
// It is safe for concurrent use. It starts no goroutine, opens no connection
// and needs no Close.
type Limiter struct {
	*engine
	limits   []Limit // shortest window first, AtOnce last
	features features
	scripts  *scripts
	tail     []any  // the script's arguments that say the limits; plan copies it
	sum      uint32 // of limits: denials under other ones say nothing of these
}

// engine is what limiters share that count the same usage: those made by With.
type engine struct {
	conn      *rdb.Conn
	watch     stopwatch
	prefix    string
	name      string
	longest   string // the longest window, as text
	retention time.Duration
	exact     int
	ban       *ban
	shadow    bool
	observe   func(context.Context, Event)
	deny      *denyCache // nil if it is switched off
	open      bool       // while Redis is silent: admit
	local     *local     // while Redis is silent: count here; nil if not
	places    places
	noScripts atomic.Bool
	clocks    sync.Map // of Redis's servers, for lack of scripts: server → *clock
}

// New returns a Limiter that keeps limit, and those among options, for every
// key. It does no I/O: it works while Redis is down.
//
// Limiters on one Redis with the same limits share their counts, unless they have
// names: see [WithName].
//
// Its errors are of kind ErrConfig, all mistakes joined: a nil client, a limit
// below 1, a window outside of 1 ms to 366 days, two limits of one window or
// name, more than eight of them, a budget outside of 1 ms to 30 s, options whose
// values are out of bounds or that exclude each other.
func New(client redis.UniversalClient, limit Limit, options ...Option) (*Limiter, error) {
	cfg, mistakes := configure(limit, options)
	conn, err := rdb.Open(client, cfg.budget)
	if err := rdb.Misconfigured("ratelimit.New", append(mistakes, err)...); err != nil {
		return nil, err
	}
	e := &engine{
		conn: conn, prefix: cfg.prefix, name: cfg.name, exact: cfg.exact, ban: cfg.ban,
		watch: stopwatch{time.Now()}, shadow: cfg.shadow, observe: cfg.observe, open: cfg.open, retention: longestOf(cfg.limits),
	}
	if e.retention > 0 {
		e.longest = e.retention.String()
	}
	if cfg.denyCache > 0 {
		e.deny = newDenyCache(cfg.denyCache, e.watch)
	}
	if !cfg.open && !cfg.closed {
		e.local = newLocal(cfg.instances, e.watch)
	}
	e.noScripts.Store(cfg.noScripts)
	return e.limiter(cfg.limits), nil
}

// limiter returns a Limiter of sorted limits on e.
func (e *engine) limiter(limits []Limit) *Limiter {
	l := &Limiter{engine: e, limits: limits, tail: tailOf(limits, e.exact, e.ban), sum: checksum(limits)}
	for _, limit := range limits {
		l.features |= [...]features{Sliding: hasLog, Smooth: hasSmooth, InFlight: hasFlight}[limit.kind]
	}
	if e.ban != nil {
		l.features |= hasBan
	}
	l.scripts = scriptsOf(l.features)
	return l
}

// longestOf is the longest sliding window: for so long admissions are kept.
func longestOf(limits []Limit) (longest time.Duration) {
	for _, l := range limits {
		if l.kind == Sliding {
			longest = max(longest, l.window)
		}
	}
	return longest
}

// With returns a Limiter of other limits that counts the same usage: for plans
// that differ from tenant to tenant, and may change from one request to the next.
// A request is held to the limits of the Limiter that is asked, by all that was
// counted before: sliding limits by what was admitted under any with sliding
// limits, Smooth ones by what was under those of the same window, AtOnce by what is
// in flight under any. It costs a microsecond or two, and no I/O.
//
// No sliding window may be longer than the longest of l's, for so long
// admissions are kept; and if l has sliding limits, so must these, or what they
// admit would not count for the others. Its errors are of kind ErrConfig, all
// mistakes joined.
func (l *Limiter) With(limits ...Limit) (*Limiter, error) {
	limits = slices.Clone(limits)
	mistakes := mistakesOf(limits)
	if len(limits) == 0 {
		mistakes = append(mistakes, errors.New("no limit: pass at least one"))
	}
	if longest := longestOf(limits); longest > l.retention {
		mistakes = append(mistakes, fmt.Errorf("the window of %v is longer than %v, for which admissions are kept: give New the longest window of all plans", longest, l.retention))
	}
	if l.retention > 0 && len(limits) > 0 && longestOf(limits) == 0 {
		mistakes = append(mistakes, errors.New("no limit such as PerHour(n) is among them, so that what they admit would not count for the other plans: add one"))
	}
	if l.noScripts.Load() && slices.ContainsFunc(limits, func(l Limit) bool { return l.kind != Sliding }) {
		mistakes = append(mistakes, errNeedsScripts)
	}
	if err := rdb.Misconfigured("Limiter.With", mistakes...); err != nil {
		return nil, err
	}
	sortLimits(limits)
	return l.limiter(limits), nil
}

// Shadow reports whether l was made WithShadow.
func (l *Limiter) Shadow() bool { return l.shadow }

// Limits returns the limits kept, shortest window first and AtOnce last.
func (l *Limiter) Limits() []Limit { return slices.Clone(l.limits) }

// Allow asks whether one request of key may happen now, and counts it if so. It
// is shorthand for AllowN with a cost of 1.
func (l *Limiter) Allow(ctx context.Context, key string) (Result, error) {
	return l.AllowN(ctx, key, 1)
}

// AllowN asks whether one request of key that costs as much as cost others may
// happen now, and counts it if so. A denied request changes nothing: whoever
// keeps asking is admitted as early as whoever waits. A cost of 0 counts nothing
// and only asks what a request of cost 1 would be told. One that is higher than a
// limit is denied for good: see Result.Never.
//
// It costs one round trip, and takes at most the budget (50 ms, see
// WithTimeout); none if this process remembers that key is denied (see
// WithDenyCache). When Redis is silent the stand-in decides, by default a local
// count, and Result.Standin says so; under WithFailClosed the error is of kind
// ErrUnavailable. Other errors: ErrEmptyKey; ErrCost; ctx.Err() when ctx ends
// first; a refusal by the server (NOAUTH); ErrCorrupt, should the server not
// answer the script as Redis does. Under WithShadow none of them keeps a request
// out: they are in the error, and Result.Allowed is true.
//
// A reply lost on the way is asked for again and does not count twice: see the
// package's Guarantees.
func (l *Limiter) AllowN(ctx context.Context, key string, cost int) (Result, error) {
	if l.observe == nil && !l.shadow {
		return l.decide(ctx, key, cost)
	}
	begun := time.Now()
	result, err := l.decide(ctx, key, cost)
	if l.shadow && !result.Allowed {
		result.Allowed, result.Shadowed = true, true
	}
	if l.observe != nil {
		l.observe(ctx, Event{Key: key, Result: result, Err: err, Took: time.Since(begun)})
	}
	return result, err
}

// Peek tells how key stands, and counts nothing: Result.Allowed says whether a
// request of cost 1 would be admitted now. It asks Redis, whatever this process
// remembers; otherwise it is as AllowN.
func (l *Limiter) Peek(ctx context.Context, key string) (Result, error) {
	return l.decide(ctx, key, 0)
}

func (l *Limiter) decide(ctx context.Context, key string, cost int) (Result, error) {
	switch {
	case key == "":
		return Result{}, ErrEmptyKey
	case cost < 0 || cost > maxRequests:
		return Result{}, fmt.Errorf("%w: %d: must be from 0 to %d", ErrCost, cost, maxRequests)
	}
	var (
		mark    mark
		known   bool // some denial is remembered
		changes uint32
	)
	if l.deny != nil && cost > 0 {
		var result Result
		var holds bool
		mark = l.deny.mark(key)
		if result, holds, known, changes = l.deny.find(mark, l, cost); holds {
			return result, nil
		}
	}
	base, id := l.base(key), requestID()
	if l.local != nil {
		if result, held := l.local.hold(l, base, cost); held {
			return result, nil
		}
	}
	var (
		result   Result
		asked    bool // Redis may have been, but gave no answer
		standsIn bool
	)
	err := ctx.Err()
	if err == nil {
		err = l.conn.Refuses(ctx, base)
	}
	if err == nil {
		result, err = l.ask(ctx, base, id, cost, mark)
		asked = isSilence(err)
	}
	if errors.Is(err, ErrUnavailable) && l.local != nil {
		result, err = l.local.admit(l, base, id, cost, err), nil
		standsIn = true
	}
	if asked && cost > 0 && !result.Allowed && l.features&hasFlight != 0 {
		l.places.lose(base, id, l.watch.now()) // Redis may give a place that nobody holds
	}
	switch {
	case standsIn:
		return result, nil
	case l.open && errors.Is(err, ErrUnavailable):
		first := l.limits[0]
		return Result{Allowed: true, Source: FromStandin, Limit: first, Remaining: first.Burst(), At: time.Now(), Standin: err}, nil
	}
	if err != nil {
		if err != ctx.Err() { // the caller's own end passes as it is
			err = fmt.Errorf("ratelimit: allow: %w", err)
		}
		return Result{}, err
	}
	if l.deny != nil && cost > 0 && !result.Allowed {
		l.deny.keep(mark, l, cost, result, changes)
	} else if known {
		l.deny.forget(mark) // its numbers are not true any more
	}
	return result, nil
}

// ask has Redis decide.
func (l *Limiter) ask(ctx context.Context, base, id string, cost int, m mark) (Result, error) {
	if l.noScripts.Load() {
		if !l.sliding() {
			return Result{}, errNeedsScripts // it was made before that was known
		}
		result, err := l.transact(ctx, base, id, cost, l.deny.knows(m))
		if err == nil && l.local != nil {
			l.local.saw(l, base, result)
		}
		return result, err
	}
	if l.local != nil {
		if err := l.local.repay(ctx, l.conn, base); err != nil {
			return Result{}, err
		}
	}
	begun := l.watch.now()
	cmd := l.plan(base, id, cost)
	if lost := l.places.due(begun); lost == nil {
		_ = l.conn.Exec(ctx, cmd)
	} else {
		cmds := []*rdb.Cmd{cmd}
		for _, p := range lost {
			cmds = append(cmds, p.release())
		}
		_ = l.conn.Exec(ctx, cmds...)
		for i, p := range lost {
			if isSilence(cmds[1+i].Err()) {
				l.places.lose(p.base, p.id, l.watch.now())
			}
		}
	}
	err := cmd.Err()
	if l.sliding() && rdb.IsForbidden(err) {
		l.noScripts.Store(true)
		result, again := l.ask(ctx, base, id, cost, m)
		if again != nil && !errors.Is(again, ErrUnavailable) {
			l.noScripts.Store(false) // this is refused as well: tell of both
			again = errors.Join(err, again)
		}
		return result, again
	}
	if err != nil {
		return Result{}, err
	}
	result, err := l.verdict(cmd.Slice(), id, cost)
	result.asked = begun
	if l.local != nil && err == nil {
		l.local.saw(l, base, result)
	}
	return result, err
}

// sliding reports whether l has only what needs no scripts.
func (l *Limiter) sliding() bool { return l.features == hasLog }

// stopwatch tells monotonic time since it was started, which no setting of this
// machine's clock changes.
type stopwatch struct{ started time.Time }

func (s stopwatch) now() time.Duration { return time.Since(s.started) }
