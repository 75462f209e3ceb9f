package quota_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// model is the specification in its plainest form: one account, every request
// there ever was, every hold.
type model struct {
	balance int64
	holds   map[string]*modelHold
	asked   map[string]modelRequest
}

type modelHold struct {
	amount  int64
	expires time.Time
	ended   quota.Outcome
	receipt quota.Receipt // of what closed it
	closing modelRequest
}

type modelRequest struct {
	op      string
	amount  int64
	receipt quota.Receipt
}

func newModel() *model {
	return &model{holds: make(map[string]*modelHold), asked: make(map[string]modelRequest)}
}

// pass lets time go on to now.
func (m *model) pass(now time.Time) {
	for _, h := range m.holds {
		if h.ended == "" && !h.expires.After(now) {
			h.ended = quota.Expired
			m.balance += h.amount
		}
	}
}

func (m *model) held() (sum int64) {
	for _, h := range m.holds {
		if h.ended == "" {
			sum += h.amount
		}
	}
	return sum
}

// begin is the answer owed to a top up, deduct or reserve at now.
func (m *model) begin(now time.Time, op string, amount int64, d time.Duration, id string) (quota.Receipt, error) {
	m.pass(now)
	if first, ok := m.asked[id]; ok {
		if first.op != op || first.amount != amount {
			return quota.Receipt{ID: id}, quota.ErrReused
		}
		r := first.receipt
		r.Repeated = true
		if h := m.holds[id]; h != nil {
			r.Ended = h.ended
		}
		return r, nil
	}
	r := quota.Receipt{OK: true, Outcome: quota.Done, ID: id, Amount: amount, At: now}
	switch {
	case op == "top up" && m.balance+m.held()+amount > quota.MaxAmount:
		r.Outcome = quota.Overflow
	case op == "top up":
		m.balance += amount
	case m.balance < amount:
		r.Outcome = quota.Insufficient
	case op == "reserve":
		r.Expires = now.Add(d)
		m.holds[id] = &modelHold{amount: amount, expires: r.Expires}
		fallthrough
	default:
		m.balance -= amount
	}
	if r.Outcome != quota.Done {
		r.OK, r.Amount = false, 0
	}
	r.Balance, r.Held = m.balance, m.held()
	m.asked[id] = modelRequest{op, amount, r}
	return r, nil
}

// end is the answer owed to a commit or cancel at now.
func (m *model) end(now time.Time, op string, amount int64, id string) quota.Receipt {
	m.pass(now)
	h := m.holds[id]
	r := quota.Receipt{ID: id, At: now}
	switch {
	case h == nil:
		r.Outcome = quota.Unknown
	case h.ended != "" && h.closing.op == op && h.closing.amount == amount:
		r = h.receipt
		r.Repeated = true
		return r
	case h.ended != "":
		r.Outcome = h.ended
	case op == "commit" && amount > h.amount:
		r.Outcome = quota.Exceeds
	case op == "commit":
		h.ended, r.Amount = quota.Committed, amount
		m.balance += h.amount - amount
	default:
		h.ended, r.Amount = quota.Cancelled, h.amount
		m.balance += h.amount
	}
	r.Balance, r.Held = m.balance, m.held()
	if r.Outcome == "" {
		r.OK, r.Outcome, r.Ended = true, quota.Done, h.ended
		h.receipt, h.closing = r, modelRequest{op: op, amount: amount}
	}
	return r
}

// Long sequences of all operations, ids repeated, reused and made up, holds ending
// at every moment: each answer is the model's, to the last field.
//
// Red under every mutation of the scripts named elsewhere in this package.
func TestLedger_followsTheModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("faked time ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				follow(t, testkit.Memory(t).Client(t), "weir", seed, 1200, time.Sleep)
			})
		})
	}
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		follow(t, b.Client(t), b.Prefix(t), 99, 1200, nil)
	})
}

// follow does steps requests. Without sleep time is Redis's, which the answers tell.
func follow(t *testing.T, client redis.UniversalClient, prefix string, seed uint64, steps int, sleep func(time.Duration)) {
	l, ctx, m := open(t, client, prefix), t.Context(), newModel()
	random := rand.New(rand.NewPCG(seed, 1))
	scale := int64(20)
	if seed%2 == 1 {
		scale = quota.MaxAmount / 30
	}
	ids := []string{"none"}
	for step := range steps {
		id := fmt.Sprint("id ", step)
		if random.IntN(4) == 0 {
			id = ids[max(0, len(ids)-1-random.IntN(12))]
		}
		ids = append(ids, id)
		hold := ids[max(0, len(ids)-1-random.IntN(30))]
		amount := 1 + random.Int64N(scale)
		if first, ok := m.asked[id]; ok && random.IntN(3) > 0 {
			amount = first.amount
		}
		if h := m.holds[hold]; h != nil && h.closing.amount > 0 && random.IntN(3) > 0 {
			amount = h.closing.amount
		}
		d := time.Duration(1+random.IntN(60)) * time.Millisecond
		var got, want quota.Receipt
		var err, wantErr error
		now := func() time.Time { // of an answer that is new
			if sleep != nil {
				return time.Now()
			}
			return got.At
		}
		op := []string{"top up", "deduct", "reserve", "reserve", "commit", "cancel", "balance"}[random.IntN(7)]
		switch op {
		case "top up":
			amount = min(5*amount, quota.MaxAmount)
			got, err = l.TopUp(ctx, "a", amount, id)
			want, wantErr = m.begin(now(), op, amount, 0, id)
		case "deduct":
			got, err = l.Deduct(ctx, "a", amount, id)
			want, wantErr = m.begin(now(), op, amount, 0, id)
		case "reserve":
			got, err = l.ReserveFor(ctx, "a", amount, d, id)
			want, wantErr = m.begin(now(), op, amount, d, id)
			if sleep == nil && got.Repeated && want.Ended != quota.Committed && want.Ended != quota.Cancelled {
				want.Ended = got.Ended // it may have ended since the model last knew the time
			}
		case "commit":
			got, err = l.Commit(ctx, "a", hold, amount)
			want = m.end(now(), op, amount, hold)
		case "cancel":
			got, err = l.Cancel(ctx, "a", hold)
			want = m.end(now(), op, 0, hold)
		case "balance":
			got, err = l.Balance(ctx, "a")
			m.pass(now())
			want = quota.Receipt{OK: true, Outcome: quota.Done, Balance: m.balance, Held: m.held(), At: now()}
		}
		if !errors.Is(err, wantErr) || wantErr == nil && err != nil {
			t.Fatalf("step %d: %s: %v; want %v", step, op, err, wantErr)
		}
		got.At, want.At = got.At.UTC().Round(0), want.At.UTC().Round(0)
		got.Expires, want.Expires = got.Expires.UTC().Round(0), want.Expires.UTC().Round(0)
		if wantErr == nil && got != want {
			t.Fatalf("step %d: %s %d of %q:\n got %+v\nwant %+v", step, op, amount, id, got, want)
		}
		if sleep != nil {
			sleep(time.Duration(random.IntN(10_000)) * time.Microsecond)
		} else if random.IntN(10) == 0 {
			<-time.After(time.Duration(random.IntN(3)) * time.Millisecond)
		}
	}
}
