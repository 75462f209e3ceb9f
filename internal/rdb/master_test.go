package rdb_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
	"github.com/go-weir/weir/internal/testkit"
)

// scanned is what a Scan gives, sorted, each key once.
func scanned(t *testing.T, conn *rdb.Conn, pattern string) (keys []string) {
	t.Helper()
	err := conn.Scan(t.Context(), pattern, func(some []string) error {
		if len(some) == 0 {
			t.Error("each was called with no keys")
		}
		keys = append(keys, some...)
		return nil
	})
	if err != nil {
		t.Fatalf("Scan(%q): %v", pattern, err)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Every key on every master is found, and none beside the pattern. Red when
// Masters returns fewer than all, when scan ends before the cursor is 0, and when
// Pattern leaves a character as it is.
func TestConn_Scan_contract(t *testing.T) {
	t.Parallel()
	masters := map[string]int{"mini": 1, "server": 1, "cluster": 1, "cluster3": 3}
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		client := b.Client(t)
		for kind, client := range map[string]redis.UniversalClient{
			"plain":   client,
			"wrapped": struct{ redis.UniversalClient }{client}, // shows one server
		} {
			conn := open(t, client, relaxed)
			ms, err := conn.Masters(t.Context())
			want := masters[b.Name()]
			if kind == "wrapped" {
				want = 1
			}
			if err != nil || len(ms) != want {
				t.Errorf("%s: masters: got %d, %v; want %d", kind, len(ms), err, want)
			}
		}
		conn, base := open(t, client, relaxed), b.Prefix(t)
		prefix := base + `:*?[a-c]\^-{x}:`
		var want, set []string
		for i := range 2500 {
			want = append(want, fmt.Sprintf("%s%d", prefix, i))
		}
		for _, decoy := range []string{`:zz[a-c]\^-{x}:1`, `:*?a\^-{x}:1`, `:*?[a-c]^-{x}:1`, `:*z[a-c]\^-{x}:1`} {
			set = append(set, base+decoy)
		}
		var cmds []*rdb.Cmd
		for _, key := range append(set, want...) {
			cmds = append(cmds, rdb.NewCmd(key, "set", key, "v", "px", 60_000))
		}
		if err := conn.Exec(t.Context(), cmds...); err != nil {
			t.Fatal(err)
		}
		// Each in a slot of its own: these are on all masters.
		for i := range 30 {
			key := fmt.Sprintf("%s:spread:%d", base, i)
			if err := conn.Exec(t.Context(), rdb.NewCmd(key, "set", key, "v", "px", 60_000)); err != nil {
				t.Fatal(err)
			}
		}

		slices.Sort(want)
		if got := scanned(t, conn, rdb.Pattern(prefix)); !slices.Equal(got, want) {
			t.Errorf("under %s: got %d keys; want %d", prefix, len(got), len(want))
		}
		if got := scanned(t, conn, rdb.Pattern(base+":spread:")); len(got) != 30 {
			t.Errorf("spread: got %d keys; want 30", len(got))
		}
		if got := scanned(t, conn, rdb.Pattern(base+":none:")); len(got) != 0 {
			t.Errorf("none: got %q", got)
		}

		enough, calls := errors.New("enough"), 0
		err := conn.Scan(t.Context(), rdb.Pattern(base), func([]string) error { calls++; return enough })
		if err != enough || calls != 1 {
			t.Errorf("each's error: got %v after %d calls; want it after one", err, calls)
		}
	})
}

func TestPattern(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{
		"":             "*",
		"scs:session:": "scs:session:*",
		`a*b?c[d]e\f`:  `a\*b\?c\[d\]e\\f*`,
		"{tag}-^":      "{tag}-^*",
	} {
		if got := rdb.Pattern(prefix); got != want {
			t.Errorf("Pattern(%q): got %q; want %q", prefix, got, want)
		}
	}
}

// A Scan goes in steps and by SCAN alone: a server with many keys is not stopped
// for all of them.
func TestConn_Scan_inSteps(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t)
	p := testkit.NewProxy(t, b.Addrs()[0])
	direct := b.Client(t)
	pipe := direct.Pipeline()
	for i := range 5000 {
		pipe.Set(t.Context(), fmt.Sprint("k", i), "v", 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := direct.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	conn := open(t, p.Client(t), relaxed)
	if got := scanned(t, conn, rdb.Pattern("k")); len(got) != 5000 {
		t.Errorf("got %d keys; want 5000", len(got))
	}
	if got := p.Commands(); got < 18 || got > 23 {
		t.Errorf("got %d commands; want about one for each 250 keys", got)
	}
	// Within a step a lost reply is asked for again: SCAN is a read.
	p.SwallowReply(1, "scan", testkit.ThenClose)
	if got := scanned(t, conn, rdb.Pattern("k")); len(got) != 5000 || p.Swallowed() != 1 {
		t.Errorf("with a lost reply: got %d keys, %d lost", len(got), p.Swallowed())
	}
}

func TestConn_Scan_ring(t *testing.T) {
	t.Parallel()
	one, two := testkit.Mini(t), testkit.Mini(t)
	ring := redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": one.Addrs()[0], "two": two.Addrs()[0]}})
	t.Cleanup(func() { ring.Close() })
	for i := range 50 {
		if err := ring.Set(t.Context(), fmt.Sprint("k", i), "v", time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(one.Miniredis().Keys()); n == 0 || n == 50 {
		t.Fatalf("shard one has %d keys; want some", n)
	}
	if got := scanned(t, open(t, ring, relaxed), rdb.Pattern("k")); len(got) != 50 {
		t.Errorf("got %d keys; want 50", len(got))
	}
}

// One silent master makes a Scan fail within the budget of a step more than what
// went before; all others' keys alone would be half an answer.
func TestConn_Scan_hungMaster(t *testing.T) {
	t.Parallel()
	b := testkit.Cluster3(t)
	const budget = 100 * time.Millisecond
	kinds := map[string]*rdb.Conn{
		"plain":        open(t, b.Client(t), budget),
		"with context": open(t, b.Client(t, func(o *redis.UniversalOptions) { o.ContextTimeoutEnabled = true }), budget),
	}
	none := func([]string) error { return nil }
	for kind, conn := range kinds {
		// A first call connects, which may take longer on a busy machine.
		testkit.Eventually(t, kind+": a scan", func() bool { return conn.Scan(t.Context(), "*", none) == nil })
	}
	b.Nodes()[1].Pause()
	for kind, conn := range kinds {
		for range 3 {
			begun := time.Now()
			err := conn.Scan(t.Context(), "*", none)
			// The topology, two masters that answer, and the silent one.
			if took := time.Since(begun); !errors.Is(err, rdb.ErrUnavailable) || took > 4*budget {
				t.Errorf("%s: one hung: got %v after %v; want ErrUnavailable within %v", kind, err, took, 4*budget)
			}
		}
	}
	b.Pause()
	for kind, conn := range kinds {
		for i := range rdb.TripAfter + 1 {
			begun := time.Now()
			ms, err := conn.Masters(t.Context())
			took := time.Since(begun)
			if !errors.Is(err, rdb.ErrUnavailable) || ms != nil || took > budget+50*time.Millisecond {
				t.Errorf("%s: all hung: got %d masters, %v after %v; want ErrUnavailable within %v", kind, len(ms), err, took, budget)
			}
			// Red when Masters does not report to the breaker.
			if i == rdb.TripAfter && took > budget/2 {
				t.Errorf("%s: after %d silences: took %v; want the breaker to be open", kind, i, took)
			}
		}
	}
	b.Resume()
	for kind, conn := range kinds {
		testkit.Eventually(t, kind+": a scan after the outage", func() bool { return conn.Scan(t.Context(), "*", none) == nil })
	}
}

func TestConn_Scan_callersEnd(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		conn := open(t, b.Client(t), relaxed)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := conn.Scan(ctx, "*", nil); err != context.Canceled {
			t.Errorf("got %v; want %v", err, context.Canceled)
		}
		if _, err := conn.Masters(ctx); err != context.Canceled {
			t.Errorf("masters: got %v; want %v", err, context.Canceled)
		}
	})
	hung := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{testkit.HungServer(t)}})
	t.Cleanup(func() { hung.Close() })
	conn := open(t, hung, relaxed)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := conn.Masters(ctx); err != context.DeadlineExceeded {
		t.Errorf("the caller's deadline: got %v; want %v", err, context.DeadlineExceeded)
	}
}

// A request that has met the Cluster's silence does not wait for it again.
func TestConn_Masters_oncePerRequest(t *testing.T) {
	t.Parallel()
	hung := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{testkit.HungServer(t)}})
	t.Cleanup(func() { hung.Close() })
	conn := open(t, hung, 200*time.Millisecond)
	_, err := conn.Masters(t.Context())
	if !errors.Is(err, rdb.ErrUnavailable) {
		t.Fatalf("got %v; want ErrUnavailable", err)
	}
	ctx, begun := rdb.Remember(t.Context(), err), time.Now()
	_, err = conn.Masters(ctx)
	if took := time.Since(begun); !errors.Is(err, rdb.ErrUnavailable) || !strings.Contains(err.Error(), "already silent") || took > 100*time.Millisecond {
		t.Errorf("again: got %v after %v; want ErrUnavailable at once", err, took)
	}
	// Red when Masters does not say how long it has waited: the request has no more
	// than its budget, at whatever server.
	other := open(t, redis.NewClient(&redis.Options{Addr: testkit.HungServer(t)}), 200*time.Millisecond)
	begun = time.Now()
	err = other.Exec(ctx, rdb.NewCmd("k", "get", "k"))
	if took := time.Since(begun); !errors.Is(err, rdb.ErrUnavailable) || took > 100*time.Millisecond {
		t.Errorf("another server: got %v after %v; want ErrUnavailable at once", err, took)
	}
}

// Red when scan takes what it gets for a page.
func TestConn_Scan_strangeReply(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]any{
		"no page":   "OK",
		"no cursor": []any{int64(0), []any{}},
		"no list":   []any{"0", "k"},
		"no keys":   []any{"0", []any{int64(1)}},
	} {
		client := testkit.Mini(t).Client(t)
		client.AddHook(answering{reply})
		err := open(t, client, relaxed).Scan(t.Context(), "*", func([]string) error { return nil })
		if !errors.Is(err, rdb.ErrCorrupt) {
			t.Errorf("%s: got %v; want ErrCorrupt", name, err)
		}
	}
}

// answering is a hook that answers every command by itself.
type answering struct{ reply any }

func (answering) DialHook(next redis.DialHook) redis.DialHook { return next }
func (answering) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
func (a answering) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		cmd.(interface{ SetVal(any) }).SetVal(a.reply)
		return nil
	}
}
