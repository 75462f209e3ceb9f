//go:build !linux

package bench

import (
	"errors"
	"time"
)

var errNoCPU = errors.New("the CPU time of another process is known on Linux only")

func cpuOf(int) (time.Duration, error) { return 0, errNoCPU }

func familyOf(int) ([]int, error) { return nil, errNoCPU }
