package middleware

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/respw"
	"github.com/go-weir/weir/ratelimit/quota"
)

// QuotaOption configures [Quota].
type QuotaOption func(*quotaGate)

// WithTooManyRequests answers 429 Too Many Requests in place of 402 Payment
// Required, for balances that are an allowance and not for sale. There is no
// Retry-After: nobody knows when the account is topped up.
func WithTooManyRequests() QuotaOption {
	return func(q *quotaGate) { q.short = refusalAllowance }
}

// WithDeductFirst takes the cost for good before the handler runs, whatever its
// answer. That is one round trip in place of two, and the writer is not wrapped;
// but a request that fails is paid for, and so may be one that is answered 503
// because Redis fell silent in the middle. It excludes WithChargeOn.
func WithDeductFirst() QuotaOption {
	return func(q *quotaGate) { q.first = true }
}

// WithChargeOn says which answers cost something, by their status. The default is
// those below 400. It excludes WithDeductFirst.
func WithChargeOn(charge func(status int) bool) QuotaOption {
	return func(q *quotaGate) { q.charge, q.chargeSet = charge, true }
}

// WithIdempotencyKey takes the request's id from its Idempotency-Key field, if it
// has one: a key that has been paid with is not paid with again. Such a request is
// answered 409 Conflict and the handler does not run, or clients could have any
// number of answers for the price of one. A request that was refused, or failed and
// was not charged, may be repeated under its key, eight times. One key for two costs
// is answered 422.
//
// To give a repeated request its first answer, mount [Idempotency] outside of Quota.
func WithIdempotencyKey() QuotaOption {
	return func(q *quotaGate) { q.byKey = true }
}

// FixedCost is the same cost for every request. It panics if n is below 1 or above
// quota.MaxAmount.
func FixedCost(n int64) func(*http.Request) int64 {
	if n < 1 || n > quota.MaxAmount {
		panic(fmt.Sprintf("middleware.FixedCost: %d: must be from 1 to %d; what is free needs no Quota", n, int64(quota.MaxAmount)))
	}
	return func(*http.Request) int64 { return n }
}

// Quota lets a request pass if its account can pay for it.
//
// The cost is held before the handler runs, and taken when the handler answers, at
// the last moment before the header leaves: a client sees no answer that is not
// paid for, and pays for none that it cannot see. An answer of 400 or more, a panic
// before the header and a handler that gives up because its client is gone cost
// nothing. What was begun is paid for: an event stream, a hijacked connection, an
// answer that breaks off later. A handler that learns only at work what it costs
// says so by [QuotaCharge.Use]. That is two round trips; see [WithDeductFirst] for
// one.
//
// A cost of 0 is free, and Redis is not asked. A cost below 0 or above
// quota.MaxAmount is a mistake of the cost function, and answered 500.
//
// A request that its account cannot pay for is answered 402 Payment Required or, by
// [WithTooManyRequests], 429; one whose account holds or remembers as much as it
// may (quota.ErrFull), 429 with Retry-After; one without an account, 400. Bodies
// are application/problem+json, or text/plain if Accept prefers that, and tell
// neither account nor balance.
//
// When Redis is silent the answer is 503 with Retry-After, within the ledger's
// budget; if that happens when the handler has answered already, nothing of its
// answer is sent. The hold then ends by itself, after the time of quota.WithHold, by
// default 1 minute; or the last request to take it was carried out after all, and a
// request answered 503 is paid for. A handler that works for longer than its hold
// lasts is paid from the balance, and answered 402 in its place if that is not
// enough any more: give the ledger a longer hold. What clients are not told is
// logged to slog.Default, at most a line a second.
//
// Mount it inside of RateLimit and of what finds out who is asking, and outside of
// Cache if hits are to cost something as well.
//
// It panics if ledger, account, cost or an option is nil, or options exclude each
// other, and tells all of it at once. The handler is safe for concurrent use.
func Quota(ledger *quota.Ledger, account KeyFunc, cost func(*http.Request) int64, options ...QuotaOption) Middleware {
	q := &quotaGate{
		ledger:  ledger,
		account: account,
		cost:    cost,
		charge:  func(status int) bool { return status < 400 },
		short:   refusalPayment,
		log:     &reporter{name: "quota"},
	}
	var mistakes []string
	mistake := func(wrong bool, text string) {
		if wrong {
			mistakes = append(mistakes, "middleware.Quota: "+text)
		}
	}
	mistake(ledger == nil, "the ledger is nil: check the error of quota.New")
	mistake(account == nil, "the account function is nil: say who pays, such as middleware.KeyByHeader")
	mistake(cost == nil, "the cost function is nil: say what a request costs, such as middleware.FixedCost(1)")
	for i, o := range options {
		mistake(o == nil, fmt.Sprintf("option %d is nil: leave it out", i+1))
		if o != nil {
			o(q)
		}
	}
	mistake(q.charge == nil, "WithChargeOn(nil): leave it out to charge for answers below 400")
	mistake(q.first && q.chargeSet, "WithDeductFirst and WithChargeOn exclude each other: the one charges before there is a status")
	if len(mistakes) > 0 {
		panic(strings.Join(mistakes, "\n"))
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { q.serve(w, r, next) })
	}
}

// The refusals of Quota that clients may meet in numbers.
var (
	refusalPayment = encode(Problem{
		Status: http.StatusPaymentRequired,
		Detail: "The balance does not cover the cost of this request.",
	})
	refusalAllowance = encode(Problem{
		Type:   problemQuotaExceeded,
		Title:  "Quota exceeded",
		Status: http.StatusTooManyRequests,
		Detail: "What is left does not cover the cost of this request.",
	})
	refusalCrowded = encode(Problem{
		Status: http.StatusTooManyRequests,
		Detail: "Too many requests of this account are under way or were made lately.",
	})
	refusalPaid = encode(Problem{
		Status: http.StatusConflict,
		Detail: "A request with this Idempotency-Key is under way or was paid for.",
	})
	refusalReused = encode(Problem{
		Status: http.StatusUnprocessableEntity,
		Detail: "This Idempotency-Key was used for a request of another cost.",
	})
	refusalKey = encode(Problem{
		Status: http.StatusBadRequest,
		Detail: "The request has more than one Idempotency-Key, or an empty one.",
	})
)

// quotaGate is one mounted Quota.
type quotaGate struct {
	ledger    *quota.Ledger
	account   KeyFunc
	cost      func(*http.Request) int64
	charge    func(status int) bool
	chargeSet bool
	first     bool
	byKey     bool
	short     refusal
	log       *reporter
}

func (q *quotaGate) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	account, err := q.account(r)
	if err != nil || account == "" {
		refuseKey(w, r, q.log, err)
		return
	}
	cost := q.cost(r)
	if cost == 0 {
		next.ServeHTTP(w, r)
		return
	}
	if cost < 0 || cost > quota.MaxAmount {
		q.log.report(r.Context(), "no verdict", fmt.Errorf("the cost function returned %d", cost))
		refusalInternal.answer(w, r, 0)
		return
	}
	key, ok := q.requestKey(r)
	if !ok {
		refusalKey.answer(w, r, 0)
		return
	}
	if err := r.Context().Err(); err != nil {
		refuseUndecided(w, r, q.log, err)
		return
	}
	// A client that leaves now must not leave the outcome open as well.
	receipt, err := q.begin(context.WithoutCancel(r.Context()), account, cost, key)
	switch {
	case err != nil:
		q.refuse(w, r, err)
		return
	case !receipt.OK:
		q.short.answer(w, r, 0)
		return
	case receipt.Repeated:
		refusalPaid.answer(w, r, time.Second)
		return
	}
	v := &quotaVisit{gate: q, w: w, account: account, hold: receipt.ID}
	v.charge.most, v.charge.amount, v.charge.balance = cost, cost, receipt.Balance
	v.request = r.WithContext(context.WithValue(r.Context(), quotaKey{}, &v.charge))
	if q.first {
		v.charge.closed = true
		next.ServeHTTP(w, v.request)
		return
	}
	v.serve(next)
}

// requestKey is the request's Idempotency-Key if it is to be looked at, else "";
// ok is false if it is none.
func (q *quotaGate) requestKey(r *http.Request) (key string, ok bool) {
	values := r.Header["Idempotency-Key"]
	if !q.byKey || len(values) == 0 {
		return "", true
	}
	return values[0], len(values) == 1 && values[0] != ""
}

// maxAttempts is how often one Idempotency-Key may be tried: each try costs those
// after it a round trip.
const maxAttempts = 8

// begin takes or holds the cost.
func (q *quotaGate) begin(ctx context.Context, account string, cost int64, key string) (quota.Receipt, error) {
	take := q.ledger.Reserve
	if q.first {
		take = q.ledger.Deduct
	}
	if key == "" {
		return take(ctx, account, cost, "")
	}
	for n := 1; ; n++ {
		// Not the key itself: it may not be the id of somebody's payment.
		r, err := take(ctx, account, cost, join([]string{"Idempotency-Key", key, strconv.Itoa(n)}))
		unpaid := !r.OK || r.Ended == quota.Cancelled || r.Ended == quota.Expired
		if err != nil || !r.Repeated || !unpaid || n == maxAttempts {
			return r, err
		}
	}
}

// refuse answers a request that the ledger gave no verdict on.
func (q *quotaGate) refuse(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case errors.Is(err, quota.ErrFull):
		q.log.report(r.Context(), "no verdict", err)
		refusalCrowded.answer(w, r, time.Second)
	case errors.Is(err, quota.ErrReused):
		refusalReused.answer(w, r, 0)
	default:
		// Whoever saves something outside need not wait for the same silence.
		_ = rdb.Remember(r.Context(), err)
		refuseUndecided(w, r, q.log, err)
	}
}

// quotaVisit is one request that passed, and the hook that takes what is held for
// it before its answer leaves.
type quotaVisit struct {
	response respw.Response
	gate     *quotaGate
	w        http.ResponseWriter
	outside  http.Header // as the handler found it; nil if empty
	request  *http.Request
	account  string
	hold     string
	charge   QuotaCharge
	begun    bool // the handler has answered
	gone     bool // it has not, and its client is gone
	closed   bool // the hold is closed, or nobody knows
}

func (v *quotaVisit) serve(next http.Handler) {
	if h := v.w.Header(); len(h) > 0 {
		v.outside = maps.Clone(h)
	}
	defer v.release()
	next.ServeHTTP(v.response.Wrap(v.w, v), v.request)
	// The 200 that net/http is about to send was not the handler's wish.
	v.gone = !v.begun && v.request.Context().Err() != nil
	v.response.Finish()
}

// BeforeHeader takes what the answer costs. status is 0 if the connection is about
// to be hijacked.
func (v *quotaVisit) BeforeHeader(status int) bool {
	v.begun = true
	amount := v.charge.close()
	if v.gone || amount == 0 || status != 0 && !v.gate.charge(status) {
		v.charge.paid(0, v.charge.Balance())
		return true // release returns the hold
	}
	v.closed = true
	// The client may be gone; what was done for it is paid for all the same.
	ctx, ledger := context.WithoutCancel(v.request.Context()), v.gate.ledger
	receipt, err := ledger.Commit(ctx, v.account, v.hold, amount)
	if err == nil && !receipt.OK && receipt.Outcome != quota.Committed {
		// The handler took longer than the hold lasts.
		receipt, err = ledger.Deduct(ctx, v.account, amount, "")
	}
	if err == nil && receipt.Outcome != quota.Insufficient {
		v.charge.paid(amount, receipt.Balance)
		return true
	}
	h := v.w.Header()
	clear(h)
	maps.Copy(h, v.outside)
	if err != nil {
		v.gate.refuse(v.w, v.request, err)
	} else {
		v.gate.short.answer(v.w, v.request, 0)
	}
	return false
}

// release returns what is still held. It runs after a panic, too, and lets it pass.
func (v *quotaVisit) release() {
	if v.closed {
		return
	}
	ctx := context.WithoutCancel(v.request.Context())
	if _, err := v.gate.ledger.Cancel(ctx, v.account, v.hold); err != nil {
		v.gate.log.report(ctx, "a hold is left to end by itself", err)
	}
}
