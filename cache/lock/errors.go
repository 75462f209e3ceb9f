package lock

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of every error of New and NewRedlock.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis, or a majority of Redlock's, gave no usable
	// answer within the budget. From Acquire it means that there is no lease; from
	// Release, that the lock may be taken until its ttl ends.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that Redis holds something under the lock's keys that this
	// package did not write. Nothing was changed.
	ErrCorrupt = rdb.ErrCorrupt

	// ErrTaken says that the lock was somebody else's for as long as WithMaxWait
	// lets Acquire wait.
	ErrTaken = errors.New("taken by another holder")

	// ErrLost says that the lease is over: its time has passed, its maximum hold
	// was reached, or Redis says that the lock is not its holder's. It is the cause
	// with which the lease's context ends.
	ErrLost = errors.New("lock lost")

	// ErrNotReplicated says that fewer replicas than WithReplicaSync asks for have
	// confirmed the lock in time. It comes with ErrUnavailable, and the lock was
	// given back.
	ErrNotReplicated = errors.New("not confirmed by enough replicas")

	// ErrEmptyKey says that no lock was named. All such callers would share one.
	ErrEmptyKey = errors.New("empty key")

	// ErrTTL says that a ttl is below MinTTL or above MaxTTL. Redis was not asked.
	ErrTTL = errors.New("ttl out of range")
)

// edge says which call an error is of. The caller's own cancellation passes
// untouched.
func edge(call string, err error) error {
	if err == nil || err == context.Canceled || err == context.DeadlineExceeded {
		return err
	}
	return fmt.Errorf("lock: %s: %w", call, err)
}
