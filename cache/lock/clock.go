package lock

import (
	"sync"
	"time"
)

// clocks are those of the servers, as far as this process has seen them. By them it
// tells a server until when it waits for an answer, so that an acquire which comes too
// late takes nothing: a server that stood still for a moment would else hand out locks
// to callers who have long left. Nothing else depends on them: a clock that was set
// forward costs one more round trip, one that was set back makes a late acquire pass
// for one in time.
type clocks struct{ m sync.Map } // server → reading

// reading is a look at a clock.
type reading struct {
	asked time.Time // when the request was sent, no later than the look
	redis int64     // what it said, in µs
}

// driftPart is the part of a reading's age by which two clocks may have gone apart.
const driftPart = 1000

// latest is the latest time that a server's clock can show at an instant of this
// process; 0 if that clock was never seen.
func (c *clocks) latest(server any, at time.Time) int64 {
	v, ok := c.m.Load(server)
	if !ok {
		return 0
	}
	r := v.(reading)
	age := at.Sub(r.asked)
	return r.redis + (age + age/driftPart).Microseconds() + 1
}

// learn notes what a server's clock showed after a request was sent.
func (c *clocks) learn(server any, asked time.Time, redis int64) {
	if redis > 0 {
		c.m.Store(server, reading{asked, redis})
	}
}
