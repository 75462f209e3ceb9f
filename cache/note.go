package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// notes are what a load says about what it brings.
type notes struct {
	mu   sync.Mutex
	ttl  time.Duration
	tags []string
	err  error
}

type notesKey struct{}

func withNotes(ctx context.Context) (context.Context, *notes) {
	n := new(notes)
	return context.WithValue(ctx, notesKey{}, n), n
}

// Noting returns a context under which [Tag] is heard, and what it has said so far. It is
// for middleware.Cache, and for caches like it.
func Noting(ctx context.Context) (noting context.Context, tags func() []string) {
	ctx, n := withNotes(ctx)
	return ctx, func() []string {
		n.mu.Lock()
		defer n.mu.Unlock()
		return append([]string(nil), n.tags...)
	}
}

// Tag adds tags to what is being loaded under ctx, as [WithTags] does for all that a
// view loads. Under another context it does nothing. A tag that cannot be one makes the
// load's caller get an error of kind ErrConfig, and nothing is stored.
func Tag(ctx context.Context, tags ...string) {
	n, ok := ctx.Value(notesKey{}).(*notes)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tags = append(n.tags, tags...)
	if err := checkTags(n.tags); err != nil && n.err == nil {
		n.err = fmt.Errorf("%w: cache.Tag: %w", ErrConfig, err)
	}
}

// Expire sets the lifetime of what is being loaded under ctx, in place of [WithTTL], or
// of [WithNegativeTTL] if it turns out not to be there. From 1 ms to 366 days; else the
// load's caller gets an error of kind ErrConfig, and nothing is stored. Under another
// context it does nothing.
func Expire(ctx context.Context, ttl time.Duration) {
	n, ok := ctx.Value(notesKey{}).(*notes)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if (ttl < minTTL || ttl > maxTTL) && n.err == nil {
		n.err = fmt.Errorf("%w: cache.Expire(%v): must be from %v to %v", ErrConfig, ttl, minTTL, maxTTL)
	}
	n.ttl = ttl
}

// with is tags, and those of Tag.
func (n *notes) with(tags []string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append(slices.Clip(tags), n.tags...)
}

// lifetime is what Expire said, else 0.
func (n *notes) lifetime() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ttl
}

// invalid is the error of a Tag or Expire that cannot be.
func (n *notes) invalid() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}
