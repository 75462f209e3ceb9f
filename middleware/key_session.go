package middleware

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/session"
)

// errNoSessionMounted says that KeyBySession was asked outside of Session.
var errNoSessionMounted = errors.New("middleware: KeyBySession: no session was looked for: mount middleware.Session of this manager outside of the limit")

// KeyBySession is the visitor's session, as it is stored: a digest of its token,
// so that what sees keys, such as an observer, learns no secret. Mount [Session]
// outside.
//
// A request without a stored session has no key. That is so whatever its cookie
// says: a token that nobody has stored, made up for each request, would be a new
// limit each time. Who may begin sessions at will can still have many, so limit
// the route that begins them by [KeyByIP]. A renewed token is another key.
//
// It looks at the session, which costs the round trip that the handler's own
// look then saves, and makes the response one of Vary: Cookie. When Redis is
// silent the error is of kind ErrUnavailable, answered 503: not being able to tell
// visitors apart must not make them one. Without [Session] outside it is another
// error, answered 500.
//
// It panics if manager is nil.
func KeyBySession(manager *session.Manager) KeyFunc {
	if manager == nil {
		panic("middleware.KeyBySession: the manager is nil: check the error of session.New")
	}
	return func(r *http.Request) (key string, err error) {
		defer func() {
			if recovered := recover(); recovered != nil {
				err = sessionError(recovered)
			}
		}()
		// Of a visitor whose session is not stored, scs has no token.
		token := manager.Token(r.Context())
		if token == "" {
			return "", fmt.Errorf("%w: there is no session", ErrNoKey)
		}
		return rdb.Digest("session", token), nil
	}
}

// sessionError is what a look at a session panicked with, as an error: its
// methods return none.
func sessionError(recovered any) error {
	if err, ok := session.Failure(recovered); ok {
		return fmt.Errorf("middleware: KeyBySession: %w", err)
	}
	if recovered == "scs: no session data in context" {
		return errNoSessionMounted
	}
	panic(recovered)
}
