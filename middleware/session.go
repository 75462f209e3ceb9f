package middleware

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/go-weir/weir/internal/respw"
	"github.com/go-weir/weir/session"
)

// SessionOption configures [Session].
type SessionOption func(*sessionConfig)

type sessionConfig struct {
	clear     string
	anonymous bool
	mistakes  []error
}

// WithClearSiteData adds Clear-Site-Data to a response that takes the session's cookie
// away, so that browsers forget what a logged-out visitor has left: types are "cache",
// "cookies", "storage" and "executionContexts", or "*" for all. Browsers heed it over
// HTTPS only, and "cookies" takes those of all hosts of the registered domain. The
// default is not to send it.
func WithClearSiteData(types ...string) SessionOption {
	return func(c *sessionConfig) {
		if len(types) == 0 {
			c.mistakes = append(c.mistakes, errors.New("WithClearSiteData: no type: give such as \"cache\", \"storage\", or leave it out"))
		}
		quoted := make([]string, len(types))
		for i, t := range types {
			switch t {
			case "cache", "cookies", "storage", "executionContexts", "*":
			default:
				c.mistakes = append(c.mistakes, fmt.Errorf("WithClearSiteData(%q): use \"cache\", \"cookies\", \"storage\", \"executionContexts\" or \"*\"", t))
			}
			quoted[i] = `"` + t + `"`
		}
		c.clear = strings.Join(quoted, ", ")
	}
}

// WithAnonymousFallback has all routes inside do as [AnonymousFallback] says.
func WithAnonymousFallback() SessionOption {
	return func(c *sessionConfig) { c.anonymous = true }
}

// Session finds the visitor before the handler, and saves them before the first
// byte leaves. Inside of it the manager's methods, scs's own, work on the
// request's context.
//
// The session is loaded when the handler first looks at it. A response whose
// handler looked gets Vary: Cookie; one that sets or takes away the cookie gets
// Cache-Control: no-store. The cookie is sent when the visitor gets a token, and not
// again with each change.
//
// When Redis is silent, a request that carries a session cookie and looks at its
// session is answered 503 with Retry-After, within the manager's budget. So is one
// whose change could not be saved: nothing of the handler's answer is sent. Others
// pass; see [AnonymousFallback] for routes that would rather take everybody for
// anonymous. A change that cannot be encoded, or is larger than session.WithMaxSize
// allows, is answered 500. Failures after the header has left end the
// connection, so that the client does not take the answer for a whole one; one
// of them is a session begun only then, whose cookie cannot be sent any more
// (session.ErrTooLate). What clients are not told is logged to slog.Default, at
// most a line a second.
//
// A handler that panics has nothing saved, unless it had written before. That
// holds for a recovery mounted outside; one inside answers like a handler.
//
// It panics if manager is nil or an option cannot be used, with all mistakes. The
// handler is safe for concurrent use.
func Session(manager *session.Manager, options ...SessionOption) Middleware {
	c := new(sessionConfig)
	if manager == nil {
		c.mistakes = append(c.mistakes, errors.New("the manager is nil: check the error of session.New"))
	}
	for i, o := range options {
		if o == nil {
			c.mistakes = append(c.mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	if err := errors.Join(c.mistakes...); err != nil {
		panic("middleware.Session: " + err.Error())
	}
	log := &reporter{name: "session"}
	return func(next http.Handler) http.Handler {
		return &reading{func(w http.ResponseWriter, r *http.Request) {
			s := &sessionResponse{w: w, visit: manager.Visit(r), request: r, log: log, clear: c.clear}
			if c.anonymous {
				s.visit.AllowAnonymous()
			}
			if len(w.Header()) > 0 {
				s.outside = maps.Clone(w.Header())
			}
			err := s.visit.Guard(func() { next.ServeHTTP(s.response.Wrap(w, s), r.WithContext(s.visit)) })
			if err != nil {
				s.answerFailure(err)
				return
			}
			s.response.Finish()
			s.finish()
		}, manager.Foresee}
	}
}

// AnonymousFallback takes visitors for anonymous on these routes while Redis is
// silent, instead of answering 503: for pages that merely look different to who is
// logged in. Mount it inside of [Session]:
//
//	r.With(middleware.AnonymousFallback).Get("/", home)
//
// Such an answer gets Cache-Control: no-store, sets no cookie and takes none away. A
// handler that then changes the session is answered 503 all the same: the visitor's
// own must not be replaced. Outside of Session it does nothing.
func AnonymousFallback(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		session.AllowAnonymous(r.Context())
		next.ServeHTTP(w, r)
	})
}

// sessionResponse is the hook that saves a session before its response leaves.
type sessionResponse struct {
	response respw.Response
	w        http.ResponseWriter
	outside  http.Header // as the handler found it; nil if empty
	request  *http.Request
	visit    *session.Visit
	log      *reporter
	clear    string // Clear-Site-Data, for a response that takes the cookie away
	begun    bool   // the header has left, or is about to
	warned   bool
}

// BeforeHeader saves the session and adds what the browser must know of it.
func (s *sessionResponse) BeforeHeader(status int) bool {
	if status == 0 || status == http.StatusSwitchingProtocols {
		s.visit.KeepToken() // whoever takes the connection may send another header
	}
	cookie, err := s.visit.Commit()
	if err != nil {
		s.refuse("no session", err, cookie)
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
		if cookie.MaxAge < 0 && s.clear != "" {
			s.w.Header().Set("Clear-Site-Data", s.clear)
		}
	}
	if s.visit.Blind() {
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

// answerFailure answers for a handler that was left because its session could not be
// loaded.
func (s *sessionResponse) answerFailure(err error) {
	switch {
	case s.response.Discarded():
		// A deferred function of the handler's wrote something: answered already.
	case s.begun:
		s.log.report(s.request.Context(), "no session for what follows the header", err)
		panic(http.ErrAbortHandler)
	default:
		s.refuse("no session", err, nil)
	}
}

// refuse answers in the handler's place, with nothing of the handler's.
func (s *sessionResponse) refuse(what string, err error, cookie *http.Cookie) {
	h := s.w.Header()
	clear(h)
	maps.Copy(h, s.outside)
	if cookie != nil { // of a login that took effect before the failure
		http.SetCookie(s.w, cookie)
	}
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
