//go:build !unix

package testkit

import (
	"errors"
	"os"
)

var errNoSignal = errors.New("a process cannot be paused on this system")

func stopSignal(*os.Process) error { return errNoSignal }

func continueSignal(*os.Process) error { return errNoSignal }
