package ratelimit

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// loan is an admission that Redis does not know of.
type loan struct {
	id   string
	cost int
	at   time.Duration // on the stopwatch
}

// debt is a key's loans, as taken out to be written back.
type debt struct {
	base  string
	limit *Limiter
	loans []loan
}

const (
	// loansApart is how many of a key's loans keep their ids. Further ones are
	// added to the latest, and have its time: they count a little longer.
	loansApart = 32

	// debtsAtOnce is how many keys' debts go along with one decision.
	debtsAtOnce = 16
)

// debts are what this process admitted by itself and has not yet written to Redis,
// by key: at most localKeys of them; further keys are not written back.
type debts struct {
	mu    sync.Mutex
	m     map[string]debt
	count atomic.Int64 // len(m), for who only wants to know that it is 0
}

func (d *debts) add(l *Limiter, base string, n loan) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, ok := d.m[base]
	if !ok && len(d.m) >= localKeys {
		return
	}
	if last := len(x.loans) - 1; last+1 >= loansApart {
		x.loans[last].cost += n.cost
		x.loans[last].at = n.at
	} else {
		x.loans = append(x.loans, n)
	}
	d.put(debt{base, l, x.loans})
}

// put stores x; the caller holds the lock.
func (d *debts) put(x debt) {
	if d.m == nil {
		d.m = make(map[string]debt)
	}
	d.m[x.base] = x
	d.count.Store(int64(len(d.m)))
}

// take takes out base's debt.
func (d *debts) take(base string) (debt, bool) {
	if d.count.Load() == 0 {
		return debt{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x, ok := d.m[base]
	if ok {
		delete(d.m, base)
		d.count.Store(int64(len(d.m)))
	}
	return x, ok
}

// some takes out a few debts.
func (d *debts) some() (taken []debt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for base, x := range d.m {
		if len(taken) == debtsAtOnce {
			break
		}
		taken = append(taken, x)
		delete(d.m, base)
	}
	d.count.Store(int64(len(d.m)))
	return taken
}

// restore puts a debt back that could not be paid.
func (d *debts) restore(x debt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if newer, ok := d.m[x.base]; ok {
		x.loans = append(x.loans, newer.loans...)
	}
	d.put(x)
}

// cancel removes one loan.
func (d *debts) cancel(base, id string) (loan, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.m[base]
	for i, n := range x.loans {
		if n.id == id && (i < len(x.loans)-1 || len(x.loans) < loansApart) {
			x.loans = append(x.loans[:i:i], x.loans[i+1:]...)
			d.put(x)
			return n, true
		}
	}
	return loan{}, false
}

func (d *debts) drop(base string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.m, base)
	d.count.Store(int64(len(d.m)))
}

// owed takes out debts that go along with a decision, once Redis has answered.
func (c *local) owed() []debt {
	if c.debts.count.Load() == 0 {
		return nil
	}
	c.mu.Lock()
	silent := c.silences > 0
	c.mu.Unlock()
	if silent {
		return nil
	}
	return c.debts.some()
}

// repay writes back what base owes, before Redis decides on it again: else it
// would decide without knowing.
func (c *local) repay(ctx context.Context, conn *rdb.Conn, base string) error {
	d, ok := c.debts.take(base)
	if !ok {
		return nil
	}
	err := conn.Exec(ctx, d.repay())
	if err != nil {
		c.debts.restore(d)
	}
	return err
}

// repay is the command that writes a debt to Redis.
func (d debt) repay() *rdb.Cmd {
	l := d.limit
	now := l.watch.now()
	args := append(make([]any, 0, 2+3*len(d.loans)+2*len(l.limits)), l.retention.Microseconds(), len(d.loans))
	for _, n := range d.loans {
		args = append(args, (now - n.at).Microseconds(), n.cost, n.id)
	}
	for _, limit := range l.limits {
		if limit.kind == Smooth {
			args = append(args, limit.window.Microseconds(), limit.requests)
		}
	}
	return l.scripts.restore.On(l.features.keys(d.base), args...)
}
