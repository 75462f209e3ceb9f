package session

import (
	"runtime"
	"strings"
)

// Guard runs a handler, or another function that looks at the visit's session. It
// reports why the session could not be loaded, if that is how f ended; any other
// panic passes. In f's own goroutine, and nowhere else, may scs's methods panic
// over a silent Redis: Guard is there to recover it.
func (v *Visit) Guard(f func()) (err error) {
	defer func() {
		recovered := recover()
		if recovered == nil {
			return
		}
		failed, ok := Failure(recovered)
		if !ok {
			panic(recovered)
		}
		err = failed
	}()
	f()
	return nil
}

// guarded reports whether a panic in this goroutine arrives at Guard. In one that a
// handler started it would end the process. It is asked only when Redis is silent,
// and takes some microseconds.
func guarded() bool {
	pcs := make([]uintptr, 64)
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		frames := runtime.CallersFrames(pcs[:n])
		for {
			frame, more := frames.Next()
			if strings.HasSuffix(frame.Function, guardName) || strings.HasPrefix(frame.Function, timeoutName) {
				return true
			}
			if !more {
				break
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

const (
	guardName = "/session.(*Visit).Guard"
	// http.TimeoutHandler runs its handler in a goroutine of its own, and brings
	// its panics back.
	timeoutName = "net/http.(*timeoutHandler).ServeHTTP.func"
)
