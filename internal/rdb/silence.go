package rdb

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// Memory is what one HTTP request remembers of Redis: which servers were silent.
// Calls under a context that carries it fail at once for those, so that a
// request through several engines waits for at most one budget a server.
//
// Its zero value remembers nothing. It is safe for concurrent use. A context of
// one's own carries a Memory by answering [MemoryKey].
type Memory struct {
	mu     sync.Mutex
	silent []*breaker
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
	}
	return ctx
}

// rememberedSilent reports whether ctx's request has already met the silence of
// b's server.
func rememberedSilent(ctx context.Context, b *breaker) bool {
	m, ok := ctx.Value(memoryKey{}).(*Memory)
	if !ok {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.silent, b)
}
