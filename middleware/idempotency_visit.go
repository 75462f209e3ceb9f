package middleware

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/internal/respw"
)

// idempotentVisit is a request that has claimed its key.
type idempotentVisit struct {
	response respw.Response
	gate     *idempotencyGate
	claim    *idempotency.Claim
	request  *http.Request // what the handler gets
	outside  http.Header   // as middlewares outside have left it
	held     heldAnswer
	begun    bool // the handler has answered
	closed   bool // the claim has been told how it ended
}

func (g *idempotencyGate) visit(w http.ResponseWriter, r *http.Request, claim *idempotency.Claim, body []byte) *idempotentVisit {
	v := &idempotentVisit{gate: g, claim: claim, outside: maps.Clone(w.Header())}
	v.request = r.WithContext(claim.Context())
	if r.Body != nil && r.Body != http.NoBody {
		v.request.Body = io.NopCloser(bytes.NewReader(body))
	}
	v.held = heldAnswer{w: w, visit: v, limit: g.maxAnswer}
	return v
}

func (v *idempotentVisit) serve(next http.Handler) {
	returned := false
	defer func() {
		if !returned && !v.closed { // it panics
			v.interrupt()
		}
	}()
	next.ServeHTTP(v.response.Wrap(v.held.writer(), v), v.request)
	returned = true
	if !v.begun && v.request.Context().Err() != nil {
		// The 200 that net/http is about to send was not the handler's wish.
		v.interrupt()
		return
	}
	v.response.Finish()
	v.conclude()
}

// BeforeHeader lets the answer pass to where it is held, unless it cannot be.
func (v *idempotentVisit) BeforeHeader(status int) bool {
	v.begun = true
	if status == 0 || status == http.StatusSwitchingProtocols {
		v.note(status)
		v.held.passing = true
	}
	return true
}

// conclude keeps the answer, or lets go of the key, and then sends it.
func (v *idempotentVisit) conclude() {
	a := &v.held
	if a.passing {
		if !v.closed {
			v.release()
		}
		return
	}
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	switch whole := a.settle(v.request.Method); {
	case !v.keeps(a.status):
		v.release()
	case !whole:
		v.note(a.status)
	default:
		v.finish(encodeAnswer(a.status, v.fields(), a.body))
	}
	a.send()
}

// pass gives up holding the answer, and sends what there is of it.
func (v *idempotentVisit) pass() {
	if v.keeps(v.held.status) {
		v.note(v.held.status)
	}
	v.held.passing = true
	v.held.send()
}

func (v *idempotentVisit) keeps(status int) bool { return status <= 599 && v.gate.keep(status) }

// fields are those of the answer that are kept.
func (v *idempotentVisit) fields() map[string]storedField {
	replayed := make(http.Header, len(v.gate.replay))
	for name, values := range canonical(v.held.header) {
		if slices.Contains(v.gate.replay, name) {
			replayed[name] = values
		}
	}
	return ownFields(replayed, v.outside)
}

// note keeps that there was an answer, in place of it.
func (v *idempotentVisit) note(status int) { v.finish(encodeNote(status)) }

func (v *idempotentVisit) finish(outcome []byte) {
	v.closed = true
	if err := v.claim.Finish(v.request.Context(), outcome); err != nil {
		v.report("an answer may not be kept", err)
	}
}

func (v *idempotentVisit) release() {
	v.closed = true
	if err := v.claim.Release(v.request.Context()); err != nil {
		v.report("a key may not be let go", err)
	}
}

func (v *idempotentVisit) interrupt() {
	v.closed = true
	err := v.claim.Interrupt(v.request.Context())
	v.report("a handler gave no answer", errors.Join(errUnanswered, err))
}

var errUnanswered = errors.New("it panicked, or its client was gone")

func (v *idempotentVisit) report(what string, err error) {
	v.gate.log.report(v.request.Context(), what, err)
}
