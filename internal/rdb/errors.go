package rdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// The kinds of error an engine returns. Engines export them under their own
// name (ratelimit.ErrUnavailable, session.ErrUnavailable, …); they are the same
// values, so errors.Is works across packages.
var (
	// ErrConfig says that an option or argument cannot be used. The text names
	// it, says why and what to write instead.
	ErrConfig = errors.New("invalid configuration")

	// ErrUnavailable says that Redis gave no usable answer in time: silent,
	// unreachable, loading, failing over, out of memory, or not asked because
	// the breaker is open.
	ErrUnavailable = errors.New("redis unavailable")

	// ErrCorrupt says that Redis holds something else under the key than Weir
	// wrote: a value of another type, or bytes that do not decode.
	ErrCorrupt = errors.New("stored value corrupt")
)

// unavailable is an ErrUnavailable that knows whose breaker was in charge, so that
// [Remember] can keep the rest of the request from asking that server again.
type unavailable struct {
	breaker *breaker
	took    time.Duration // how long the call waited in vain
	cause   error
}

func (e *unavailable) Error() string   { return "redis unavailable: " + e.cause.Error() }
func (e *unavailable) Unwrap() []error { return []error{ErrUnavailable, e.cause} }

var (
	errBreakerOpen = errors.New("breaker open after repeated silence")
	errSilent      = errors.New("already silent for this request")
	errBudget      = errors.New("no answer within the budget")
)

// Misconfigured joins the mistakes found in one call of New into one error of
// kind ErrConfig, each on its own line behind the function's name. It returns
// nil if there are none. Nil entries are skipped, joined ones taken apart.
func Misconfigured(fn string, mistakes ...error) error {
	var all []error
	for _, m := range mistakes {
		if m == nil {
			continue
		}
		parts := []error{m}
		if joined, ok := m.(interface{ Unwrap() []error }); ok {
			parts = joined.Unwrap()
		}
		for _, p := range parts {
			all = append(all, fmt.Errorf("%s: %w: %w", fn, ErrConfig, p))
		}
	}
	return errors.Join(all...)
}

// outcome is what a call says about the server, for the breaker.
type outcome int

const (
	answered  outcome = iota // the server spoke, be it an error
	silent                   // no reply: timeout, refused, broken
	abandoned                // the caller left first: says nothing
)

// outcomeOf reads the outcome off a classified error.
func outcomeOf(err error) outcome {
	switch {
	case err == nil, isReply(err):
		return answered
	case errors.Is(err, redis.ErrClosed):
		return abandoned // the user closed the client; no server was asked
	case errors.Is(err, ErrUnavailable):
		return silent
	default:
		return abandoned
	}
}

// classify gives an attempt's error its kind. parent is the caller's context,
// without the budget; b is the breaker in charge.
func classify(parent context.Context, b *breaker, err error) error {
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		return nil
	case isReply(err):
		return classifyReply(b, err)
	}
	if cause := parent.Err(); cause != nil {
		return cause
	}
	if d, ok := parent.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded // the context's timer is a moment behind the socket's
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = errBudget
	}
	return &unavailable{breaker: b, cause: err}
}

// unable lists the error replies that mean "not now": the server is alive and
// says that it cannot serve.
var unable = []string{
	"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY ", "OOM",
	"NOREPLICAS", "MISCONF", "ERR max number of clients",
}

func classifyReply(b *breaker, err error) error {
	text := err.Error()
	if strings.HasPrefix(text, "WRONGTYPE") || strings.Contains(text, "-WRONGTYPE") {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	for _, prefix := range unable {
		if strings.HasPrefix(text, prefix) {
			return &unavailable{breaker: b, cause: err}
		}
	}
	return err
}

// isReply reports whether err is an error reply of the server, as opposed to
// the lack of a reply.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}

// isNoScript reports whether the server does not know the script. Some proxies
// put "ERR" or "(error)" before the code (go-redis/redis_rate#88).
func isNoScript(err error) bool {
	if err == nil || !isReply(err) {
		return false
	}
	text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "(error) "), "ERR ")
	return strings.HasPrefix(text, "NOSCRIPT")
}

// IsForbidden reports whether the server refused the command as such: the user may
// not run it, or it was renamed away.
func IsForbidden(err error) bool {
	if err == nil || !isReply(err) {
		return false
	}
	text := strings.ToLower(err.Error())
	return strings.HasPrefix(text, "noperm") || strings.HasPrefix(text, "err unknown command")
}

// isBroken reports whether the connection broke under the command: the command
// may or may not have run, and a new connection may well work.
func isBroken(err error) bool {
	if err == nil {
		return false // nor look, which allocates
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return false
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// NotRun reports whether err, of an Exec of commands that are not replayable, proves
// that none was carried out: no server was asked, none could be dialled, or it refused.
func NotRun(err error) bool {
	var op *net.OpError
	return errors.Is(err, errBreakerOpen) || errors.Is(err, errSilent) || errors.Is(err, redis.ErrClosed) ||
		isReply(err) || errors.As(err, &op) && op.Op == "dial"
}
