package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// LoadMany returns the values of keys as Load does, each once: those that nobody has and
// nobody else is loading come from one call of load, with all of these keys. What it
// does not return, the source does not have: such keys are missing from the result, and
// kept as such with [WithNegativeTTL]. Keys that somebody else is loading are waited
// for. [Tag] and [Expire] hold for all that one call of load brings.
//
// It takes one round trip to read and one to store. The errors are those of Load; an
// error of load is returned unless [WithStale] has something to stand in for each key.
func (c *Cache[V]) LoadMany(ctx context.Context, keys []string, load func(ctx context.Context, missing []string) (map[string]V, error), options ...Option) (map[string]V, error) {
	if load == nil {
		return nil, fmt.Errorf("cache: load: %w: load is nil: pass the function that asks the source, or call GetMany", ErrConfig)
	}
	found := make(map[string]V, len(keys))
	requests, err := c.requests(ctx, keys, options, found)
	if err != nil {
		return nil, fmt.Errorf("cache: load: %w", err)
	}
	if len(requests) == 0 {
		return found, nil
	}
	token := newToken()
	answers, err := c.store.askAll(ctx, requests, token)
	if errors.Is(err, ErrUnavailable) {
		c.store.tell(ctx, Unavailable, &requests[0].place, err)
		return found, c.loadBatch(ctx, requests, "", load, found)
	}
	if err != nil {
		return nil, wrap(ctx, "load", err)
	}
	var mine, others []*request
	for i, r := range requests {
		switch v, err := c.batched(ctx, r, &answers[i], token); {
		case v != nil:
			found[r.key] = c.give(v)
		case answers[i].verdict == yours:
			mine = append(mine, r)
		case !errors.Is(err, ErrNotFound):
			others = append(others, r)
		}
	}
	if err := c.loadBatch(ctx, mine, token, load, found); err != nil {
		return nil, err
	}
	for _, r := range others {
		if err := c.loadOne(ctx, r, load, found); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// batched is what an answer has for a batch. In a batch nothing is refreshed early, and
// what does not decode is loaded by itself.
func (c *Cache[V]) batched(ctx context.Context, r *request, a *answer, token string) (*V, error) {
	if a.verdict == refresh {
		c.store.yield(ctx, r, token, 0, nil)
	}
	if a.verdict == cooling && r.set.stale > 0 {
		v, err := c.store.serveStale(ctx, r, a, nil)
		if err != nil {
			return nil, err
		}
		return v.(*V), nil
	}
	if a.verdict != fresh && a.verdict != refresh {
		c.store.tell(ctx, Miss, &r.place, nil)
		return nil, nil
	}
	v, err := c.store.take(ctx, r, a)
	if err != nil {
		return nil, err
	}
	return v.(*V), nil
}

// loadBatch loads what token has the leases of, or without leases if it is empty.
func (c *Cache[V]) loadBatch(ctx context.Context, batch []*request, token string, load func(context.Context, []string) (map[string]V, error), found map[string]V) error {
	if len(batch) == 0 {
		return nil
	}
	s, set := c.store, batch[0].set
	keys := make([]string, len(batch))
	leases := make([][]string, len(batch))
	for i, r := range batch {
		keys[i], leases[i] = r.key, r.leaseKeys()
	}
	stop := func() {}
	if token != "" {
		stop = s.keepLease(ctx, set, token, leases...)
	}
	noted, n := withNotes(ctx)
	loading, cancel := context.WithTimeoutCause(noted, set.load, ErrLoadTimeout)
	defer cancel()
	begun := monotonic()
	got, err := call(loading, func(ctx context.Context) (any, error) { return load(ctx, keys) })
	cost := time.Duration(monotonic() - begun)
	stop()
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if invalid := n.invalid(); err == nil && invalid != nil {
		err = fmt.Errorf("cache: load: %w", invalid)
	}
	if err != nil {
		return c.failBatch(ctx, batch, token, err, found)
	}
	values := got.(map[string]V)
	cmds := make([]*rdb.Cmd, 0, len(batch))
	kept := make([]*keeping, 0, len(batch))
	stored := make([]*request, 0, len(batch))
	for _, r := range batch {
		s.tell(ctx, Loaded, &r.place, nil)
		v, there := values[r.key]
		if there {
			found[r.key] = c.give(&v)
		}
		if token == "" {
			continue
		}
		if !there && set.negative == 0 && n.lifetime() == 0 {
			s.yield(ctx, r, token, 0, nil)
			continue
		}
		k, err := s.prepare(r, &v, !there, n, cost)
		if err != nil {
			s.tell(ctx, NotStored, &r.place, err)
			s.yield(ctx, r, token, 0, nil)
			continue
		}
		cmds = append(cmds, fillScript.On(r.keys(), k.args(r.name, token)...))
		kept, stored = append(kept, k), append(stored, r)
	}
	c.fillBatch(context.WithoutCancel(ctx), stored, cmds, kept, values)
	return nil
}

// fillBatch stores a batch in one round trip.
func (c *Cache[V]) fillBatch(ctx context.Context, stored []*request, cmds []*rdb.Cmd, kept []*keeping, values map[string]V) {
	sent := monotonic()
	_ = c.store.conn.Exec(ctx, cmds...) // each has its own error
	for i, r := range stored {
		err := cmds[i].Err()
		var o outcome
		if err == nil {
			o, err = parseOutcome(cmds[i].Slice(), sent)
		}
		if err != nil || !o.done {
			c.store.tell(ctx, NotStored, &r.place, err)
			continue
		}
		if v, there := values[r.key]; there {
			c.store.near.keepStored(&r.place, &v, &o, kept[i])
		} else {
			c.store.near.keepStored(&r.place, nil, &o, kept[i])
		}
	}
}

// failBatch gives the leases up, and has stale values stand in if there are some for all.
func (c *Cache[V]) failBatch(ctx context.Context, batch []*request, token string, err error, found map[string]V) error {
	for _, r := range batch {
		c.store.tell(ctx, LoadFailed, &r.place, err)
		if token != "" {
			c.store.yield(ctx, r, token, 0, nil)
		}
	}
	if batch[0].set.stale == 0 || ctx.Err() != nil || errors.Is(err, ErrConfig) {
		return err
	}
	for _, r := range batch {
		v, absent, there := c.store.standIn(ctx, r, err)
		if !there {
			return err
		}
		if absent == nil {
			found[r.key] = c.give(v.(*V))
		}
	}
	return nil
}

// loadOne loads a key of a batch by itself, or waits for it.
func (c *Cache[V]) loadOne(ctx context.Context, r *request, load func(context.Context, []string) (map[string]V, error), found map[string]V) error {
	r.load = func(ctx context.Context) (any, error) {
		values, err := load(ctx, []string{r.key})
		if err != nil {
			return nil, err
		}
		v, there := values[r.key]
		if !there {
			return nil, ErrNotFound
		}
		return &v, nil
	}
	switch v, err := c.store.load(ctx, r); {
	case errors.Is(err, ErrNotFound):
	case err != nil:
		return err
	default:
		found[r.key] = c.give(v.(*V))
	}
	return nil
}
