package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// grace is how long a process may take to end after SIGTERM.
const grace = 2 * time.Second

// process is a child of this process. It is waited for from its start on, so
// that it is never a zombie, and signalled through its handle: the handle stays
// good when the kernel gives the number to another process.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed once the child has ended and was waited for
	err    error         // what Wait said; to be read after exited
}

// launches carries every start to the one goroutine that does them.
//
// Linux sends a child its parent-death signal when the *thread* that forked it
// ends (prctl(2)), and Go ends a thread when a goroutine returns while locked to
// it, be it somebody else's that was given the thread later. The starts are
// therefore done by one goroutine that keeps its thread to itself and never
// returns: that thread ends when the process does.
// It is the one goroutine of this package that nothing stops.
var launches = sync.OnceValue(func() chan<- func() {
	starts := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range starts {
			start()
		}
	}()
	return starts
})

// living are the processes that have not ended; [Main] looks whether any is left.
var living sync.Map // of *process to struct{}

// launch starts cmd so that it dies with this process.
func launch(cmd *exec.Cmd) (*process, error) { return launchUntil(cmd, syscall.SIGKILL) }

// launchUntil is launch of what is sent another signal when this process dies.
func launchUntil(cmd *exec.Cmd, last syscall.Signal) (*process, error) {
	dieWithParent(cmd, last)
	started := make(chan error, 1)
	launches() <- func() { started <- cmd.Start() }
	if err := <-started; err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	living.Store(p, struct{}{})
	go func() {
		p.err = cmd.Wait()
		living.Delete(p)
		close(p.exited)
	}()
	return p, nil
}

// hasExited reports whether the process has ended.
func (p *process) hasExited() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// pause stops the process as it stands and returns once it has stopped.
func (p *process) pause() error {
	if err := stopSignal(p.cmd.Process); err != nil {
		return err
	}
	// The signal is acted on when the process next leaves the kernel. Until
	// then it may still answer one more command.
	deadline := time.Now().Add(grace)
	for !isStopped(p.cmd.Process.Pid) {
		if p.hasExited() {
			return os.ErrProcessDone
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d did not stop on SIGSTOP", p.cmd.Process.Pid)
		}
		time.Sleep(pollEvery)
	}
	return nil
}

// resume undoes pause.
func (p *process) resume() error { return continueSignal(p.cmd.Process) }

// kill ends the process at once and waits for its end.
func (p *process) kill() {
	// An error means that it has ended already. SIGKILL also ends a stopped process.
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop asks the process to end, kills it if it does not, and waits for its end.
func (p *process) stop() {
	_ = p.resume() // a stopped process does not act on SIGTERM
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(grace):
		p.kill()
	}
}

// stopAll stops processes side by side: a master may otherwise wait for its
// replica while the replica waits for its turn.
func stopAll(processes []*process) {
	var wg sync.WaitGroup
	for _, p := range processes {
		wg.Go(p.stop)
	}
	wg.Wait()
}
