package rdb

import (
	"context"
	"errors"
	"sync/atomic"
)

// Memory is what one HTTP request remembers of Redis: which client was silent.
// Calls under a context that carries it fail at once for that client, so that
// a request through several engines waits for at most one budget.
//
// Its zero value remembers nothing. A context of one's own carries a Memory by
// answering [MemoryKey].
type Memory struct{ core atomic.Pointer[core] }

type memoryKey struct{}

// MemoryKey is the context key under which a *Memory is found.
func MemoryKey() any { return memoryKey{} }

// Remember returns a context under which the client whose silence err tells of
// is not asked again. Other errors leave ctx as it is.
func Remember(ctx context.Context, err error) context.Context {
	var u *unavailable
	if !errors.As(err, &u) {
		return ctx
	}
	m, ok := ctx.Value(memoryKey{}).(*Memory)
	if !ok {
		m = new(Memory)
		ctx = context.WithValue(ctx, memoryKey{}, m)
	}
	m.core.CompareAndSwap(nil, u.core)
	return ctx
}

// silentFor reports whether this request has already met c's silence.
func (c *core) silentFor(ctx context.Context) bool {
	m, ok := ctx.Value(memoryKey{}).(*Memory)
	return ok && m.core.Load() == c
}
