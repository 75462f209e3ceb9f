package event

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// readings are what Follow has read of a stream just now. Thousands of readers stand at
// the same position, and all are woken by the same publication: one asks Redis, and the
// others share its reply.
type readings struct {
	mu sync.Mutex
	m  map[string]*reading // by position
}

// reading is one call to Redis.
type reading struct {
	begun time.Time
	done  chan struct{} // closed when the rest is set
	reply []any
	err   error
}

// shared returns the reply to a call of stream_read.lua that began at since or later:
// that of another reader, or of one of its own.
func (s *Stream[T]) shared(ctx context.Context, after string, since time.Time) ([]any, error) {
	for {
		r, mine := s.readings.enter(after, since)
		if mine {
			// Others depend on it: it does not end with this reader.
			r.fill(func() ([]any, error) { return s.ask(context.WithoutCancel(ctx), after, followBatch) })
			return r.reply, r.err
		}
		select {
		case <-r.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if !r.begun.Before(since) {
			return r.reply, r.err
		}
	}
}

// enter returns the last reading at a position, or, if that is too old and done, a new
// one, which is then the caller's to do.
func (l *readings) enter(after string, since time.Time) (r *reading, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r = l.m[after]; r != nil && (!r.begun.Before(since) || !r.isDone()) {
		return r, false
	}
	now := time.Now()
	for at, old := range l.m {
		if old.isDone() && now.Sub(old.begun) > pollEvery {
			delete(l.m, at)
		}
	}
	r = &reading{begun: now, done: make(chan struct{})}
	if l.m == nil {
		l.m = make(map[string]*reading)
	}
	l.m[after] = r
	return r, true
}

func (r *reading) isDone() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// fill does the call. Those who wait are not left behind if a hook of the user's panics.
func (r *reading) fill(ask func() ([]any, error)) {
	defer close(r.done)
	r.err = errAbandoned
	r.reply, r.err = ask()
}

// errAbandoned is what the others get of a reader that has panicked.
var errAbandoned = fmt.Errorf("%w: a reader that shared its call has panicked", ErrUnavailable)

// ask runs stream_read.lua.
func (s *Stream[T]) ask(ctx context.Context, after string, n int) ([]any, error) {
	cmd := read.Cmd(s.keys.entries, after, n)
	if err := s.bus.conn.Exec(ctx, cmd); err != nil {
		return nil, err
	}
	if reply := cmd.Slice(); len(reply) == 3 {
		return reply, nil
	}
	return nil, fmt.Errorf("%w: reply %v", ErrCorrupt, cmd.Val())
}
