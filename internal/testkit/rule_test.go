package testkit_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
)

// helperVariable lets the TestHelper_ tests run: they are the inside of others.
const helperVariable = "WEIR_TESTKIT_HELPER"

// isHelper reports whether this is such an inside. Elsewhere they pass, as CI
// takes a skipped test for something not proved.
func isHelper() bool { return os.Getenv(helperVariable) != "" }

// rerunCommand is this test binary, to run the one test with env.
func rerunCommand(t *testing.T, test string, env []string, flags ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	flags = append([]string{"-test.run=^" + test + "$", "-test.v", "-test.count=1"}, flags...)
	cmd := exec.CommandContext(t.Context(), binary, flags...)
	cmd.Env = append(os.Environ(), helperVariable+"=1")
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

func rerun(t *testing.T, test string, env []string, flags ...string) string {
	t.Helper()
	out, _ := rerunCommand(t, test, env, flags...).CombinedOutput() // failing may be the point
	return string(out)
}

func TestHelper_contract(t *testing.T) {
	if !isHelper() {
		return
	}
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) { answers(t, b, b.Client(t)) })
}

func TestHelper_server(t *testing.T) {
	if !isHelper() {
		return
	}
	answers(t, testkit.Server(t), testkit.Server(t).Client(t))
}

func TestHelper_badArgument(t *testing.T) {
	if !isHelper() {
		return
	}
	testkit.Server(t, "--no-such-option", "1")
}

func TestHelper_orphan(t *testing.T) {
	if !isHelper() {
		return
	}
	for _, b := range []*testkit.Backend{testkit.Server(t), testkit.Shared(t, "server")} {
		fmt.Printf("addr %s\n", b.Addrs()[0])
	}
	fmt.Println("ready")
	select {} // until killed
}

// The line that forbids is forbidShort, and mustProve in requireRedis.
func TestEach_saysWhatIsNotProved(t *testing.T) {
	t.Parallel()
	const (
		nowhere = "PATH=/nonexistent"
		must    = "WEIR_REQUIRE_REDIS=1"
		free    = "WEIR_REQUIRE_REDIS=0"
		remedy  = "apt-get install -y redis-server"
	)
	for _, tt := range []struct {
		name  string
		test  string
		env   []string
		flags []string
		want  []string
		not   []string
	}{
		{
			name: "missing is skipped in capitals", test: "TestHelper_contract", env: []string{nowhere, free},
			want: []string{
				"--- PASS: TestHelper_contract/mini", "--- SKIP: TestHelper_contract/server",
				"--- SKIP: TestHelper_contract/cluster3", "NOT PROVED ON A REAL REDIS (cluster)", remedy,
			},
			not: []string{"--- FAIL"},
		},
		{
			name: "missing fails when required", test: "TestHelper_contract", env: []string{nowhere, must},
			want: []string{
				"--- PASS: TestHelper_contract/mini", "--- FAIL: TestHelper_contract/server",
				"--- FAIL: TestHelper_contract/cluster3", remedy,
			},
			not: []string{"--- SKIP"},
		},
		{
			name: "a direct call is skipped too", test: "TestHelper_server", env: []string{nowhere, free},
			want: []string{"--- SKIP: TestHelper_server", "(server)", remedy},
		},
		{
			name: "a direct call fails too", test: "TestHelper_server", env: []string{nowhere, must},
			want: []string{"--- FAIL: TestHelper_server", remedy},
		},
		{
			name: "short keeps to miniredis", test: "TestHelper_contract", env: []string{free}, flags: []string{"-test.short"},
			want: []string{"--- PASS: TestHelper_contract/mini", "--- SKIP: TestHelper_contract/server", "-short"},
			not:  []string{"--- FAIL"},
		},
		{
			name: "short is forbidden when required", test: "TestHelper_contract", env: []string{must}, flags: []string{"-test.short"},
			want: []string{"--- FAIL: TestHelper_contract", "WEIR_REQUIRE_REDIS=1 forbids"},
			not:  []string{"TestHelper_contract/mini"},
		},
		{
			name: "short is forbidden for a direct call", test: "TestHelper_server", env: []string{must}, flags: []string{"-test.short"},
			want: []string{"--- FAIL: TestHelper_server", "WEIR_REQUIRE_REDIS=1 forbids"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := rerun(t, tt.test, tt.env, tt.flags...)
			for _, want := range tt.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			for _, not := range tt.not {
				if strings.Contains(out, not) {
					t.Errorf("%q in:\n%s", not, out)
				}
			}
		})
	}
}

// The line that protects is dieWithParent in launchUntil.
func TestServer_diesWithTheTestProcess(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux ties a child's life to its parent's")
	}
	testkit.Shared(t, "server") // skips if there is none
	cmd := rerunCommand(t, "TestHelper_orphan", nil)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	// The killed process cannot remove its temporary directories.
	cmd.Env = append(cmd.Env, "TMPDIR="+t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			break
		}
		if addr, ok := strings.CutPrefix(lines.Text(), "addr "); ok {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) != 2 || refuses(addrs[0]) || refuses(addrs[1]) {
		t.Errorf("got servers %v; want 2 that accept", addrs)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // "signal: killed"
	for _, addr := range addrs {
		testkit.Eventually(t, addr+" to refuse", func() bool { return refuses(addr) })
	}
}

// onMainThread is a helper's environment in which the main goroutine keeps the main
// thread to itself. That one never ends; without it the test below could not fail.
const onMainThread = helperVariable + "=threads"

func init() {
	if slices.Contains(os.Environ(), onMainThread) {
		runtime.LockOSThread()
	}
}

func TestHelper_threads(t *testing.T) {
	if !isHelper() {
		return
	}
	b := testkit.Server(t)
	var locked, ended sync.WaitGroup
	release := make(chan struct{})
	for range 200 {
		locked.Add(1)
		ended.Go(func() {
			runtime.LockOSThread() // and never unlocked: its thread ends with it
			locked.Done()
			<-release
		})
	}
	locked.Wait() // all at once: every idle thread has been given to one of them
	close(release)
	ended.Wait()
	answers(t, b, b.Client(t))
}

// The line that protects is LockOSThread in launches: without it the thread that
// started the server is given to some other goroutine, and may end with it.
func TestServer_outlivesOtherThreads(t *testing.T) {
	t.Parallel()
	testkit.Shared(t, "server") // skips if there is none
	if out := rerun(t, "TestHelper_threads", []string{onMainThread}); !strings.Contains(out, "--- PASS: TestHelper_threads") {
		t.Errorf("got %s; want PASS", out)
	}
}
