package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Node is one redis-server process of a [Backend]. Its address stays the same
// over all restarts.
//
// Pause, Resume and Kill panic on a node of a shared backend: other tests are
// using it.
type Node struct {
	addr   string
	port   int
	dir    string
	binary string
	args   []string
	shared bool

	mu   sync.Mutex
	proc *process
}

// Addr is the node's host:port.
func (n *Node) Addr() string { return n.addr }

// PID is the process id of the node's current process, or of its last one.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc.cmd.Process.Pid
}

// Pause stops the process as it stands (SIGSTOP). The kernel goes on accepting
// connections for it and taking their bytes; nothing is answered. It returns
// when the process has stopped, and does nothing to a process that has ended.
func (n *Node) Pause() {
	n.mustBeOwn("Pause")
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.proc.pause(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("testkit: pause %s: %v", n.addr, err))
	}
}

// Resume undoes Pause (SIGCONT). What was sent meanwhile is answered now.
func (n *Node) Resume() {
	n.mustBeOwn("Resume")
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.proc.resume(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("testkit: resume %s: %v", n.addr, err))
	}
}

// Kill ends the process at once (SIGKILL) and returns when it is gone: from
// then on its address refuses connections.
func (n *Node) Kill() {
	n.mustBeOwn("Kill")
	n.mu.Lock()
	defer n.mu.Unlock()
	n.proc.kill()
}

// Restart starts the node again on the same port and in the same directory,
// after stopping it if it runs, and returns when it answers. As nothing is
// saved to disk it comes back empty, unless the backend's arguments say
// otherwise; a cluster node remembers its slots and its peers, which it may
// need two seconds to take up again: see [Backend.Settle].
func (n *Node) Restart(tb testing.TB) {
	tb.Helper()
	n.mustBeOwn("Restart")
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	n.stop()
	// The port is below those of outgoing connections, so only another kit in
	// another process can have taken it, and that for no longer than its test.
	err := poll(ctx, func() error {
		err := n.start(ctx)
		if err != nil && !errors.Is(err, errPortTaken) {
			return final{err}
		}
		return err
	})
	if err != nil {
		tb.Fatalf("testkit: restart %s: %v", n.addr, err)
	}
}

func (n *Node) mustBeOwn(what string) {
	if n.shared {
		panic("testkit: " + what + " on a shared backend, which other tests are using: " +
			"start one of your own with testkit.Server(t), Cluster(t), Cluster3(t) or Sentinel(t)")
	}
}

var errPortTaken = errors.New("port is in use")

// newNode starts binary in a new directory below dir. arguments says what to
// start on a port; it may write into the node's directory.
func newNode(binary, dir string, arguments func(dir string, port int) ([]string, error)) (*Node, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var node *Node
	err := poll(ctx, func() error {
		port, err := claimPort()
		if err != nil {
			return final{err}
		}
		n := &Node{addr: loopback(port), port: port, binary: binary}
		if n.dir, err = os.MkdirTemp(dir, "node-"); err != nil {
			return final{err}
		}
		if n.args, err = arguments(n.dir, port); err != nil {
			return final{err}
		}
		err = n.start(ctx)
		if err == nil {
			node = n
			return nil
		}
		n.stop()
		releasePort(port)
		if errors.Is(err, errPortTaken) {
			return err // another process was faster; try another port
		}
		return final{err}
	})
	return node, err
}

// start starts the process and waits until it answers.
func (n *Node) start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	log, err := os.Create(filepath.Join(n.dir, "redis.log"))
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own descriptor
	cmd := exec.Command(n.binary, n.args...)
	cmd.Dir = n.dir
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := launch(cmd)
	if err != nil {
		return err
	}
	n.proc = proc
	return poll(ctx, func() error {
		if proc.hasExited() {
			said, _ := os.ReadFile(log.Name())
			if bytes.Contains(said, []byte("Address already in use")) {
				return final{errPortTaken}
			}
			return final{fmt.Errorf("%s has ended (%v) and said:\n%s", n.binary, proc.err, said)}
		}
		// Asked first, as go-redis logs a refused dial and then waits a second.
		conn, err := net.DialTimeout("tcp", n.addr, time.Second)
		if err != nil {
			return err
		}
		conn.Close()
		// PING would be answered by whoever has the port. The process id in
		// INFO tells whether it is ours.
		client := admin(n.addr)
		defer client.Close()
		info, err := client.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		if !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", proc.cmd.Process.Pid)) {
			return errPortTaken // ours finds out by itself, and ends
		}
		return nil
	})
}

// stop ends the process, if there is one.
func (n *Node) stop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.proc != nil {
		n.proc.stop()
	}
}

// close ends the process for good and gives up its port.
func (n *Node) close() {
	n.stop()
	releasePort(n.port)
}

// admin is a client for the kit's own commands: one connection, no retry, and
// timeouts short enough to be tried again.
func admin(addr string) *redis.Client { return redis.NewClient(adminOptions(addr)) }

func adminOptions(addr string) *redis.Options {
	return &redis.Options{
		Addr:            addr,
		Protocol:        2,
		DisableIdentity: true,
		PoolSize:        1,
		MaxRetries:      -1,
		DialerRetries:   1,
		DialTimeout:     time.Second,
		ReadTimeout:     5 * time.Second,
		WriteTimeout:    time.Second,
	}
}
