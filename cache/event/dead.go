package event

import (
	"context"
	"fmt"
	"strconv"

	"github.com/go-weir/weir/internal/rdb"
)

// DeadLetter is an event that a group could not handle.
type DeadLetter[T any] struct {
	// ID is that of the letter, by which it is requeued or discarded.
	ID string
	// Entry is the event. Its ID is that of its entry in the stream, Delivery the
	// number of deliveries made, Err why it does not decode, if that is so.
	Entry Entry[T]
	Group string
	// Reason is the text of the last error, up to 1000 bytes of it.
	Reason string
}

// Dead returns up to n dead letters after a position, of all groups, oldest first:
// Oldest, or the ID of the last letter of the call before. n is from 1 to 10,000.
//
// Errors: ErrPosition, for Newest too; ErrConfig for n; ErrUnavailable; ErrCorrupt, if
// the key holds something else; ctx.Err().
func (s *Stream[T]) Dead(ctx context.Context, after string, n int) ([]DeadLetter[T], error) {
	if !validPosition(after) || after == Newest {
		return nil, fmt.Errorf("event: dead: %w", ErrPosition)
	}
	if n < 1 || n > mostRead {
		return nil, fmt.Errorf("event: dead: %w: %d letters: must be from 1 to %d", ErrConfig, n, mostRead)
	}
	cmd := rdb.NewCmd(s.keys.dead, "xrange", s.keys.dead, "("+after, "+", "count", n).Replayable()
	if err := s.bus.conn.Exec(ctx, cmd); err != nil {
		return nil, outward("dead", err)
	}
	letters := make([]DeadLetter[T], 0, len(cmd.Slice()))
	for _, item := range cmd.Slice() {
		pair, _ := item.([]any)
		if len(pair) != 2 {
			return nil, fmt.Errorf("event: dead: %w: a letter of %d parts", ErrCorrupt, len(pair))
		}
		letter, err := s.letterOf(pair[0], pair[1])
		if err != nil {
			return nil, outward("dead", err)
		}
		letters = append(letters, letter)
	}
	return letters, nil
}

// letterOf reads a letter, whose fields stream_bury.lua tells.
func (s *Stream[T]) letterOf(id, fields any) (DeadLetter[T], error) {
	e, err := s.entryOf(id, fields)
	if err != nil {
		return DeadLetter[T]{}, err
	}
	letter := DeadLetter[T]{ID: e.ID, Group: e.group}
	r := record(fields)
	e.ID, _ = r["i"].(string)
	letter.Reason, _ = r["e"].(string)
	count, _ := r["c"].(string)
	e.Delivery, _ = strconv.Atoi(count)
	letter.Entry = e
	return letter, nil
}

// Requeue makes each dead letter a new entry of the stream, for its group alone, to be
// delivered as often as a new one. It returns how many there were.
//
// After ErrUnavailable call it again: what was requeued is no dead letter any more.
// Errors: ErrPosition, for an id that is none; ErrUnavailable; ErrCorrupt; ctx.Err().
func (s *Stream[T]) Requeue(ctx context.Context, ids ...string) (int, error) {
	args := []any{s.cfg.maxLen, s.cfg.retention.Milliseconds(), s.lifetime()}
	args, err := withIDs(args, ids)
	if len(ids) == 0 || err != nil {
		return 0, err
	}
	cmd := requeue.On([]string{s.keys.entries, s.keys.meta, s.keys.dead}, args...)
	if err := s.bus.conn.Exec(ctx, cmd); err != nil {
		return 0, outward("requeue", err)
	}
	return int(cmd.Int()), nil
}

// Discard deletes dead letters, and returns how many there were. Errors are those of
// Requeue.
func (s *Stream[T]) Discard(ctx context.Context, ids ...string) (int, error) {
	args, err := withIDs([]any{"xdel", s.keys.dead}, ids)
	if len(ids) == 0 || err != nil {
		return 0, err
	}
	cmd := rdb.NewCmd(s.keys.dead, args...)
	if err := s.bus.conn.Exec(ctx, cmd); err != nil {
		return 0, outward("discard", err)
	}
	return int(cmd.Int()), nil
}

// withIDs appends the ids of letters.
func withIDs(args []any, ids []string) ([]any, error) {
	for _, id := range ids {
		if !validPosition(id) || id == Newest || id == Oldest {
			return nil, fmt.Errorf("event: dead letter %q: %w", id, ErrPosition)
		}
		args = append(args, id)
	}
	return args, nil
}
