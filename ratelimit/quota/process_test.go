package quota_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// market is what each of several processes does to a few accounts.
type market struct {
	Spec, Prefix         string
	Accounts, Goroutines int
	Requests             int // of each goroutine
}

// books are what a process has been told: money in, money out.
type books struct{ In, Out [4]int64 }

func init() { testkit.Role("market", runMarket) }

func runMarket(ctx context.Context, args []string) error {
	var m market
	if err := json.Unmarshal([]byte(args[0]), &m); err != nil {
		return err
	}
	client, err := testkit.Connect(m.Spec)
	if err != nil {
		return err
	}
	defer client.Close()
	l, err := quota.New(client, quota.WithPrefix(m.Prefix), quota.WithTimeout(relaxed))
	if err != nil {
		return err
	}
	errs := make([]error, m.Goroutines)
	var wg sync.WaitGroup
	for i := range m.Goroutines {
		wg.Go(func() {
			var told books
			told, errs[i] = m.trade(ctx, l, i)
			testkit.Emit(told)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// trade mixes all operations, and repeats some requests, of its own and those that
// all processes share.
func (m *market) trade(ctx context.Context, l *quota.Ledger, goroutine int) (told books, err error) {
	random := rand.New(rand.NewPCG(uint64(testkit.RoleIndex()), uint64(goroutine)))
	var hold string
	var held int64
	for i := range m.Requests {
		n := random.IntN(m.Accounts)
		account, amount := fmt.Sprint("account ", n), 1+random.Int64N(20)
		id := fmt.Sprint(testkit.RoleIndex(), " ", goroutine, " ", i)
		twice := random.IntN(3) == 0
		var r, again quota.Receipt
		switch random.IntN(6) {
		case 0:
			r, err = l.TopUp(ctx, account, amount, id)
			if twice && err == nil {
				again, err = l.TopUp(ctx, account, amount, id)
			}
			told.In[n] += r.Amount
		case 1:
			r, err = l.Deduct(ctx, account, amount, id)
			if twice && err == nil {
				again, err = l.Deduct(ctx, account, amount, id)
			}
			told.Out[n] += r.Amount
		case 2: // one request of all processes: each is told, one has done it
			id = fmt.Sprint("shared ", i)
			n = i % m.Accounts
			r, err = l.Deduct(ctx, fmt.Sprint("account ", n), 3, id)
			if !r.Repeated {
				told.Out[n] += r.Amount
			}
		default:
			r, err = l.ReserveFor(ctx, account, amount, time.Duration(1+random.IntN(20))*time.Millisecond, id)
			if err != nil || !r.OK {
				break
			}
			hold, held = r.ID, r.Amount
			if random.IntN(4) == 0 { // some end by themselves
				<-time.After(time.Duration(random.IntN(8)) * time.Millisecond)
			}
			switch random.IntN(4) {
			case 0:
				r, err = l.Cancel(ctx, account, hold)
			case 1, 2:
				part := 1 + random.Int64N(held)
				r, err = l.Commit(ctx, account, hold, part)
				if twice && err == nil && r.OK {
					again, err = l.Commit(ctx, account, hold, part)
				}
				told.Out[n] += r.Amount
			}
		}
		if err != nil {
			return told, err
		}
		if r.Balance < 0 || r.Held < 0 {
			return told, fmt.Errorf("%+v is below nothing", r)
		}
		if twice && again.ID != "" && (!again.Repeated || again.Amount != r.Amount || again.Balance != r.Balance || !again.At.Equal(r.At)) {
			return told, fmt.Errorf("repeated: %+v; first: %+v", again, r)
		}
	}
	return told, nil
}

// Four processes with sixteen goroutines each spend, hold, return and add to four
// accounts at once: what all have been told is what there is, to the last unit.
//
// Red when topup.lua or deduct.lua looks for no earlier request, when close returns
// r.amount - charged - 1, when a hold that ends is returned twice (open without
// a.drop), or not at all.
func TestLedger_conserved(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	for _, kind := range []string{"server", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			m := market{Spec: b.Spec(), Prefix: b.Prefix(t), Accounts: 4, Goroutines: 16, Requests: 120}
			x := teller{t, open(t, b.Client(t), m.Prefix)}
			var want [4]int64
			for n := range m.Accounts {
				want[n] = 2000
				x.topUp(fmt.Sprint("account ", n), want[n], "")
			}
			args, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			told := testkit.Decode[books](t, testkit.Spawn(t, 4, "market", string(args)).Wait())
			if len(told) != 4*m.Goroutines {
				t.Fatalf("%d goroutines told; want %d", len(told), 4*m.Goroutines)
			}
			for _, of := range told {
				for n := range m.Accounts {
					want[n] += of.In[n] - of.Out[n]
				}
			}
			for n := range m.Accounts {
				account := fmt.Sprint("account ", n)
				testkit.Eventually(t, "the last holds to end", func() bool { return x.balance(account).Held == 0 })
				if got := x.balance(account).Balance; got != want[n] || got < 0 {
					t.Errorf("%s has %d; all receipts make %d", account, got, want[n])
				}
			}
		})
	}
}
