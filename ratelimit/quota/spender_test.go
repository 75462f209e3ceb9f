package quota_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// The accounts of a spree: from the first ones it only deducts, so that their balances
// tell the order of all deductions; from the others it reserves.
const (
	spendAccounts = 6
	holdAccounts  = 2
)

// spree is a list of operations, and what a process that carries out a part of it
// needs to know.
type spree struct {
	Prefix     string
	Cluster    bool
	Behind     map[string]string // a node's address to that of its proxy
	Slot       int               // which part of the list
	Goroutines int
	Each       int   // operations of a goroutine
	Known      []int // of each goroutine, how many it need not begin again
	Mutant     mutant
}

// operation is one of them. Whoever carries it out again uses the same id.
type operation struct {
	id, account  string
	amount, part int64 // part is what is committed of a hold
	hold         time.Duration
	ending       string // of a hold: commit, cancel, or leave
}

// operation makes the i-th operation of a goroutine: the same one in every process.
func (s *spree) operation(slot, goroutine, i int) operation {
	random := rand.New(rand.NewPCG(uint64(slot)<<32|uint64(goroutine), uint64(i)))
	o := operation{
		id:      fmt.Sprint(slot, " ", goroutine, " ", i),
		account: fmt.Sprint("spend ", random.IntN(spendAccounts)),
		amount:  1 + random.Int64N(20),
	}
	if i%6 != 5 {
		return o
	}
	o.account = fmt.Sprint("hold ", random.IntN(holdAccounts))
	o.part = 1 + random.Int64N(o.amount)
	o.hold = time.Duration(20+random.IntN(400)) * time.Millisecond
	o.ending = []string{"commit", "commit", "commit", "cancel", "leave"}[random.IntN(5)]
	return o
}

// told is what a process was told of an operation.
type told struct {
	Goroutine, Number int
	Receipt           quota.Receipt
	Ending            quota.Receipt // of a hold that was not left
	Asked             int           // calls that it took
	Error             string
}

func init() { testkit.Role("spender", runSpender) }

func runSpender(ctx context.Context, args []string) error {
	var s spree
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	client := s.connect()
	defer client.Close()
	if s.Mutant.File != "" {
		hook, err := s.Mutant.hook()
		if err != nil {
			return err
		}
		client.AddHook(hook)
	}
	l, err := quota.New(client, quota.WithPrefix(s.Prefix), quota.WithTimeout(200*time.Millisecond))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for g := range s.Goroutines {
		wg.Go(func() {
			for i := s.Known[g]; i < s.Each && ctx.Err() == nil; i++ {
				t := s.carryOut(ctx, l, s.operation(s.Slot, g, i))
				if ctx.Err() == nil {
					t.Goroutine, t.Number = g, i
					testkit.Emit(t)
				}
				if t.Error != "" {
					return
				}
			}
		})
	}
	wg.Wait()
	return nil
}

// connect reaches each node through its proxy.
func (s *spree) connect() redis.UniversalClient {
	o := &redis.UniversalOptions{IsClusterMode: s.Cluster}
	for node := range s.Behind {
		o.Addrs = append(o.Addrs, node)
	}
	o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialer := net.Dialer{Timeout: time.Second}
		return dialer.DialContext(ctx, network, s.Behind[addr])
	}
	return redis.NewUniversalClient(o)
}

// carryOut does one operation, and asks until it has an answer.
func (s *spree) carryOut(ctx context.Context, l *quota.Ledger, o operation) (t told) {
	ask := func(call func() (quota.Receipt, error)) quota.Receipt {
		for {
			t.Asked++
			r, err := call()
			if err == nil || ctx.Err() != nil {
				return r
			}
			if !errors.Is(err, quota.ErrUnavailable) {
				t.Error = err.Error()
				return r
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	if o.ending == "" {
		t.Receipt = ask(func() (quota.Receipt, error) { return l.Deduct(ctx, o.account, o.amount, o.id) })
		return t
	}
	t.Receipt = ask(func() (quota.Receipt, error) { return l.ReserveFor(ctx, o.account, o.amount, o.hold, o.id) })
	if !t.Receipt.OK {
		return t
	}
	switch o.ending {
	case "commit":
		t.Ending = ask(func() (quota.Receipt, error) { return l.Commit(ctx, o.account, o.id, o.part) })
	case "cancel":
		t.Ending = ask(func() (quota.Receipt, error) { return l.Cancel(ctx, o.account, o.id) })
	}
	return t
}

// mutant is a fault put into a script of lua/.
type mutant struct{ File, Is, Becomes string }

// hook sends the faulty text in the place of the true one.
func (m mutant) hook() (redis.Hook, error) {
	h := mutation{}
	account, err := os.ReadFile("lua/account.lua")
	if err != nil {
		return nil, err
	}
	for _, file := range []string{"topup.lua", "deduct.lua", "reserve.lua", "commit.lua", "cancel.lua", "balance.lua"} {
		if m.File != file && m.File != "account.lua" {
			continue
		}
		script, err := os.ReadFile("lua/" + file)
		if err != nil {
			return nil, err
		}
		text := string(account) + string(script)
		faulty := strings.Replace(text, m.Is, m.Becomes, 1)
		if faulty == text {
			return nil, fmt.Errorf("%s has no %q", m.File, m.Is)
		}
		sum := sha1.Sum([]byte(text))
		h[hex.EncodeToString(sum[:])] = faulty
	}
	return h, nil
}

// mutation replaces scripts, known by their SHA-1, on their way to Redis.
type mutation map[string]string

func (m mutation) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m mutation) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		m.replace(cmd)
		return next(ctx, cmd)
	}
}

func (m mutation) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			m.replace(cmd)
		}
		return next(ctx, cmds)
	}
}

func (m mutation) replace(cmd redis.Cmder) {
	args := cmd.Args()
	if len(args) < 2 || args[0] != "evalsha" {
		return
	}
	if text, known := m[args[1].(string)]; known {
		args[0], args[1] = "eval", text
	}
}
