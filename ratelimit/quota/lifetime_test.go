package quota_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// A hold is there until its very end, and from then on its amount is in the balance,
// whoever looks first.
//
// Red when open's range excludes -now ("("), when close compares with < in place of
// <=, or when open does not look for ended holds at all.
func TestLedger_holdsEnd(t *testing.T) {
	t.Parallel()
	touches := map[string]func(x teller) (balance int64){
		"balance": func(x teller) int64 { return x.balance("a").Balance },
		"deduct":  func(x teller) int64 { return x.deduct("a", 91, "").Balance + 91 },
		"reserve": func(x teller) int64 { return x.reserve("a", 91, "").Balance + 91 },
		"top up":  func(x teller) int64 { return x.topUp("a", 1, "").Balance - 1 },
		"commit":  func(x teller) int64 { return x.commit("a", "h", 5).Balance },
		"cancel":  func(x teller) int64 { return x.cancel("a", "h").Balance },
		"refused": func(x teller) int64 { return x.deduct("a", 1000, "").Balance },
	}
	for name, touch := range touches {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				x := teller{t, open(t, testkit.Memory(t).Client(t), "weir", quota.WithHold(time.Hour))}
				x.topUp("a", 100, "")
				made := x.reserve("a", 10, "h")
				if !made.Expires.Equal(time.Now().Add(time.Hour)) {
					t.Errorf("ends at %v; want in an hour", made.Expires)
				}
				time.Sleep(time.Hour - time.Microsecond)
				x.has("a", 90, 10)
				time.Sleep(time.Microsecond)
				if got := touch(x); got != 100 {
					t.Errorf("balance %d; want 100, the hold returned", got)
				}
				if name != "reserve" && x.balance("a").Held != 0 {
					t.Error("still held")
				}
				for range 2 {
					if c, d := x.commit("a", "h", 10), x.cancel("a", "h"); c.Outcome != quota.Expired || d.Outcome != quota.Expired {
						t.Errorf("after its end: commit %s, cancel %s; want expired", show(c), show(d))
					}
				}
			})
		})
	}
}

// In its last microsecond a hold can still be committed, and holds that end at once
// return at once, up to as many as there may be.
//
// Red when save hands all that is to go to one ZREM ("too many results to unpack":
// Lua takes 8,000).
func TestLedger_holdsEndTogether(t *testing.T) {
	t.Parallel()
	const n = 20_000
	b := testkit.Shared(t, "server")
	client, prefix := b.Client(t), b.Prefix(t)
	x := teller{t, open(t, client, prefix, quota.WithMaxHolds(n+1))}
	x.topUp("a", 2*n, "")
	x.reserve("a", n, "open")
	// Making them by Reserve would take longer than a test may.
	past := float64(time.Now().Add(-time.Second).UnixMicro())
	z := make([]redis.Z, n)
	for i := range z {
		z[i] = redis.Z{Score: -past, Member: fmt.Sprintf("h%022d 1", i)}
	}
	key := testkit.OnlyKey(t, client, prefix)
	if err := errors.Join(client.ZAdd(t.Context(), key, z...).Err(), do(client, "ZADD", key, 2*n, "held", 0, "balance")); err != nil {
		t.Fatal(err)
	}
	x.has("a", n, n)
	if got := len(testkit.Members(t, client, key)); got < n {
		t.Errorf("%d members; want Balance to have written nothing", got)
	}
	if r := x.deduct("a", 1, ""); show(r) != "done 1: 19999, 20000 held" {
		t.Errorf("%s; want all that had ended, and what is open held", show(r))
	}
	if got := len(testkit.Members(t, client, key)); got != 9 {
		t.Errorf("%d members; want balance, held, a hold and three requests", got)
	}
}

// Beyond as many holds as may be open, one more is refused, and changes nothing.
//
// Red when reserve.lua does not count, or counts the ended ones.
func TestLedger_manyHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := teller{t, open(t, testkit.Memory(t).Client(t), "weir", quota.WithMaxHolds(3), quota.WithHold(time.Hour))}
		x.topUp("a", 10, "")
		for range 3 {
			x.reserve("a", 1, "")
		}
		if r := x.reserve("a", 8, ""); r.Outcome != quota.Insufficient {
			t.Errorf("%s; want insufficient, whatever the number of holds", show(r))
		}
		if r, err := x.l.Reserve(t.Context(), "a", 1, ""); !errors.Is(err, quota.ErrFull) || !strings.Contains(err.Error(), "WithMaxHolds") {
			t.Errorf("%+v, %v; want ErrFull", r, err)
		}
		x.has("a", 7, 3)
		time.Sleep(time.Hour)
		for range 3 {
			x.reserve("a", 1, "")
		}
	})
}

// Ids are remembered for as long as is said, to the microsecond, and then their
// memory is used for others.
//
// Red when conclude forgets at now + lifetime though a hold ends later, when a
// generated id gets the lifetime of a named one, or when save does not take away
// what is due.
func TestLedger_remembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := testkit.Memory(t).Client(t)
		x := teller{t, open(t, client, "weir", quota.WithIDLifetime(time.Hour))}
		named, generated := x.topUp("a", 10, "named"), x.topUp("a", 10, "")
		hold := x.reserveFor("a", 5, 3*time.Hour, "hold")
		time.Sleep(time.Minute - time.Microsecond)
		same(t, generated, x.topUp("a", 10, generated.ID))
		time.Sleep(time.Microsecond)
		if r := x.topUp("a", 10, generated.ID); r.Repeated {
			t.Error("a generated id is remembered for more than a minute")
		}
		time.Sleep(59*time.Minute - time.Microsecond)
		same(t, named, x.topUp("a", 10, "named"))
		time.Sleep(time.Microsecond)
		if r := x.topUp("a", 10, "named"); r.Repeated {
			t.Error("an id is remembered for longer than its lifetime")
		}
		time.Sleep(3*time.Hour - time.Microsecond) // an hour after the hold's end
		same(t, hold, x.reserve("a", 5, "hold"))
		if r := x.commit("a", "hold", 5); r.Outcome != quota.Expired {
			t.Errorf("%s; want expired", show(r))
		}
		time.Sleep(time.Microsecond)
		if r := x.commit("a", "hold", 5); r.Outcome != quota.Unknown {
			t.Errorf("%s; want unknown, as all is forgotten", show(r))
		}
		x.topUp("a", 1, "")
		if z := testkit.Members(t, client, testkit.OnlyKey(t, client, "weir")); len(z) != 4 {
			t.Errorf("%v; want balance, held and the two of the last request", z)
		}
	})
}

// As many ids are remembered as may be. One more is refused, whatever is asked for,
// and none is forgotten for it; what needs no new id goes on.
//
// Red when the script does not ask full, or counts what is due as well.
func TestLedger_full(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := teller{t, open(t, testkit.Memory(t).Client(t), "weir", quota.WithMaxIDs(40), quota.WithIDLifetime(time.Hour), quota.WithHold(time.Hour))}
		first := x.topUp("a", 1000, "first")
		for i := range 38 {
			x.deduct("a", 1, fmt.Sprint(i))
		}
		x.reserve("a", 10, "hold")
		ctx := t.Context()
		for name, call := range map[string]func() (quota.Receipt, error){
			"top up":  func() (quota.Receipt, error) { return x.l.TopUp(ctx, "a", 1, "") },
			"deduct":  func() (quota.Receipt, error) { return x.l.Deduct(ctx, "a", 1, "next") },
			"reserve": func() (quota.Receipt, error) { return x.l.Reserve(ctx, "a", 1, "") },
		} {
			if r, err := call(); !errors.Is(err, quota.ErrFull) || r.OK || !strings.Contains(err.Error(), "WithMaxIDs") {
				t.Errorf("%s: %+v, %v; want ErrFull", name, r, err)
			}
		}
		same(t, first, x.topUp("a", 1000, "first"))
		if r := x.commit("a", "hold", 4); !r.OK {
			t.Errorf("commit: %s; want done", show(r))
		}
		x.has("a", 958, 0)
		time.Sleep(time.Hour) // 39 are due at once
		for i := range 39 {
			if r := x.deduct("a", 1, fmt.Sprint("later ", i)); !r.OK || r.Repeated {
				t.Errorf("%s; want done", show(r))
			}
		}
		if _, err := x.l.Deduct(ctx, "a", 1, "one more"); !errors.Is(err, quota.ErrFull) {
			t.Errorf("%v; want ErrFull: the hold's id is remembered from its end on", err)
		}
	})
}

// Money has no lifetime; an account without any goes with the last id it remembers.
//
// Red when save does not PERSIST, or does not PEXPIRE.
func TestLedger_keys(t *testing.T) {
	each(t, func(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
		prefix := b.Prefix(t)
		x := teller{t, open(t, client, prefix)}
		steps := []struct {
			name string
			do   func() quota.Receipt
			ttl  time.Duration // -2: no key; -1: no lifetime
		}{
			{"balance", func() quota.Receipt { return x.balance("a") }, -2},
			{"a refusal", func() quota.Receipt { return x.deduct("a", 1, "") }, -2},
			{"a commit of nothing", func() quota.Receipt { return x.commit("a", "x", 1) }, -2},
			{"a refusal that is remembered", func() quota.Receipt { return x.deduct("a", 1, "no") }, 24 * time.Hour},
			{"top up", func() quota.Receipt { return x.topUp("a", 10, "") }, -1},
			{"deduct", func() quota.Receipt { return x.deduct("a", 3, "") }, -1},
			{"reserve the rest", func() quota.Receipt { return x.reserve("a", 7, "h") }, -1},
			{"commit it", func() quota.Receipt { return x.commit("a", "h", 7) }, 24*time.Hour + time.Minute},
			{"top up again", func() quota.Receipt { return x.topUp("a", 10, "") }, -1},
			{"deduct all", func() quota.Receipt { return x.deduct("a", 10, "") }, 24*time.Hour + time.Minute},
		}
		for _, step := range steps {
			step.do()
			keys := testkit.Keys(t, client, prefix)
			if len(keys) == 0 {
				if step.ttl != -2 {
					t.Errorf("%s: no key", step.name)
				}
				continue
			}
			got, err := client.PTTL(t.Context(), keys[0]).Result()
			switch {
			case err != nil, step.ttl < 0 && got != step.ttl:
				t.Errorf("%s: lifetime %v, %v; want %v", step.name, got, err, step.ttl)
			case step.ttl > 0 && (got > step.ttl+2*time.Millisecond || got < step.ttl-time.Minute):
				t.Errorf("%s: lifetime %v; want %v or a little less", step.name, got, step.ttl)
			}
		}
		// An EXPIRE of somebody else's does not outlive the next call.
		x.topUp("a", 1, "")
		if err := client.Expire(t.Context(), testkit.Keys(t, client, prefix)[0], time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		x.deduct("a", 1, "")
		x.topUp("a", 1, "")
		if got := client.TTL(t.Context(), testkit.Keys(t, client, prefix)[0]).Val(); got != -1 {
			t.Errorf("lifetime %v; want none", got)
		}
	})
}

// An emptied account is gone a minute later, without anybody's touch.
func TestLedger_emptyAccountsGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := testkit.Memory(t).Client(t)
		x := teller{t, open(t, client, "weir")}
		x.topUp("a", 10, "")
		x.deduct("a", 10, "")
		time.Sleep(time.Minute - time.Millisecond)
		if keys := testkit.Keys(t, client, "weir"); len(keys) != 1 {
			t.Errorf("keys %q; want the ids to be remembered still", keys)
		}
		time.Sleep(3 * time.Millisecond)
		if keys := testkit.Keys(t, client, "weir"); len(keys) != 0 {
			t.Errorf("keys %q; want none", keys)
		}
	})
}

// Redis's clock set back ends no hold early and forgets no id early; the callers'
// clocks do not matter.
func TestLedger_clockSetBack(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	mini := b.Miniredis()
	mini.ClockTTL(false)
	x := teller{t, open(t, b.Client(t), "weir", quota.WithIDLifetime(time.Hour))}
	start := time.Date(2036, 11, 23, 12, 0, 0, 0, time.UTC)
	mini.SetTime(start)
	x.topUp("a", 100, "")
	hold := x.reserve("a", 10, "h")
	if !hold.Expires.Equal(start.Add(time.Minute)) {
		t.Errorf("ends at %v; want a minute after Redis's %v", hold.Expires, start)
	}
	mini.SetTime(start.Add(-time.Hour))
	x.has("a", 90, 10)
	same(t, hold, x.reserve("a", 10, "h"))
	if r := x.commit("a", "h", 10); show(r) != "done 10: 90, 0 held" {
		t.Errorf("%s; want done 10: 90, 0 held", show(r))
	}
}
