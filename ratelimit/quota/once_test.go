package quota_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// The script runs, its reply is lost and the connection cut: the caller still gets
// the answer, of what was done once, and is not told of a repetition that it did
// not make. The client is a default one, which has retries.
//
// Red when a script is made by rdb.NewScript (ErrUnavailable), when ids are made
// anew for each run or not looked for (done twice), or when the record does not
// keep the call (Repeated).
func TestLedger_countedOnce(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		call func(x teller) quota.Receipt
		want string
	}{
		{"top up", func(x teller) quota.Receipt { return x.topUp("a", 5, "") }, "done 5: 95, 10 held"},
		{"deduct", func(x teller) quota.Receipt { return x.deduct("a", 5, "") }, "done 5: 85, 10 held"},
		{"the last of it", func(x teller) quota.Receipt { return x.deduct("a", 90, "") }, "done 90: 0, 10 held"},
		{"refused", func(x teller) quota.Receipt { return x.deduct("a", 91, "") }, "insufficient 0: 90, 10 held"},
		{"reserve", func(x teller) quota.Receipt { return x.reserve("a", 5, "") }, "done 5: 85, 15 held"},
		{"named", func(x teller) quota.Receipt { return x.reserve("a", 5, "named") }, "done 5: 85, 15 held"},
		{"commit", func(x teller) quota.Receipt { return x.commit("a", "h", 4) }, "done 4: 96, 0 held"},
		{"cancel", func(x teller) quota.Receipt { return x.cancel("a", "h") }, "done 10: 100, 0 held"},
		{"balance", func(x teller) quota.Receipt { return x.balance("a") }, "done 0: 90, 10 held"},
	}
	for _, kind := range []string{"server", "cluster", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					client, proxies := b.ProxiedClient(t)
					x := teller{t, open(t, client, b.Prefix(t))}
					x.topUp("a", 100, "")
					x.reserve("a", 10, "h")
					warm(x, "a")
					proxies.Each(func(p *testkit.Proxy) { p.SwallowReply(1, "evalsha", testkit.ThenClose) })
					got := tt.call(x)
					if n := proxies.Swallowed(); n != 1 {
						t.Fatalf("%d replies lost; want 1", n)
					}
					proxies.Each((*testkit.Proxy).Heal)
					if show(got) != tt.want || got.Repeated {
						t.Errorf("%s, repeated %v; want %s, not repeated", show(got), got.Repeated, tt.want)
					}
					x.has("a", got.Balance, got.Held)
				})
			}
		})
	}
}

// warm makes every script known to the account's server, and changes nothing.
func warm(x teller, account string) {
	x.tb.Helper()
	x.topUp(account, quota.MaxAmount, "")
	x.deduct(account, quota.MaxAmount, "")
	x.reserve(account, quota.MaxAmount, "")
	x.commit(account, "none", 1)
	x.cancel(account, "none")
	x.balance(account)
}

// An outcome that stayed open is known by asking again with the receipt's ID: the
// request was carried out once, or is now.
func TestLedger_openOutcome(t *testing.T) {
	t.Parallel()
	for _, reached := range []bool{true, false} {
		t.Run(fmt.Sprint("reached Redis: ", reached), func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, "server")
			p := testkit.NewProxy(t, b.Addrs()[0])
			prefix := b.Prefix(t)
			patient := teller{t, open(t, b.Client(t), prefix)}
			x := teller{t, open(t, p.Client(t), prefix, quota.WithTimeout(200*time.Millisecond))}
			patient.topUp("a", 100, "")
			testkit.Eventually(t, "the scripts to be there", func() bool {
				_, err := x.l.Deduct(t.Context(), "b", 1, "")
				return err == nil
			})
			for _, id := range []string{"named", ""} {
				before := patient.balance("a").Balance
				if reached {
					p.SwallowReply(1, "evalsha", testkit.ThenSilence)
				} else {
					p.Hang()
				}
				lost, err := x.l.Deduct(t.Context(), "a", 10, id)
				if !errors.Is(err, quota.ErrUnavailable) || lost.OK || lost.ID == "" || id != "" && lost.ID != id {
					t.Fatalf("%+v, %v; want ErrUnavailable, and an ID", lost, err)
				}
				p.Heal()
				again := patient.deduct("a", 10, lost.ID)
				if again.Repeated != reached || !again.OK || again.Balance != before-10 {
					t.Errorf("%+v; want 10 deducted, by the first call: %v", again, reached)
				}
				patient.has("a", before-10, 0)
			}
		})
	}
}

// What any go-redis client may be configured to does not change the answer.
func TestLedger_anyClient(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	addr := b.Addrs()[0]
	clients := map[string]func() redis.UniversalClient{
		"RESP2": func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: addr, Protocol: 2}) },
		"context timeouts": func() redis.UniversalClient {
			return redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
		},
		"no retries":     func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1}) },
		"one connection": func() redis.UniversalClient { return redis.NewClient(&redis.Options{Addr: addr, PoolSize: 1}) },
		"ring": func() redis.UniversalClient {
			return redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": addr}})
		},
	}
	for name, client := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := client()
			t.Cleanup(func() { _ = c.Close() })
			x := teller{t, open(t, c, b.Prefix(t))}
			x.topUp("a", quota.MaxAmount, "")
			if r := x.commit("a", x.reserve("a", quota.MaxAmount, "").ID, quota.MaxAmount-1); show(r) != "done 9007199254740991: 1, 0 held" {
				t.Errorf("%s; want done 9007199254740991: 1, 0 held", show(r))
			}
		})
	}
}
