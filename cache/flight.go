package cache

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// request is one call of Load, without its type.
type request struct {
	place
	set    *settings
	load   func(context.Context) (any, error) // a *V
	encode func(any) ([]byte, error)
	decode func(*entry) (any, error) // a *V, nil if the source has no such thing
}

// flight is a load, or the wait for one that another process does. Callers of one key
// share it. It has a goroutine of its own, so that no caller's end is another's.
//
// Who joins late must not get what was read too early: each caller has a ticket, by
// the order of joining, and a result is good up to a ticket. Its fields are guarded by
// the Store's mu, result by done.
type flight struct {
	name    string
	ctx     context.Context
	cancel  context.CancelCauseFunc
	tickets int
	waiters int
	waiting bool        // it waits, and loads nothing yet
	goesOn  bool        // though nobody waits
	unhook  func() bool // from the Store's Close, once nobody waits and it goes on
	landed  bool
	done    chan struct{}
	result  result
}

// result is how a flight ends.
type result struct {
	value any // a *V, or nil with err
	err   error
	until int // the last ticket that it is good for
}

// everybody is a bound above all tickets.
const everybody = int(^uint(0) >> 1)

// join adds the caller to the flight of name, if there is one.
func (s *Store) join(name string) (f *flight, ticket int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f = s.flights[name]; f == nil {
		return nil, 0
	}
	return f, f.board()
}

func (f *flight) board() (ticket int) {
	f.tickets++
	f.waiters++
	return f.tickets
}

// journey is what a flight is for.
type journey int

const (
	alone  journey = iota // to load without a lease
	leased                // to load with one
	waits                 // for another process that loads
)

// begin starts a flight that run is to finish, with the caller on board. One without a
// lease is not begun where another is under way: the caller boards that. One with a
// lease takes those over who only wait: they have asked while its token was on its way.
func (s *Store) begin(ctx context.Context, r *request, why journey, run func(*flight)) (f *flight, ticket int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	other := s.flights[r.name]
	if other != nil && why != leased {
		return other, other.board()
	}
	if other != nil && other.waiting {
		s.land(other, result{}) // good for no ticket
		other.cancel(errDeserted)
	}
	f = s.launch(ctx, r, run)
	f.waiting = why == waits
	s.flights[r.name] = f
	return f, f.board()
}

// launch starts a flight that nobody can board yet. It is called with the lock held.
func (s *Store) launch(ctx context.Context, r *request, run func(*flight)) *flight {
	f := &flight{name: r.name, done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	s.run(func() {
		defer f.cancel(nil)
		run(f)
	})
	return f
}

// mark is the last ticket that was given out: whoever holds it joined before now.
func (s *Store) mark(f *flight) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f.tickets
}

// takeOff is mark for a flight whose load begins.
func (s *Store) takeOff(f *flight) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.waiting = false
	return f.tickets
}

// finish gives the flight's callers their result. Nobody boards it any more.
func (s *Store) finish(f *flight, r result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.land(f, r)
}

// land is finish with the lock held. The first result counts.
func (s *Store) land(f *flight, r result) {
	if f.landed {
		return
	}
	s.ground(f)
	if f.unhook != nil {
		f.unhook()
	}
	f.landed, f.result = true, r
	close(f.done)
}

// wrote keeps callers from boarding what is under way for p, which this process has
// just changed; for all that is if p is nil.
func (s *Store) wrote(p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p == nil {
		clear(s.flights)
		return
	}
	delete(s.flights, p.name)
}

// ground keeps callers from boarding f.
func (s *Store) ground(f *flight) {
	if s.flights[f.name] == f {
		delete(s.flights, f.name)
	}
}

// leave takes a caller off the flight, which ends with the last one unless it goes on.
func (s *Store) leave(f *flight, goesOn bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.waiters--
	f.goesOn = f.goesOn || goesOn
	if f.waiters > 0 {
		return
	}
	if f.goesOn {
		s.carryOn(f)
		return
	}
	s.ground(f)
	f.cancel(errDeserted)
}

// carryOn has a flight go on for which nobody waits: until Close, or its load's own
// timeout. It is called with the lock held.
func (s *Store) carryOn(f *flight) {
	if f.landed || f.unhook != nil {
		return
	}
	f.unhook = context.AfterFunc(s.closing, func() { f.cancel(errDeserted) })
}

// await returns the flight's result if it is good for ticket; ok is false if it is not,
// and the caller has to begin again.
func (s *Store) await(ctx context.Context, f *flight, ticket int, r *request) (value any, err error, ok bool) {
	var slow <-chan time.Time
	if r.set.stale > 0 && r.set.soft > 0 {
		timer := time.NewTimer(r.set.soft)
		defer timer.Stop()
		slow = timer.C
	}
	for {
		select {
		case <-f.done:
			if ticket > f.result.until {
				return nil, nil, false
			}
			return s.orStale(ctx, r, f.result)
		case <-ctx.Done():
			s.leave(f, false)
			return nil, ctx.Err(), true
		case <-slow:
			slow = nil
			if value, absent, found := s.standIn(ctx, r, nil); found {
				s.leave(f, true)
				return value, absent, true
			}
		}
	}
}

// orStale has a stale value stand in for a failure.
func (s *Store) orStale(ctx context.Context, r *request, res result) (value any, err error, ok bool) {
	if res.err != nil && r.set.stale > 0 && !errors.Is(res.err, ErrNotFound) && !errors.Is(res.err, ErrConfig) {
		if value, absent, found := s.standIn(ctx, r, res.err); found {
			return value, absent, true
		}
	}
	return res.value, res.err, true
}

// standIn reads what Redis has, be it stale: anew, so that it is nothing that was
// removed since the caller began.
func (s *Store) standIn(ctx context.Context, r *request, why error) (value any, err error, found bool) {
	a, err := s.ask(ctx, &r.place, r.set, "", "")
	if err != nil || !a.found {
		return nil, nil, false
	}
	value, err = s.serveStale(ctx, r, &a, why)
	return value, err, !errors.Is(err, ErrCorrupt)
}

// serveStale is the value of an entry, be it stale; the error is ErrNotFound, or of kind
// ErrCorrupt.
func (s *Store) serveStale(ctx context.Context, r *request, a *answer, why error) (any, error) {
	v, err := r.decode(&a.entry)
	if err != nil {
		return nil, err
	}
	s.tell(ctx, StaleServed, &r.place, why)
	if v == nil {
		return nil, ErrNotFound
	}
	return v, nil
}

// call runs a load in a goroutine of its own: until it returns, panics, ends its
// goroutine, or ctx ends.
func call(ctx context.Context, load func(context.Context) (any, error)) (value any, err error) {
	type outcome struct {
		value any
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		returned := false
		defer func() {
			if returned {
				return
			}
			p := &PanicError{Value: recover()}
			if p.Value != nil {
				p.Stack = debug.Stack()
			}
			done <- outcome{err: p}
		}()
		value, err := load(ctx)
		returned = true
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		return o.value, inTime(ctx, o.err)
	case <-ctx.Done():
	}
	select {
	case o := <-done: // it came with the end
		return o.value, inTime(ctx, o.err)
	default:
		return nil, context.Cause(ctx)
	}
}

// inTime adds to an error of a load that was out of time that it was.
func inTime(ctx context.Context, err error) error {
	if err == nil || errors.Is(err, ErrNotFound) || errors.Is(err, ErrLoadTimeout) || context.Cause(ctx) != ErrLoadTimeout {
		return err
	}
	return fmt.Errorf("%w: %w", ErrLoadTimeout, err)
}
