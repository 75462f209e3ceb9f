package event

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of every error of New, NewTopic and NewPattern, and of
	// options that cannot be used.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis gave no usable answer within the budget. Unless
	// the error is ErrMaybeSent too, nothing was published.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that what was received, or found in Redis, is not what this
	// package writes, or does not decode.
	ErrCorrupt = rdb.ErrCorrupt

	// ErrMaybeSent says that the event may have been published, or may be yet: Redis
	// was asked, and its answer was not heard. It comes with ErrUnavailable or the
	// caller's own end.
	ErrMaybeSent = errors.New("the event may have been sent")

	// ErrGap says that events may have been missed here; the error is a *Gap.
	ErrGap = errors.New("events may have been missed")

	// ErrSlow says that a subscription under Disconnect was ended, because its buffer
	// was full.
	ErrSlow = errors.New("subscription ended: the subscriber is too slow")

	// ErrClosed says that the subscription, or the Bus, was closed.
	ErrClosed = errors.New("closed")

	// ErrEmptyID says that PublishOnce was given no id.
	ErrEmptyID = errors.New("empty event id")
)

// outward wraps an error at the public edge; the caller's own cancellation passes
// untouched.
func outward(what string, err error) error {
	if err == context.Canceled || err == context.DeadlineExceeded { // as rdb passes them
		return err
	}
	return fmt.Errorf("event: %s: %w", what, err)
}
