package session

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Key is a value of type T in each session, under a name. Make one for each at start,
// by [NewKey].
//
// Basic types, []byte and time.Time are stored as scs stores them, so that its typed
// getters read them. Any other T is stored as encoding/json makes of it: no
// gob.Register is needed, and one value that does not decode does not take the others
// with it. What scs stored as a T by gob is read, too.
//
// Its methods look at the session of a request's context; they return an error where
// scs's panic: ErrUnavailable when Redis is silent, ErrNoVisit outside of
// middleware.Session. A Key is safe for concurrent use.
type Key[T any] struct {
	manager *Manager
	name    string
}

// NewKey returns the key of that name. It panics if the manager is nil, or the name
// is empty or begins with "__", as those of scs and Weir do.
func NewKey[T any](manager *Manager, name string) Key[T] {
	switch {
	case manager == nil:
		panic("session.NewKey: the manager is nil: check the error of session.New")
	case name == "" || len(name) > 1 && name[:2] == "__":
		panic(fmt.Sprintf("session.NewKey(%q): a name must not be empty or begin with \"__\"", name))
	}
	return Key[T]{manager, name}
}

// Get returns the value; ok is false if there is none. The error is of kind
// ErrCorrupt if there is one that is no T, else as told at [Key].
func (k Key[T]) Get(ctx context.Context) (value T, ok bool, err error) {
	if _, err = k.manager.visiting(ctx); err != nil {
		return value, false, err
	}
	return k.read(k.manager.Get(ctx, k.name))
}

// Put stores the value, with the request's other changes. The error is encoding/json's
// if it cannot encode the value, else as told at [Key].
func (k Key[T]) Put(ctx context.Context, value T) error {
	if _, err := k.manager.visiting(ctx); err != nil {
		return err
	}
	stored, err := k.write(value)
	if err == nil {
		k.manager.Put(ctx, k.name, stored)
	}
	return err
}

// Remove takes the value away, with the request's other changes.
func (k Key[T]) Remove(ctx context.Context) error {
	_, err := k.manager.visiting(ctx)
	if err == nil {
		k.manager.Remove(ctx, k.name)
	}
	return err
}

// Update changes the value to what f makes of it, at once and atomically: see
// [Manager.Update], whose errors it returns. f is given T's zero value if there is
// none; an error of f's is returned, and changes nothing.
func (k Key[T]) Update(ctx context.Context, f func(T) (T, error)) error {
	return k.manager.change(ctx, k.name, func(old any) (any, error) {
		value, _, err := k.read(old)
		if err != nil {
			return nil, err
		}
		if value, err = f(value); err != nil {
			return nil, err
		}
		return k.write(value)
	})
}

// Pop takes the value away at once and returns it; ok is false if there was none. Of
// several requests at a time one gets it. The errors are those of [Manager.Update]
// and [Key.Get]; a value that is no T stays.
func (k Key[T]) Pop(ctx context.Context) (value T, ok bool, err error) {
	value, ok, err = k.Get(ctx)
	if err != nil || !ok {
		return value, ok, err // a look is enough: nothing is written for nothing
	}
	err = k.manager.change(ctx, k.name, func(old any) (any, error) {
		value, ok, err = k.read(old)
		return nil, err
	})
	if err != nil {
		var none T
		return none, false, err
	}
	return value, ok, nil
}

// read makes a T of what the session holds.
func (k Key[T]) read(stored any) (value T, ok bool, err error) {
	if stored == nil {
		return value, false, nil
	}
	if v, is := stored.(T); is {
		return v, true, nil
	}
	text, is := stored.([]byte)
	if !is {
		return value, false, fmt.Errorf("session: key %q holds a %T: %w", k.name, stored, ErrCorrupt)
	}
	if err := json.Unmarshal(text, &value); err != nil {
		var none T
		return none, false, fmt.Errorf("session: key %q: %w: %w", k.name, ErrCorrupt, err)
	}
	return value, true, nil
}

// write makes of a T what the session can hold.
func (k Key[T]) write(value T) (any, error) {
	switch v := any(value).(type) {
	case string, bool, int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64, float32, float64, []byte, time.Time:
		return v, nil
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("session: key %q: %w", k.name, err)
	}
	return text, nil
}

// Flash is a list of messages for the visitor, such as "your order was placed", that
// are shown once: on the next page, whichever that is. Make one for each kind at start,
// by [NewFlash]. T is as for [Key].
type Flash[T any] struct{ key Key[[]T] }

// NewFlash returns the messages of that name. It panics as [NewKey] does.
func NewFlash[T any](manager *Manager, name string) Flash[T] {
	return Flash[T]{NewKey[[]T](manager, name)}
}

// Add adds a message, at once: see [Manager.Update], whose errors it returns. Messages
// that several requests add at a time are all kept.
func (f Flash[T]) Add(ctx context.Context, message T) error {
	return f.key.Update(ctx, func(all []T) ([]T, error) { return append(all, message), nil })
}

// Take returns the messages, the first one first, and takes them away: each is
// delivered once, however many requests ask at a time. Without any it costs no more
// than a look at the session. The errors are those of [Key.Pop]. A response that is
// lost takes the messages with it.
func (f Flash[T]) Take(ctx context.Context) ([]T, error) {
	all, _, err := f.key.Pop(ctx)
	return all, err
}
