package quota_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// relaxed is a budget for tests that are not about time.
const relaxed = 20 * time.Second

// open returns a Ledger with keys of the test's own and a budget that a loaded
// machine cannot exceed.
func open(tb testing.TB, client redis.UniversalClient, prefix string, options ...quota.Option) *quota.Ledger {
	tb.Helper()
	l, err := quota.New(client, append([]quota.Option{quota.WithPrefix(prefix), quota.WithTimeout(relaxed)}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// each runs the contract's case on every kind of Redis, side by side.
func each(t *testing.T, run func(t *testing.T, b *testkit.Backend, client redis.UniversalClient)) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		run(t, b, b.Client(t))
	})
}

// teller is a Ledger whose calls fail the test for errors.
type teller struct {
	tb testing.TB
	l  *quota.Ledger
}

func (x teller) got(r quota.Receipt, err error) quota.Receipt {
	x.tb.Helper()
	if err != nil {
		x.tb.Fatal(err)
	}
	if r.OK != (r.Outcome == quota.Done) || !r.OK && r.Amount != 0 || r.Balance < 0 || r.Held < 0 || r.At.IsZero() {
		x.tb.Fatalf("%+v does not fit together", r)
	}
	return r
}

func (x teller) balance(account string) quota.Receipt {
	x.tb.Helper()
	return x.got(x.l.Balance(context.Background(), account))
}

func (x teller) topUp(account string, amount int64, id string) quota.Receipt {
	x.tb.Helper()
	return x.got(x.l.TopUp(context.Background(), account, amount, id))
}

func (x teller) deduct(account string, amount int64, id string) quota.Receipt {
	x.tb.Helper()
	return x.got(x.l.Deduct(context.Background(), account, amount, id))
}

func (x teller) reserve(account string, amount int64, id string) quota.Receipt {
	x.tb.Helper()
	return x.got(x.l.Reserve(context.Background(), account, amount, id))
}

func (x teller) reserveFor(account string, amount int64, d time.Duration, id string) quota.Receipt {
	x.tb.Helper()
	return x.got(x.l.ReserveFor(context.Background(), account, amount, d, id))
}

func (x teller) commit(account, hold string, amount int64) quota.Receipt {
	x.tb.Helper()
	return x.got(x.l.Commit(context.Background(), account, hold, amount))
}

func (x teller) cancel(account, hold string) quota.Receipt {
	x.tb.Helper()
	return x.got(x.l.Cancel(context.Background(), account, hold))
}

// has fails the test unless the account has so much.
func (x teller) has(account string, balance, held int64) {
	x.tb.Helper()
	if r := x.balance(account); !r.OK || r.Balance != balance || r.Held != held {
		x.tb.Fatalf("%s has %d, %d held; want %d, %d", account, r.Balance, r.Held, balance, held)
	}
}

// show is what a receipt tells of the money.
func show(r quota.Receipt) string {
	return fmt.Sprintf("%s %d: %d, %d held", r.Outcome, r.Amount, r.Balance, r.Held)
}

// same fails the test unless again answers exactly as first did.
func same(tb testing.TB, first, again quota.Receipt) {
	tb.Helper()
	if first.Repeated || !again.Repeated {
		tb.Errorf("repeated %v, then %v; want only the second", first.Repeated, again.Repeated)
	}
	again.Repeated, again.Ended, first.Ended = false, "", ""
	if again != first {
		tb.Errorf("repeated: %+v; first: %+v", again, first)
	}
}
