package lock

import (
	"crypto/rand"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

const (
	// counterLife is how long the last token outlives its lock, and counterTTLs the
	// least number of ttls that it does. Tokens grow without it, but for a clock
	// that was set back: by no more than this.
	counterLife = time.Hour
	counterTTLs = 10

	// goneLife is how long an id that was given up is remembered: as long as a
	// command of it may be under way in a network, twice the longest budget.
	goneLife = 2 * rdb.MaxBudget
)

// claim is one caller's wish to hold a lock, and the hold that it becomes.
type claim struct {
	lock    string // the lock's key in Redis
	channel string // where its end is announced
	label   string
	ttl     time.Duration

	owner string // the id of the acquire
	keys  []string
	token int64
	since time.Time

	// doubtful says that a command was sent of which nobody knows whether it ran, or
	// runs yet.
	doubtful atomic.Bool
}

func newClaim(lock, label string, ttl time.Duration) *claim {
	c := &claim{lock: lock, channel: lock + ":free", label: label, ttl: ttl}
	c.begin()
	return c
}

// begin gives the claim an id of its own.
func (c *claim) begin() {
	c.owner = rand.Text()
	c.keys = []string{c.lock, c.lock + ":token", c.lock + ":gone:" + c.owner}
	c.doubtful.Store(false)
}

// margin is how long before the end of its ttl a lease is over. The tenth is for
// clocks that do not run at one pace, and for work that needs time to stop; the rest
// for Redis, which counts in ms.
func margin(ttl time.Duration) time.Duration { return ttl/10 + 2*time.Millisecond }

// lifetime is how long the counter lasts, in ms.
func lifetime(ttl time.Duration) int64 { return max(counterLife, counterTTLs*ttl).Milliseconds() }

// millis rounds up: Redis must not free a lock before the lease's end.
func millis(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
