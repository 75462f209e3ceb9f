package event

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Bus carries events between processes, while they happen: topics publish to it, and
// subscriptions hear from it. All subscriptions of all Buses on one client share one
// connection to Redis.
//
// It is safe for concurrent use. It starts no goroutine and opens no connection before
// the first subscription, and ends them with the last.
type Bus struct {
	conn   *rdb.Conn
	codec  Codec
	prefix string
	budget time.Duration
	window time.Duration

	mu     sync.Mutex
	closed bool
	open   map[*feed]struct{} // subscriptions that can still deliver
	empty  chan struct{}      // closed when the Bus is closed and none is open
}

// New returns a Bus on client. It does no I/O: it works while Redis is down. Errors are
// of kind ErrConfig, all mistakes joined.
func New(client redis.UniversalClient, options ...Option) (*Bus, error) {
	cfg, mistakes := configure(options)
	if _, isRing := client.(*redis.Ring); isRing {
		mistakes = append(mistakes, errors.New("client is a *redis.Ring: its servers know nothing of each other, so what is published on one is not heard on the others; pass a client of one of them"))
	}
	conn, err := rdb.Open(client, cfg.budget)
	if err := rdb.Misconfigured("event.New", append(mistakes, err)...); err != nil {
		return nil, err
	}
	return &Bus{
		conn:   conn,
		codec:  cfg.codec,
		prefix: cfg.prefix,
		budget: cfg.budget,
		window: cfg.window,
		open:   make(map[*feed]struct{}),
		empty:  make(chan struct{}),
	}, nil
}

// Shutdown ends the Bus and drains it: nothing more is published or received,
// subscribers are given what they have in their buffers, and then ErrClosed. It returns
// when all have taken it, or have closed their subscriptions. When ctx ends first, the
// rest is dropped and ctx.Err() returned. It may be called again.
func (b *Bus) Shutdown(ctx context.Context) error {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		if len(b.open) == 0 {
			close(b.empty)
		}
	}
	feeds := b.feeds()
	b.mu.Unlock()
	for _, f := range feeds {
		f.stop()
	}
	select {
	case <-b.empty:
		return nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	feeds = b.feeds()
	b.mu.Unlock()
	for _, f := range feeds {
		f.close()
	}
	if len(feeds) == 0 {
		return nil // the last one was just in time
	}
	return ctx.Err()
}

// Close ends the Bus at once: what subscribers have not taken is dropped, and they are
// given ErrClosed. It is [Bus.Shutdown] without patience, and returns nil.
func (b *Bus) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = b.Shutdown(ctx) // it says that it did not wait
	return nil
}

// feeds are the open ones.
func (b *Bus) feeds() []*feed {
	feeds := make([]*feed, 0, len(b.open))
	for f := range b.open {
		feeds = append(feeds, f)
	}
	return feeds
}

// isClosed reports whether Shutdown or Close was called.
func (b *Bus) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// admit registers a subscription; it reports false when the Bus is closed.
func (b *Bus) admit(f *feed) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.open[f] = struct{}{}
	return true
}

// forget takes a subscription out that delivers nothing more.
func (b *Bus) forget(f *feed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.open[f]; !known {
		return
	}
	delete(b.open, f)
	if b.closed && len(b.open) == 0 {
		close(b.empty)
	}
}
