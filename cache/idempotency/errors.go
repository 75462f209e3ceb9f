package idempotency

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of every error of New.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis gave no usable answer within the budget. From
	// Reserve it means that there is no claim: do not do the work. From Finish, that
	// the outcome may or may not be kept; if it is not, the key is interrupted when
	// the lease ends.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that Redis holds something under the key that this package did
	// not write. Nothing was changed.
	ErrCorrupt = rdb.ErrCorrupt

	// ErrLost says that the key is not the claim's any more: its lease had ended and
	// another has claimed the key, or the key was forgotten. Nothing was changed. It is
	// also the cause with which the claim's context ends.
	ErrLost = errors.New("claim lost")

	// ErrEnded says that the claim was finished, released or interrupted before.
	ErrEnded = errors.New("claim has ended")

	// ErrEmptyKey says that no key was given. All such requests would be one.
	ErrEmptyKey = errors.New("empty key")
)

// edge says which call an error is of. The caller's own cancellation passes
// untouched.
func edge(call string, err error) error {
	if err == nil || err == context.Canceled || err == context.DeadlineExceeded {
		return err
	}
	return fmt.Errorf("idempotency: %s: %w", call, err)
}
