package middleware

import (
	"context"
	"sync"
)

type quotaKey struct{}

// QuotaCharge is what a request under [Quota] costs, and what its account has left.
// It is safe for concurrent use.
type QuotaCharge struct {
	mu      sync.Mutex
	most    int64 // what is held
	amount  int64 // what is to be taken
	balance int64
	closed  bool // taken, or about to be
}

// QuotaFromContext returns the charge of the request whose context ctx is; of
// several Quotas around the handler that of the innermost. ok is false where there
// is none: no Quota is mounted, or the request is free.
func QuotaFromContext(ctx context.Context) (charge *QuotaCharge, ok bool) {
	charge, ok = ctx.Value(quotaKey{}).(*QuotaCharge)
	return charge, ok
}

// Balance is what the account can spend beside this request, as of the latest call
// to Redis for it. Other requests may spend it meanwhile.
func (c *QuotaCharge) Balance() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.balance
}

// Amount is what the request pays if it succeeds, or has paid.
func (c *QuotaCharge) Amount() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.amount
}

// Use says that the request costs amount, which is at most what Quota's cost
// function said; 0 makes it free. It is to be called before the header leaves: it
// returns false, and changes nothing, when that is too late, when amount is out of
// range, or under WithDeductFirst.
func (c *QuotaCharge) Use(amount int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || amount < 0 || amount > c.most {
		return false
	}
	c.amount = amount
	return true
}

// close ends the time for Use, and returns what is to be taken.
func (c *QuotaCharge) close() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.amount
}

// paid notes what was taken, and what the account has left.
func (c *QuotaCharge) paid(amount, balance int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.amount, c.balance = amount, balance
}
