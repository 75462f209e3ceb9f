package cache_test

import (
	"context"
	"sync"

	"github.com/go-weir/weir/cache"
)

// events is an observer that remembers.
type events struct {
	mu  sync.Mutex
	all []cache.Event
}

func (e *events) note(_ context.Context, event cache.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

func (e *events) count(kind cache.EventKind) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if event.Kind == kind {
			n++
		}
	}
	return n
}
