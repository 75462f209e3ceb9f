package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Store keeps data in one Redis: see the package's page. [For] makes typed views of it;
// middleware.Cache keeps responses in it.
//
// It is safe for concurrent use.
type Store struct {
	conn    *rdb.Conn
	prefix  string
	set     settings
	observe func(context.Context, Event)
	shards  [shards]shard
	maxBody int64
	near    *near // nil without WithNear
	names   nameMemory

	// closing ends what goes on in the background.
	closing context.Context
	close   context.CancelFunc

	mu      sync.Mutex
	flights map[string]*flight // by name: loads and waits that callers may join
	watches map[string]*watch  // by lease: who waits for somebody else's claim to end
	solos   map[nearKey]*solo  // what is made while Redis is silent
	running int                // flights and watches
	ended   *sync.Cond         // on mu: one of them has
	closed  bool
}

// New returns a Store in the client's Redis. It does no I/O and starts no goroutine: it
// works while Redis is down. Its errors are of kind ErrConfig, all mistakes joined.
func New(client redis.UniversalClient, options ...Option) (*Store, error) {
	c := configure(options)
	conn, err := rdb.Open(client, c.budget)
	if err := rdb.Misconfigured("cache.New", append(c.mistakes, err)...); err != nil {
		return nil, err
	}
	s := &Store{
		conn: conn, prefix: c.prefix, set: c.settings, observe: c.observe,
		maxBody: c.maxBody, shards: newShards(c.prefix), flights: make(map[string]*flight), watches: make(map[string]*watch),
		solos: make(map[nearKey]*solo),
	}
	s.ended = sync.NewCond(&s.mu)
	s.closing, s.close = context.WithCancel(context.Background())
	if c.near > 0 {
		s.near = newNear(s, c.near)
	}
	return s, nil
}

// Close ends the near tier and the loads that nobody waits for, and returns when they
// have ended. A Store without a near tier whose views refresh nothing early and serve
// nothing stale need not be closed. What is called afterwards does without the near
// tier, and loads nothing in the background. It never closes the client.
func (s *Store) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.close()
	if s.near != nil {
		s.near.close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.running > 0 {
		s.ended.Wait()
	}
}

// run runs f in a goroutine of its own, which Close waits for. It is called with the
// lock held; a WaitGroup would not do, as calls may begin while Close waits.
func (s *Store) run(f func()) {
	s.running++
	go func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.running--
			s.ended.Broadcast()
		}()
		f()
	}()
}

// TTL is the lifetime of what comes without one, see WithTTL; 0 if there is
// none.
func (s *Store) TTL() time.Duration { return s.set.ttl }

// MaxBody is the length above which a response is not stored, see WithMaxBody.
func (s *Store) MaxBody() int64 { return s.maxBody }

// MaxBytes is the size above which an entry is not stored, see WithMaxBytes.
func (s *Store) MaxBytes() int { return s.set.maxBytes }

// Cache is a typed view of a [Store]: values of type V, each under a key of its own.
// Views of one name share their entries, in all processes; others never do. It is safe
// for concurrent use.
type Cache[V any] struct {
	store *Store
	view  string
	set   settings
	clone func(V) V

	encoder func(v any) ([]byte, error) // encode and decode, made once for all calls
	decoder func(*entry) (any, error)
}

// For returns a view of store for values of type V. The name stands in every key: up to
// 64 letters, digits and "-_.". A view needs a lifetime for its entries: [WithTTL], given
// to New or here. It does no I/O. Its errors are of kind ErrConfig, all mistakes joined.
//
// A type that changes such that what is stored no longer fits needs another name, as
// "user.2".
func For[V any](store *Store, name string, options ...Option) (*Cache[V], error) {
	if store == nil {
		return nil, rdb.Misconfigured("cache.For", errors.New("store is nil: pass what cache.New returned"))
	}
	c := &config{settings: store.set, level: atFor}
	c.tags = slices.Clone(c.tags)
	c.check(validView(name), "name %q: use 1 to %d letters, digits and \"-_.\"", name, maxViewBytes)
	c.apply(options)
	c.check(c.ttl > 0, "no lifetime: add WithTTL, here or to cache.New")
	v := &Cache[V]{store: store, view: name, set: c.settings}
	v.encoder, v.decoder = v.encode, v.decode
	if c.clone != nil {
		clone, fits := c.clone.(func(V) V)
		c.check(fits, "WithClone: got a %T; want a func(%T) %T", c.clone, *new(V), *new(V))
		v.clone = clone
	}
	if err := rdb.Misconfigured("cache.For", c.mistakes...); err != nil {
		return nil, err
	}
	return v, nil
}

// with is what one call goes by.
func (c *Cache[V]) with(options []Option) (*settings, error) {
	if len(options) == 0 {
		return &c.set, nil
	}
	o := &config{settings: c.set, level: atCall}
	o.apply(options)
	if len(o.mistakes) > 0 {
		return nil, fmt.Errorf("%w: %w", ErrConfig, errors.Join(o.mistakes...))
	}
	return &o.settings, nil
}

func wrap(ctx context.Context, what string, err error) error {
	if err == ctx.Err() { // the caller's own end passes as it is
		return err
	}
	return fmt.Errorf("cache: %s: %w", what, err)
}
