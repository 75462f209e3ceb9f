package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/ratelimit/quota"
)

// An order is paid for within payWithin of its creation; the ledger remembers which
// payments it was asked for (rememberPayments) for longer than that.
const (
	payWithin        = 7 * 24 * time.Hour
	rememberPayments = 30 * 24 * time.Hour
)

var (
	errPaid   = errors.New("order paid already")
	errCredit = errors.New("not enough credit")
)

// byOrder is what payments are serialized by.
func byOrder(r *http.Request) (string, error) { return "order " + chi.URLParam(r, "order"), nil }

// pay takes an order's total from its owner's credit. Three things keep it from being
// charged twice, each of them alone:
//
//   - middleware.Idempotency around it: a request that is repeated gets the first
//     answer, and does not come here;
//   - middleware.Serialize around it: requests that are not repetitions, such as from
//     two windows, come one at a time, and the later one finds the order paid;
//   - the ledger, which knows the order's payment by its id: a payment that was begun
//     by a process that died is ended by the next one, and not made anew.
//
// The database's constraints come last. They never have to refuse anything; if one
// does, that is an incident.
func (s *shop) pay(w http.ResponseWriter, r *http.Request, user User) {
	ctx := r.Context() // ends with the lock
	order, err := s.source.order(ctx, chi.URLParam(r, "order"))
	if err == nil {
		err = payable(order, user)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer s.live.hold(order.Short())()
	select { // as a bank takes its time
	case <-time.After(s.cfg.payment):
	case <-ctx.Done():
	}
	receipt, err := s.charge(ctx, order)
	if err == nil {
		order.Paid = receipt.At.Truncate(time.Microsecond)
		err = written(ctx, s.orders.Store(ctx, order.ID, order, func(ctx context.Context, o Order) error {
			return s.source.pay(ctx, o, receipt)
		}))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.relay.kick()
	s.done(w, r, http.StatusOK, "/orders/"+order.ID, "Paid. Thank you.", order)
}

func payable(order Order, user User) error {
	switch {
	case order.User != user.ID:
		return cache.ErrNotFound
	case order.IsPaid():
		return errPaid
	case time.Since(order.Created) > payWithin:
		return invalid("This order is too old to be paid for. Please order again.")
	}
	return nil
}

// charge deducts the total under an id that is the order's. A refusal is remembered
// under its id as well, so the next try needs another one: attempt counts them, in the
// database. A refusal that was an earlier try's says nothing of this one.
func (s *shop) charge(ctx context.Context, o Order) (quota.Receipt, error) {
	attempt, err := s.source.attempt(ctx, o.ID)
	for err == nil {
		var receipt quota.Receipt
		receipt, err = s.credits.Deduct(ctx, account(o.User), o.Total, fmt.Sprintf("pay %s %d", o.ID, attempt))
		if err != nil || receipt.OK {
			return receipt, err
		}
		if err = s.source.refused(ctx, o.ID, attempt); err == nil && !receipt.Repeated {
			err = errCredit
		}
		attempt++
	}
	return quota.Receipt{}, err
}

func (s *source) attempt(ctx context.Context, order string) (attempt int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT attempt FROM orders WHERE id = ?`, order).Scan(&attempt)
	return attempt, found(err)
}

func (s *source) refused(ctx context.Context, order string, attempt int) error {
	_, err := s.exec(ctx, `UPDATE orders SET attempt = attempt + 1 WHERE id = ? AND attempt = ?`, order, attempt)
	return err
}

// pay writes the payment, that the order is paid, and the event of it, or nothing.
// Under a lock that others have had since (a higher token) it writes nothing.
func (s *source) pay(ctx context.Context, o Order, receipt quota.Receipt) error {
	var token int64
	if lease, ok := lock.FromContext(ctx); ok {
		token = lease.Token()
	}
	err := s.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE orders SET paid = ?, token = ? WHERE id = ? AND paid = 0 AND token <= ?`,
			o.Paid.UnixMicro(), token, o.ID, token)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(errPaid, err)
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO payments ("order", user, amount, receipt, paid) VALUES (?, ?, ?, ?, ?)`,
			o.ID, o.User, receipt.Amount, receipt.ID, o.Paid.UnixMicro())
		return errors.Join(err, addEvent(ctx, tx, orderPaid, o))
	})
	if errors.Is(err, errPaid) || taken(err) {
		return s.incident(ctx, "order %s would have been paid twice: %v", o.ID, err)
	}
	return err
}
