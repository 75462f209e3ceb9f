package testkit

import (
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
)

// The kinds of deployment made of redis-server processes.
const (
	kindServer   = "server"
	kindCluster  = "cluster"
	kindCluster3 = "cluster3"
	kindSentinel = "sentinel"
)

// starters make each kind, all files below dir. args go to every redis-server
// that holds data. A starter that fails leaves nothing running.
var starters = map[string]func(binary, dir string, args []string) (*Backend, error){
	kindServer:   startServer,
	kindCluster:  startCluster(kindCluster, 1),
	kindCluster3: startCluster(kindCluster3, 3),
	kindSentinel: startSentinel,
}

// Server starts a redis-server of tb's own on a free loopback port, without
// persistence, and waits until it answers. args are further arguments, such as
// "--maxmemory", "1mb"; they may not ask for a password. See [Each] for what
// happens without redis-server.
func Server(tb testing.TB, args ...string) *Backend {
	tb.Helper()
	return own(tb, kindServer, args)
}

// Cluster starts a cluster of tb's own with one node that has all 16384 slots,
// and waits until it serves: about two seconds, as Redis lets no new master
// serve sooner.
func Cluster(tb testing.TB, args ...string) *Backend {
	tb.Helper()
	return own(tb, kindCluster, args)
}

// Cluster3 starts a cluster of tb's own with three masters, each a third of the
// slots, and waits until each knows that all three serve: about two seconds.
func Cluster3(tb testing.TB, args ...string) *Backend {
	tb.Helper()
	return own(tb, kindCluster3, args)
}

// Sentinel starts a master, its replica and a sentinel of tb's own, and waits
// until the sentinel watches both. The quorum is 1; a master that is silent for
// 500 ms is down, and the replica takes over a second or two later. args go to
// master and replica.
//
// [Backend.Kill] ends all three; to see a failover, end Nodes()[0].
func Sentinel(tb testing.TB, args ...string) *Backend {
	tb.Helper()
	return own(tb, kindSentinel, args)
}

// own starts a deployment that ends with tb.
func own(tb testing.TB, kind string, args []string) *Backend {
	tb.Helper()
	binary := requireRedis(tb, kind)
	b, err := starters[kind](binary, tb.TempDir(), args)
	if err != nil {
		tb.Fatalf("testkit: start %s: %v", kind, err)
	}
	tb.Cleanup(b.close)
	return b
}

// requireRedis returns where redis-server is. Without it tb is skipped, or
// failed if skipping is forbidden.
func requireRedis(tb testing.TB, kind string) string {
	tb.Helper()
	forbidShort(tb)
	if testing.Short() {
		tb.Skipf("NOT PROVED ON A REAL REDIS (%s): -short KEEPS TO MINIREDIS", kind)
	}
	binary, err := exec.LookPath("redis-server")
	if err == nil {
		return binary
	}
	const missing = "NOT PROVED ON A REAL REDIS (%s): THERE IS NO redis-server ON PATH. REMEDY: apt-get install -y redis-server"
	if mustProve() {
		tb.Fatalf(missing+" (this fails because WEIR_REQUIRE_REDIS=1)", kind)
	}
	tb.Skipf(missing+" (WEIR_REQUIRE_REDIS=1 makes this a failure)", kind)
	return ""
}

// forbidShort fails tb if -short would skip what the environment requires.
func forbidShort(tb testing.TB) {
	tb.Helper()
	if testing.Short() && mustProve() {
		tb.Fatal("testkit: -short keeps to miniredis, but WEIR_REQUIRE_REDIS=1 forbids to skip Redis: drop one of them")
	}
}

// mustProve reports whether skipping is forbidden.
func mustProve() bool { return os.Getenv("WEIR_REQUIRE_REDIS") == "1" }

func startServer(binary, dir string, args []string) (*Backend, error) {
	n, err := newNode(binary, dir, func(_ string, port int) ([]string, error) {
		return serverArgs(port, args), nil
	})
	if err != nil {
		return nil, err
	}
	return &Backend{name: kindServer, addrs: []string{n.addr}, nodes: []*Node{n}}, nil
}

// serverArgs are the arguments of every redis-server that holds data; those in
// more come last and so have the last word.
func serverArgs(port int, more ...[]string) []string {
	args := []string{
		"--port", strconv.Itoa(port),
		"--bind", "127.0.0.1",
		"--save", "",
		"--appendonly", "no",
		// A replica is served from memory and at once: by default the master
		// waits five seconds for more replicas to come.
		"--repl-diskless-sync", "yes",
		"--repl-diskless-sync-delay", "0",
	}
	return append(args, slices.Concat(more...)...)
}
