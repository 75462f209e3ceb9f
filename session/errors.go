package session

import (
	"errors"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	// ErrConfig is the kind of every error of New and NewStore.
	ErrConfig = rdb.ErrConfig

	// ErrUnavailable says that Redis gave no usable answer within the budget:
	// whether there is a session, and what is in it, is unknown.
	ErrUnavailable = rdb.ErrUnavailable

	// ErrCorrupt says that the bytes stored for a session do not decode or
	// decrypt: the visitor is treated as one without a session. Of a [Key] it says
	// that the value under it is no such type.
	ErrCorrupt = rdb.ErrCorrupt

	// ErrTooLate says that a session was begun, or given a new token, after the
	// response's header had left, so that its cookie could not be sent any more.
	ErrTooLate = errors.New("session: begun after the response header had left: the cookie cannot be sent")

	// ErrEnded says that the session was ended by somebody else (a logout, "log out
	// everywhere", a login, an expiry) while this request was under way, and what
	// the request wrote into it is not kept.
	ErrEnded = errors.New("session: ended meanwhile")

	// ErrTooLarge says that a session's data have outgrown WithMaxSize.
	ErrTooLarge = errors.New("session: too large")

	// ErrTooMany says that the user has as many sessions as WithMaxSessions
	// allows.
	ErrTooMany = errors.New("session: the user has too many sessions")

	// ErrNoVisit says that a context is not that of a request which came through
	// middleware.Session of this manager.
	ErrNoVisit = errors.New("session: no session in the context: mount middleware.Session of this manager outside of the handler")

	// ErrNoUser says that the visitor is not logged in by Login.
	ErrNoUser = errors.New("session: not bound to a user: call Login first")
)

func isCorrupt(err error) bool { return errors.Is(err, ErrCorrupt) }

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
