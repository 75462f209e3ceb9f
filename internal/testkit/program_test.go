package testkit_test

import (
	"net"
	"os/exec"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
)

// A program listens when Start returns, and has ended when its test has.
//
// The line that protects is p.proc.stop in Start.
func TestStart(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("NOT PROVED: THERE IS NO redis-server ON PATH, WHICH IS THE PROGRAM HERE")
	}
	var p *testkit.Program
	t.Run("runs", func(t *testing.T) {
		p = testkit.Start(t, func(dir, addr string) (*exec.Cmd, error) {
			_, port, err := net.SplitHostPort(addr)
			return exec.Command(binary, "--bind", "127.0.0.1", "--port", port, "--dir", dir, "--save", ""), err
		})
		conn, err := net.Dial("tcp", p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if p.PID() <= 0 {
			t.Errorf("PID: %d", p.PID())
		}
	})
	if conn, err := net.Dial("tcp", p.Addr()); err == nil {
		conn.Close()
		t.Error("it listens after its test has ended")
	}
}
