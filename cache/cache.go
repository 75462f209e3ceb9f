package cache

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-weir/weir/internal/rdb"
)

// Get returns the value of key if it is kept and fresh; ok is false if it is not, or if
// it is kept that the source has none.
//
// The error is of kind ErrUnavailable when Redis is silent, ErrCorrupt when the entry
// does not decode (it stays; Load replaces it), or ErrConfig for an empty key.
func (c *Cache[V]) Get(ctx context.Context, key string) (v V, ok bool, err error) {
	if v, ok := c.nearby(ctx, key); ok {
		if v == nil {
			return *new(V), false, nil
		}
		return c.give(v), true, nil
	}
	r, err := c.request(key, nil)
	if err != nil {
		return v, false, fmt.Errorf("cache: get: %w", err)
	}
	a, err := c.store.ask(ctx, &r.place, r.set, "", "")
	if err != nil {
		return v, false, wrap(ctx, "get", err)
	}
	got, err := c.read(ctx, r, &a)
	if err != nil || got == nil {
		return v, false, err
	}
	return c.give(got), true, nil
}

// read is the value of an answer without a lease; nil if there is none.
func (c *Cache[V]) read(ctx context.Context, r *request, a *answer) (*V, error) {
	if a.verdict != fresh {
		c.store.tell(ctx, Miss, &r.place, nil)
		return nil, nil
	}
	v, err := c.store.take(ctx, r, a)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cache: get: %w", err)
	}
	return v.(*V), nil
}

// GetMany returns those of the keys that are kept and fresh. It is one round trip for
// all that the near tier does not have.
//
// The errors are those of Get; one entry that does not decode is left out, and told to
// the observer ([Damaged]).
func (c *Cache[V]) GetMany(ctx context.Context, keys ...string) (map[string]V, error) {
	found := make(map[string]V, len(keys))
	requests, err := c.requests(ctx, keys, nil, found)
	if err != nil {
		return nil, fmt.Errorf("cache: get: %w", err)
	}
	answers, err := c.store.askAll(ctx, requests, "")
	if err != nil {
		return nil, wrap(ctx, "get", err)
	}
	for i, r := range requests {
		if v, err := c.read(ctx, r, &answers[i]); err == nil && v != nil {
			found[r.key] = c.give(v)
		}
	}
	return found, nil
}

// askAll asks for several in one round trip.
func (s *Store) askAll(ctx context.Context, requests []*request, token string) ([]answer, error) {
	sent := monotonic()
	cmds := make([]*rdb.Cmd, len(requests))
	for i, r := range requests {
		cmds[i] = askCmd(&r.place, r.set, token, "")
	}
	if err := s.conn.Exec(ctx, cmds...); err != nil {
		return nil, err
	}
	answers := make([]answer, len(requests))
	for i, cmd := range cmds {
		var err error
		if answers[i], err = parseAnswer(cmd.Slice(), sent); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// Set keeps value under key, whatever was there. What is being loaded for key meanwhile
// is not stored.
//
// The error is of kind ErrUnavailable when Redis did not confirm it: it may have been
// kept or not. It is of kind ErrConfig for an empty key, an option that cannot be used,
// or a value that takes more than WithMaxBytes; or the codec's.
func (c *Cache[V]) Set(ctx context.Context, key string, value V, options ...Option) error {
	r, err := c.request(key, options)
	if err != nil {
		return fmt.Errorf("cache: set: %w", err)
	}
	k, err := c.store.prepare(r, &value, false, nil, 0)
	if err != nil {
		return fmt.Errorf("cache: set: %w", err)
	}
	o, err := c.store.write(ctx, setScript.On(r.keys(), k.args(r.name, newToken())...))
	if err != nil {
		c.store.near.drop(&r.place)
		return wrap(ctx, "set", err)
	}
	c.store.wrote(&r.place)
	kept := c.give(&value)
	c.store.near.keepStored(&r.place, &kept, &o, k)
	return nil
}

// Delete removes the entries of keys, in one round trip. Afterwards nobody reads what
// was there before, nor what was loaded before.
//
// The error is of kind ErrUnavailable when Redis did not confirm all of it, or of kind
// ErrConfig for an empty key, when nothing is removed.
func (c *Cache[V]) Delete(ctx context.Context, keys ...string) error {
	places := make([]place, len(keys))
	cmds := make([]*rdb.Cmd, len(keys))
	for i, key := range keys {
		p, err := c.store.place(c.view, key)
		if err != nil {
			return fmt.Errorf("cache: delete: %w", err)
		}
		places[i], cmds[i] = p, dropScript.On(p.keys(), p.name, newToken())
	}
	sent := monotonic()
	err := c.store.conn.Exec(ctx, cmds...)
	for i, cmd := range cmds {
		if cmd.Err() != nil {
			c.store.near.drop(&places[i])
			continue
		}
		o, bad := parseOutcome(cmd.Slice(), sent)
		if bad != nil {
			err = errors.Join(err, bad)
		}
		c.store.wrote(&places[i])
		c.store.near.dropped(&places[i], &o)
	}
	if err != nil {
		return wrap(ctx, "delete", err)
	}
	return nil
}

// nearby is what the near tier has; v is nil if it has that there is nothing.
func (c *Cache[V]) nearby(ctx context.Context, key string) (v *V, ok bool) {
	if c.store.near == nil {
		return nil, false
	}
	held, ok := c.store.near.get(nearKey{view: c.view, key: key})
	if !ok {
		return nil, false
	}
	if c.store.observe != nil {
		c.store.observe(ctx, Event{Kind: NearHit, View: c.view, Key: key})
	}
	if held == nil {
		return nil, true
	}
	return held.(*V), true
}

// give is what a caller gets of v, or the near tier: others may hold it as well.
func (c *Cache[V]) give(v *V) V {
	if c.clone != nil {
		return c.clone(*v)
	}
	return *v
}

// request describes a call about key, but for its load.
func (c *Cache[V]) request(key string, options []Option) (*request, error) {
	set, err := c.with(options)
	if err != nil {
		return nil, err
	}
	p, err := c.store.place(c.view, key)
	if err != nil {
		return nil, err
	}
	return &request{place: p, set: set, encode: c.encoder, decode: c.decoder}, nil
}

// requests are those for the keys that the near tier does not have, each once; what it
// has it adds to found.
func (c *Cache[V]) requests(ctx context.Context, keys []string, options []Option, found map[string]V) ([]*request, error) {
	set, err := c.with(options)
	if err != nil {
		return nil, err
	}
	requests := make([]*request, 0, len(keys))
	seen := make(map[string]bool, len(keys))
	for _, key := range keys {
		if seen[key] {
			continue
		}
		seen[key] = true
		p, err := c.store.place(c.view, key)
		if err != nil {
			return nil, err
		}
		if v, ok := c.nearby(ctx, key); ok {
			if v != nil {
				found[key] = c.give(v)
			}
			continue
		}
		requests = append(requests, &request{place: p, set: set, encode: c.encoder, decode: c.decoder})
	}
	return requests, nil
}

func (c *Cache[V]) encode(v any) ([]byte, error) { return c.set.codec.Encode(v.(*V)) }

// decode is an entry's value: nil if it says that there is none.
func (c *Cache[V]) decode(e *entry) (any, error) {
	if e.absent {
		return nil, nil
	}
	data := []byte(e.data)
	if e.packed {
		var err error
		if data, err = unpack(e.data, c.set.maxBytes); err != nil {
			return nil, fmt.Errorf("%w: unpack: %w", ErrCorrupt, err)
		}
	}
	v := new(V)
	if err := c.set.codec.Decode(data, v); err != nil {
		return nil, fmt.Errorf("%w: decode: %w", ErrCorrupt, err)
	}
	return v, nil
}
