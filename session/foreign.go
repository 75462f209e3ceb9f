package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/go-weir/weir/internal/rdb"
)

// foreign is a store of the user's choice. It knows neither times to live nor
// comparisons: what Store does at once in Redis is done here in two steps, between
// which another process may come.
type foreign struct {
	store scs.Store
	conn  *rdb.Conn // for commands that go along
	grace time.Duration
}

func (f *foreign) find(ctx context.Context, name string, with ...*rdb.Cmd) (found, error) {
	var data []byte
	var ok bool
	var err error
	if s, is := f.store.(scs.CtxStore); is {
		data, ok, err = s.FindCtx(ctx, name)
	} else {
		data, ok, err = f.store.Find(name)
	}
	if err == nil && len(with) > 0 {
		err = f.conn.Exec(ctx, with...)
	}
	if err != nil || !ok {
		return found{}, f.fail(ctx, "find", err)
	}
	k, nonce := parseMark(string(data))
	out := found{kind: k, nonce: nonce, stored: string(data)}
	if k == live {
		out.data = data
	}
	return out, nil
}

func (f *foreign) write(ctx context.Context, name string, data []byte, life time.Duration) error {
	expiry := time.Now().Add(life)
	if s, is := f.store.(scs.CtxStore); is {
		return f.fail(ctx, "commit", s.CommitCtx(ctx, name, data, expiry))
	}
	return f.fail(ctx, "commit", f.store.Commit(name, data, expiry))
}

func (f *foreign) create(ctx context.Context, name string, data []byte, life time.Duration) (found, error) {
	ok, err := f.put(ctx, name, data, life)
	if err == nil && !ok {
		err = ErrEnded
	}
	if err != nil {
		return found{}, err
	}
	return found{kind: live, data: data, stored: string(data)}, nil
}

func (f *foreign) put(ctx context.Context, name string, data []byte, life time.Duration) (bool, error) {
	now, err := f.find(ctx, name)
	if err != nil || now.kind != live && now.kind != absent {
		return false, err
	}
	return true, f.write(ctx, name, data, life)
}

func (f *foreign) swap(ctx context.Context, name, was string, next value, with ...*rdb.Cmd) (bool, found, error) {
	now, err := f.find(ctx, name, with...)
	if err != nil || now.kind == absent || now.stored != was {
		return false, now, err
	}
	data := next.data
	if next.mark != "" {
		data = []byte(next.mark)
	}
	if err := f.write(ctx, name, data, next.life); err != nil {
		return false, found{}, err
	}
	return true, found{kind: live, data: data, stored: string(data)}, nil
}

func (f *foreign) mark(ctx context.Context, names []string, mark string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, f.write(ctx, name, []byte(mark), f.grace))
	}
	return errors.Join(errs...)
}

// touch is a write: there is no other way to tell such a store.
func (f *foreign) touch(ctx context.Context, name string, as found, life time.Duration, with ...*rdb.Cmd) error {
	_, _, err := f.swap(ctx, name, as.stored, value{data: as.data, life: life}, with...)
	return err
}

func (f *foreign) all(ctx context.Context, each func(names []string, data [][]byte) error) error {
	var all map[string][]byte
	var err error
	switch s := f.store.(type) {
	case scs.IterableCtxStore:
		all, err = s.AllCtx(ctx)
	case scs.IterableStore:
		all, err = s.All()
	default:
		return fmt.Errorf("session: iterate: a store of type %T cannot: it has neither All nor AllCtx", f.store)
	}
	if err != nil {
		return f.fail(ctx, "iterate", err)
	}
	for name, data := range all {
		if bytes.HasPrefix(data, []byte(markHead)) {
			continue
		}
		if err := each([]string{name}, [][]byte{data}); err != nil {
			return err
		}
	}
	return nil
}

// fail gives the store's error a kind: it knows none of ours.
func (f *foreign) fail(ctx context.Context, what string, err error) error {
	switch {
	case err == nil, err == ctx.Err():
		return err
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrCorrupt):
		return fmt.Errorf("session: %s: %w", what, err)
	}
	return fmt.Errorf("session: %s: %w: %w", what, ErrUnavailable, err)
}
