package quota_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// slack is what a call may take beyond its budget on a machine that runs other
// tests as well.
const slack = 500 * time.Millisecond

// With Redis silent under load every call ends in ErrUnavailable within the budget,
// none is taken for done, and Redis decides again once it is back.
func TestLedger_silence(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes seconds")
	}
	t.Parallel()
	const budget = 50 * time.Millisecond
	b := testkit.Server(t)
	prefix := b.Prefix(t)
	l := open(t, b.Client(t), prefix, quota.WithTimeout(budget))
	x := teller{t, open(t, b.Client(t), prefix)}
	x.topUp("a", 100, "")
	testkit.Eventually(t, "the first answer", func() bool {
		_, err := l.Balance(t.Context(), "a")
		return err == nil
	})
	b.Pause()
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
				begun := time.Now()
				r, err := l.Deduct(context.Background(), "a", 1, "one request")
				if !errors.Is(err, quota.ErrUnavailable) || r.OK || r.Balance != 0 || r.ID != "one request" {
					t.Errorf("%+v, %v; want ErrUnavailable", r, err)
				}
				if took := time.Since(begun); took > budget+slack {
					t.Errorf("took %v; want at most the budget of %v", took, budget)
				}
				<-time.After(200 * time.Microsecond)
			}
		})
	}
	wg.Wait()
	b.Resume()
	testkit.Eventually(t, "Redis to be noticed", func() bool {
		_, err := l.Balance(t.Context(), "a")
		return err == nil
	})
	// What was sent into the silence runs now, any number of times: one request.
	x.deduct("a", 1, "one request")
	x.has("a", 99, 0)
}

// The caller's own end passes as it is; an answer that never came is no receipt.
func TestLedger_callerGone(t *testing.T) {
	t.Parallel()
	l := open(t, redis.NewClient(&redis.Options{Addr: testkit.HungServer(t)}), "weir")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if r, err := l.Deduct(ctx, "a", 1, ""); err != context.DeadlineExceeded || r.OK || r.ID == "" {
		t.Errorf("%+v, %v; want context.DeadlineExceeded itself, and the ID", r, err)
	}
}

// A server that refuses the script is no silence.
func TestLedger_refusedByServer(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	client := b.Client(t)
	b.Miniredis().RequireAuth("secret")
	l := open(t, client, "weir")
	if r, err := l.TopUp(t.Context(), "a", 1, ""); err == nil || errors.Is(err, quota.ErrUnavailable) || r.OK {
		t.Errorf("%+v, %v; want NOAUTH", r, err)
	}
}
