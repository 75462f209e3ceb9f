package testkit_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/redis/go-redis/v9"
)

func TestEach_everyBackendAnswers(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		answers(t, b, b.Client(t))
	})
}

// answers proves SET, GET, EVAL and expiry.
func answers(t *testing.T, b *testkit.Backend, client redis.UniversalClient) {
	t.Helper()
	ctx := t.Context()
	key := b.Prefix(t) + ":{x}"
	if err := client.Set(ctx, key, "1", time.Minute).Err(); err != nil {
		t.Fatalf("SET: %v", err)
	}
	if got := get(t, client, key); got != "1" {
		t.Errorf("GET: got %q; want %q", got, "1")
	}
	got, err := client.Eval(ctx, "return redis.call('INCRBY', KEYS[1], ARGV[1])", []string{key}, 41).Int()
	if err != nil || got != 42 {
		t.Errorf("EVAL: got %d, %v; want 42", got, err)
	}
	if err := client.PExpire(ctx, key, time.Millisecond).Err(); err != nil {
		t.Fatalf("PEXPIRE: %v", err)
	}
	testkit.Eventually(t, "the key to expire", func() bool {
		return client.Get(ctx, key).Err() == redis.Nil
	})
}

func TestEach_onlyClusterSaysCrossslot(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		prefix := b.Prefix(t)
		keys := []string{prefix + ":{a}", prefix + ":{b}"}
		err := b.Client(t).Eval(t.Context(), "return 1", keys).Err()
		wants := strings.HasPrefix(b.Name(), "cluster")
		if got := err != nil && strings.HasPrefix(err.Error(), "CROSSSLOT"); got != wants {
			t.Errorf("two slots in a script: got %v; want CROSSSLOT: %t", err, wants)
		}
	})
}

func TestBackend_clientKind(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		client := b.Client(t)
		_, isCluster := client.(*redis.ClusterClient)
		if want := strings.HasPrefix(b.Name(), "cluster"); isCluster != want {
			t.Errorf("got a %T; want a cluster client: %t", client, want)
		}
		connected, err := testkit.Connect(b.Spec())
		if err != nil {
			t.Fatalf("Connect(%q): %v", b.Spec(), err)
		}
		defer connected.Close()
		if got, want := fmt.Sprintf("%T", connected), fmt.Sprintf("%T", client); got != want {
			t.Errorf("Connect: got a %s; want a %s", got, want)
		}
		answers(t, b, connected)
	})
}

func TestConnect_refusesWhatIsNoSpec(t *testing.T) {
	t.Parallel()
	for _, spec := range []string{"", "server", "=127.0.0.1:1", "server="} {
		if client, err := testkit.Connect(spec); err == nil {
			client.Close()
			t.Errorf("Connect(%q): got no error", spec)
		}
	}
}

func TestBackend_prefix(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	safe := regexp.MustCompile(`^[A-Za-z0-9_-]{14,48}$`)
	seen := make(map[string]bool)
	t.Run("a long name {with} odd:characters/é"+strings.Repeat("x", 100), func(t *testing.T) {
		for range 1000 {
			p := b.Prefix(t)
			if !safe.MatchString(p) || seen[p] {
				t.Fatalf("got %q, seen before: %t; want a new one that matches %s", p, seen[p], safe)
			}
			seen[p] = true
		}
	})
}

func TestMemory_inBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := testkit.Memory(t)
		client := b.Client(t)
		if err := client.Set(t.Context(), "k", "v", time.Hour).Err(); err != nil {
			t.Fatalf("SET: %v", err)
		}
		time.Sleep(59 * time.Minute)
		if got := get(t, client, "k"); got != "v" {
			t.Errorf("got %q; want %q", got, "v")
		}
		time.Sleep(2 * time.Minute)
		if err := client.Get(t.Context(), "k").Err(); err != redis.Nil {
			t.Errorf("after its hour: got %v; want %v", err, redis.Nil)
		}
	})
}

func TestCluster3_coverage(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "cluster3")
	if got := len(b.Nodes()); got != 3 {
		t.Fatalf("got %d nodes; want 3", got)
	}
	// Every node must say the same, whichever a client asks first.
	for _, n := range b.Nodes() {
		client := redis.NewClient(&redis.Options{Addr: n.Addr()})
		defer client.Close()
		// Raw, as ClusterSlots is deprecated and Redis 6 has no CLUSTER SHARDS.
		slots, err := client.Do(t.Context(), "CLUSTER", "SLOTS").Slice()
		if err != nil {
			t.Fatalf("CLUSTER SLOTS: %v", err)
		}
		owners, covered := make(map[string]bool), int64(0)
		for _, s := range slots { // [from, to, [ip, port, ...], ...]
			s := s.([]any)
			owners[fmt.Sprint(s[2].([]any)[:2])] = true
			covered += s[1].(int64) - s[0].(int64) + 1
		}
		if len(owners) != 3 || covered != 16384 {
			t.Errorf("%s: got masters %v, %d slots; want 3, 16384", n.Addr(), owners, covered)
		}
	}
	client := b.Client(t).(*redis.ClusterClient)
	masters := make(chan string, 10)
	err := client.ForEachMaster(t.Context(), func(_ context.Context, c *redis.Client) error {
		masters <- c.Options().Addr
		return nil
	})
	if err != nil || len(masters) != 3 {
		t.Errorf("got %d masters, %v; want 3", len(masters), err)
	}
}

// own are the deployments a test may break, and how many processes each has.
var own = []struct {
	name  string
	start func(testing.TB, ...string) *testkit.Backend
	nodes int
}{
	{"server", testkit.Server, 1},
	{"cluster", testkit.Cluster, 1},
	{"cluster3", testkit.Cluster3, 3},
	{"sentinel", testkit.Sentinel, 3},
}

func TestBackend_pauseAndResume(t *testing.T) {
	t.Parallel()
	for _, kind := range own {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := kind.start(t)
			for range 3 {
				for _, n := range b.Nodes() {
					client := redis.NewClient(&redis.Options{Addr: n.Addr(), MaxRetries: -1})
					defer client.Close()
					if err := client.Ping(t.Context()).Err(); err != nil {
						t.Fatalf("before: %v", err)
					}
					b.Pause()
					hasty := client.WithTimeout(50 * time.Millisecond)
					if err := hasty.Ping(t.Context()).Err(); !isTimeout(err) {
						t.Errorf("%s paused: got %v; want a timeout", n.Addr(), err)
					}
					if refuses(n.Addr()) {
						t.Errorf("%s paused: refuses connections; want accepts", n.Addr())
					}
					b.Resume()
				}
			}
			b.Settle(t)
			answers(t, b, b.Client(t))
		})
	}
}

func TestBackend_killAndRestart(t *testing.T) {
	t.Parallel()
	for _, kind := range own {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			b := kind.start(t)
			key := b.Prefix(t)
			if err := b.Client(t).Set(t.Context(), key, "v", 0).Err(); err != nil {
				t.Fatalf("SET: %v", err)
			}
			b.Kill()
			for _, n := range b.Nodes() {
				if !refuses(n.Addr()) {
					t.Errorf("%s killed: accepts connections; want refused", n.Addr())
				}
			}
			b.Restart(t)
			client := b.Client(t)
			if err := client.Get(t.Context(), key).Err(); err != redis.Nil {
				t.Errorf("after the restart: got %v; want %v", err, redis.Nil)
			}
			answers(t, b, client)
		})
	}
}

func TestServer_keepsItsDirectory(t *testing.T) {
	t.Parallel()
	b := testkit.Server(t, "--appendonly", "yes", "--appendfsync", "always")
	client := b.Client(t)
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatalf("SET: %v", err)
	}
	b.Kill()
	b.Restart(t)
	if got := get(t, client, "k"); got != "v" {
		t.Errorf("with --appendonly yes: got %q; want %q", got, "v")
	}
}

func TestServer_saysWhyItDoesNotStart(t *testing.T) {
	t.Parallel()
	testkit.Shared(t, "server") // skips if there is none
	out := rerun(t, "TestHelper_badArgument", nil)
	for _, want := range []string{"--- FAIL", "no-such-option"} {
		if !strings.Contains(out, want) {
			t.Errorf("got %s; want %q in it", out, want)
		}
	}
}

func TestCluster3_oneNode(t *testing.T) {
	t.Parallel()
	b := testkit.Cluster3(t)
	first, last := b.Nodes()[0], b.Nodes()[2]
	first.Kill()
	if !refuses(first.Addr()) || refuses(last.Addr()) {
		t.Errorf("first refuses: %t, last refuses: %t; want true, false", refuses(first.Addr()), refuses(last.Addr()))
	}
	first.Restart(t)
	b.Settle(t)
	answers(t, b, b.Client(t))
}

func TestSentinel_failover(t *testing.T) {
	t.Parallel()
	b := testkit.Sentinel(t)
	client := b.Client(t)
	answers(t, b, client)
	b.Nodes()[0].Kill()
	testkit.Eventually(t, "the replica to take over", func() bool {
		return client.Set(t.Context(), "after", "1", 0).Err() == nil
	})
	direct := redis.NewClient(&redis.Options{Addr: b.Nodes()[1].Addr()})
	defer direct.Close()
	if got := get(t, direct, "after"); got != "1" {
		t.Errorf("on the replica: got %q; want %q", got, "1")
	}
}

func TestBackend_leavesNothingBehind(t *testing.T) {
	t.Parallel()
	for _, kind := range own {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			testkit.Shared(t, "server") // skips if there is none: the owner below would do so alone
			var nodes []*testkit.Node
			t.Run("owner", func(t *testing.T) {
				b := kind.start(t)
				nodes = b.Nodes()
				b.Pause() // and never resumed: the cleanup has to cope
			})
			if len(nodes) != kind.nodes {
				t.Fatalf("got %d nodes; want %d", len(nodes), kind.nodes)
			}
			for _, n := range nodes {
				if isAlive(n.PID()) || !refuses(n.Addr()) {
					t.Errorf("%s: alive: %t, refuses: %t; want false, true", n.Addr(), isAlive(n.PID()), refuses(n.Addr()))
				}
			}
		})
	}
}

func TestShared_isNotToBeBroken(t *testing.T) {
	t.Parallel()
	shared := testkit.Shared(t, "server")
	for name, do := range map[string]func(){
		"pause":        shared.Pause,
		"resume":       shared.Resume,
		"kill":         shared.Kill,
		"kill a node":  shared.Nodes()[0].Kill,
		"restart":      func() { shared.Restart(t) },
		"pause a mini": testkit.Mini(t).Pause,
	} {
		if got := panicOf(do); !strings.Contains(fmt.Sprint(got), "testkit.Server(t)") {
			t.Errorf("%s: got panic %v; want one that names testkit.Server(t)", name, got)
		}
	}
}

func panicOf(do func()) (value any) {
	defer func() { value = recover() }()
	do()
	return nil
}

func isTimeout(err error) bool {
	timeout, ok := err.(interface{ Timeout() bool })
	return ok && timeout.Timeout()
}

func isAlive(pid int) bool {
	process, err := os.FindProcess(pid)
	return err == nil && process.Signal(syscall.Signal(0)) == nil
}
