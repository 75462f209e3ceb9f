//go:build unix

package testkit

import (
	"os"
	"syscall"
)

func stopSignal(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func continueSignal(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
