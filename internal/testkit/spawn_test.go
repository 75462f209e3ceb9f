package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
)

func init() {
	testkit.Role("count", count)
	testkit.Role("linger", linger)
	testkit.Role("stubborn", func(context.Context, []string) error {
		testkit.Emit("ready")
		select {}
	})
	testkit.Role("fail", func(context.Context, []string) error { return errors.New("it went wrong") })
}

// counted is a line of the role count.
type counted struct{ Child, Value int64 }

// count increments the key args[1] of the backend args[0] a hundred times.
func count(ctx context.Context, args []string) error {
	client, err := testkit.Connect(args[0])
	if err != nil {
		return err
	}
	defer client.Close()
	for range 100 {
		value, err := client.Incr(ctx, args[1]).Result()
		if err != nil {
			return err
		}
		testkit.Emit(counted{Child: int64(testkit.RoleIndex()), Value: value})
	}
	return nil
}

// linger says so, and waits for the end.
func linger(ctx context.Context, _ []string) error {
	testkit.Emit("ready")
	<-ctx.Done()
	testkit.Emit("bye")
	return ctx.Err()
}

func TestSpawn_countsTogether(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		lines := testkit.Spawn(t, 3, "count", b.Spec(), b.Prefix(t)).Wait()
		seen := make(map[int64]bool)
		last := make(map[int64]int64)
		for i, c := range testkit.Decode[counted](t, lines) {
			if int(c.Child) != lines[i].Child {
				t.Errorf("a line of child %d says that it is %d", lines[i].Child, c.Child)
			}
			if seen[c.Value] || c.Value <= last[c.Child] {
				t.Errorf("child %d: got %d; want more than %d and not seen", c.Child, c.Value, last[c.Child])
			}
			seen[c.Value], last[c.Child] = true, c.Value
		}
		if len(seen) != 300 || len(last) != 3 {
			t.Errorf("got %d values of %d children; want 300 of 3", len(seen), len(last))
		}
	})
}

func TestSpawn_stop(t *testing.T) {
	t.Parallel()
	children := testkit.Spawn(t, 2, "linger")
	for range 2 {
		if got := string(children.Next().JSON); got != `"ready"` {
			t.Errorf("got %s; want \"ready\"", got)
		}
	}
	got := testkit.Decode[string](t, children.Stop())
	slices.Sort(got)
	if want := []string{"bye", "bye", "ready", "ready"}; !slices.Equal(got, want) {
		t.Errorf("got %q; want %q", got, want)
	}
}

func TestSpawn_pauseAndKill(t *testing.T) {
	t.Parallel()
	children := testkit.Spawn(t, 2, "linger")
	children.Next()
	children.Next()
	children.Pause(0)
	children.Kill(1)
	if !isAlive(children.PID(0)) || isAlive(children.PID(1)) {
		t.Errorf("alive: %t, %t; want true, false", isAlive(children.PID(0)), isAlive(children.PID(1)))
	}
	children.Resume(0)
	if got := len(children.Stop()); got != 3 {
		t.Errorf("got %d lines; want 3: two ready, one bye", got)
	}
}

func TestSpawn_leavesNothingBehind(t *testing.T) {
	t.Parallel()
	var children *testkit.Processes
	t.Run("owner", func(t *testing.T) {
		children = testkit.Spawn(t, 2, "stubborn")
		children.Next()
		children.Next()
		children.Pause(0)
	})
	for i := range 2 {
		if isAlive(children.PID(i)) {
			t.Errorf("child %d is alive", i)
		}
	}
}

func TestHelper_failingChild(t *testing.T) {
	if !isHelper() {
		return
	}
	testkit.Spawn(t, 1, "fail").Wait()
}

func TestHelper_unknownRole(t *testing.T) {
	if !isHelper() {
		return
	}
	testkit.Spawn(t, 1, "nobody").Next()
}

func TestHelper_parent(t *testing.T) {
	if !isHelper() {
		return
	}
	children := testkit.Spawn(t, 2, "stubborn")
	children.Next()
	children.Next()
	fmt.Printf("pids %d %d\n", children.PID(0), children.PID(1))
	process, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = process.Kill()
	}
	t.Fatal("still here", err)
}

func TestSpawn_failsTheTest(t *testing.T) {
	t.Parallel()
	for test, want := range map[string]string{
		"TestHelper_failingChild": "it went wrong",
		"TestHelper_unknownRole":  `no role "nobody" is registered`,
	} {
		if out := rerun(t, test, nil); !strings.Contains(out, "--- FAIL: "+test) || !strings.Contains(out, want) {
			t.Errorf("got %s; want FAIL, and %q", out, want)
		}
	}
}

// The line that protects is dieWithParent in launchUntil: a stubborn role does not
// look at its context.
func TestSpawn_diesWithTheTestProcess(t *testing.T) {
	t.Parallel()
	out := rerun(t, "TestHelper_parent", nil)
	_, line, _ := strings.Cut(out, "pids ")
	var pids [2]int
	if n, err := fmt.Sscan(line, &pids[0], &pids[1]); n != 2 {
		t.Fatalf("got %s, %v; want two process ids", out, err)
	}
	for _, pid := range pids {
		testkit.Eventually(t, fmt.Sprint("process ", pid, " to end"), func() bool { return !isAlive(pid) })
	}
}
