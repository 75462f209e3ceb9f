//go:build !linux

package testkit

import (
	"os/exec"
	"syscall"
)

// dieWithParent does nothing: only Linux ties a child's life to its parent's.
// Here servers outlive a test process that is killed.
func dieWithParent(*exec.Cmd, syscall.Signal) {}

// isStopped trusts that the signal was acted on: there is no portable way to see it.
func isStopped(int) bool { return true }
