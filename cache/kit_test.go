package cache_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/internal/testkit"
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

// last is the latest event of a kind.
func (e *events) last(kind cache.EventKind) (last cache.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if event.Kind == kind {
			last = event
		}
	}
	return last
}

// rig is a store under test, a view of it, and a way past both.
type rig struct {
	*cache.Cache[string]
	store   *cache.Store
	t       *testing.T
	backend *testkit.Backend
	rdb     redis.UniversalClient
	prefix  string
	seen    *events
}

// newRig makes one without jitter. More than one instance of it: see another.
func newRig(t *testing.T, b *testkit.Backend, options ...cache.Option) rig {
	t.Helper()
	return rig{t: t, backend: b, prefix: b.Prefix(t)}.through(b.Client(t), options...)
}

// another is an instance of its own, on the same keys.
func (r rig) another(options ...cache.Option) rig {
	r.t.Helper()
	return r.through(r.backend.Client(r.t), options...)
}

// through is an instance whose client is rdb.
func (r rig) through(rdb redis.UniversalClient, options ...cache.Option) rig {
	r.t.Helper()
	r.rdb, r.seen = rdb, new(events)
	all := []cache.Option{
		cache.WithPrefix(r.prefix), cache.WithTimeout(patience), cache.WithTTL(time.Minute),
		cache.WithJitter(0), cache.WithObserver(r.seen.note),
	}
	var err error
	if r.store, err = cache.New(rdb, append(all, options...)...); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.store.Close)
	r.Cache = viewOf[string](r.t, r.store, "v")
	return r
}

func viewOf[V any](t *testing.T, store *cache.Store, name string, options ...cache.Option) *cache.Cache[V] {
	t.Helper()
	view, err := cache.For[V](store, name, options...)
	if err != nil {
		t.Fatal(err)
	}
	return view
}

// wants checks what Get finds; "" wants nothing.
func (r rig) wants(key, want string) {
	r.t.Helper()
	v, ok, err := r.Get(r.t.Context(), key)
	if err != nil || ok != (want != "") || v != want {
		r.t.Errorf("Get(%.40q): got %.40q, %v, %v; want %.40q", key, v, ok, err, want)
	}
}

func (r rig) set(key, value string, options ...cache.Option) {
	r.t.Helper()
	if err := r.Set(r.t.Context(), key, value, options...); err != nil {
		r.t.Fatalf("Set(%.40q): %v", key, err)
	}
}

func (r rig) del(keys ...string) {
	r.t.Helper()
	if err := r.Delete(r.t.Context(), keys...); err != nil {
		r.t.Fatalf("Delete(%.40q): %v", keys, err)
	}
}

// loads checks what Load returns.
func (r rig) loads(key, want string, load func(context.Context) (string, error), options ...cache.Option) {
	r.t.Helper()
	v, err := r.Load(r.t.Context(), key, load, options...)
	if err != nil || v != want {
		r.t.Errorf("Load(%.40q): got %.40q, %v; want %.40q", key, v, err, want)
	}
}

// ttl is the lifetime of a key in Redis.
func (r rig) ttl(key string) time.Duration { return r.rdb.PTTL(r.t.Context(), key).Val() }

func (r rig) exists(key string) bool { return r.rdb.Exists(r.t.Context(), key).Val() == 1 }

// nothingLeft checks that key's lease is gone.
func (r rig) nothingLeft(key string) {
	r.t.Helper()
	if lease := r.store.LeaseKey("v", key); r.exists(lease) {
		r.t.Errorf("the lease of %q is left: %q", key, r.rdb.Get(r.t.Context(), lease).Val())
	}
}

// returns makes a load.
func returns(v string, err error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return v, err }
}

// never is a load that must not be called.
func never(t *testing.T) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		t.Error("the source was asked")
		return "", errors.New("not to be asked")
	}
}

// gate is a source that answers when it is told to.
type gate struct {
	calls atomic.Int32
	begun chan context.Context // of each call
	reply chan func() (string, error)
}

func newGate() *gate {
	return &gate{begun: make(chan context.Context, 100), reply: make(chan func() (string, error), 100)}
}

// load honours its context.
func (g *gate) load(ctx context.Context) (string, error) {
	g.calls.Add(1)
	g.begun <- ctx
	select {
	case f := <-g.reply:
		return f()
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// answer has one call return.
func (g *gate) answer(v string, err error) {
	g.reply <- func() (string, error) { return v, err }
}

// got is what a call of Load came to.
type got struct {
	value string
	err   error
}

// loading calls Load in a goroutine of its own.
func (r rig) loading(ctx context.Context, key string, load func(context.Context) (string, error), options ...cache.Option) <-chan got {
	done := make(chan got, 1)
	go func() {
		v, err := r.Load(ctx, key, load, options...)
		done <- got{v, err}
	}()
	return done
}

// await waits for c, not for ever.
func await[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(30 * time.Second):
		t.Fatalf("waited in vain for %s", what)
	}
	return v
}

func (g got) wants(t *testing.T, value string, err error) {
	t.Helper()
	if g.value != value || !errors.Is(g.err, err) {
		t.Errorf("got %q, %v; want %q, %v", g.value, g.err, value, err)
	}
}
