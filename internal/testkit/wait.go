package testkit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

const (
	// pollEvery is the pause between two looks at a condition.
	pollEvery = 5 * time.Millisecond
	// patience is how long a condition may take before waiting for it is given
	// up. It is far more than anything here needs on an idle machine: a test run
	// beside others on two cores must not fail for slowness.
	patience = 30 * time.Second
)

// Eventually waits until cond reports true, looking every 5 ms, and fails tb
// at once if it has not after 30 s. what completes "waited in vain for ...".
// cond runs in the calling goroutine.
func Eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := poll(ctx, func() error {
		if cond() {
			return nil
		}
		return errNotYet
	})
	if err != nil {
		tb.Fatalf("testkit: waited in vain for %s", what)
	}
}

var errNotYet = errors.New("not yet")

// poll calls try until it returns nil, or an error that is final, or ctx ends.
func poll(ctx context.Context, try func() error) error {
	for {
		err := try()
		var last final
		if err == nil || errors.As(err, &last) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), err)
		case <-time.After(pollEvery):
		}
	}
}

// final marks an error after which poll need not try again.
type final struct{ error }

func (f final) Unwrap() error { return f.error }
