package ratelimit

import (
	"context"
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

const (
	// outageAfter silences in a row are an outage, and not a moment; so are fewer,
	// when no answer has come for outageSpan since the first, be it that none was
	// asked for: others may have met more.
	outageAfter = 5
	outageSpan  = 100 * time.Millisecond

	// settling is for how long after an outage a process keeps to its part: until
	// the others have written to Redis what they admitted by themselves. They
	// notice its return within 250 ms, or a second if go-redis was refused many
	// times.
	settling = 3 * time.Second

	// returning is for how long after it noticed Redis's return a process still
	// decides by itself: so long may decisions take that had begun before.
	returning = 100 * time.Millisecond
)

// outage is what this process knows of a server's silence. On a Cluster each
// master has its own.
//
//	heard ──silence──▶ suspected ──5 in a row, or for 100 ms──▶ out ◀──silence──┐
//	  ▲                    │                                     │              │
//	  ├──────answer────────┘                             answer to a probe      │
//	  │                                                          ▼              │
//	  └───────────────────────── 3 s ─────────────────────── settling ──────────┘
//
// From the first silence until it has settled, everything that this process admits
// of a key, by itself or by Redis, is within its part of what was left when Redis
// was heard before. Else the first process to notice Redis's return could use up
// what the others have admitted, and not yet written.
type outage struct {
	silences    int           // in a row
	first, last time.Duration // of those
	back        time.Duration // when its return was noticed last
	settled     time.Duration // when that is settled; 0 before the first return
	asked       time.Duration // when it was last asked, while settling
}

func (o *outage) isOut(now time.Duration) bool {
	return o.silences >= outageAfter || o.silences > 0 && (now-o.first >= outageSpan || o.first < o.settled)
}

// errBack keeps the decision that has noticed Redis's return with the process: Redis
// does not know yet what was admitted meanwhile.
var errBack = fmt.Errorf("%w: it has come back this moment", rdb.ErrUnavailable)

// server stands for the server that holds base.
func server(l *Limiter, base string) any { return l.conn.Server(context.Background(), base) }

// silence notes that server gave no answer; the caller holds the lock.
func (c *local) silence(server any, now time.Duration) {
	o := c.outages[server]
	if o == nil {
		o = new(outage)
		c.outages[server] = o
		c.troubles.Store(int32(len(c.outages)))
	}
	if o.silences == 0 {
		o.first = now
	}
	o.silences++
	o.last = now
}

// answer notes that server gave one, and reports whether it has yet to settle; the
// caller holds the lock.
func (c *local) answer(server any, now time.Duration) bool {
	o := c.outages[server]
	if o != nil {
		if o.isOut(now) {
			o.back, o.settled = now, now+settling
		}
		o.silences, o.asked = 0, now
		if now < o.settled {
			return true
		}
		delete(c.outages, server)
	}
	for s, o := range c.outages { // such as have left the cluster
		if now-max(o.last, o.settled) > c.keep {
			delete(c.outages, s)
		}
	}
	c.troubles.Store(int32(len(c.outages)))
	return false
}

// inherit has server settle: it holds what this process decided by itself, and
// was not its keys' server then.
func (c *local) inherit(server any) bool {
	now := c.watch.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outages[server] != nil {
		return false
	}
	c.outages[server] = &outage{last: now, back: now, settled: now + settling}
	c.troubles.Store(int32(len(c.outages)))
	return true
}

// probe asks base's server whether it is back, if it was silent. It returns errBack
// if it is, or was only this moment.
func (c *local) probe(ctx context.Context, conn *rdb.Conn, base string) error {
	if c.troubles.Load() == 0 {
		return nil
	}
	server := conn.Server(ctx, base)
	c.mu.Lock()
	o, now := c.outages[server], c.watch.now()
	out := o != nil && o.isOut(now)
	came := o != nil && o.settled > 0 && now-o.back < returning
	c.mu.Unlock()
	switch {
	case out:
		err := c.knock(ctx, conn, base)
		if err == errBack {
			_, _ = c.pay(ctx, conn, base)
		}
		return err
	case came:
		return errBack
	}
	return nil
}

// knock asks base's server for a sign of life. It returns errBack if there is one.
func (c *local) knock(ctx context.Context, conn *rdb.Conn, base string) error {
	err := conn.Exec(ctx, rdb.NewCmd(base, "exists", base).Replayable())
	if isSilence(err) {
		return err
	}
	// Another error is an answer, too.
	server := conn.Server(ctx, base)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer(server, c.watch.now())
	return errBack
}
