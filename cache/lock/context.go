package lock

import (
	"context"

	"github.com/go-weir/weir/internal/rdb"
)

type leaseKey struct{}

// FromContext returns the lease under whose context the caller works, of several the
// innermost; ok is false if there is none. In a handler behind middleware.Serialize
// it is that of the request.
func FromContext(ctx context.Context) (lease *Lease, ok bool) {
	lease, ok = ctx.Value(leaseKey{}).(*Lease)
	return lease, ok
}

// leaseContext is the context of a lease.
type leaseContext struct {
	context.Context
	lease *Lease
}

// Err looks at the clock first: a process that was stopped runs on before its timers
// do.
func (c *leaseContext) Err() error {
	if c.lease.until.Load() <= now() {
		c.lease.lose()
	}
	return c.Context.Err()
}

func (c *leaseContext) Value(key any) any {
	if key == (leaseKey{}) {
		return c.lease
	}
	return c.Context.Value(key)
}

// String keeps keys out of logs that print contexts.
func (c *leaseContext) String() string { return "lock.Lease" }

// detached is ctx for what must be tried whatever has become of its caller: it does
// not end with it, nor does it remember that Redis was silent to the same request
// before. A lock that is not given back, or not renewed, costs others more than this
// one a second wait.
func detached(ctx context.Context) context.Context {
	return context.WithValue(context.WithoutCancel(ctx), rdb.MemoryKey(), nil)
}
