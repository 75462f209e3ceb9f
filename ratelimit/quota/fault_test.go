package quota_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// soak reports whether campaigns are to take their long form: make soak.
func soak() bool { return os.Getenv("WEIR_SOAK") == "1" }

// auditor runs a spree in several processes, breaks what they stand on, and compares
// what they were told with what the accounts have.
type auditor struct {
	t       *testing.T
	b       *testkit.Backend
	client  redis.UniversalClient // past the proxies
	spree   spree
	slots   int
	proxies [][]*testkit.Proxy // of each slot
	start   map[string]int64

	mu     sync.Mutex
	books  map[string]told // by operation
	faults []string        // of the ledger

	processKills, serverKills, again int
}

// newAuditor makes a spree of so many operations for each of four processes' goroutines,
// and accounts that have not enough for it.
func newAuditor(t *testing.T, b *testkit.Backend, goroutines, each int, m mutant) *auditor {
	t.Helper()
	a := &auditor{
		t: t, b: b, client: b.Client(t), slots: 4,
		start: make(map[string]int64), books: make(map[string]told),
		spree: spree{Prefix: b.Prefix(t), Cluster: len(b.Nodes()) > 1, Goroutines: goroutines, Each: each, Mutant: m},
	}
	for range a.slots {
		var of []*testkit.Proxy
		for _, n := range b.Nodes() {
			of = append(of, testkit.NewProxy(t, n.Addr()))
		}
		a.proxies = append(a.proxies, of)
	}
	wanted := make(map[string]int64)
	a.all(func(slot, goroutine, i int) {
		o := a.spree.operation(slot, goroutine, i)
		wanted[o.account] += o.amount
	})
	x := teller{t, open(t, a.client, a.spree.Prefix)}
	for account, sum := range wanted {
		a.start[account] = sum * 95 / 100 // the last ones meet an empty account
		if strings.HasPrefix(account, "hold ") {
			a.start[account] = sum / 4
		}
		x.topUp(account, a.start[account], "")
	}
	return a
}

func (a *auditor) all(do func(slot, goroutine, i int)) {
	for slot := range a.slots {
		for goroutine := range a.spree.Goroutines {
			for i := range a.spree.Each {
				do(slot, goroutine, i)
			}
		}
	}
}

// run carries out the spree. It returns when each operation has its answer, or one has
// an error.
func (a *auditor) run(breaks bool) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for slot := range a.slots {
		wg.Go(func() { a.fill(slot) })
	}
	go func() { wg.Wait(); close(done) }()
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(5+rand.IntN(40)) * time.Millisecond):
			a.breakSomething(breaks)
		}
	}
}

// fill keeps a process at work on a part of the spree, and kills it now and then. The
// next one begins two operations before the last of which something was heard.
func (a *auditor) fill(slot int) {
	s := a.spree
	s.Slot, s.Known, s.Behind = slot, make([]int, s.Goroutines), make(map[string]string)
	for i, n := range a.b.Nodes() {
		s.Behind[n.Addr()] = a.proxies[slot][i].Addr()
	}
	for life := 100*time.Millisecond + rand.N(200*time.Millisecond); ; life = 200*time.Millisecond + rand.N(1300*time.Millisecond) {
		args, err := json.Marshal(s)
		if err != nil {
			a.t.Error(err)
			return
		}
		p := testkit.Spawn(a.t, 1, "spender", string(args))
		killer := time.AfterFunc(life, func() { p.Kill(0) })
		lines := p.Wait()
		killer.Stop()
		heard, failed := a.enter(slot, lines)
		left := 0
		for g, n := range heard {
			left += s.Each - max(n, s.Known[g])
			s.Known[g] = max(n-2, s.Known[g])
		}
		if left == 0 || failed || a.t.Failed() {
			return
		}
		a.mu.Lock()
		a.processKills++
		a.mu.Unlock()
	}
}

// enter puts what a process was told into the books. It returns how many operations of
// each goroutine are there.
func (a *auditor) enter(slot int, lines []testkit.Line) (heard []int, failed bool) {
	heard = make([]int, a.spree.Goroutines)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range testkit.Decode[told](a.t, lines) {
		o := a.spree.operation(slot, t.Goroutine, t.Number)
		if t.Error != "" {
			a.fault("%q: %s", o.id, t.Error)
			return heard, true
		}
		heard[t.Goroutine] = t.Number + 1
		before, known := a.books[o.id]
		if !known {
			a.books[o.id] = t
			continue
		}
		a.again++
		if !sameAnswer(before.Receipt, t.Receipt) || !sameAnswer(before.Ending, t.Ending) {
			a.fault("%q was answered %+v, and again %+v", o.id, before, t)
		}
	}
	return heard, false
}

// sameAnswer reports whether two processes were told the same.
func sameAnswer(one, other quota.Receipt) bool {
	one.Repeated, one.Ended, other.Repeated, other.Ended = false, "", false, ""
	if !one.OK && one.Outcome == other.Outcome && one.Outcome == quota.Expired {
		return true // with the balance of each moment
	}
	return one.At.Equal(other.At) && one.Expires.Equal(other.Expires) &&
		one.Outcome == other.Outcome && one.Amount == other.Amount && one.Balance == other.Balance && one.Held == other.Held
}

func (a *auditor) fault(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// breakSomething breaks one thing for a while: what one process hears, its connections,
// everybody's, the scripts, or with servers a server itself.
func (a *auditor) breakSomething(servers bool) {
	of := a.proxies[rand.IntN(a.slots)]
	p := of[rand.IntN(len(of))]
	switch rand.IntN(14) {
	case 0, 1, 2, 3:
		p.SwallowReply(1+rand.IntN(20), "eval", testkit.ThenClose)
	case 4, 5:
		p.SwallowReply(1+rand.IntN(3), "eval", testkit.ThenSilence)
		a.pause(60 * time.Millisecond)
		p.Heal()
	case 6:
		p.Hang()
		a.pause(60 * time.Millisecond)
		p.Heal()
	case 7, 8, 9:
		p.Cut()
	case 10, 11:
		_ = a.eachMaster(func(c *redis.Client) error {
			return c.ClientKillByFilter(a.t.Context(), "TYPE", "normal", "SKIPME", "yes").Err()
		})
	case 12:
		_ = a.eachMaster(func(c *redis.Client) error { return c.ScriptFlush(a.t.Context()).Err() })
	case 13:
		if !servers || rand.IntN(2) == 0 {
			return
		}
		node := a.b.Nodes()[rand.IntN(len(a.b.Nodes()))]
		node.Kill()
		a.pause(rand.N(50 * time.Millisecond))
		node.Restart(a.t)
		a.serverKills++
	}
}

// eachMaster asks every server, of which any may be away.
func (a *auditor) eachMaster(do func(*redis.Client) error) error {
	for _, n := range a.b.Nodes() {
		c := redis.NewClient(&redis.Options{Addr: n.Addr(), MaxRetries: -1})
		err := do(c)
		_ = c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *auditor) pause(d time.Duration) {
	select {
	case <-a.t.Context().Done():
	case <-time.After(d):
	}
}

// audit compares the books with the accounts, to the last unit, and logs what there was.
func (a *auditor) audit() (faults []string) {
	a.t.Helper()
	if len(a.faults) > 0 {
		return a.faults
	}
	a.b.Settle(a.t) // a server may have been killed a moment ago
	spent := make(map[string]int64)
	deductions := make(map[string][]quota.Receipt)
	tally := make(map[string]int)
	a.all(func(slot, goroutine, i int) {
		o := a.spree.operation(slot, goroutine, i)
		t, known := a.books[o.id]
		if !known {
			a.fault("%q has no answer", o.id)
			return
		}
		for _, r := range []quota.Receipt{t.Receipt, t.Ending} {
			if r.Balance < 0 || r.Held < 0 {
				a.fault("%q: %+v is below nothing", o.id, r)
			}
			if r.Repeated {
				tally["answers of earlier calls"]++
			}
		}
		tally["calls"] += t.Asked
		switch {
		case o.ending != "":
			spent[o.account] += a.charged(o, t)
			tally["holds "+string(cmp.Or(t.Ending.Outcome, t.Receipt.Outcome))]++
		case t.Receipt.OK:
			spent[o.account] += o.amount
			deductions[o.account] = append(deductions[o.account], t.Receipt)
			tally["deductions"]++
		case t.Receipt.Outcome != quota.Insufficient || t.Receipt.Balance >= o.amount:
			a.fault("%q: %+v is no refusal of %d", o.id, t.Receipt, o.amount)
		default:
			tally["deductions refused"]++
		}
	})
	for account, receipts := range deductions {
		a.chain(account, receipts)
	}
	x := teller{a.t, open(a.t, a.client, a.spree.Prefix)}
	for account, start := range a.start {
		testkit.Eventually(a.t, "the last holds to end", func() bool { return x.balance(account).Held == 0 })
		if end := x.balance(account).Balance; start-end != spent[account] || end < 0 {
			a.fault("%s: %d at the start, %d at the end: %d are gone, but the receipts make %d", account, start, end, start-end, spent[account])
		}
	}
	swallowed := 0
	for _, of := range a.proxies {
		for _, p := range of {
			swallowed += p.Swallowed()
		}
	}
	a.t.Logf("%v; %d operations begun again; %d processes and %d servers killed, %d replies swallowed",
		tally, a.again, a.processKills, a.serverKills, swallowed)
	if soak() && (swallowed == 0 || a.processKills == 0) {
		a.fault("nothing was broken") // which a fast machine may do to the short form
	}
	return a.faults
}

// charged is what a hold cost.
func (a *auditor) charged(o operation, t told) int64 {
	r := t.Ending
	switch {
	case !t.Receipt.OK || o.ending == "leave" || r.Outcome == quota.Expired && !r.OK:
		return 0
	case o.ending == "cancel" && r.OK && r.Amount == o.amount:
		return 0
	case o.ending == "commit" && r.OK && r.Amount == o.part:
		return o.part
	}
	a.fault("%q: %s of %d in %d: %+v", o.id, o.ending, o.part, o.amount, r)
	return 0
}

// chain says that each deduction begins where another one ends: of an account that is
// only deducted from, the balances are the order.
func (a *auditor) chain(account string, receipts []quota.Receipt) {
	slices.SortFunc(receipts, func(one, other quota.Receipt) int { return cmp.Compare(other.Balance, one.Balance) })
	balance := a.start[account]
	for _, r := range receipts {
		if balance-r.Amount != r.Balance {
			a.fault("%s: had %d, and %d after %q took %d", account, balance, r.Balance, r.ID, r.Amount)
			return
		}
		balance = r.Balance
	}
}

// Σ deducted = start − end. Four processes spend and reserve, each through a proxy that
// loses replies after the script ran, falls silent and cuts connections; processes are
// killed with -9, and their work is begun again under the same ids; so are servers,
// which write each command to disk before they answer. Each operation counts once, no
// account is overdrawn, and what dead processes held returns.
//
// WEIR_SOAK=1 makes it more than 100,000 deductions. What it finds: see
// TestLedger_faultsFindMutants.
func TestLedger_exactUnderFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	durable := []string{"--appendonly", "yes", "--appendfsync", "always"}
	goroutines, each := 8, 30
	if soak() {
		goroutines, each = 16, 2000
	}
	for kind, start := range map[string]func(testing.TB, ...string) *testkit.Backend{"server": testkit.Server, "cluster3": testkit.Cluster3} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			a := newAuditor(t, start(t, durable...), goroutines, each, mutant{})
			a.run(true)
			for _, fault := range a.audit() {
				t.Error(fault)
			}
		})
	}
}

// The campaign finds each of these faults.
func TestLedger_faultsFindMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	for name, m := range map[string]mutant{
		"deduct does not look for the id": {"deduct.lua", "if a.record then return again(a.record, 'deduct', amount, call) end", ""},
		"deduct does not look for cover":  {"deduct.lua", "if amount > a.balance then", "if false then"},
		"a hold is returned and stays":    {"account.lua", "a.drop[#a.drop + 1] = hold", ""},
		"a commit loses a unit":           {"account.lua", "a.balance + r.amount - charged", "a.balance + r.amount - charged - 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 5 {
				a := newAuditor(t, testkit.Server(t), 8, 30, m)
				a.run(false)
				if faults := a.audit(); len(faults) > 0 {
					t.Log(faults[0])
					return
				}
			}
			t.Error("the campaign found nothing")
		})
	}
}
