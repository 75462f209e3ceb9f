package quota

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Ledger keeps accounts, each with a balance that is paid in advance.
//
// It is safe for concurrent use, in any number of processes. It starts no
// goroutine, opens no connection and needs no Close.
type Ledger struct {
	conn     *rdb.Conn
	prefix   string
	name     string
	hold     time.Duration
	lifetime time.Duration
	maxIDs   int
	maxHolds int
}

// New returns a Ledger on client. It does no I/O: it works while Redis is down.
//
// Its errors are of kind ErrConfig, all mistakes joined: a nil client, a nil option,
// a number or a time out of the bounds that its option names.
func New(client redis.UniversalClient, options ...Option) (*Ledger, error) {
	cfg, mistakes := configure(options)
	conn, err := rdb.Open(client, cfg.budget)
	if err := rdb.Misconfigured("quota.New", append(mistakes, err)...); err != nil {
		return nil, err
	}
	return &Ledger{
		conn:     conn,
		prefix:   cfg.prefix,
		name:     cfg.name,
		hold:     cfg.hold,
		lifetime: cfg.lifetime,
		maxIDs:   cfg.maxIDs,
		maxHolds: cfg.maxHolds,
	}, nil
}

// Balance tells what account has: the outcome is Done, the amount 0. An account
// that was never topped up has nothing. It writes nothing.
//
// Errors: ErrEmptyAccount; ErrUnavailable; ErrCorrupt; ctx.Err() when ctx ends
// first; a refusal by the server (NOPERM, NOAUTH).
func (l *Ledger) Balance(ctx context.Context, account string) (Receipt, error) {
	if account == "" {
		return Receipt{}, fmt.Errorf("quota: balance: %w", ErrEmptyAccount)
	}
	return l.ask(ctx, "balance", "", balance.Cmd(l.redisKey(account)))
}

// TopUp adds amount to account's balance. Outcomes: Done; Overflow.
//
// id names the request; see "Exactly once" in the package's page. Errors beside
// those of Balance: ErrAmount; ErrReused; ErrFull.
func (l *Ledger) TopUp(ctx context.Context, account string, amount int64, id string) (Receipt, error) {
	return l.request(ctx, "top up", topUp, account, amount, id)
}

// Deduct takes amount from account's balance if it has that much, else nothing.
// Outcomes: Done; Insufficient.
//
// id names the request; see "Exactly once" in the package's page. Errors are those
// of TopUp.
func (l *Ledger) Deduct(ctx context.Context, account string, amount int64, id string) (Receipt, error) {
	return l.request(ctx, "deduct", deduct, account, amount, id)
}

// Reserve is shorthand for ReserveFor with the time of WithHold, by default 1
// minute.
func (l *Ledger) Reserve(ctx context.Context, account string, amount int64, id string) (Receipt, error) {
	return l.ReserveFor(ctx, account, amount, l.hold, id)
}

// ReserveFor moves amount from account's balance into a hold, if it has that much.
// The hold stands under the Receipt's ID until Commit or Cancel closes it; if
// neither has come when d has passed, the amount is back in the balance. d is from
// 1 ms to 366 days, by Redis's clock. Outcomes: Done; Insufficient.
//
// id names the request and the hold; see "Exactly once" in the package's page. A
// repetition may ask for another d and gets the first one's hold. Errors are those
// of TopUp.
func (l *Ledger) ReserveFor(ctx context.Context, account string, amount int64, d time.Duration, id string) (Receipt, error) {
	if d < minHold || d > maxLifetime {
		return Receipt{ID: id}, fmt.Errorf("quota: reserve: %w: a hold of %v: must be from %v to %v", ErrAmount, d, minHold, maxLifetime)
	}
	return l.request(ctx, "reserve", reserve, account, amount, id, d.Microseconds(), l.maxHolds)
}

// Commit takes amount out of a hold for good, and returns the rest of the hold to
// the balance. Outcomes: Done; Expired, if the hold ended by itself before;
// Committed or Cancelled, if another request closed it; Exceeds; Unknown. A hold is
// closed once: the same Commit again is answered as the first was, so it needs no
// id of its own.
//
// Errors beside those of Balance: ErrAmount (for nothing, use Cancel); ErrEmptyHold.
func (l *Ledger) Commit(ctx context.Context, account, hold string, amount int64) (Receipt, error) {
	if err := check(account, amount); err != nil {
		return Receipt{ID: hold}, fmt.Errorf("quota: commit: %w", err)
	}
	if hold == "" {
		return Receipt{}, fmt.Errorf("quota: commit: %w", ErrEmptyHold)
	}
	return l.ask(ctx, "commit", hold, commit.Cmd(l.redisKey(account), requestName(hold), amount, callID()))
}

// Cancel returns all of a hold to the balance. Outcomes: Done; Expired, Committed
// or Cancelled as for Commit; Unknown. The same Cancel again is answered as the
// first was.
//
// Errors beside those of Balance: ErrEmptyHold.
func (l *Ledger) Cancel(ctx context.Context, account, hold string) (Receipt, error) {
	if account == "" {
		return Receipt{ID: hold}, fmt.Errorf("quota: cancel: %w", ErrEmptyAccount)
	}
	if hold == "" {
		return Receipt{}, fmt.Errorf("quota: cancel: %w", ErrEmptyHold)
	}
	return l.ask(ctx, "cancel", hold, cancel.Cmd(l.redisKey(account), requestName(hold), callID()))
}

// request sends what begins under an id.
func (l *Ledger) request(ctx context.Context, what string, script *rdb.Script, account string, amount int64, id string, more ...any) (Receipt, error) {
	if err := check(account, amount); err != nil {
		return Receipt{ID: id}, fmt.Errorf("quota: %s: %w", what, err)
	}
	// A generated id is there for a reply that is lost on the way, and answers for
	// as long as that can matter. A refusal under it need not be remembered: who
	// lost it takes the next answer as well.
	call, lifetime, named := callID(), l.lifetime, 1
	if id == "" {
		id, lifetime, named = rand.Text(), minIDLifetime, 0
	}
	args := append(make([]any, 0, 8), requestName(id), amount, call, lifetime.Microseconds(), named, l.maxIDs)
	return l.ask(ctx, what, id, script.Cmd(l.redisKey(account), append(args, more...)...))
}

// ask sends cmd and reads the answer.
func (l *Ledger) ask(ctx context.Context, what, id string, cmd *rdb.Cmd) (Receipt, error) {
	err := l.conn.Exec(ctx, cmd)
	var r Receipt
	if err == nil {
		r, err = parse(cmd.Val())
	}
	r.ID = id
	if err != nil && err != ctx.Err() { // the caller's own end passes as it is
		err = fmt.Errorf("quota: %s: %w", what, err)
	}
	return r, err
}

func check(account string, amount int64) error {
	switch {
	case account == "":
		return ErrEmptyAccount
	case amount < 1 || amount > MaxAmount:
		return fmt.Errorf("%w: %d: must be from 1 to %d", ErrAmount, amount, int64(MaxAmount))
	}
	return nil
}

// callID tells calls with one id apart: a call that is sent again because its
// reply was lost is not repeated by its caller.
func callID() string { return rand.Text()[:10] }
