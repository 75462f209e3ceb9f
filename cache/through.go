package cache

import (
	"context"
	"errors"
	"fmt"
)

// Store writes value through: save writes it to the source, then it is kept under key.
//
// Before save is called the entry is removed, and nothing that is loaded before Store
// returns is stored: the cache never shows what was there before a save that has
// succeeded, nor the older of two that overlap (then nothing is kept, and the next Load
// asks the source). A process that dies meanwhile keeps its key from being stored for up
// to [WithLease].
//
// An error of save is returned as it is; then nothing is kept, as the source may or may
// not have taken it. Of kind ErrNotInvalidated and ErrUnavailable is the error when save
// has succeeded and Redis did not confirm that the cache knows: the source is right, and
// the cache may show what was there before until that entry's lifetime ends. save is
// called even when Redis is silent. Of kind ErrConfig is the error, before save is
// called, for an empty key, an option that cannot be used, or a value that does not
// encode or takes more than [WithMaxBytes].
func (c *Cache[V]) Store(ctx context.Context, key string, value V, save func(context.Context, V) error, options ...Option) error {
	if save == nil {
		return fmt.Errorf("cache: store: %w: save is nil: pass the function that writes the source, or call Set", ErrConfig)
	}
	r, err := c.request(key, options)
	if err != nil {
		return fmt.Errorf("cache: store: %w", err)
	}
	k, err := c.store.prepare(r, &value, false, nil, 0)
	if err != nil {
		return fmt.Errorf("cache: store: %w", err)
	}
	w := writer{c.store, r, newToken()}
	if err := w.intend(ctx); err != nil && !errors.Is(err, ErrUnavailable) {
		return wrap(ctx, "store", err)
	}
	stop := c.store.keepLease(ctx, r.set, w.token, r.leaseKeys())
	saved := false
	// A panic of save's passes, with the same end as an error.
	defer func() {
		if !saved {
			stop()
			_ = w.finish(ctx, k, nil)
		}
	}()
	if err := save(ctx, value); err != nil {
		return err
	}
	saved = true
	stop()
	kept := c.give(&value)
	if err := w.finish(ctx, k, &kept); err != nil {
		return fmt.Errorf("cache: store: %w: %w", ErrNotInvalidated, err)
	}
	return nil
}

// writer is one write through the cache.
type writer struct {
	store *Store
	*request
	token string
}

// intend tells all that the source is about to change. If that fails, finish removes
// what has been stored meanwhile.
func (w writer) intend(ctx context.Context) error {
	o, err := w.store.write(ctx, intendScript.On(w.keys(), w.name, w.token, w.set.lease.Milliseconds()))
	if err != nil {
		w.store.near.drop(&w.place)
		return err
	}
	w.store.wrote(&w.place)
	w.store.near.dropped(&w.place, &o)
	return nil
}

// finish ends the intention; v is what the source has taken, nil if that is not known.
func (w writer) finish(ctx context.Context, k *keeping, v any) error {
	taken := 0
	if v != nil {
		taken = 1
	}
	o, err := w.store.write(context.WithoutCancel(ctx), finishScript.On(w.keys(), append(k.args(w.name, w.token), taken)...))
	if err != nil {
		w.store.near.drop(&w.place)
		return err
	}
	w.store.wrote(&w.place)
	if o.done {
		w.store.near.keepStored(&w.place, v, &o, k)
	} else {
		w.store.near.dropped(&w.place, &o)
	}
	return nil
}
