package ratelimit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// loan is an admission that Redis does not know of, or several.
type loan struct {
	id    string
	cost  int
	at    time.Duration // on the stopwatch
	limit *Limiter      // that admitted it
	batch bool          // it is several
	tried bool          // it may have reached Redis: its cost must not change
}

// note is by how much Redis has to raise the level of an even rate.
type note struct {
	id     string
	limit  Limit
	amount float64
	at     time.Duration
}

// debt is what Redis is to be told of a key.
type debt struct {
	base  string
	limit *Limiter
	loans []loan // oldest first
	notes []note
	out   bool // some were made in an outage
}

const (
	// loansApart is how many of a key's latest loans keep their ids, and can be
	// refunded. Older ones are put together.
	loansApart = 32

	// loansTried is how many may have been tried to write in vain before they, too,
	// are put together.
	loansTried = 8 * loansApart

	// loansInAll is how many loans all keys' may be; beyond, fewer are kept apart.
	loansInAll = 4 * localKeys

	// debtsAtOnce is how many other keys' debts are written along with a key's, and
	// debtsEvery how often: their return must not be what silences Redis again.
	debtsAtOnce = 16
	debtsEvery  = 5 * time.Millisecond
)

// debts are what this process admitted by itself and has not yet written to Redis,
// by key: at most localKeys of them; further keys are not written back.
type debts struct {
	mu    sync.Mutex
	m     map[string]*debt
	loans int          // in all
	count atomic.Int64 // len(m), for who only wants to know that it is 0
}

// add adds a loan of base. What is older than keep does not count any more.
func (d *debts) add(l *Limiter, base string, n loan, keep time.Duration, out bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.m[base]
	if x == nil {
		if len(d.m) >= localKeys {
			return
		}
		x = &debt{base: base}
		d.put(x)
	}
	x.limit, x.out = l, x.out || out
	before := len(x.loans)
	x.loans = append(x.loans, n)
	switch {
	case d.loans >= loansInAll:
		x.merge(1, keep/8, n.at-keep)
	case before >= 3*loansApart && (before >= loansTried || x.fresh() >= 3*loansApart):
		x.merge(loansApart, keep/32, n.at-keep)
	}
	d.loans += len(x.loans) - before
}

// fresh is how many of x's loans cannot have reached Redis.
func (x *debt) fresh() (n int) {
	for n < len(x.loans) && !x.loans[len(x.loans)-1-n].tried {
		n++
	}
	return n
}

// put stores x; the caller holds the lock.
func (d *debts) put(x *debt) {
	if d.m == nil {
		d.m = make(map[string]*debt)
	}
	d.m[x.base] = x
	d.count.Store(int64(len(d.m)))
}

// merge drops loans that are as old as the instant gone, and puts others together
// that are less than span apart, but for so many of the latest. Together they have
// the latest one's time: they count a little too long.
func (x *debt) merge(apart int, span, gone time.Duration) {
	var merged []loan
	var begun time.Duration
	all := len(x.loans) >= loansTried
	for i, n := range x.loans {
		if n.at <= gone {
			continue
		}
		if last := len(merged) - 1; last >= 0 && i < len(x.loans)-apart && n.at-begun < span && n.limit.features == merged[last].limit.features && (all || !n.tried && !merged[last].tried) {
			m := &merged[last]
			m.cost = min(m.cost+n.cost, maxRequests)
			if m.tried || n.tried {
				// Which of them Redis knows, nobody does. It may count them twice.
				m.id = requestID()
			} else {
				m.id = n.id
			}
			m.at, m.limit, m.batch, m.tried = n.at, n.limit, true, false
			continue
		}
		begun = n.at
		merged = append(merged, n)
	}
	x.loans = merged
}

// has reports whether base owes anything.
func (d *debts) has(base string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.m[base] != nil
}

// take takes out base's debt.
func (d *debts) take(base string) (debt, bool) {
	if d.count.Load() == 0 {
		return debt{}, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.m[base]
	if x == nil {
		return debt{}, false
	}
	d.remove(base)
	return *x, true
}

// remove drops base's debt; the caller holds the lock.
func (d *debts) remove(base string) {
	if x := d.m[base]; x != nil {
		d.loans -= len(x.loans)
		delete(d.m, base)
		d.count.Store(int64(len(d.m)))
	}
}

// restore puts a debt back that was taken out and could not be paid.
func (d *debts) restore(x debt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range x.loans {
		x.loans[i].tried = true
	}
	d.loans += len(x.loans)
	if newer := d.m[x.base]; newer != nil {
		newer.loans = slices.Concat(x.loans, newer.loans)
		newer.notes = slices.Concat(x.notes, newer.notes)
		newer.out = newer.out || x.out
		return
	}
	d.put(&x)
}

// look returns a copy of base's debt, to be written now.
func (d *debts) look(base string, now, keep time.Duration) (debt, bool) {
	x := d.m[base]
	if x == nil {
		return debt{}, false
	}
	gone := 0
	for gone < len(x.loans) && x.loans[gone].at <= now-keep {
		gone++
	}
	x.loans = slices.Delete(x.loans, 0, gone)
	d.loans -= gone
	if len(x.loans) == 0 && len(x.notes) == 0 {
		d.remove(base)
		return debt{}, false
	}
	for i := range x.loans {
		x.loans[i].tried = true
	}
	y := *x
	y.loans, y.notes = slices.Clone(x.loans), slices.Clone(x.notes)
	return y, true
}

// paid drops what has been written; there may be more by now.
func (d *debts) paid(y debt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.m[y.base]
	if x == nil {
		return
	}
	ids := make(map[string]bool, len(y.loans)+len(y.notes))
	for _, n := range y.loans {
		ids[n.id] = true
	}
	for _, n := range y.notes {
		ids[n.id] = true
	}
	before := len(x.loans)
	x.loans = slices.DeleteFunc(x.loans, func(n loan) bool { return ids[n.id] })
	x.notes = slices.DeleteFunc(x.notes, func(n note) bool { return ids[n.id] })
	d.loans += len(x.loans) - before
	if len(x.loans) == 0 && len(x.notes) == 0 {
		d.remove(y.base)
	}
}

// cancel removes one loan, if Redis cannot know it and it stands for itself.
func (d *debts) cancel(base, id string) (loan, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.m[base]
	if x == nil {
		return loan{}, false
	}
	for i, n := range x.loans {
		if n.id == id && !n.batch && !n.tried {
			x.loans = slices.Delete(x.loans, i, i+1)
			d.loans--
			return n, true
		}
	}
	return loan{}, false
}

func (d *debts) drop(base string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(base)
}

// owed takes out debts that go along with a decision by MULTI, once Redis has
// answered.
func (c *local) owed() (taken []debt) {
	if c.debts.count.Load() == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.debts.mu.Lock()
	defer c.debts.mu.Unlock()
	looked := 0
	for base, x := range c.debts.m {
		if looked++; looked > 4*debtsAtOnce || len(taken) == debtsAtOnce {
			break
		}
		o := c.outages[server(x.limit, base)]
		if x.limit.noScripts.Load() && (o == nil || o.silences == 0) {
			taken = append(taken, *x)
			c.debts.remove(base)
		}
	}
	return taken
}

// repay writes back what base owes, before Redis decides on it again: else it
// would decide without knowing. Until one call has done so each does: the script
// finds what is there already. Debts of some other keys go along.
//
// Its error, if any, leaves the decision to this process.
func (c *local) repay(ctx context.Context, conn *rdb.Conn, base string) error {
	if c.troubles.Load() == 0 && c.debts.count.Load() == 0 {
		return nil
	}
	if err := c.probe(ctx, conn, base); err != nil {
		return err
	}
	_, err := c.pay(ctx, conn, base)
	return err
}

// call has Redis called about base though this process denies: what the key owes is
// written back, and should Redis be gone again, that is noticed.
func (c *local) call(ctx context.Context, l *Limiter, base string) {
	var paid bool
	var err error
	if l.noScripts.Load() {
		paid, err = c.debts.has(base), l.repayByMulti(ctx, base)
	} else {
		paid, err = c.pay(ctx, l.conn, base)
	}
	if !paid {
		err = c.knock(ctx, l.conn, base)
	}
	if isSilence(err) && !errors.Is(err, errBack) {
		from := server(l, base)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.cause = err
		c.silence(from, c.watch.now())
	}
}

// pay writes base's debt to Redis, and some others'; paid says that there were any.
func (c *local) pay(ctx context.Context, conn *rdb.Conn, base string) (paid bool, err error) {
	due := c.due(ctx, conn, base)
	if len(due) == 0 {
		return false, nil
	}
	cmds := make([]*rdb.Cmd, len(due))
	for i := range due {
		cmds[i] = due[i].repay()
	}
	err = conn.Exec(ctx, cmds...)
	for i, d := range due {
		if cmds[i].Err() == nil {
			c.debts.paid(d)
		}
	}
	switch {
	case isSilence(err):
		return true, err
	case err != nil: // what the decision is told as well, and tells better
		return true, nil
	case due[0].base == base && due[0].out && c.inherit(conn.Server(ctx, base)):
		return true, errBack
	}
	return true, nil
}

// due are the debts to be written before a decision on base: its own, then others'
// that the same server holds.
func (c *local) due(ctx context.Context, conn *rdb.Conn, base string) (due []debt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.debts.mu.Lock()
	defer c.debts.mu.Unlock()
	now := c.watch.now()
	look := func(base string) {
		c.sum(base, now)
		if d, ok := c.debts.look(base, now, c.keep); ok {
			due = append(due, d)
		}
	}
	look(base)
	if now-c.carried < debtsEvery || len(c.debts.m) == len(due) {
		return due
	}
	c.carried = now
	here, looked := conn.Server(ctx, base), 0
	for other := range c.debts.m {
		if looked++; looked > 4*debtsAtOnce || len(due) > debtsAtOnce {
			break
		}
		if other != base && conn.Server(ctx, other) == here {
			look(other)
		}
	}
	return due
}

// sum adds to base's debt by how much its even rates' levels have to be raised; the
// caller holds both locks.
func (c *local) sum(base string, now time.Duration) {
	a, x := c.known(base), c.debts.m[base]
	if a == nil || x == nil {
		return
	}
	for i := range a.tiers {
		t := &a.tiers[i]
		if t.kind != Smooth || t.unpaid <= 0 {
			continue
		}
		t.turn(now, c.instances)
		if t.unpaid > 0 {
			x.notes = append(x.notes, note{requestID(), Limit{kind: Smooth, requests: t.requests, window: t.window}, t.unpaid, now})
			t.level, t.unpaid = t.level+t.unpaid, 0
		}
	}
}

// repay is the command that writes a debt to Redis.
func (d *debt) repay() *rdb.Cmd {
	l := d.limit
	now := l.watch.now()
	var f features
	args := append(make([]any, 0, 4+3*len(d.loans)+5*len(d.notes)), l.retention.Microseconds(), 0, len(d.notes), 0)
	logged := 0
	for _, n := range d.loans {
		f |= n.limit.features &^ (hasBan | hasSmooth)
		if n.limit.features&hasLog != 0 {
			logged++
			args = append(args, (now - n.at).Microseconds(), n.cost, n.id)
		}
	}
	for _, n := range d.notes {
		f |= hasSmooth
		args = append(args, n.limit.window.Microseconds(), n.limit.requests, n.amount, (now - n.at).Microseconds(), n.id)
	}
	flying := 0
	if f&hasFlight != 0 {
		flights := l.local.flights(d.base)
		flying = len(flights)
		for id, rest := range flights {
			args = append(args, rest.Microseconds(), id)
		}
	}
	if f == 0 {
		f = l.features
	}
	args[1], args[3] = logged, flying
	return scriptsOf(f).restore.On(f.keys(d.base), args...)
}

// flights are base's requests in flight that this process admitted by itself, and
// what is left of their leases.
func (c *local) flights(base string) map[string]time.Duration {
	now := c.watch.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	rests := make(map[string]time.Duration)
	if a := c.known(base); a != nil {
		for i := range a.tiers {
			for id, f := range a.tiers[i].flights {
				if f.own && f.end > now {
					rests[id] = f.end - now
				}
			}
		}
	}
	return rests
}
