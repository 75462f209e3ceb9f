package session

import (
	"errors"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of every error of New.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis gave no usable answer within the budget:
	// whether there is a session, and what is in it, is unknown.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that the bytes stored for a session do not decode. The
	// visitor is treated as one without a session.
	ErrCorrupt = rdb.ErrCorrupt

	// ErrTooLate says that a session was begun after the response's header had
	// left, so that its cookie could not be sent any more.
	ErrTooLate = errors.New("session: begun after the response header had left: the cookie cannot be sent")
)

// errEnded is the store's answer to a write into a session that was ended, or
// has expired, since it was loaded.
var errEnded = errors.New("session: ended meanwhile")

// failure is the panic value by which a session that cannot be loaded leaves a
// handler written for scs, whose methods return no error.
type failure struct{ err error }

// Failure reports whether a recovered value is that of a session which could
// not be loaded, and why. Only code that wraps handlers needs it; middleware.Session
// turns such a panic into a 503 answer.
func Failure(recovered any) (error, bool) {
	if f, ok := recovered.(failure); ok {
		return f.err, true
	}
	return nil, false
}

func (f failure) Error() string { return "session: cannot be loaded: " + f.err.Error() }
