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
	"syscall"
	"testing"
	"time"
)

// Program is a server that is no Redis, such as a peer to be compared with.
type Program struct {
	addr string
	proc *process
}

// Start starts a server that listens on a free loopback address, and waits until it
// does. command makes what is run, without starting it; dir is a directory of the
// server's own. The server is ended with SIGTERM when tb ends or, on Linux, when this
// process is killed, so that one with processes of its own can end them.
func Start(tb testing.TB, command func(dir, addr string) (*exec.Cmd, error)) *Program {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var p *Program
	err := poll(ctx, func() error {
		port, err := claimPort()
		if err != nil {
			return final{err}
		}
		dir := tb.TempDir()
		cmd, err := command(dir, loopback(port))
		if err != nil {
			releasePort(port)
			return final{err}
		}
		if p, err = startProgram(ctx, cmd, dir, loopback(port)); err != nil {
			releasePort(port)
			return err // on errPortTaken another process was faster; try another port
		}
		tb.Cleanup(func() {
			p.proc.stop()
			releasePort(port)
		})
		return nil
	})
	if err != nil {
		tb.Fatalf("testkit: start: %v", err)
	}
	return p
}

func startProgram(ctx context.Context, cmd *exec.Cmd, dir, addr string) (*Program, error) {
	log, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		return nil, final{err}
	}
	defer log.Close() // the child has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := launchUntil(cmd, syscall.SIGTERM)
	if err != nil {
		return nil, final{err}
	}
	err = poll(ctx, func() error {
		if proc.hasExited() {
			return final{errors.New("it has ended")}
		}
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		proc.stop()
		said, _ := os.ReadFile(log.Name())
		if bytes.Contains(said, []byte("Address already in use")) {
			return nil, errPortTaken
		}
		return nil, final{fmt.Errorf("%s on %s: %w; it said:\n%s", cmd.Path, addr, err, said)}
	}
	return &Program{addr: addr, proc: proc}, nil
}

// Addr returns where the server listens.
func (p *Program) Addr() string { return p.addr }

// PID returns the number of the process that was started.
func (p *Program) PID() int { return p.proc.cmd.Process.Pid }
