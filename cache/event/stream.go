package event

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// ErrPosition says that a position is neither an entry's id nor Oldest or Newest.
var ErrPosition = errors.New("not a position in a stream")

// Stream is a durable sequence of events of one type, kept in a Redis stream: what is
// published stays for a time, whether or not somebody listens.
//
// It is safe for concurrent use, in any number of processes. It starts no goroutine,
// opens no connection and needs no end.
type Stream[T any] struct {
	bus  *Bus
	name string
	keys streamKeys
	cfg  *streamConfig

	readings readings
}

// streamKeys name what a stream has in Redis, all in one slot.
type streamKeys struct {
	entries string // also the channel on which consumers are woken
	meta    string
	dead    string
}

// NewStream returns the Stream called name: 1 to 64 letters, digits and "-_.". Who
// names it so, on a Bus of the same prefix, in whatever process, means the same stream,
// and should mean the same type and options. It does no I/O. Errors are of kind
// ErrConfig, all mistakes joined.
func NewStream[T any](bus *Bus, name string, options ...StreamOption) (*Stream[T], error) {
	cfg, mistakes := configureStream(name, options)
	if bus == nil {
		mistakes = append(mistakes, errBus)
	}
	if err := rdb.Misconfigured("event.NewStream", mistakes...); err != nil {
		return nil, err
	}
	return &Stream[T]{
		bus:  bus,
		name: name,
		keys: streamKeys{
			entries: rdb.Key(bus.prefix, "stream", name),
			meta:    rdb.Key(bus.prefix, "stream", name, "meta"),
			dead:    rdb.Key(bus.prefix, "stream", name, "dead"),
		},
		cfg: cfg,
	}, nil
}

// Name is the stream's name. On a Cluster it is the hash tag that keys need which
// are to be written together with an event: see PublishIn.
func (s *Stream[T]) Name() string { return s.name }

// Publish adds v to the stream, and returns the id of its entry. One call is one
// entry, also when Redis's reply is lost and the call is sent again. Each waiting
// consumer is woken.
//
// Errors: ErrUnavailable within the budget (50 ms, [WithTimeout]), which is
// ErrMaybeSent too: the event may be in the stream, and a second Publish may make a
// second entry; where that matters use PublishOnce. ErrCorrupt, if the key holds
// something else, which stays as it is. ctx.Err(), and then, too, the event may be in
// the stream. ErrClosed after [Bus.Shutdown]. The codec's error.
func (s *Stream[T]) Publish(ctx context.Context, v T) (entry string, err error) {
	entry, _, err = s.publish(ctx, "", v)
	return entry, err
}

// PublishOnce adds v to the stream as Publish does, unless an event was published under
// the same id within the last 10 minutes ([WithOnceWindow]); repeated then is true. It
// returns the id of the entry, that of the first one if v is a repetition. What v is
// does not matter in that.
//
// After an error of kind ErrMaybeSent call it again with the same id: there will be one
// entry. The errors are those of Publish, and ErrEmptyID.
func (s *Stream[T]) PublishOnce(ctx context.Context, id string, v T) (entry string, repeated bool, err error) {
	if id == "" {
		return "", false, fmt.Errorf("event: publish: %w", ErrEmptyID)
	}
	return s.publish(ctx, id, v)
}

func (s *Stream[T]) publish(ctx context.Context, id string, v T) (entry string, repeated bool, err error) {
	keys, args, err := s.publication(id, v, s.bus.window)
	if err != nil {
		return "", false, err
	}
	cmd := publish.On(keys, args...).Again((s.bus.budget + time.Second).Milliseconds())
	switch err := s.bus.conn.Exec(ctx, cmd); {
	case errors.Is(err, ErrUnavailable):
		return "", false, fmt.Errorf("event: publish: %w: %w", ErrMaybeSent, err)
	case err != nil:
		return "", false, outward("publish", err)
	}
	if reply := cmd.Slice(); len(reply) == 2 {
		entry, _ = reply[0].(string)
		again, _ := reply[1].(int64)
		return entry, again == 1, nil
	}
	return "", false, fmt.Errorf("event: publish: %w: reply %v", ErrCorrupt, cmd.Val())
}

// PublishIn adds v to the stream as a part of the caller's own transaction: the event
// is there if and only if that is carried out.
//
//	_, err := rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
//	    tx.HSet(ctx, "shop:{orders}:17", "state", "paid")
//	    _, err := orders.PublishIn(ctx, tx, "paid 17", order)
//	    return err
//	})
//
// On a Cluster the caller's keys need the stream's name as their hash tag, as here that
// of a stream called "orders". id is as in PublishOnce: after an error that leaves open
// whether the transaction was carried out, repeat it with the same id. If it is empty
// one is made, and remembered for a minute, so that the event is there once should
// go-redis send the transaction twice, which it does when writing it fails (9.23.0).
//
// The command returned has the reply once the transaction is done: a pair of the
// entry's id, and 1 if it was there before, else 0. Redis rolls nothing back: if the
// stream's key holds something else, that command fails with WRONGTYPE, and the rest of
// the transaction stands. Errors: the codec's; ErrClosed after [Bus.Shutdown].
func (s *Stream[T]) PublishIn(ctx context.Context, pipe redis.Pipeliner, id string, v T) (*redis.Cmd, error) {
	window := s.bus.window
	if id == "" {
		id, window = rand.Text(), minWindow
	}
	keys, args, err := s.publication(id, v, window)
	if err != nil {
		return nil, err
	}
	// Not EVALSHA: within a transaction there is no second try after NOSCRIPT.
	return pipe.Eval(ctx, publishText, keys, args...), nil
}

// publication makes the keys and arguments of lua/stream_publish.lua. id is remembered
// for window, unless it is empty.
func (s *Stream[T]) publication(id string, v T, window time.Duration) (keys []string, args []any, err error) {
	if s.bus.isClosed() {
		return nil, nil, fmt.Errorf("event: publish: %w", ErrClosed)
	}
	data, err := s.bus.codec.Encode(v)
	if err != nil {
		return nil, nil, fmt.Errorf("event: publish: encode: %w", err)
	}
	keys = append(make([]string, 0, 3), s.keys.entries, s.keys.meta)
	if id != "" {
		keys = append(keys, rdb.Key(s.bus.prefix, "stream", s.name, "id", rdb.Digest(id)))
	}
	args = append(make([]any, 0, 6), data, rand.Text()[:16], s.cfg.maxLen, s.cfg.retention.Milliseconds(), s.lifetime(), window.Milliseconds())
	return keys, args, nil
}

// lifetime is that of the stream as a whole, in milliseconds. It is longer than that
// of an entry, so that it is known what a group has read when entries it has not
// read are gone.
func (s *Stream[T]) lifetime() int64 { return 2 * s.cfg.retention.Milliseconds() }
