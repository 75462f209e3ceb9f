package testkit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"
)

// contractKinds are the real deployments that Each runs a contract on.
var contractKinds = []string{kindServer, kindCluster, kindCluster3}

// Each runs a contract as the subtests "mini", "server", "cluster" and
// "cluster3" of t. The miniredis is the subtest's own. The other three are
// started once per test binary, side by side when the first of them is needed,
// and shared by all tests of the package: a contract uses keys under
// [Backend.Prefix] only, and does not flush, pause or kill. It needs a TestMain
// that calls [Main], which stops them.
//
// Each does not make its subtests parallel; run may call t.Parallel.
//
// With -short only miniredis runs. Without redis-server on PATH the real ones
// are skipped in capitals; with WEIR_REQUIRE_REDIS=1 either is a failure.
func Each(t *testing.T, run func(t *testing.T, b *Backend)) {
	t.Helper()
	forbidShort(t)
	t.Run("mini", func(t *testing.T) { run(t, Mini(t)) })
	for _, kind := range contractKinds {
		t.Run(kind, func(t *testing.T) { run(t, Shared(t, kind)) })
	}
}

// Shared returns one of the deployments that the tests of this binary share:
// "server", "cluster", "cluster3" or "sentinel". See [Each] for the manners it
// asks for.
func Shared(tb testing.TB, kind string) *Backend {
	tb.Helper()
	s := shares[kind]
	if s == nil {
		tb.Fatalf("testkit: shared: got %q; want server, cluster, cluster3 or sentinel", kind)
	}
	if !managed.Load() {
		tb.Fatal("testkit: shared backends need somebody to stop them: add func TestMain(m *testing.M) { testkit.Main(m) }")
	}
	binary := requireRedis(tb, kind)
	if slices.Contains(contractKinds, kind) {
		warmUp(binary)
	}
	b, err := s.get(binary)
	if err != nil {
		tb.Fatalf("testkit: start shared %s: %v", kind, err)
	}
	return b
}

// Main runs the tests of a package and exits. It is to be all of a package's
// TestMain: it stops what [Each] and [Shared] started, fails the run if a
// process of the kit is left, and in a process made by [Spawn] it runs the
// [Role] instead of the tests.
func Main(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(runRole(role, os.Args[1:]))
	}
	managed.Store(true)
	// Tests take servers away on purpose, and go-redis logs each failed dial.
	redis.SetLogger(quiet{})
	code := m.Run()
	for _, end := range atExit {
		end()
	}
	if err := endShares(); err != nil {
		fmt.Fprintln(os.Stderr, "testkit:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// quiet is a logger for go-redis that keeps still.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

var atExit []func()

// AtExit has [Main] call end when all tests have run: what several tests share,
// and is made once, has no test to clean it up. It is to be called from one
// goroutine at a time.
func AtExit(end func()) { atExit = append(atExit, end) }

// managed says that Main runs and so will stop what is shared.
var managed atomic.Bool

// share is a deployment started by the first test that needs it.
type share struct {
	kind string
	once sync.Once
	dir  string
	b    *Backend
	err  error
}

var shares = map[string]*share{
	kindServer:   {kind: kindServer},
	kindCluster:  {kind: kindCluster},
	kindCluster3: {kind: kindCluster3},
	kindSentinel: {kind: kindSentinel},
}

func (s *share) get(binary string) (*Backend, error) {
	s.once.Do(func() {
		// Not a test's TempDir, which would go with the first test.
		if s.dir, s.err = os.MkdirTemp("", "weir-testkit-"); s.err != nil {
			return
		}
		if s.b, s.err = starters[s.kind](binary, s.dir, nil); s.err == nil {
			s.b.markShared()
		}
	})
	return s.b, s.err
}

var warming sync.Once

// warmUp starts all that Each will ask for next: the two clusters then wait
// their two seconds together, and while the contract runs on the server.
func warmUp(binary string) {
	warming.Do(func() {
		for _, kind := range contractKinds {
			// It ends by itself; endShares waits for it through the share's once.
			go shares[kind].get(binary)
		}
	})
}

// endShares stops every share and looks whether any process is left.
func endShares() error {
	var errs []error
	for _, s := range shares {
		// Waits for a start that is under way and forestalls one to come.
		s.once.Do(func() { s.err = errors.New("the tests have ended") })
		if s.b != nil {
			s.b.close()
		}
		if s.dir != "" {
			errs = append(errs, os.RemoveAll(s.dir))
		}
	}
	living.Range(func(p, _ any) bool {
		left := p.(*process)
		errs = append(errs, fmt.Errorf("process %d (%s) was left behind; now killed", left.cmd.Process.Pid, left.cmd.Path))
		left.kill()
		return true
	})
	return errors.Join(errs...)
}
