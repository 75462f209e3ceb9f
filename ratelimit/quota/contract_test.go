package quota_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// Each operation in its plainest form.
func TestLedger_operations(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		x := teller{t, open(t, client, b.Prefix(t))}
		var hold, other string
		steps := []struct {
			name string
			do   func() quota.Receipt
			want string
		}{
			{"nothing yet", func() quota.Receipt { return x.balance("a") }, "done 0: 0, 0 held"},
			{"deduct of nothing", func() quota.Receipt { return x.deduct("a", 1, "") }, "insufficient 0: 0, 0 held"},
			{"top up", func() quota.Receipt { return x.topUp("a", 100, "") }, "done 100: 100, 0 held"},
			{"deduct", func() quota.Receipt { return x.deduct("a", 30, "") }, "done 30: 70, 0 held"},
			{"deduct too much", func() quota.Receipt { return x.deduct("a", 71, "") }, "insufficient 0: 70, 0 held"},
			{"reserve too much", func() quota.Receipt { return x.reserve("a", 71, "") }, "insufficient 0: 70, 0 held"},
			{"reserve", func() quota.Receipt { r := x.reserve("a", 40, ""); hold = r.ID; return r }, "done 40: 30, 40 held"},
			{"a hold cannot be spent", func() quota.Receipt { return x.deduct("a", 31, "") }, "insufficient 0: 30, 40 held"},
			{"reserve all that is left", func() quota.Receipt { r := x.reserve("a", 30, ""); other = r.ID; return r }, "done 30: 0, 70 held"},
			{"commit too much", func() quota.Receipt { return x.commit("a", hold, 41) }, "exceeds 0: 0, 70 held"},
			{"commit a part", func() quota.Receipt { return x.commit("a", hold, 25) }, "done 25: 15, 30 held"},
			{"commit more of the same", func() quota.Receipt { return x.commit("a", hold, 15) }, "committed 0: 15, 30 held"},
			{"cancel what is committed", func() quota.Receipt { return x.cancel("a", hold) }, "committed 0: 15, 30 held"},
			{"cancel", func() quota.Receipt { return x.cancel("a", other) }, "done 30: 45, 0 held"},
			{"commit what is cancelled", func() quota.Receipt { return x.commit("a", other, 1) }, "cancelled 0: 45, 0 held"},
			{"commit of no hold", func() quota.Receipt { return x.commit("a", "none", 1) }, "unknown 0: 45, 0 held"},
			{"cancel of no hold", func() quota.Receipt { return x.cancel("a", "none") }, "unknown 0: 45, 0 held"},
			{"another's hold", func() quota.Receipt { return x.cancel("b", other) }, "unknown 0: 0, 0 held"},
			{"the rest", func() quota.Receipt { return x.deduct("a", 45, "") }, "done 45: 0, 0 held"},
			{"after all", func() quota.Receipt { return x.balance("a") }, "done 0: 0, 0 held"},
		}
		for _, step := range steps {
			if got := show(step.do()); got != step.want {
				t.Errorf("%s: %s; want %s", step.name, got, step.want)
			}
		}
	})
}

// A repeated id is answered exactly as it was the first time, whatever happened
// since, and changes nothing.
//
// Red, for each operation, when its script does not look at a.record first, or
// close at r.endOp; and when conclude does not remember a refusal that is named.
func TestLedger_repeated(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		x := teller{t, open(t, client, b.Prefix(t))}
		x.topUp("a", 1000, "")
		x.reserve("a", 100, "to commit")
		x.reserve("a", 100, "to cancel")
		x.topUp("b", quota.MaxAmount, "")
		requests := map[string]func() quota.Receipt{
			"top up":               func() quota.Receipt { return x.topUp("a", 5, "1") },
			"deduct":               func() quota.Receipt { return x.deduct("a", 7, "2") },
			"reserve":              func() quota.Receipt { return x.reserve("a", 9, "3") },
			"refused deduct":       func() quota.Receipt { return x.deduct("a", 10_000, "4") },
			"refused reservation":  func() quota.Receipt { return x.reserve("a", 10_000, "5") },
			"refused top up":       func() quota.Receipt { return x.topUp("b", 1, "6") },
			"commit":               func() quota.Receipt { return x.commit("a", "to commit", 60) },
			"cancel":               func() quota.Receipt { return x.cancel("a", "to cancel") },
			"an id in many bytes":  func() quota.Receipt { return x.deduct("a", 1, strings.Repeat("long", 1e4)) },
			"an id of odd bytes":   func() quota.Receipt { return x.deduct("a", 1, "{x} y\n\x00\xff") },
			"an id like a member":  func() quota.Receipt { return x.deduct("a", 1, "balance") },
			"an id of one account": func() quota.Receipt { return x.topUp("c", 1, "1") },
		}
		first := make(map[string]quota.Receipt)
		for name, request := range requests {
			first[name] = request()
		}
		x.topUp("a", 20_000, "") // the refused ones would pass now
		x.deduct("b", 500, "")
		before := []string{show(x.balance("a")), show(x.balance("b")), show(x.balance("c"))}
		for range 2 {
			for name, request := range requests {
				t.Run(name, func(t *testing.T) { same(t, first[name], request()) })
			}
		}
		after := []string{show(x.balance("a")), show(x.balance("b")), show(x.balance("c"))}
		if !slices.Equal(before, after) {
			t.Errorf("balances %q, after the repetitions %q", before, after)
		}
	})
}

// An id that a receipt told, because the caller had given none, can be repeated as
// well.
func TestLedger_repeatedGenerated(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		x := teller{t, open(t, client, b.Prefix(t))}
		first := x.topUp("a", 5, "")
		if len(first.ID) < 20 || first.ID == x.topUp("a", 5, "").ID {
			t.Errorf("ID %q; want one of its own, that nobody guesses", first.ID)
		}
		same(t, first, x.topUp("a", 5, first.ID))
		x.has("a", 10, 0)
	})
}

// One id for two requests is an error, and changes nothing.
//
// Red when the script's again does not compare the operation, or the amount.
func TestLedger_reused(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		x := teller{t, open(t, client, b.Prefix(t))}
		x.topUp("a", 100, "top")
		x.deduct("a", 10, "ded")
		x.reserve("a", 10, "res")
		x.deduct("a", 1000, "refused")
		ctx, l := t.Context(), x.l
		tests := map[string]func() (quota.Receipt, error){
			"top up, another amount":    func() (quota.Receipt, error) { return l.TopUp(ctx, "a", 101, "top") },
			"top up as deduct":          func() (quota.Receipt, error) { return l.Deduct(ctx, "a", 100, "top") },
			"deduct, another amount":    func() (quota.Receipt, error) { return l.Deduct(ctx, "a", 11, "ded") },
			"deduct as reserve":         func() (quota.Receipt, error) { return l.Reserve(ctx, "a", 10, "ded") },
			"deduct as top up":          func() (quota.Receipt, error) { return l.TopUp(ctx, "a", 10, "ded") },
			"reserve, another amount":   func() (quota.Receipt, error) { return l.Reserve(ctx, "a", 9, "res") },
			"reserve as deduct":         func() (quota.Receipt, error) { return l.Deduct(ctx, "a", 10, "res") },
			"a refusal, another amount": func() (quota.Receipt, error) { return l.Deduct(ctx, "a", 1, "refused") },
		}
		for name, call := range tests {
			if r, err := call(); !errors.Is(err, quota.ErrReused) || r.OK || r.ID == "" {
				t.Errorf("%s: %+v, %v; want ErrReused", name, r, err)
			}
		}
		for _, id := range []string{"top", "ded", "refused"} {
			if r := x.commit("a", id, 1); r.Outcome != quota.Unknown {
				t.Errorf("commit of what is no hold: %s; want unknown", show(r))
			}
		}
		x.has("a", 80, 10)
	})
}

// A repeated Reserve tells how the hold has ended meanwhile.
func TestLedger_ended(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		x := teller{t, open(t, client, b.Prefix(t))}
		x.topUp("a", 100, "")
		for _, id := range []string{"open", "committed", "cancelled"} {
			if r := x.reserve("a", 10, id); r.Ended != "" || r.Expires.Sub(r.At) != time.Minute {
				t.Errorf("%+v; want an open hold for a minute", r)
			}
		}
		x.reserveFor("a", 10, time.Millisecond, "expired")
		x.commit("a", "committed", 10)
		x.cancel("a", "cancelled")
		testkit.Eventually(t, "the hold to end", func() bool { return x.balance("a").Held == 10 })
		for id, want := range map[string]quota.Outcome{"open": "", "committed": quota.Committed, "cancelled": quota.Cancelled, "expired": quota.Expired} {
			if r := x.reserve("a", 10, id); !r.OK || !r.Repeated || r.Ended != want {
				t.Errorf("%s: %+v; want it to have ended so", id, r)
			}
		}
	})
}

// The same request at the same time, under one id: it is carried out once, and
// all are told the same.
func TestLedger_repeatedAtOnce(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		x := teller{t, open(t, client, b.Prefix(t))}
		x.topUp("a", 100, "")
		receipts := make([]quota.Receipt, 40)
		var wg sync.WaitGroup
		for i := range receipts {
			wg.Go(func() { receipts[i], _ = x.l.Deduct(t.Context(), "a", 10, "once") })
		}
		wg.Wait()
		firsts := 0
		for _, r := range receipts {
			if !r.Repeated {
				firsts++
			}
			if show(r) != "done 10: 90, 0 held" {
				t.Errorf("%s; want done 10: 90, 0 held", show(r))
			}
		}
		if firsts != 1 {
			t.Errorf("%d were the first; want 1", firsts)
		}
		x.has("a", 90, 0)
	})
}

// Accounts do not share, nor do names and prefixes; the same of all does, over
// Ledgers.
func TestLedger_sharing(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		teller{t, open(t, client, prefix)}.topUp("alice", 7, "")
		teller{t, open(t, client, prefix, quota.WithName("sms"))}.topUp("alice", 9, "")
		tests := []struct {
			name    string
			ledger  *quota.Ledger
			account string
			want    int64
		}{
			{"same", open(t, client, prefix), "alice", 7},
			{"same name", open(t, client, prefix, quota.WithName("sms")), "alice", 9},
			{"another account", open(t, client, prefix), "bob", 0},
			{"another case", open(t, client, prefix), "Alice", 0},
			{"another name", open(t, client, prefix, quota.WithName("mms")), "alice", 0},
			{"another prefix", open(t, client, prefix+":x"), "alice", 0},
			{"name and account moved", open(t, client, prefix, quota.WithName("smsa")), "lice", 0},
		}
		for _, tt := range tests {
			if got := (teller{t, tt.ledger}).balance(tt.account).Balance; got != tt.want {
				t.Errorf("%s: %d; want %d", tt.name, got, tt.want)
			}
		}
	})
}

// Nothing of what callers know their users and requests by reaches Redis, nor can
// it break out of the key's name.
func TestLedger_namesAreNotTold(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		x := teller{t, open(t, client, prefix, quota.WithName("secretname"))}
		accounts := []string{"192.0.2.17", "alice@example.com", "{alice}", "alice}:x{", "\x00\xff", strings.Repeat("alice", 1e5)}
		for _, account := range accounts {
			x.topUp(account, 2, "secret "+account)
			x.reserve(account, 1, "example order")
		}
		keys := testkit.Keys(t, client, prefix)
		if len(keys) != len(accounts) {
			t.Errorf("%d keys; want one for each of %d", len(keys), len(accounts))
		}
		for _, key := range keys {
			all := key
			for _, z := range testkit.Members(t, client, key) {
				all += " " + z.Member.(string)
			}
			for _, told := range []string{"192.0.2", "alice", "example", "secret", "order"} {
				if strings.Contains(all, told) {
					t.Errorf("%q tells %q", all, told)
				}
			}
			if !strings.HasPrefix(key, prefix+":quota:{") || len(key)-len(prefix) > 40 {
				t.Errorf("key %q; want %s:quota:{22 characters}", key, prefix)
			}
		}
	})
}

// What cannot be asked is refused without asking.
func TestLedger_refusedUnasked(t *testing.T) {
	t.Parallel()
	l := open(t, testkit.Mini(t).Client(t), "weir")
	ctx := t.Context()
	tests := []struct {
		name string
		call func() (quota.Receipt, error)
		want error
		text string
	}{
		{"balance of nobody", func() (quota.Receipt, error) { return l.Balance(ctx, "") }, quota.ErrEmptyAccount, "quota: balance: empty account"},
		{"top up of nobody", func() (quota.Receipt, error) { return l.TopUp(ctx, "", 1, "") }, quota.ErrEmptyAccount, "quota: top up: "},
		{"cancel of nobody", func() (quota.Receipt, error) { return l.Cancel(ctx, "", "x") }, quota.ErrEmptyAccount, "quota: cancel: "},
		{"commit of nobody", func() (quota.Receipt, error) { return l.Commit(ctx, "", "x", 1) }, quota.ErrEmptyAccount, "quota: commit: "},
		{"commit of nothing", func() (quota.Receipt, error) { return l.Commit(ctx, "a", "", 1) }, quota.ErrEmptyHold, "quota: commit: empty hold"},
		{"cancel of nothing", func() (quota.Receipt, error) { return l.Cancel(ctx, "a", "") }, quota.ErrEmptyHold, "quota: cancel: empty hold"},
		{"zero", func() (quota.Receipt, error) { return l.TopUp(ctx, "a", 0, "") }, quota.ErrAmount, "amount out of range: 0: must be from 1 to 9007199254740992"},
		{"negative", func() (quota.Receipt, error) { return l.Deduct(ctx, "a", -1, "") }, quota.ErrAmount, "quota: deduct: amount out of range: -1"},
		{"most negative", func() (quota.Receipt, error) { return l.Reserve(ctx, "a", -1<<63, "") }, quota.ErrAmount, "quota: reserve: "},
		{"2^53 + 1", func() (quota.Receipt, error) { return l.TopUp(ctx, "a", quota.MaxAmount+1, "") }, quota.ErrAmount, "9007199254740993"},
		{"2^63 - 1", func() (quota.Receipt, error) { return l.Commit(ctx, "a", "x", 1<<63-1) }, quota.ErrAmount, "quota: commit: "},
		{"commit zero", func() (quota.Receipt, error) { return l.Commit(ctx, "a", "x", 0) }, quota.ErrAmount, "quota: commit: "},
		{"hold without time", func() (quota.Receipt, error) { return l.ReserveFor(ctx, "a", 1, 0, "") }, quota.ErrAmount, "a hold of 0s: must be from 1ms to 8784h0m0s"},
		{"hold for ever", func() (quota.Receipt, error) { return l.ReserveFor(ctx, "a", 1, 1<<62, "") }, quota.ErrAmount, "must be from 1ms"},
	}
	for _, tt := range tests {
		if r, err := tt.call(); !errors.Is(err, tt.want) || !strings.Contains(fmt.Sprint(err), tt.text) || r.OK || r.Outcome != "" {
			t.Errorf("%s: %+v, %v; want %q", tt.name, r, err, tt.text)
		}
	}
}

// A call is one command in one round trip, whatever it does.
func TestLedger_oneRoundTrip(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			client, proxies := b.ProxiedClient(t)
			x := teller{t, open(t, client, b.Prefix(t))}
			run := func() (calls int) {
				for _, a := range strings.Split("abcdefgh", "") {
					x.topUp(a, 100, "")
					x.deduct(a, 1, "")
					h := x.reserve(a, 10, "").ID
					x.reserve(a, 1000, "")
					x.commit(a, h, 5)
					x.cancel(a, x.reserve(a, 10, "").ID)
					x.balance(a)
					calls += 8
				}
				return calls
			}
			run() // connections, slots, the scripts on every node
			proxies.Each((*testkit.Proxy).Reset)
			want := run()
			if trips, commands := proxies.RoundTrips(), proxies.Commands(); trips != want || commands != want {
				t.Errorf("%d calls took %d round trips and %d commands; want one each", want, trips, commands)
			}
		})
	}
}

// SCRIPT FLUSH costs the next call one more trip, and no verdict.
func TestLedger_scriptFlush(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t) // of its own: it is flushed
	client, proxies := b.ProxiedClient(t)
	x := teller{t, open(t, client, b.Prefix(t))}
	x.topUp("a", 10, "")
	x.deduct("a", 1, "")
	if err := b.Client(t).ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{2, 1} {
		proxies.Each((*testkit.Proxy).Reset)
		if r := x.deduct("a", 1, ""); r.Balance != int64(8-i) || proxies.RoundTrips() != want {
			t.Errorf("call %d after the flush: %s, %d round trips; want %d left, %d", i+1, show(r), proxies.RoundTrips(), 8-i, want)
		}
	}
}
