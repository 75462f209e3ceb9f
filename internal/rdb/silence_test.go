package rdb_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// Red when the goroutine of attempt is taken away: calls then take the client's
// own timeouts, seconds.
func TestExec_deadlineHolds(t *testing.T) {
	const budget = 50 * time.Millisecond
	// A loaded machine may wake us late; a deadline that does not hold is off by
	// seconds (go-redis's read timeout is 5 s, times four attempts).
	const slack = 500 * time.Millisecond

	deployments := map[string]func(testing.TB, ...string) *testkit.Backend{
		"server": testkit.Server, "cluster": testkit.Cluster, "sentinel": testkit.Sentinel,
	}
	for name, start := range deployments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := start(t)
			for how, silence := range map[string]struct{ begin, end func() }{
				"paused": {b.Pause, b.Resume},
				"killed": {b.Kill, func() { b.Restart(t) }},
			} {
				t.Run(how, func(t *testing.T) {
					fresh := clients(t, b)
					used := clients(t, b)
					for _, client := range used { // with connections, and a topology
						conn := open(t, client, relaxed)
						testkit.Eventually(t, "the first answer", func() bool {
							return conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k")) == nil
						})
					}
					silence.begin()
					t.Cleanup(silence.end) // before the clients are closed: they wait for what is under way
					for kind := range fresh {
						t.Run(kind, func(t *testing.T) {
							assertSilent(t, fresh[kind], budget, slack)
							assertSilent(t, used[kind], budget, slack)
						})
					}
				})
			}
		})
	}
	for name, addr := range map[string]string{"hung": testkit.HungServer(t), "refused": testkit.RefusedAddr(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := redis.NewClient(&redis.Options{Addr: addr})
			t.Cleanup(func() { _ = client.Close() })
			assertSilent(t, client, budget, slack)
			ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": addr}})
			t.Cleanup(func() { _ = ring.Close() })
			assertSilent(t, ring, budget, slack)
		})
	}
}

func assertSilent(t *testing.T, client redis.UniversalClient, budget, slack time.Duration) {
	t.Helper()
	conn := open(t, client, budget)
	key := rdb.Key("deadline", "k", "1")
	other := rdb.Key("deadline", "k", "1", "other")
	script := rdb.NewScript("return redis.call('INCR', KEYS[1])")
	calls := [][]*rdb.Cmd{
		{rdb.NewCmd(key, "get", key)},
		{script.Cmd(key)},
		{rdb.NewCmd(key, "get", key).Replayable(), rdb.NewCmd(other, "get", other)},
	}
	for i, cmds := range calls {
		begun := time.Now()
		err := conn.Exec(t.Context(), cmds...)
		if took := time.Since(begun); took > budget+slack {
			t.Errorf("call %d took %v; the budget is %v", i, took, budget)
		}
		if !errors.Is(err, rdb.ErrUnavailable) {
			t.Errorf("call %d: %v; want ErrUnavailable", i, err)
		}
	}
	// The caller's own deadline, when it is the shorter one, is the caller's.
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := open(t, client, rdb.MaxBudget).Exec(ctx, rdb.NewCmd(key, "get", key))
	if err != context.DeadlineExceeded && !errors.Is(err, rdb.ErrUnavailable) {
		t.Errorf("under the caller's deadline: %v", err)
	}
}

// A silent server is not asked again and again: after TripAfter silences calls
// fail at once, and when it is back all recovers.
func TestExec_breakerOpensAndRecovers(t *testing.T) {
	for _, kind := range []struct {
		name  string
		start func(testing.TB, ...string) *testkit.Backend
	}{{"server", testkit.Server}, {"cluster", testkit.Cluster}} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := kind.start(t)
			conn := open(t, b.Client(t), 50*time.Millisecond)
			key := rdb.Key("breaker", "k", "1")
			get := func() error { return conn.Exec(t.Context(), rdb.NewCmd(key, "get", key)) }
			testkit.Eventually(t, "the first answer", func() bool { return get() == nil })

			for name, outage := range map[string]struct{ begin, end func() }{
				"paused": {b.Pause, b.Resume},
				"killed": {b.Kill, func() { b.Restart(t) }},
			} {
				outage.begin()
				testkit.Eventually(t, "the breaker to open", func() bool {
					err := get()
					return err != nil && strings.Contains(err.Error(), "breaker open")
				})
				asked := 0
				for range 1000 {
					if err := get(); !errors.Is(err, rdb.ErrUnavailable) {
						t.Fatalf("%s: %v; want ErrUnavailable", name, err)
					} else if !strings.Contains(err.Error(), "breaker open") {
						asked++
					}
				}
				if asked > 10 {
					t.Errorf("%s: %d of 1000 calls were sent while the breaker was open", name, asked)
				}
				outage.end()
				testkit.Eventually(t, "recovery", func() bool { return get() == nil })
			}
		})
	}
}

// One dead master of three does not silence the other two.
func TestExec_clusterBreakersArePerMaster(t *testing.T) {
	t.Parallel()
	b := testkit.Cluster3(t)
	conn := open(t, b.Client(t), 50*time.Millisecond)
	perMaster := make(map[int64]string) // a key of each third of the slots
	asking := b.Client(t)
	for i := 0; len(perMaster) < 3; i++ {
		key := rdb.Key("slots", "k", fmt.Sprint(i))
		perMaster[asking.ClusterKeySlot(t.Context(), key).Val()*3/16384] = key
	}
	get := func(key string) error { return conn.Exec(t.Context(), rdb.NewCmd(key, "get", key)) }
	for _, key := range perMaster {
		testkit.Eventually(t, "the first answer", func() bool { return get(key) == nil })
	}
	b.Nodes()[0].Pause()
	testkit.Eventually(t, "the breaker of the first master to open", func() bool {
		err := get(perMaster[0])
		return err != nil && strings.Contains(err.Error(), "breaker open")
	})
	for i := range 20 {
		// Together, too: the silent one must not take the others' replies away.
		var cmds []*rdb.Cmd
		for third := range int64(3) {
			cmds = append(cmds, rdb.NewCmd(perMaster[third], "get", perMaster[third]))
		}
		if err := conn.Exec(t.Context(), cmds...); !errors.Is(err, rdb.ErrUnavailable) {
			t.Errorf("round %d: %v; want ErrUnavailable", i, err)
		}
		if cmds[1].Err() != nil || cmds[2].Err() != nil {
			t.Errorf("round %d: the living masters: %v, %v; want nil", i, cmds[1].Err(), cmds[2].Err())
		}
	}
}

// A master that dies is replaced by its replica, and calls go on without a
// restart.
func TestExec_sentinelFailover(t *testing.T) {
	t.Parallel()
	b := testkit.Sentinel(t)
	conn := open(t, b.Client(t), 50*time.Millisecond)
	key := rdb.Key("failover", "k", "1")
	set := func() error { return conn.Exec(t.Context(), rdb.NewCmd(key, "set", key, "v", "px", 60_000)) }
	testkit.Eventually(t, "the first answer", func() bool { return set() == nil })
	b.Nodes()[0].Kill()
	if err := set(); !errors.Is(err, rdb.ErrUnavailable) {
		t.Errorf("the master is dead: %v; want ErrUnavailable", err)
	}
	testkit.Eventually(t, "the replica to take over", func() bool { return set() == nil })
}

// A ClusterClient asks each new server for COMMAND, under a context of its own,
// unless a command says where its key is. Red when wire does not set that: the
// first calls then take 5 s.
func TestExec_clusterWithoutCommand(t *testing.T) {
	t.Parallel()
	b := testkit.Cluster(t)
	for _, contextual := range []bool{false, true} {
		client, proxies := b.ProxiedClient(t, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = contextual })
		proxies.Each(func(p *testkit.Proxy) { p.SwallowReply(-1, "$7\r\ncommand\r\n", testkit.ThenSilence) })
		conn := open(t, client, relaxed)
		begun := time.Now()
		if err := conn.Exec(t.Context(), rdb.NewCmd("k", "get", "k")); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("took %v; it must not wait for COMMAND", took)
		}
		proxies.Each((*testkit.Proxy).Heal)
	}
}

// Many keys on one master are one round trip.
func TestExec_oneRoundTripAMaster(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "cluster3")
	client, proxies := b.ProxiedClient(t)
	conn, prefix := open(t, client, relaxed), b.Prefix(t)
	var gets []*rdb.Cmd
	for i := range 60 {
		key := rdb.Key(prefix, "k", fmt.Sprint(i))
		gets = append(gets, rdb.NewCmd(key, "get", key))
	}
	if err := conn.Exec(t.Context(), gets...); err != nil { // learns the topology
		t.Fatal(err)
	}
	proxies.Each((*testkit.Proxy).Reset)
	if err := conn.Exec(t.Context(), gets...); err != nil {
		t.Fatal(err)
	}
	if got := proxies.RoundTrips(); got != 3 {
		t.Errorf("60 keys took %d round trips; want one for each of 3 masters", got)
	}
}

// Silent masters of a cluster cost a request one budget in all, not one each. Red
// when left does not take off what the request has waited.
func TestRemember_oneBudgetForAllMasters(t *testing.T) {
	t.Parallel()
	const budget = 400 * time.Millisecond
	b := testkit.Cluster3(t)
	conn := open(t, b.Client(t), budget)
	keys := make(map[int64]string) // a key of each third of the slots
	asking := b.Client(t)
	for i := 0; len(keys) < 3; i++ {
		key := rdb.Key("waits", "k", fmt.Sprint(i))
		keys[asking.ClusterKeySlot(t.Context(), key).Val()*3/16384] = key
	}
	for _, key := range keys {
		testkit.Eventually(t, "the first answer", func() bool { return conn.Exec(t.Context(), rdb.NewCmd(key, "get", key)) == nil })
	}
	b.Pause()
	ctx, begun := t.Context(), time.Now()
	for _, key := range keys {
		err := conn.Exec(ctx, rdb.NewCmd(key, "get", key))
		if !errors.Is(err, rdb.ErrUnavailable) {
			t.Errorf("%v; want ErrUnavailable", err)
		}
		ctx = rdb.Remember(ctx, err)
	}
	if took := time.Since(begun); took > 2*budget {
		t.Errorf("three silent masters took %v; want one budget of %v", took, budget)
	}
}

func TestRemember_oneWaitARequest(t *testing.T) {
	t.Parallel()
	hung := redis.NewClient(&redis.Options{Addr: testkit.HungServer(t)})
	t.Cleanup(func() { _ = hung.Close() })
	conn := open(t, hung, 50*time.Millisecond)
	ctx := t.Context()
	err := conn.Exec(ctx, rdb.NewCmd("k", "get", "k"))
	if !errors.Is(err, rdb.ErrUnavailable) {
		t.Fatal(err)
	}
	ctx = rdb.Remember(ctx, fmt.Errorf("wrapped: %w", err))
	again := conn.Exec(ctx, rdb.NewCmd("k", "get", "k"))
	if !errors.Is(again, rdb.ErrUnavailable) || !strings.Contains(again.Error(), "already silent") {
		t.Errorf("the second call of the request: %v; want it not to be sent", again)
	}
	// Another client is another server.
	other := open(t, testkit.Mini(t).Client(t), relaxed)
	if err := other.Exec(ctx, rdb.NewCmd("k", "get", "k")); err != nil {
		t.Errorf("another client: %v", err)
	}
	if got := rdb.Remember(t.Context(), context.Canceled); got != t.Context() {
		t.Error("an error that is no silence was remembered")
	}
}
