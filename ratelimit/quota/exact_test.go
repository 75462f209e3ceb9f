package quota_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

const most = int64(quota.MaxAmount)

// Up to 2^53 every digit is kept, in what is stored and in what is told; beyond,
// nothing is accepted, and nothing changes.
//
// Red when topup.lua adds before it compares ("a.balance + a.held + amount > MOST":
// 2^53 + 1 is 2^53 to it), or leaves held out; and when digits is tostring.
func TestLedger_limits(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		x := teller{t, open(t, client, b.Prefix(t))}
		steps := []struct {
			do   func() quota.Receipt
			want string
		}{
			{func() quota.Receipt { return x.topUp("a", most, "") }, "done 9007199254740992: 9007199254740992, 0 held"},
			{func() quota.Receipt { return x.topUp("a", 1, "") }, "overflow 0: 9007199254740992, 0 held"},
			{func() quota.Receipt { return x.topUp("a", most, "") }, "overflow 0: 9007199254740992, 0 held"},
			{func() quota.Receipt { return x.deduct("a", 1, "") }, "done 1: 9007199254740991, 0 held"},
			{func() quota.Receipt { return x.topUp("a", 2, "") }, "overflow 0: 9007199254740991, 0 held"},
			{func() quota.Receipt { return x.reserve("a", most-1, "h") }, "done 9007199254740991: 0, 9007199254740991 held"},
			{func() quota.Receipt { return x.topUp("a", 2, "") }, "overflow 0: 0, 9007199254740991 held"},
			{func() quota.Receipt { return x.topUp("a", 1, "") }, "done 1: 1, 9007199254740991 held"},
			{func() quota.Receipt { return x.commit("a", "h", most) }, "exceeds 0: 1, 9007199254740991 held"},
			{func() quota.Receipt { return x.commit("a", "h", 1) }, "done 1: 9007199254740991, 0 held"},
			{func() quota.Receipt { return x.reserve("a", most-2, "i") }, "done 9007199254740990: 1, 9007199254740990 held"},
			{func() quota.Receipt { return x.cancel("a", "i") }, "done 9007199254740990: 9007199254740991, 0 held"},
			{func() quota.Receipt { return x.deduct("a", most, "") }, "insufficient 0: 9007199254740991, 0 held"},
			{func() quota.Receipt { return x.deduct("a", most-3, "j") }, "done 9007199254740989: 2, 0 held"},
			{func() quota.Receipt { return x.deduct("a", most-3, "j") }, "done 9007199254740989: 2, 0 held"},
			{func() quota.Receipt { return x.balance("a") }, "done 0: 2, 0 held"},
		}
		for i, step := range steps {
			if got := show(step.do()); got != step.want {
				t.Errorf("step %d: %s; want %s", i+1, got, step.want)
			}
		}
		// Where doubles with 15 digits or less would round.
		for _, n := range []int64{999_999_999_999_999, 1_000_000_000_000_001, 4_503_599_627_370_497, 9_007_199_254_740_991} {
			account := fmt.Sprint(n)
			x.topUp(account, n, "")
			x.has(account, n, 0)
			x.deduct(account, n-1, "")
			x.has(account, 1, 0)
		}
	})
}

// What this package did not write is not money: no call reckons with it, and none
// overwrites it.
//
// Red, in turn, without open's comparison of balance and held, its EXISTS, its
// check of a due hold, its check of the record, read's check of words, or close's
// ZSCORE.
func TestLedger_corrupt(t *testing.T) {
	harms := map[string]func(c redis.UniversalClient, key string) error{
		"a string":           func(c redis.UniversalClient, key string) error { return replace(c, key, "SET", key, "100") },
		"a hash":             func(c redis.UniversalClient, key string) error { return replace(c, key, "HSET", key, "balance", "100") },
		"another sorted set": func(c redis.UniversalClient, key string) error { return replace(c, key, "ZADD", key, 1, "x") },
		"no balance":         func(c redis.UniversalClient, key string) error { return do(c, "ZREM", key, "balance") },
		"no held":            func(c redis.UniversalClient, key string) error { return do(c, "ZREM", key, "held") },
		"a negative balance": func(c redis.UniversalClient, key string) error { return do(c, "ZADD", key, -5, "balance") },
		"a broken balance":   func(c redis.UniversalClient, key string) error { return do(c, "ZADD", key, "7.5", "balance") },
		"an endless balance": func(c redis.UniversalClient, key string) error { return do(c, "ZADD", key, "inf", "balance") },
		"too high a balance": func(c redis.UniversalClient, key string) error {
			return do(c, "ZADD", key, "9007199254740994", "balance")
		},
		"too high a sum": func(c redis.UniversalClient, key string) error {
			return do(c, "ZADD", key, "9007199254740990", "balance")
		},
		"a hold of no amount":   func(c redis.UniversalClient, key string) error { return do(c, "ZADD", key, -1000, "hxyz some") },
		"a hold of no form":     func(c redis.UniversalClient, key string) error { return do(c, "ZADD", key, -1000, "mine") },
		"a hold not held":       func(c redis.UniversalClient, key string) error { return do(c, "ZADD", key, -1000, "hxyz 11") },
		"a hold of broken cent": func(c redis.UniversalClient, key string) error { return do(c, "ZADD", key, -1000, "hxyz 1.5") },
	}
	// Of the request "h", a hold, and of what is known of it.
	ofHold := map[string]func(c redis.UniversalClient, key, r, d string, score float64) error{
		"no record": func(c redis.UniversalClient, key, _, d string, _ float64) error { return do(c, "ZREM", key, d) },
		"a short record": func(c redis.UniversalClient, key, r, d string, score float64) error {
			return errors.Join(do(c, "ZREM", key, d), do(c, "ZADD", key, score, "d"+r[1:]+" - reserve done"))
		},
		"a long record": func(c redis.UniversalClient, key, _, d string, score float64) error {
			return errors.Join(do(c, "ZREM", key, d), do(c, "ZADD", key, score, d+" commit x 1 1 1 1 1"))
		},
		"a record of words": func(c redis.UniversalClient, key, r, d string, score float64) error {
			return errors.Join(do(c, "ZREM", key, d), do(c, "ZADD", key, score, "d"+r[1:]+" - reserve done a b c d e"))
		},
		"no hold": func(c redis.UniversalClient, key, r, _ string, _ float64) error {
			return do(c, "ZREM", key, "h"+r[1:]+" 10")
		},
		"not held": func(c redis.UniversalClient, key, _, _ string, _ float64) error { return do(c, "ZADD", key, 9, "held") },
	}
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		for name, harm := range harms {
			t.Run(name, func(t *testing.T) {
				prefix := b.Prefix(t)
				x := teller{t, open(t, client, prefix)}
				x.topUp("a", 100, "")
				x.reserve("a", 10, "h")
				key := testkit.OnlyKey(t, client, prefix)
				if err := harm(client, key); err != nil {
					t.Fatal(err)
				}
				checkRefused(t, x.l, client, key, true)
			})
		}
		for name, harm := range ofHold {
			t.Run(name, func(t *testing.T) {
				prefix := b.Prefix(t)
				x := teller{t, open(t, client, prefix)}
				x.topUp("a", 100, "")
				x.reserve("a", 10, "h")
				key := testkit.OnlyKey(t, client, prefix)
				var r, d string
				var score float64
				for _, z := range testkit.Members(t, client, key) {
					switch m := z.Member.(string); {
					case len(m) > 40 && z.Score < -1<<52 && m[0] == 'd' && score > z.Score:
						d, r, score = m, "r"+m[1:23], z.Score // the latest to be forgotten is the hold's
					}
				}
				if err := harm(client, key, r, d, score); err != nil {
					t.Fatal(err)
				}
				checkRefused(t, x.l, client, key, false)
			})
		}
	})
}

// checkRefused sends requests of every kind, of which those about the hold "h", and
// if all all others as well, must end in ErrCorrupt and change nothing.
func checkRefused(t *testing.T, l *quota.Ledger, client redis.UniversalClient, key string, all bool) {
	t.Helper()
	before := dump(t, client, key)
	ctx := t.Context()
	calls := map[string]func() (quota.Receipt, error){
		"commit": func() (quota.Receipt, error) { return l.Commit(ctx, "a", "h", 10) },
		"cancel": func() (quota.Receipt, error) { return l.Cancel(ctx, "a", "h") },
	}
	if all {
		calls["balance"] = func() (quota.Receipt, error) { return l.Balance(ctx, "a") }
		calls["top up"] = func() (quota.Receipt, error) { return l.TopUp(ctx, "a", 1, "") }
		calls["deduct"] = func() (quota.Receipt, error) { return l.Deduct(ctx, "a", 1, "x") }
		calls["deduct much"] = func() (quota.Receipt, error) { return l.Deduct(ctx, "a", 1000, "y") }
		calls["reserve"] = func() (quota.Receipt, error) { return l.Reserve(ctx, "a", 1, "") }
		calls["repeated"] = func() (quota.Receipt, error) { return l.Reserve(ctx, "a", 10, "h") }
	}
	for name, call := range calls {
		if r, err := call(); !errors.Is(err, quota.ErrCorrupt) || r.OK {
			t.Errorf("%s: %+v, %v; want ErrCorrupt", name, r, err)
		}
	}
	if after := dump(t, client, key); after != before {
		t.Errorf("what was stored changed from %q to %q", before, after)
	}
}

func do(c redis.UniversalClient, args ...any) error {
	return c.Do(context.Background(), args...).Err()
}

func replace(c redis.UniversalClient, key string, args ...any) error {
	return errors.Join(c.Del(context.Background(), key).Err(), do(c, args...))
}

// dump is all that stands under key, in a form to compare.
func dump(t *testing.T, client redis.UniversalClient, key string) string {
	t.Helper()
	kind, err := client.Type(t.Context(), key).Result()
	var value any
	switch kind {
	case "string":
		value = client.Get(t.Context(), key).Val()
	case "hash":
		value = client.HGetAll(t.Context(), key).Val()
	case "zset":
		value = client.ZRangeWithScores(t.Context(), key, 0, -1).Val()
	}
	ttl := client.TTL(t.Context(), key).Val()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(kind, value, ttl < 0)
}

// Money stays when Redis has no memory left: a call says that it cannot be decided,
// and a hold that ended meanwhile is still there, in full.
func TestLedger_outOfMemory(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	client := b.Client(t)
	x := teller{t, open(t, client, b.Prefix(t))}
	x.topUp("a", 100, "")
	x.reserveFor("a", 40, 20*time.Millisecond, "h")
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the hold to end", func() bool { return x.balance("a").Held == 0 })
	for name, call := range map[string]func() (quota.Receipt, error){
		"top up":  func() (quota.Receipt, error) { return x.l.TopUp(t.Context(), "a", 1, "1") },
		"deduct":  func() (quota.Receipt, error) { return x.l.Deduct(t.Context(), "a", 1, "2") },
		"reserve": func() (quota.Receipt, error) { return x.l.Reserve(t.Context(), "a", 1, "3") },
	} {
		if r, err := call(); !errors.Is(err, quota.ErrUnavailable) || r.OK {
			t.Errorf("%s: %+v, %v; want ErrUnavailable", name, r, err)
		}
	}
	x.has("a", 100, 0)
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if r := x.deduct("a", 1, "2"); show(r) != "done 1: 99, 0 held" || r.Repeated {
		t.Errorf("with memory again: %s; want done 1: 99, 0 held", show(r))
	}
}
