package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit/quota"
)

// refusal is an error that its request's sender may read.
type refusal struct {
	status int
	detail string
}

func (e *refusal) Error() string { return e.detail }

func invalid(detail string) error    { return &refusal{http.StatusUnprocessableEntity, detail} }
func badRequest(detail string) error { return &refusal{http.StatusBadRequest, detail} }

var (
	errForbidden = &refusal{http.StatusForbidden, "This page is for administrators."}
	errNobody    = &refusal{http.StatusUnauthorized, "Log in first."}
)

// refusalOf says in HTTP what has gone wrong.
func refusalOf(err error) (r *refusal, known bool) {
	switch {
	case errors.As(err, &r):
		return r, true
	case errors.Is(err, cache.ErrNotFound):
		return &refusal{http.StatusNotFound, "There is nothing here."}, true
	case errors.Is(err, errPaid):
		return &refusal{http.StatusConflict, "This order is paid already."}, true
	case errors.Is(err, errCredit):
		return &refusal{http.StatusPaymentRequired, "Your credit does not suffice. Top it up, then pay."}, true
	case errors.Is(err, errLogin):
		return &refusal{http.StatusUnauthorized, "Address or password are wrong."}, true
	case errors.Is(err, errEmailTaken):
		return &refusal{http.StatusConflict, "There is an account with this address already."}, true
	case errors.Is(err, quota.ErrReused):
		return &refusal{http.StatusUnprocessableEntity, "This Idempotency-Key was used for another amount."}, true
	case errors.Is(err, cache.ErrUnavailable), errors.Is(err, errSilent), busy(err):
		return &refusal{http.StatusServiceUnavailable, "This does not work at the moment. Please try again."}, true
	}
	return &refusal{http.StatusInternalServerError, "Something went wrong."}, false
}

// fail answers with a problem; pages makes a page of it for people.
func (s *shop) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		err = errors.Join(err, cache.ErrUnavailable) // the client is gone, or the lock: nobody reads this
	}
	refusal, known := refusalOf(err)
	if !known {
		slog.ErrorContext(r.Context(), "shop: request failed", "path", r.URL.Path, "err", err)
	}
	var retryAfter time.Duration
	if refusal.status == http.StatusServiceUnavailable {
		retryAfter = time.Second
	}
	middleware.WriteProblem(w, middleware.Problem{Status: refusal.status, Detail: refusal.detail}, retryAfter)
}

// done answers a request that has changed something: people are sent to a page, with
// a message for it, and programs get the value.
func (s *shop) done(w http.ResponseWriter, r *http.Request, status int, next, message string, value any) {
	w.Header().Set("Cache-Control", "no-store")
	if wantsJSON(r) {
		writeJSON(w, status, value)
		return
	}
	if message != "" {
		if err := s.flash.Add(r.Context(), message); err != nil {
			slog.WarnContext(r.Context(), "shop: message lost", "err", err)
		}
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func wantsJSON(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "application/json")
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		middleware.WriteProblem(w, middleware.Problem{}, 0)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

const (
	maxBody  = 64 << 10
	bodyTime = 10 * time.Second
)

// form reads the body before anything waits or is locked: all of it, within bodyTime,
// up to maxBody. A page's form says its Idempotency-Key in a field, as it has no
// header; here it gets one.
func form(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Now().Add(bodyTime)) // a test's recorder has none
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		_ = control.SetReadDeadline(time.Time{})
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			middleware.WriteProblem(w, middleware.Problem{Status: http.StatusRequestEntityTooLarge}, 0)
			return
		}
		kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
		values, parseErr := url.ParseQuery(string(body))
		if len(body) > 0 && (kind != "application/x-www-form-urlencoded" || parseErr != nil) || err != nil {
			middleware.WriteProblem(w, middleware.Problem{Status: http.StatusBadRequest, Detail: "The body is not a form (application/x-www-form-urlencoded)."}, 0)
			return
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.PostForm = values
		if key := values.Get("key"); key != "" && r.Header.Get("Idempotency-Key") == "" {
			r.Header.Set("Idempotency-Key", key)
		}
		next.ServeHTTP(w, r)
	})
}

// crossOrigin refuses requests that other sites' pages have sent (CSRF).
func crossOrigin() middleware.Middleware {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		middleware.WriteProblem(w, middleware.Problem{Status: http.StatusForbidden, Detail: "The request came from another site."}, 0)
	}))
	return protection.Handler
}

// secure has browsers take nothing from elsewhere, and run no script but the shop's.
func secure(next http.Handler) http.Handler {
	const policy = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}
