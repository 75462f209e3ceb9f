// Package testkit gives tests and benchmarks a Redis to run against, and the
// means to break it: miniredis in the process, redis-server as a child, a
// cluster of one or three, a master with a sentinel, and a TCP proxy that
// delays, hangs, refuses and loses replies. Only tests import it.
//
// # Usage
//
// One contract, proved on every kind of Redis:
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
//
//	func TestLimiter_contract(t *testing.T) {
//		testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
//			limiter, err := ratelimit.New(b.Client(t), ratelimit.WithPrefix(b.Prefix(t)), ...)
//			...
//		})
//	}
//
// A server of one's own, to break:
//
//	b := testkit.Server(t)
//	b.Pause()  // SIGSTOP: accepts connections, answers nothing
//	b.Resume()
//	b.Kill()   // SIGKILL: refuses connections
//	b.Restart(t)
//
// A reply lost after the command ran:
//
//	p := testkit.NewProxy(t, b.Addrs()[0])
//	p.SwallowReply(1, "evalsha", testkit.ThenClose)
//	err := call(p.Client(t)) // ran once or twice? the proxy knows: p.Commands()
//
// One round trip:
//
//	p.Reset()
//	call(client)
//	if got := p.RoundTrips(); got != 1 { ... }
//
// Several processes:
//
//	func init() { testkit.Role("hammer", hammer) }
//
//	for _, line := range testkit.Spawn(t, 4, "hammer", b.Spec()).Wait() { ... }
//
// # Guarantees
//
// Everything listens on 127.0.0.1 and nowhere else. Whatever a test starts has
// ended, and been waited for, when that test ends; what [Each] shares between
// tests has ended when [Main] returns. If the test process is killed first, on
// Linux the kernel kills its servers and children with it (PR_SET_PDEATHSIG);
// elsewhere they may outlive it. Processes are signalled by their own handle,
// never by a name.
//
// # When redis-server is missing
//
// Tests that need it are skipped, in capitals, with the remedy. With
// WEIR_REQUIRE_REDIS=1 in the environment, as in CI, they fail instead, and so
// does -short, which would otherwise keep [Each] to miniredis.
//
// # Time
//
// There is no clock here. [testing/synctest] fakes time, and [Memory] is a
// Redis that lives inside its bubble.
package testkit
