package rdb

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Memory is what one HTTP request remembers of Redis: which servers were silent,
// and how long it has waited for them. Calls under a context that carries it fail
// at once for those servers, and for others have that much less time, so that a
// request through several engines waits in vain for at most one budget in all.
//
// Its zero value remembers nothing. It is safe for concurrent use. A context of
// one's own carries a Memory by answering [MemoryKey].
type Memory struct {
	mu     sync.Mutex
	silent []*breaker
	waited time.Duration
}

type memoryKey struct{}

// MemoryKey is the context key under which a *Memory is found.
func MemoryKey() any { return memoryKey{} }

// Remember returns a context under which the server whose silence err tells of
// is not asked again. Other errors, also those by which a server says that it
// cannot serve, leave ctx as it is.
func Remember(ctx context.Context, err error) context.Context {
	var u *unavailable
	if !errors.As(err, &u) || outcomeOf(err) != silent {
		return ctx
	}
	m, ok := ctx.Value(memoryKey{}).(*Memory)
	if !ok {
		m = new(Memory)
		ctx = context.WithValue(ctx, memoryKey{}, m)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.Contains(m.silent, u.breaker) {
		m.silent = append(m.silent, u.breaker)
		m.waited += u.took
	}
	return ctx
}

// left is what ctx's request has left of budget for b's server: nothing if it has
// met that server's silence.
func left(ctx context.Context, b *breaker, budget time.Duration) time.Duration {
	m, ok := ctx.Value(memoryKey{}).(*Memory)
	if !ok {
		return budget
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.silent, b) {
		return 0
	}
	return budget - m.waited
}
