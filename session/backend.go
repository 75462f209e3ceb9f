package session

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// backend is where a manager's sessions are: a [Store], or a store of the user's
// choice. Names are what stands for tokens there.
//
// Every error is of kind ErrUnavailable or ErrCorrupt, the caller's own end, or
// what the server said.
type backend interface {
	// find looks a name up. Commands of with, about other keys, go along in the
	// round trip.
	find(ctx context.Context, name string, with ...*rdb.Cmd) (found, error)
	// create stores what is new under a name that nobody had before. The error is
	// ErrEnded if there is a mark already.
	create(ctx context.Context, name string, data []byte, life time.Duration) (found, error)
	// put stores data whatever was there, unless it was a mark.
	put(ctx context.Context, name string, data []byte, life time.Duration) (ok bool, err error)
	// swap replaces what was stored, or reports what is there instead.
	swap(ctx context.Context, name, was string, next value, with ...*rdb.Cmd) (ok bool, now found, err error)
	// mark leaves a mark in a session's place, or where there is none.
	mark(ctx context.Context, names []string, mark string) error
	// touch sets how long what was found lives from now.
	touch(ctx context.Context, name string, as found, life time.Duration, with ...*rdb.Cmd) error
	// all hands out the live sessions, some at a time.
	all(ctx context.Context, each func(names []string, data [][]byte) error) error
}

// value is what is written: data, or a mark.
type value struct {
	data []byte
	mark string
	life time.Duration
	// once says that it must not be taken for written if another request has written
	// the very same: of two that count from 1 to 2, one must count on.
	once bool
}

// found is what was read.
type found struct {
	kind   kind
	nonce  string // of a mark
	data   []byte // of a live session, as the codec made it
	stored string // all of it, as the backend holds it
	// left is how long it lives; negative if forever, 0 if the backend cannot tell.
	left time.Duration
}

// graceOf is how long a mark stays: longer than any request's call to Redis that is
// under way when a session ends.
func graceOf(budget time.Duration) time.Duration { return max(30*time.Second, 2*budget) }

// versionOf tells one value from another. Nothing depends on nobody finding two
// values of one version: they would be the visitor's own, and a change be lost.
func versionOf(stored string) string {
	sum := sha1.Sum([]byte(stored))
	return hex.EncodeToString(sum[:])
}
