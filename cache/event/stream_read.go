package event

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Missed is the error that says that events of a stream are gone which a reader has not
// been given. It is of kind ErrGap.
type Missed struct {
	// Count says how many, -1 if that cannot be known: there may be none.
	Count int64
}

// Error tells how many entries are missing, where that is known.
func (e *Missed) Error() string {
	if e.Count < 0 {
		return ErrGap.Error()
	}
	return fmt.Sprintf("%v: %d are gone", ErrGap, e.Count)
}

// Is makes errors.Is(e, ErrGap) true.
func (e *Missed) Is(target error) bool { return target == ErrGap }

// The bounds of how many entries one Read returns, and how many Follow asks for.
const (
	mostRead    = 10_000
	followBatch = 100
)

// Page is what one Read has found.
type Page[T any] struct {
	Entries []Entry[T]
	// Next is the position to go on from.
	Next string
	// Missed says that the entry at the position is there no longer: later ones may
	// be gone with it. Who shows a state has to load it anew.
	Missed bool
}

// Read returns up to n entries after a position, in one round trip and without a
// group: an entry's id, such as the Last-Event-ID of a server-sent stream, Oldest or
// Newest. It waits for nothing: there may be no entries. n is from 1 to 10,000.
//
// Entries that do not decode are among them, with Err set. Requeued dead letters are
// not, as they are for one group: at times there are no entries, and yet Next has moved
// on.
//
// Errors: ErrPosition; ErrConfig for n; ErrUnavailable; ErrCorrupt, if the key holds
// something else; ctx.Err().
func (s *Stream[T]) Read(ctx context.Context, after string, n int) (Page[T], error) {
	if !validPosition(after) {
		return Page[T]{}, fmt.Errorf("event: read: %w", ErrPosition)
	}
	if n < 1 || n > mostRead {
		return Page[T]{}, fmt.Errorf("event: read: %w: %d entries: must be from 1 to %d", ErrConfig, n, mostRead)
	}
	reply, err := s.ask(ctx, after, n)
	if err != nil {
		return Page[T]{}, outward("read", err)
	}
	page, err := s.pageOf(reply)
	if err != nil {
		return Page[T]{}, outward("read", err)
	}
	public := page.Entries[:0]
	for _, e := range page.Entries {
		if e.group == "" {
			public = append(public, e)
		}
	}
	page.Entries = public
	return page, nil
}

// pageOf takes the reply of stream_read.lua apart. Entries that are for one group are
// still among it.
func (s *Stream[T]) pageOf(reply []any) (Page[T], error) {
	entries, err := s.entriesOf(reply[2])
	if err != nil {
		return Page[T]{}, err
	}
	next, _ := reply[0].(string)
	missed, _ := reply[1].(int64)
	if len(entries) > 0 {
		next = entries[len(entries)-1].ID
	}
	return Page[T]{Entries: entries, Next: next, Missed: missed == 1}, nil
}

// Follow gives every entry after a position, then each new one as it comes, until
// ctx ends or the loop is left. Any number of readers may follow; each has all
// entries. Positions are those of Read.
//
//	for e, err := range orders.Follow(ctx, lastID) {
//	    switch {
//	    case errors.Is(err, event.ErrGap):
//	        reload()
//	    case err != nil:
//	        log.Print(err) // and it goes on
//	    default:
//	        show(e.Value)
//	    }
//	}
//
// Where entries are gone that should have come next, a [Missed] stands in their
// place, exactly one. An entry that does not decode comes with its Err as the error.
// ErrUnavailable comes once when Redis falls silent; Follow goes on by itself, where
// it was. After any other error it ends: ErrPosition, ErrCorrupt without an entry, a
// refusal by the server, ErrClosed within a second of [Bus.Shutdown].
//
// It is woken when an entry is published, and looks once a second besides. It holds
// no connection while it waits. Readers that stand at the same position of one Stream
// value ask Redis together: thousands cost it little more than one.
func (s *Stream[T]) Follow(ctx context.Context, after string) iter.Seq2[Entry[T], error] {
	return func(yield func(Entry[T], error) bool) {
		if !validPosition(after) {
			yield(Entry[T]{}, fmt.Errorf("event: follow: %w", ErrPosition))
			return
		}
		w := await(s.bus.conn, s.keys.entries)
		defer w.stop()
		f := follower[T]{stream: s, at: after, yield: yield}
		since := time.Now()
		for f.step(ctx, since) {
			since = time.Now()
			if !f.more {
				woken, ok := w.wait(ctx, jitter(pollEvery))
				if !ok {
					return
				}
				since = time.Now()
				if !woken { // a look around may be as old as half the time between two
					since = since.Add(-pollEvery / 2)
				}
			}
			if s.bus.isClosed() {
				yield(Entry[T]{}, outward("follow", ErrClosed))
				return
			}
		}
	}
}

// follower is the state of one Follow.
type follower[T any] struct {
	stream *Stream[T]
	at     string
	last   int64 // the number of the last entry, 0 if it is not known
	more   bool  // entries are known to be there
	silent bool  // Redis is, and that was told
	yield  func(Entry[T], error) bool
}

// step gives what was there at since, or later; it reports whether to go on.
func (f *follower[T]) step(ctx context.Context, since time.Time) bool {
	f.more = false
	var page Page[T]
	reply, err := f.stream.shared(ctx, f.at, since)
	if err == nil {
		page, err = f.stream.pageOf(reply)
	}
	switch {
	case ctx.Err() != nil:
		return false
	case errors.Is(err, ErrUnavailable):
		told := f.silent
		f.silent = true
		return told || f.yield(Entry[T]{}, outward("follow", err))
	case err != nil:
		f.yield(Entry[T]{}, outward("follow", err))
		return false
	}
	f.silent = false
	if page.Missed && !f.follows(page.Entries) {
		if !f.yield(Entry[T]{}, &Missed{Count: -1}) {
			return false
		}
		f.last = 0
	}
	f.at, f.more = page.Next, len(page.Entries) == followBatch
	for _, e := range page.Entries {
		if !f.give(e) || ctx.Err() != nil {
			return false
		}
	}
	return true
}

// follows reports whether the numbers tell what is missing before entries, if
// anything is, although the last entry given was trimmed.
func (f *follower[T]) follows(entries []Entry[T]) bool {
	return f.last > 0 && len(entries) > 0 && entries[0].number > f.last
}

// give hands out one entry, and before it what is missing.
func (f *follower[T]) give(e Entry[T]) bool {
	if e.number > 0 {
		missing := e.number - f.last - 1
		if f.last > 0 && missing > 0 && !f.yield(Entry[T]{}, &Missed{Count: missing}) {
			return false
		}
		f.last = e.number
	}
	if e.group != "" {
		return true
	}
	return f.yield(e, e.Err)
}
