//go:build !linux

package lock_test

import "time"

// clock is one that all processes of a machine share, if nobody sets it.
func clock() time.Duration { return time.Duration(time.Now().UnixNano()) }
