package testkit

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Backend is one Redis deployment: in the process ([Mini], [Memory]) or made of
// redis-server processes ([Server], [Cluster], [Cluster3], [Sentinel]).
//
// A backend belongs to the test that made it and ends with it, but for those of
// [Each] and [Shared], which live until [Main] returns: there a test keeps to
// its own [Backend.Prefix] and leaves the processes alone. Its methods may be
// called from several goroutines.
type Backend struct {
	name   string
	addrs  []string
	master string // name of the master that the sentinel watches
	nodes  []*Node
	mini   *miniredis.Miniredis
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)

	// healthy reports what the deployment still lacks to serve, nil if nothing.
	healthy func(ctx context.Context) error
}

// Name is the kind of deployment: "mini", "memory", "server", "cluster",
// "cluster3" or "sentinel".
func (b *Backend) Name() string { return b.name }

// Addrs are the addresses a client is configured with: the server, the nodes of
// the cluster, or the sentinel. It is empty for [Memory], which has none.
func (b *Backend) Addrs() []string { return append([]string(nil), b.addrs...) }

// Nodes are the processes: the masters of a cluster in the order of their
// slots; of [Sentinel] the first master, the first replica and the sentinel.
// It is empty for [Mini] and [Memory].
func (b *Backend) Nodes() []*Node { return append([]*Node(nil), b.nodes...) }

// Miniredis is the server behind [Mini] and [Memory], nil for the others.
func (b *Backend) Miniredis() *miniredis.Miniredis { return b.mini }

// Client returns a new client of the right kind (*redis.Client, or
// *redis.ClusterClient for a cluster), closed when tb ends. Its options are
// go-redis's defaults, as a user has them: retries on, five-second timeouts.
// Each alter may change them first.
func (b *Backend) Client(tb testing.TB, alter ...func(*redis.UniversalOptions)) redis.UniversalClient {
	tb.Helper()
	opts := b.options()
	for _, change := range alter {
		change(opts)
	}
	client := redis.NewUniversalClient(opts)
	tb.Cleanup(func() { client.Close() })
	return client
}

func (b *Backend) options() *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Addrs:         b.Addrs(),
		MasterName:    b.master,
		IsClusterMode: strings.HasPrefix(b.name, "cluster"),
		Dialer:        b.dial,
	}
}

// Spec describes the backend in one word for [Connect] in another process. It
// is empty for [Memory], which no other process can reach.
func (b *Backend) Spec() string {
	if len(b.addrs) == 0 {
		return ""
	}
	return b.name + "=" + strings.Join(b.addrs, ",")
}

// Connect returns a client with go-redis's default options for the backend
// that spec describes; see [Backend.Spec]. The caller closes it. It is meant for
// a [Role], which has no testing.TB.
func Connect(spec string) (redis.UniversalClient, error) {
	name, addrs, found := strings.Cut(spec, "=")
	if !found || name == "" || addrs == "" {
		return nil, fmt.Errorf("testkit: connect: got %q; want what Backend.Spec returns", spec)
	}
	b := Backend{name: name, addrs: strings.Split(addrs, ",")}
	if name == kindSentinel {
		b.master = masterName
	}
	return redis.NewUniversalClient(b.options()), nil
}

// Prefix returns a prefix for the keys of tb that no other test, run or process
// uses: letters, digits, '-' and '_', at most 48 of them, from the test's name
// and chance.
func (b *Backend) Prefix(tb testing.TB) string {
	const most = 48
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '-'
	}, tb.Name())
	chance := "-" + rand.Text()[:13] // 65 bits
	if len(safe)+len(chance) > most {
		safe = safe[:most-len(chance)]
	}
	return safe + chance
}

// Pause stops every process as it stands: connections are accepted, nothing is
// answered. See [Node.Pause]. Like Resume, Kill and Restart it panics on a
// backend that is shared or has no process.
func (b *Backend) Pause() { b.forEach("Pause", (*Node).Pause) }

// Resume undoes Pause.
func (b *Backend) Resume() { b.forEach("Resume", (*Node).Resume) }

// Kill ends every process at once: connections are refused. See [Node.Kill].
func (b *Backend) Kill() { b.forEach("Kill", (*Node).Kill) }

// Restart starts every process again on its port and in its directory, empty
// unless the arguments say otherwise, and waits until the deployment serves.
func (b *Backend) Restart(tb testing.TB) {
	tb.Helper()
	b.forEach("Restart", func(n *Node) { n.Restart(tb) })
	b.Settle(tb)
}

// Settle waits until the deployment serves again as it did when it was new: all
// slots covered as seen by every node, or a master with a replica as seen by
// the sentinel. It fails tb after 30 s.
func (b *Backend) Settle(tb testing.TB) {
	tb.Helper()
	if err := b.settle(tb.Context()); err != nil {
		tb.Fatalf("testkit: %s does not settle: %v", b.name, err)
	}
}

func (b *Backend) settle(ctx context.Context) error {
	if b.healthy == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return poll(ctx, func() error { return b.healthy(ctx) })
}

func (b *Backend) forEach(what string, do func(*Node)) {
	if len(b.nodes) == 0 {
		panic("testkit: " + what + " on " + b.name + ", which has no process: use testkit.Server(t), or a Proxy")
	}
	for _, n := range b.nodes {
		do(n)
	}
}

// close ends every process, all at once.
func (b *Backend) close() {
	var wg sync.WaitGroup
	for _, n := range b.nodes {
		wg.Go(n.close)
	}
	wg.Wait()
}

// markShared makes the nodes refuse to be paused or killed.
func (b *Backend) markShared() {
	for _, n := range b.nodes {
		n.shared = true
	}
}
