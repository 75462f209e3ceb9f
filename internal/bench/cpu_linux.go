package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// cpuOf returns the CPU time, user and system, that the process pid has used: to the
// nanosecond, where /proc/PID/stat counts hundredths of a second.
func cpuOf(pid int) (time.Duration, error) {
	// The clock of another process's CPU time, as clock_getcpuclockid(3) makes it.
	const schedulerClock = 2
	var ts syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(^pid<<3|schedulerClock), uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("the CPU time of process %d: %w", pid, errno)
	}
	return time.Duration(ts.Nano()), nil
}

// familyOf returns pid and the processes it has started, and those they have.
func familyOf(pid int) ([]int, error) {
	family := []int{pid}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pid, task.Name()))
		if err != nil {
			return nil, err
		}
		for _, field := range bytes.Fields(children) {
			child, err := strconv.Atoi(string(field))
			if err != nil {
				return nil, err
			}
			more, err := familyOf(child)
			if err != nil {
				return nil, err
			}
			family = append(family, more...)
		}
	}
	return family, nil
}
