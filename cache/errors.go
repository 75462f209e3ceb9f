package cache

import (
	"errors"
	"fmt"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of every error of New and For, and of arguments that
	// cannot be used.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis gave no usable answer within the budget.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that what is stored is not what a Store writes, or does not
	// decode.
	ErrCorrupt = rdb.ErrCorrupt

	// ErrNotFound says that the source has no such thing. A load returns it, or an
	// error that wraps it, and [WithNegativeTTL] has it kept.
	ErrNotFound = errors.New("cache: not found")

	// ErrNotInvalidated says that [Cache.Store] has written the source, and Redis did
	// not confirm that the cache knows: it may show what was there before, until that
	// entry's lifetime ends. It wraps the cause.
	ErrNotInvalidated = errors.New("source written, cache not told")

	// ErrLoadTimeout is the cause with which a load's context ends after
	// [WithLoadTimeout].
	ErrLoadTimeout = errors.New("cache: the load took longer than WithLoadTimeout")

	// errDeserted is the cause with which a load's context ends when nobody waits for
	// it any more.
	errDeserted = errors.New("cache: nobody waits for the load any more")
)

// PanicError is what waiters get from a load that panicked, or ended its goroutine by
// runtime.Goexit, as testing's FailNow does.
type PanicError struct {
	// Value is what it panicked with; nil for Goexit.
	Value any
	// Stack is the goroutine's stack; nil for Goexit.
	Stack []byte
}

// Error tells what the load panicked with, and where.
func (e *PanicError) Error() string {
	if e.Stack == nil {
		return "cache: the load ended its goroutine"
	}
	return fmt.Sprintf("cache: the load panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns Value if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
