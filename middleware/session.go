package middleware

import (
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/go-weir/weir/internal/respw"
	"github.com/go-weir/weir/session"
)

// Session finds the visitor before the handler, and saves them before the first
// byte leaves. Inside of it the manager's methods, scs's own, work on the
// request's context.
//
// The session is loaded when the handler first looks at it. A response whose
// handler looked gets Vary: Cookie; one that sets or takes away the cookie gets
// Cache-Control: no-store.
//
// When Redis is silent, a request that carries a session cookie and looks at its
// session is answered 503 with Retry-After, within the manager's budget. So is one
// whose change could not be saved: nothing of the handler's answer is sent. Others
// pass. A change that gob
// cannot encode is answered 500. Failures after the header has left end the
// connection, so that the client does not take the answer for a whole one; one
// of them is a session begun only then, whose cookie cannot be sent any more
// (session.ErrTooLate). What clients are not told is logged to slog.Default, at
// most a line a second.
//
// A handler that panics has nothing saved, unless it had written before. That
// holds for a recovery mounted outside; one inside answers like a handler.
//
// It panics if manager is nil. The handler is safe for concurrent use.
func Session(manager *session.Manager) Middleware {
	if manager == nil {
		panic("middleware.Session: the manager is nil: check the error of session.New")
	}
	log := &reporter{name: "session"}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := &sessionResponse{w: w, visit: manager.Visit(r), request: r, log: log}
			if len(w.Header()) > 0 {
				s.outside = maps.Clone(w.Header())
			}
			defer s.answerFailure()
			next.ServeHTTP(s.response.Wrap(w, s), r.WithContext(s.visit))
			s.response.Finish()
			s.finish()
		})
	}
}

// sessionResponse is the hook that saves a session before its response leaves.
type sessionResponse struct {
	response respw.Response
	w        http.ResponseWriter
	outside  http.Header // as the handler found it; nil if empty
	request  *http.Request
	visit    *session.Visit
	log      *reporter
	begun    bool // the header has left, or is about to
	warned   bool
}

// BeforeHeader saves the session and adds what the browser must know of it.
func (s *sessionResponse) BeforeHeader(int) bool {
	cookie, err := s.visit.Commit()
	if err != nil {
		s.refuse("no session", err)
		return false
	}
	s.begun = true
	s.warn()
	if s.visit.Touched() {
		addVary(s.w.Header(), "Cookie")
	}
	if cookie != nil {
		http.SetCookie(s.w, cookie)
		s.w.Header().Set("Cache-Control", "no-store")
	}
	return true
}

// warn logs what went wrong without stopping the request.
func (s *sessionResponse) warn() {
	if warning := s.visit.Warning(); warning != nil && !s.warned {
		s.warned = true
		s.log.report(s.request.Context(), "went on", warning)
	}
}

// answerFailure turns the panic of a session that could not be loaded into an
// answer. All other panics pass.
func (s *sessionResponse) answerFailure() {
	recovered := recover()
	if recovered == nil {
		return
	}
	err, ok := session.Failure(recovered)
	switch {
	case !ok:
		panic(recovered)
	case s.response.Discarded():
		// A deferred function of the handler's wrote something: answered already.
	case s.begun:
		s.log.report(s.request.Context(), "no session for what follows the header", err)
		panic(http.ErrAbortHandler)
	default:
		s.refuse("no session", err)
	}
}

// refuse answers in the handler's place, with nothing of the handler's.
func (s *sessionResponse) refuse(what string, err error) {
	h := s.w.Header()
	clear(h)
	maps.Copy(h, s.outside)
	switch ctx := s.request.Context(); {
	case errors.Is(err, session.ErrUnavailable):
		unavailable(s.w)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		// The visitor is gone, or the request's time is up. The status is for
		// the access log.
		WriteProblem(s.w, Problem{Status: http.StatusServiceUnavailable}, time.Second)
		return
	default:
		WriteProblem(s.w, Problem{Status: http.StatusInternalServerError}, 0)
	}
	s.log.report(s.request.Context(), what, err)
}

// finish saves what the handler changed after the header had left.
func (s *sessionResponse) finish() {
	if s.response.Discarded() {
		return
	}
	err := s.visit.Finish()
	s.warn()
	if err != nil {
		s.log.report(s.request.Context(), "a late change is lost", err)
		panic(http.ErrAbortHandler)
	}
}
