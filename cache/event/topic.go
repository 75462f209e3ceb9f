package event

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

//go:embed lua/publish.lua
var announceLua string

var (
	// A second run would publish a second time.
	announce = rdb.NewScript(announceLua)
	// A second run finds the id of the first, and that it is of the same request.
	announceOnce = rdb.NewReplayableScript(announceLua)
)

// Topic is a name under which events of one type are published. It is safe for
// concurrent use, holds nothing and needs no end.
type Topic[T any] struct {
	bus     *Bus
	name    string
	channel string
	key     func(T) string
}

// NewTopic returns the topic called name: 1 to 64 letters, digits and "-_.". Who names
// it so, on a Bus of the same prefix, in whatever process, means the same topic, and
// should mean the same type. It does no I/O. Errors are of kind ErrConfig.
func NewTopic[T any](bus *Bus, name string) (*Topic[T], error) {
	var mistakes []error
	if bus == nil {
		mistakes = append(mistakes, errBus)
	}
	if !validName(name) {
		mistakes = append(mistakes, fmt.Errorf("name %q: use 1 to 64 letters, digits and \"-_.\"", name))
	}
	if err := rdb.Misconfigured("event.NewTopic", mistakes...); err != nil {
		return nil, err
	}
	return &Topic[T]{bus: bus, name: name, channel: bus.channel(name)}, nil
}

var errBus = errors.New("bus is nil: pass what event.New returned")

// Name is the topic's name. On a Cluster it is the hash tag that keys need which are to
// be written together with an event: see [Topic.PublishIn].
func (t *Topic[T]) Name() string { return t.name }

// KeyedBy returns the topic with a key for each event, such as the id of what it is
// about. Subscriptions under [Coalesce] keep the latest event of each key. A nil key is
// none. It may be called from several goroutines at once.
func (t *Topic[T]) KeyedBy(key func(T) string) *Topic[T] {
	keyed := *t
	keyed.key = key
	return &keyed
}

// Publish sends v to all who are subscribed now, in one round trip. It does not wait
// for them, and does not say whether there are any.
//
// Errors: ErrUnavailable within the budget (50 ms, [WithTimeout]), and at once while
// Redis is known to be silent; unless that error is ErrMaybeSent too, nothing was sent.
// ctx.Err(), and then, too, the event may have been sent. ErrClosed after
// [Bus.Shutdown]. The codec's error.
//
// It is sent once at most: not again when Redis's answer is lost. See
// [Topic.PublishOnce].
func (t *Topic[T]) Publish(ctx context.Context, v T) error {
	keys, args, err := t.publication("", "", v)
	if err != nil {
		return err
	}
	switch err := t.bus.conn.Exec(ctx, announce.On(keys, args...)); {
	case err == nil:
		return nil
	case !errors.Is(err, ErrUnavailable), rdb.NotRun(err):
		return outward("publish", err)
	default:
		return fmt.Errorf("event: publish: %w: %w", ErrMaybeSent, err)
	}
}

// PublishOnce sends v as Publish does, unless an event of this topic was published
// under the same id within the last 10 minutes ([WithOnceWindow]); repeated then is
// true. What v is does not matter in that.
//
// After an error of kind ErrMaybeSent call it again with the same id: the event is sent
// once in all. The errors are those of Publish, and ErrEmptyID; every ErrUnavailable is
// ErrMaybeSent too.
func (t *Topic[T]) PublishOnce(ctx context.Context, id string, v T) (repeated bool, err error) {
	if id == "" {
		return false, fmt.Errorf("event: publish: %w", ErrEmptyID)
	}
	keys, args, err := t.publication(id, id, v)
	if err != nil {
		return false, err
	}
	cmd := announceOnce.On(keys, append(args, t.bus.window.Milliseconds())...)
	switch err := t.bus.conn.Exec(ctx, cmd); {
	case err == nil:
		return cmd.Int() == 1, nil
	case errors.Is(err, ErrUnavailable):
		return false, fmt.Errorf("event: publish: %w: %w", ErrMaybeSent, err)
	default:
		return false, outward("publish", err)
	}
}

// PublishIn adds the publishing of v to the caller's own transaction: the event is sent
// if and only if that is carried out.
//
//	_, err := rdb.TxPipelined(ctx, func(tx redis.Pipeliner) error {
//	    tx.HSet(ctx, "shop:{order.paid}:17", "state", "paid")
//	    _, err := paid.PublishIn(ctx, tx, "17", order)
//	    return err
//	})
//
// On a Cluster the caller's keys need the topic's name as their hash tag, as here that
// of a topic called "order.paid". id is as in PublishOnce. If it is empty one is made,
// and remembered for a minute, so that the event is sent once should go-redis send the
// transaction twice, which it does when writing it fails (9.23.0).
//
// The command returned has its reply once the transaction is done: 1 if the id was
// published before, else 0. Errors: the codec's; ErrClosed after [Bus.Shutdown].
func (t *Topic[T]) PublishIn(ctx context.Context, pipe redis.Pipeliner, id string, v T) (*redis.Cmd, error) {
	window := t.bus.window
	if id == "" {
		id, window = rand.Text(), minWindow
	}
	keys, args, err := t.publication(id, id, v)
	if err != nil {
		return nil, err
	}
	// Not EVALSHA: within a transaction there is no second try after NOSCRIPT.
	return pipe.Eval(ctx, announceLua, keys, append(args, window.Milliseconds())...), nil
}

// publication makes the keys and the first three arguments of lua/publish.lua. An
// event without an id gets one; once is the id that is remembered, unless empty.
func (t *Topic[T]) publication(id, once string, v T) (keys []string, args []any, err error) {
	if t.bus.isClosed() {
		return nil, nil, fmt.Errorf("event: publish: %w", ErrClosed)
	}
	data, err := t.bus.codec.Encode(v)
	if err != nil {
		return nil, nil, fmt.Errorf("event: publish: encode: %w", err)
	}
	key := ""
	if t.key != nil {
		key = t.key(v)
	}
	request := rand.Text()
	if id == "" {
		id = request
	}
	head, tail := seal(id, key, data)
	keys = append(make([]string, 0, 2), t.channel)
	if once != "" {
		keys = append(keys, rdb.Key(t.bus.prefix, "event", t.name, "id", rdb.Digest(once)))
	}
	return keys, append(make([]any, 0, 4), head, tail, request), nil
}

// Subscribe hears what is published on the topic from now on. It returns at once, and
// works while Redis is silent: what is published once [Subscription.Ready] is closed is
// heard. Options have defaults: a buffer of 256 events, and DropOldest.
//
// Errors: ErrConfig; ErrClosed after [Bus.Shutdown].
func (t *Topic[T]) Subscribe(options ...SubscribeOption) (*Subscription[T], error) {
	return subscribe[T](t.bus, t.channel, false, options)
}
