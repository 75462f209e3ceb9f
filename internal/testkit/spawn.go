package testkit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The environment of a child.
const (
	roleVariable  = "WEIR_TEST_ROLE"
	indexVariable = "WEIR_TEST_ROLE_INDEX"
)

var roles = struct {
	sync.Mutex
	run map[string]func(ctx context.Context, args []string) error
}{run: make(map[string]func(context.Context, []string) error)}

// Role registers what a child process made by [Spawn] does, under a name. It is
// to be called from an init function of the test package, and needs a TestMain
// that calls [Main]. ctx ends when the parent asks for the end or is gone. What
// run has to tell it tells by [Emit]; an error it returns fails the parent's test.
// A name registered twice panics.
func Role(name string, run func(ctx context.Context, args []string) error) {
	roles.Lock()
	defer roles.Unlock()
	if _, taken := roles.run[name]; taken || name == "" {
		panic(fmt.Sprintf("testkit: role %q is empty or registered twice", name))
	}
	roles.run[name] = run
}

// RoleIndex is the number of this child among its siblings, from 0. In a process
// that is no child it is -1.
func RoleIndex() int {
	index, err := strconv.Atoi(os.Getenv(indexVariable))
	if err != nil {
		return -1
	}
	return index
}

var emitting sync.Mutex

// Emit sends v as a line of JSON to the parent, from a role. It may be called
// from several goroutines. It panics if v cannot be encoded.
func Emit(v any) {
	line, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("testkit: emit: %v", err))
	}
	emitting.Lock()
	defer emitting.Unlock()
	// If the parent is gone, so is this process in a moment.
	_, _ = os.Stdout.Write(append(line, '\n'))
}

// runRole is the whole life of a child. It returns its exit code.
func runRole(name string, args []string) int {
	roles.Lock()
	run := roles.run[name]
	roles.Unlock()
	if run == nil {
		fmt.Fprintf(os.Stderr, "testkit: no role %q is registered in this package\n", name)
		return 2
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		// The parent holds the other end open for as long as it wants the child,
		// and never writes. It ends with the parent on every system.
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	if err := run(ctx, args); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "testkit: role %q: %v\n", name, err)
		return 1
	}
	return 0
}

// Line is one line of JSON from a child.
type Line struct {
	Child int // its number, as in [RoleIndex]
	JSON  json.RawMessage
}

// Decode decodes every line as a T, in order, and fails tb on one that is none.
func Decode[T any](tb testing.TB, lines []Line) []T {
	tb.Helper()
	values := make([]T, len(lines))
	for i, line := range lines {
		if err := json.Unmarshal(line.JSON, &values[i]); err != nil {
			tb.Fatalf("testkit: child %d said %s: %v", line.Child, line.JSON, err)
		}
	}
	return values
}

// Processes are the children of one [Spawn].
type Processes struct {
	tb       testing.TB
	children []*child

	mu    sync.Mutex
	lines []Line
	more  chan struct{} // closed and replaced with every line and every end
	taken int           // how many lines Next has returned
	told  bool          // Wait has said which children failed
}

// child is one of them. It is the writer of its own stdout.
type child struct {
	family *Processes
	index  int
	proc   *process
	stdin  io.Closer
	stderr bytes.Buffer // to be read after the process has ended
	part   []byte       // of a line that is not complete yet
	killed bool         // by Kill, so that its exit code says nothing
}

// Spawn starts n processes of the test binary that run the role instead of the
// tests, all with the same args. They end with tb at the latest; if this process
// is killed they are killed too (Linux), or see their context end.
//
// A test either waits for their own end with [Processes.Wait], or ends them by
// [Processes.Stop]. A child that fails fails tb.
func Spawn(tb testing.TB, n int, role string, args ...string) *Processes {
	tb.Helper()
	if !managed.Load() {
		tb.Fatal("testkit: a child needs somebody to run its role: add func TestMain(m *testing.M) { testkit.Main(m) }")
	}
	binary, err := os.Executable()
	if err != nil {
		tb.Fatalf("testkit: spawn: %v", err)
	}
	p := &Processes{tb: tb, more: make(chan struct{})}
	tb.Cleanup(p.end)
	for i := range n {
		c := &child{family: p, index: i}
		cmd := exec.Command(binary, args...)
		cmd.Env = append(os.Environ(), roleVariable+"="+role, indexVariable+"="+strconv.Itoa(i))
		cmd.Stdout, cmd.Stderr = c, &c.stderr
		// A grandchild that inherits stdout must not keep Wait waiting.
		cmd.WaitDelay = grace
		if c.stdin, err = cmd.StdinPipe(); err == nil {
			c.proc, err = launch(cmd)
		}
		if err != nil {
			tb.Fatalf("testkit: spawn %s: %v", role, err)
		}
		p.children = append(p.children, c)
		go func() {
			<-c.proc.exited
			p.mu.Lock()
			defer p.mu.Unlock()
			p.announce()
		}()
	}
	return p
}

// Write takes in what the child wrote, line by line.
func (c *child) Write(b []byte) (int, error) {
	p := c.family
	p.mu.Lock()
	defer p.mu.Unlock()
	c.part = append(c.part, b...)
	for {
		line, rest, complete := bytes.Cut(c.part, []byte("\n"))
		if !complete {
			return len(b), nil
		}
		p.lines = append(p.lines, Line{Child: c.index, JSON: bytes.Clone(line)})
		c.part = rest
		p.announce()
	}
}

// announce wakes whoever waits in Next. It is called with the lock held.
func (p *Processes) announce() {
	close(p.more)
	p.more = make(chan struct{})
}

// Next returns the next line that any child emits, in the order they came. It
// fails the test at once if all children have ended or 30 s have passed.
func (p *Processes) Next() Line {
	p.tb.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		more := p.more
		// Asked before the lines are: an ended child has no line on its way.
		ended := p.ended()
		if p.taken < len(p.lines) {
			line := p.lines[p.taken]
			p.taken++
			p.mu.Unlock()
			return line
		}
		p.mu.Unlock()
		if ended {
			p.tb.Fatalf("testkit: all children have ended, without another line%s", p.complaints())
		}
		select {
		case <-more:
		case <-timeout.C:
			p.tb.Fatalf("testkit: no line from a child for %v", patience)
		}
	}
}

// PID is the process id of child i.
func (p *Processes) PID(i int) int { return p.children[i].proc.cmd.Process.Pid }

// Kill ends child i at once (SIGKILL) and waits for its end. It does not fail
// the test.
func (p *Processes) Kill(i int) {
	p.mu.Lock()
	p.children[i].killed = true
	p.mu.Unlock()
	p.children[i].proc.kill()
}

// Pause stops child i as it stands (SIGSTOP), and returns when it has stopped: a
// process whose lease runs out while it believes that it holds it.
func (p *Processes) Pause(i int) {
	p.tb.Helper()
	if err := p.children[i].proc.pause(); err != nil {
		p.tb.Errorf("testkit: pause child %d: %v", i, err)
	}
}

// Resume undoes Pause.
func (p *Processes) Resume(i int) {
	p.tb.Helper()
	if err := p.children[i].proc.resume(); err != nil {
		p.tb.Errorf("testkit: resume child %d: %v", i, err)
	}
}

// Wait waits until every child has ended by itself, and returns all lines, those
// of one child in its order. It kills those that have not ended five seconds
// before the test binary's deadline (or after ten minutes), and fails the test
// for them and for every child that failed.
func (p *Processes) Wait() []Line {
	p.tb.Helper()
	limit := 10 * time.Minute
	if t, ok := p.tb.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, set := t.Deadline(); set {
			limit = time.Until(deadline) - 5*time.Second
		}
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	late := timeout.C
	for _, c := range p.children {
		select {
		case <-c.proc.exited:
		case <-late:
			p.tb.Errorf("testkit: child %d has not ended; now killed", c.index)
			for _, c := range p.children {
				p.Kill(c.index)
			}
		}
	}
	p.complain()
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Line(nil), p.lines...)
}

// Stop ends the context of every child and then does what [Processes.Wait] does.
func (p *Processes) Stop() []Line {
	p.tb.Helper()
	for _, c := range p.children {
		c.stdin.Close()
	}
	return p.Wait()
}

// end is the cleanup: whatever the test did, no child is left, and none has
// failed unheard. Those that it has to stop itself are not asked how they fared.
func (p *Processes) end() {
	p.complain()
	for _, c := range p.children {
		c.stdin.Close()
	}
	var left []*process
	for _, c := range p.children {
		left = append(left, c.proc)
	}
	stopAll(left)
}

func (p *Processes) ended() bool {
	for _, c := range p.children {
		if !c.proc.hasExited() {
			return false
		}
	}
	return true
}

// complain fails the test for the children that have failed so far, once.
func (p *Processes) complain() {
	p.tb.Helper()
	if said := p.complaints(); said != "" && !p.told {
		p.told = true
		p.tb.Errorf("testkit: children failed:%s", said)
	}
}

// complaints are the exit codes and the stderr of the children that have failed,
// each on its own line.
func (p *Processes) complaints() string {
	var said bytes.Buffer
	for _, c := range p.children {
		p.mu.Lock()
		killed := c.killed
		p.mu.Unlock()
		if !killed && c.proc.hasExited() && c.proc.err != nil {
			fmt.Fprintf(&said, "\nchild %d: %v: %s", c.index, c.proc.err, bytes.TrimSpace(c.stderr.Bytes()))
		}
	}
	return said.String()
}
