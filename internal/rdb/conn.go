package rdb

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// The bounds of a budget. A call shorter than the least cannot reach a server
// in the next room; one longer than the most is no budget.
const (
	DefaultBudget = 50 * time.Millisecond
	MinBudget     = time.Millisecond
	MaxBudget     = 30 * time.Second
)

// Conn is one engine's way to the injected client: the client's shared core and
// the engine's own budget. It opens no connection and is never closed.
type Conn struct {
	core   *core
	budget time.Duration
}

// Open returns a Conn on client whose calls take at most budget. It does no I/O
// and works while Redis is down. Its errors are for [Misconfigured], which lists
// joined ones one by one.
func Open(client redis.UniversalClient, budget time.Duration) (*Conn, error) {
	var mistakes []error
	if isNil(client) {
		mistakes = append(mistakes, errors.New("client is nil: pass the client your program already uses, such as redis.NewClient(...)"))
	}
	if budget < MinBudget || budget > MaxBudget {
		mistakes = append(mistakes, fmt.Errorf("WithTimeout(%v): must be from %v to %v; leave it out for %v", budget, MinBudget, MaxBudget, DefaultBudget))
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	return &Conn{core: coreOf(client), budget: budget}, nil
}

// isNil also sees a nil pointer inside a non-nil interface, which is what an
// unassigned *redis.Client variable becomes when it is passed on.
func isNil(client redis.UniversalClient) bool {
	if client == nil {
		return true
	}
	v := reflect.ValueOf(client)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// Exec sends cmds together, in one round trip, and returns when each has its
// reply or error, at the latest when the budget or ctx ends. The error is that
// of the first command without a reply:
//
//   - ErrUnavailable: no usable answer in time. When that repeats, the breaker
//     opens, and then the error comes at once.
//   - ErrCorrupt: the key holds another type.
//   - ctx.Err(): the caller cancelled, or its own deadline was the shorter one.
//   - any other: the server refused the command (NOAUTH, NOPERM, a bug).
//
// ErrUnavailable does not mean that nothing was done: a command that got no
// reply may have run, or run yet. Commands of one Exec have no order among them.
// On a Cluster they go to their masters side by side, and each has an error of
// its own: one silent master does not take the others' replies away.
//
// The second round trip that NOSCRIPT costs, and the repetition of replayable
// commands whose connection broke, share the one budget.
func (c *Conn) Exec(ctx context.Context, cmds ...*Cmd) error {
	if err := ctx.Err(); err != nil {
		return fail(cmds, err)
	}
	if len(cmds) == 0 {
		return nil
	}
	if f := foresightOf(ctx); f != nil {
		f.exec(ctx, c, cmds)
	} else {
		c.execute(ctx, cmds)
	}
	return firstError(cmds)
}

// execute runs cmds, each of which has its outcome afterwards.
func (c *Conn) execute(ctx context.Context, cmds []*Cmd) {
	if len(cmds) == 1 || c.core.cluster == nil {
		c.exec(ctx, c.core.breakerOf(ctx, cmds[0].key), cmds, false)
	} else {
		c.execEach(ctx, cmds)
	}
}

// Transact sends cmds together as one transaction (MULTI … EXEC), in one round
// trip: they run in their order, with nobody else's between them. Their keys must
// share a hash tag: see [Key]. None is sent a second time, whatever breaks. The
// errors are those of [Conn.Exec].
func (c *Conn) Transact(ctx context.Context, cmds ...*Cmd) error {
	if err := ctx.Err(); err != nil {
		return fail(cmds, err)
	}
	c.exec(ctx, c.core.breakerOf(ctx, cmds[0].key), cmds, true)
	return firstError(cmds)
}

// Refuses returns the error with which Exec would fail at once on key, because its
// server is known to be silent and no probe is due; else nil. It lets callers do
// without preparing a command.
func (c *Conn) Refuses(ctx context.Context, key string) error {
	b := c.core.breakerOf(ctx, key)
	switch at := b.retryAt.Load(); {
	case at != 0 && now() < at:
		return &unavailable{breaker: b, cause: errBreakerOpen}
	case left(ctx, b, c.budget) <= 0:
		return &unavailable{breaker: b, cause: errSilent}
	}
	return nil
}

// execEach runs the commands of each breaker beside those of the others.
func (c *Conn) execEach(ctx context.Context, cmds []*Cmd) {
	groups := make(map[*breaker][]*Cmd, 4)
	for _, cmd := range cmds {
		b := c.core.breakerOf(ctx, cmd.key)
		groups[b] = append(groups[b], cmd)
	}
	panics := make(chan any, len(groups))
	for b, group := range groups {
		go func() {
			defer func() { panics <- recover() }()
			c.exec(ctx, b, group, false)
		}()
	}
	var first any
	for range groups {
		if p := <-panics; p != nil {
			first = p
		}
	}
	if first != nil {
		panic(first)
	}
}

// exec runs commands that share a breaker.
func (c *Conn) exec(parent context.Context, b *breaker, cmds []*Cmd, transaction bool) {
	budget := left(parent, b, c.budget)
	if budget <= 0 {
		_ = fail(cmds, &unavailable{breaker: b, cause: errSilent})
		return
	}
	begun := now()
	leave, ok := b.admit(begun, budget)
	if !ok {
		_ = fail(cmds, &unavailable{breaker: b, cause: errBreakerOpen})
		return
	}
	ctx, cancel := context.WithTimeout(parent, budget)
	defer cancel()
	if transaction {
		c.run(ctx, parent, b, cmds, attemptOnly)
	} else if again := c.run(ctx, parent, b, cmds, attemptFirst); len(again) > 0 {
		c.run(ctx, parent, b, again, attemptSecond)
	}
	o, end := overall(cmds), now()
	for _, cmd := range cmds {
		if u, ok := cmd.err.(*unavailable); ok {
			u.took = time.Duration(end - begun)
		}
	}
	if o == silent && budget < DefaultBudget && ctx.Err() != nil {
		// Too little time is no silence: other engines on the client may well
		// have the time that this one lacks.
		o = abandoned
	}
	b.report(end, leave, o)
	if o == answered && c.core.cluster != nil && !c.core.loaded.Load() {
		c.core.loaded.Store(true)
	}
}

// nth says which attempt this is.
type nth int

const (
	attemptFirst nth = iota
	attemptSecond
	attemptOnly // a transaction
)

// run makes one attempt at cmds, gives each its outcome, and returns those
// worth a second one: scripts the server did not know, and replayable commands
// whose connection broke.
func (c *Conn) run(ctx, parent context.Context, b *breaker, cmds []*Cmd, n nth) (again []*Cmd) {
	wires := make([]once, len(cmds))
	for i, cmd := range cmds {
		wires[i] = cmd.wire(ctx, n == attemptSecond)
	}
	how := manner{transaction: n == attemptOnly}
	if last := cmds[len(cmds)-1]; last.behind != nil {
		how.one = last.key
	}
	if !c.core.attempt(ctx, b, wires, how) {
		_ = fail(cmds, classify(parent, b, ctx.Err()))
		return nil
	}
	for i, cmd := range cmds {
		err := cmd.settle(wires[i])
		if n == attemptFirst && cmd.worthAgain(err, again) && ctx.Err() == nil {
			cmd.err = err
			cmd.repeated = !isNoScript(err)
			again = append(again, cmd)
			continue
		}
		if cmd.script != nil && isNoScript(err) && ctx.Err() != nil {
			err = ctx.Err() // the reply came with the deadline: no time is left for the text
		}
		cmd.err = classify(parent, b, err)
	}
	return again
}

// worthAgain reports whether c, which ended with err, is to be sent a second time;
// again are those before it that are.
func (c *Cmd) worthAgain(err error, again []*Cmd) bool {
	if c.behind != nil {
		return slices.Contains(again, c.behind)
	}
	return c.script != nil && isNoScript(err) || c.replay && isBroken(err)
}

// overall is what several commands say of their server: one reply shows that it
// is there.
func overall(cmds []*Cmd) outcome {
	all := abandoned
	for _, cmd := range cmds {
		switch outcomeOf(cmd.err) {
		case answered:
			return answered
		case silent:
			all = silent
		}
	}
	return all
}

func fail(cmds []*Cmd, err error) error {
	for _, cmd := range cmds {
		cmd.val, cmd.err = nil, err
	}
	return err
}

func firstError(cmds []*Cmd) error {
	for _, cmd := range cmds {
		if cmd.err != nil {
			return cmd.err
		}
	}
	return nil
}
