package cache

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

const (
	// cooldown is for how long nobody loads again, at the most, what a stale value
	// stands in for.
	cooldown = time.Second

	// aloneFor is how long what was loaded without Redis serves others: within the
	// near tier's bound.
	aloneFor = nearBound

	// Who waits for another process is woken. Where that cannot be relied on it asks
	// again after a while, longer each time.
	minPoll = 10 * time.Millisecond
	maxPoll = 250 * time.Millisecond
)

// Load returns the value of key: the near tier's, else Redis's, else what load returns,
// which is then stored (cache-aside).
//
// Of all that ask for a missing key at the same time, in all processes, one calls load;
// the others wait. Its context has the values of the caller's, but ends when nobody
// waits for it any more, or after [WithLoadTimeout]; within it, [Tag] and [Expire] say
// how to keep what it brings. What was loaded while the key was invalidated is not
// stored, and is returned to those only who asked before the load began.
//
// The error is load's, as it is, or a [PanicError]; ErrNotFound also where it was kept
// that the source has nothing; ctx.Err() when the caller's own context ended; and of
// kind ErrConfig for a key or an option that cannot be used. When Redis is silent, load
// is called by one caller in each process. A value that is too large, or does not
// encode, is returned and not stored, which an observer is told ([NotStored]).
func (c *Cache[V]) Load(ctx context.Context, key string, load func(context.Context) (V, error), options ...Option) (V, error) {
	if v, ok := c.nearby(ctx, key); ok {
		if v == nil {
			return *new(V), ErrNotFound
		}
		return c.give(v), nil
	}
	v, err := c.load(ctx, key, load, options)
	if err != nil {
		return *new(V), err
	}
	return c.give(v), nil
}

func (c *Cache[V]) load(ctx context.Context, key string, load func(context.Context) (V, error), options []Option) (*V, error) {
	if load == nil {
		return nil, fmt.Errorf("cache: load: %w: load is nil: pass the function that asks the source, or call Get", ErrConfig)
	}
	r, err := c.request(key, options)
	if err != nil {
		return nil, fmt.Errorf("cache: load: %w", err)
	}
	r.load = func(ctx context.Context) (any, error) {
		v, err := load(ctx)
		if err != nil {
			return nil, err
		}
		return &v, nil
	}
	v, err := c.store.load(ctx, r)
	if err != nil {
		return nil, err
	}
	return v.(*V), nil
}

// load returns a *V, or an error.
func (s *Store) load(ctx context.Context, r *request) (any, error) {
	for damaged := ""; ; {
		f, ticket := s.join(r.name)
		if f == nil {
			token := newToken()
			a, err := s.ask(ctx, &r.place, r.set, token, damaged)
			switch {
			case errors.Is(err, ErrUnavailable):
				s.tell(ctx, Unavailable, &r.place, err)
				f, ticket = s.begin(ctx, r, alone, func(f *flight) { s.loadAlone(f, r, true) })
			case err != nil:
				return nil, wrap(ctx, "load", err)
			case a.verdict == fresh || a.verdict == refresh:
				v, err := s.take(ctx, r, &a)
				if err == nil || errors.Is(err, ErrNotFound) {
					if a.verdict == refresh {
						s.refresh(ctx, r, token)
					}
					return v, err
				}
				damaged = a.entry.put
				if a.verdict == refresh {
					s.yield(ctx, r, token, 0, nil)
				}
				continue
			case a.verdict == cooling && r.set.stale > 0:
				v, err := s.serveStale(ctx, r, &a, nil)
				if errors.Is(err, ErrCorrupt) {
					damaged = a.entry.put
					continue
				}
				return v, err
			default:
				s.tell(ctx, Miss, &r.place, nil)
				f, ticket = s.depart(ctx, r, a.verdict, token, damaged)
			}
		}
		if v, err, ok := s.await(ctx, f, ticket, r); ok {
			return v, err
		}
	}
}

// take is a fresh entry's value; the error is ErrNotFound, or of kind ErrCorrupt.
func (s *Store) take(ctx context.Context, r *request, a *answer) (any, error) {
	v, err := r.decode(&a.entry)
	if err != nil {
		s.tell(ctx, Damaged, &r.place, err)
		return nil, err
	}
	s.tell(ctx, Hit, &r.place, nil)
	s.near.keepRead(&r.place, v, a, r.set)
	if v == nil {
		return nil, ErrNotFound
	}
	return v, nil
}

// depart begins the flight that a verdict asks for.
func (s *Store) depart(ctx context.Context, r *request, v verdict, token, damaged string) (*flight, int) {
	switch v {
	case yours:
		return s.begin(ctx, r, leased, func(f *flight) { s.loadLeased(f, r, token) })
	case writing:
		return s.begin(ctx, r, alone, func(f *flight) { s.loadAlone(f, r, false) })
	default:
		return s.begin(ctx, r, waits, func(f *flight) { s.wait(f, r, damaged) })
	}
}

// refresh loads in the background what is still fresh.
func (s *Store) refresh(ctx context.Context, r *request, token string) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		// Nobody boards it: there is a fresh value to be had.
		s.carryOn(s.launch(ctx, r, func(f *flight) { s.loadLeased(f, r, token) }))
	}
	s.mu.Unlock()
	if closed {
		s.yield(ctx, r, token, 0, nil)
	}
}

// loadLeased calls the load whose lease token is, and stores what it brings.
func (s *Store) loadLeased(f *flight, r *request, token string) {
	before := s.takeOff(f)
	stop := s.keepLease(f.ctx, r.set, token, r.leaseKeys())
	v, n, cost, err := s.callLoad(f, r)
	stop()
	absent := errors.Is(err, ErrNotFound)
	if err != nil && (!absent || r.set.negative == 0 && n.lifetime() == 0) {
		hold := time.Duration(0)
		if r.set.stale > 0 && !absent && f.ctx.Err() == nil {
			hold = min(cooldown, r.set.lease)
		}
		after := s.mark(f)
		switch current := s.yield(f.ctx, r, token, hold, n); {
		case !absent:
			after = everybody // nobody takes an error for a value
		case !current:
			after = before
		}
		s.finish(f, result{err: err, until: after})
		return
	}
	k, kerr := s.prepare(r, v, absent, n, cost)
	if kerr != nil {
		after := s.mark(f)
		if !s.yield(f.ctx, r, token, 0, n) {
			after = before
		}
		s.tell(f.ctx, NotStored, &r.place, kerr)
		if n.invalid() != nil {
			v, err = nil, fmt.Errorf("cache: load: %w", kerr)
		}
		s.finish(f, result{v, err, after})
		return
	}
	// From here on it is as of now: if it is stored, nothing has come meanwhile.
	after := s.mark(f)
	o, ferr := s.write(context.WithoutCancel(f.ctx), fillScript.On(r.keys(), k.args(r.name, token)...))
	if ferr != nil || !o.done {
		s.tell(f.ctx, NotStored, &r.place, ferr)
		s.finish(f, result{v, err, before})
		return
	}
	s.near.keepStored(&r.place, v, &o, k)
	s.finish(f, result{v, err, after})
}

// prepare makes what a load brought ready to be sent.
func (s *Store) prepare(r *request, v any, absent bool, n *notes, cost time.Duration) (*keeping, error) {
	var data []byte
	if !absent {
		var err error
		if data, err = r.encode(v); err != nil {
			return nil, fmt.Errorf("cache: encode: %w", err)
		}
	}
	return r.set.keeping(data, absent, n, cost)
}

func (s *Store) callLoad(f *flight, r *request) (v any, n *notes, cost time.Duration, err error) {
	ctx, n := withNotes(f.ctx)
	ctx, cancel := context.WithTimeoutCause(ctx, r.set.load, ErrLoadTimeout)
	defer cancel()
	begun := monotonic()
	v, err = call(ctx, r.load)
	cost = time.Duration(monotonic() - begun)
	kind := Loaded
	if err != nil && !errors.Is(err, ErrNotFound) {
		kind = LoadFailed
	}
	s.tell(f.ctx, kind, &r.place, err)
	return v, n, cost, err
}

// loadAlone calls the load without a lease: nothing is stored in Redis.
func (s *Store) loadAlone(f *flight, r *request, silent bool) {
	res := result{until: s.mark(f)}
	begun := monotonic()
	var n *notes
	res.value, n, _, res.err = s.callLoad(f, r)
	if err := n.invalid(); err != nil && res.err == nil {
		res.value, res.err = nil, fmt.Errorf("cache: load: %w", err)
	}
	if silent && monotonic()-begun < int64(aloneFor) {
		// Who has invalidated it through this process boards no more, and what others did
		// is within the bound.
		res.until = everybody
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if res.until == everybody && res.err == nil && s.flights[f.name] == f {
		s.near.keepAlone(&r.place, res.value, begun)
	}
	s.land(f, res)
}

// wait is for another process's load, to be woken when it ends.
func (s *Store) wait(f *flight, r *request, damaged string) {
	woken := make(chan struct{}, 1)
	wake := func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	}
	sub := s.conn.Subscribe(s.waking(r.name), rdb.Listener{Message: func(string, string) { wake() }, Gap: wake})
	defer sub.Close()
	pause(f.ctx, sub.Ready(), maxPoll)
	token := newToken()
	for poll := minPoll; f.ctx.Err() == nil; poll = min(2*poll, maxPoll) {
		before := s.mark(f)
		a, err := s.ask(f.ctx, &r.place, r.set, token, damaged)
		switch {
		case err != nil && f.ctx.Err() != nil:
		case errors.Is(err, ErrUnavailable):
			s.tell(f.ctx, Unavailable, &r.place, err)
			s.loadAlone(f, r, true)
			return
		case err != nil:
			s.finish(f, result{err: wrap(f.ctx, "load", err), until: everybody})
			return
		case a.verdict == fresh || a.verdict == refresh:
			if a.verdict == refresh {
				s.yield(f.ctx, r, token, 0, nil)
			}
			v, err := s.take(f.ctx, r, &a)
			if err != nil && !errors.Is(err, ErrNotFound) {
				before = 0 // whoever is on board asks anew, and has it replaced
			}
			s.finish(f, result{v, err, before})
			return
		case a.verdict == cooling && r.set.stale > 0:
			v, err := s.serveStale(f.ctx, r, &a, nil)
			if errors.Is(err, ErrCorrupt) {
				before = 0
			}
			s.finish(f, result{v, err, before})
			return
		case a.verdict == yours:
			s.loadLeased(f, r, token)
			return
		case a.verdict == writing:
			s.loadAlone(f, r, false)
			return
		}
		until := a.left + time.Duration(mathrand.Int64N(int64(minPoll)))
		if !sub.Live() {
			until = min(until, poll)
		}
		pause(f.ctx, woken, until)
	}
	s.finish(f, result{err: context.Cause(f.ctx), until: everybody})
}

// pause lasts until c, d or ctx.
func pause(ctx context.Context, c <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// yield gives a load's lease up; after hold others may load. It reports whether what the
// load brought, with these notes, is current: whether it could have been stored. An error
// is of no matter: the lease ends by itself.
func (s *Store) yield(ctx context.Context, r *request, token string, hold time.Duration, n *notes) (current bool) {
	tags := r.set.tags
	if n != nil {
		tags = n.with(tags)
	}
	cmd := yieldScript.On(r.leaseKeys(), r.name, token, hold.Milliseconds(), tagNames(tags))
	return s.conn.Exec(context.WithoutCancel(ctx), cmd) == nil && cmd.Int() == 1
}

// keepLease renews leases, each by the keys of renew.lua, until stop is called, which
// waits for a renewal under way.
func (s *Store) keepLease(ctx context.Context, set *settings, token string, leases ...[]string) (stop func()) {
	every := set.lease / 3
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var mu sync.Mutex
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(every, func() {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		cmds := make([]*rdb.Cmd, len(leases))
		for i, keys := range leases {
			cmds[i] = renewScript.On(keys, token, set.lease.Milliseconds())
		}
		// What fails is tried again at the next turn; a lease that is lost stays lost.
		_ = s.conn.Exec(ctx, cmds...)
		timer.Reset(every)
	})
	return func() {
		cancel()
		mu.Lock()
		defer mu.Unlock()
		timer.Stop()
	}
}
