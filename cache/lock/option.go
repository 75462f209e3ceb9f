package lock

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// The bounds of a ttl. Below the least, a tenth of it is no margin for anything;
// above the most, whoever crashes is missed for too long.
const (
	MinTTL = 100 * time.Millisecond
	MaxTTL = 24 * time.Hour
)

// The bounds of what may be set.
const (
	maxHoldBound   = 366 * 24 * time.Hour
	maxWaitBound   = 366 * 24 * time.Hour
	maxLabel       = 256
	maxReplicas    = 100
	minReplicaWait = time.Millisecond
	maxReplicaWait = 2 * time.Second // go-redis gives up reading after 3 s

	// leastRedlock is the fewest servers of which one may be down.
	leastRedlock = 3
)

// Option configures [New] and [NewRedlock].
type Option func(*config)

type config struct {
	prefix   string
	budget   time.Duration
	label    string
	maxWait  optional[time.Duration]
	maxHold  optional[time.Duration]
	outages  bool
	replicas optional[replicaSync]
}

// replicaSync is how many replicas must confirm, and how long that may take.
type replicaSync struct {
	n       int
	timeout time.Duration
}

// optional is what an option was given, even if that is zero.
type optional[T any] struct {
	value T
	given bool
}

// WithPrefix sets how every key in Redis begins; the default is "weir". It may hold
// letters, digits, "-_." and single colons. Lockers of one prefix share their locks.
func WithPrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithTimeout sets the budget of one call to Redis: the longest that it waits for an
// answer, connecting included. The default is 50 ms; from 1 ms to 30 s. It should be
// well below the ttl, which counts on meanwhile.
func WithTimeout(budget time.Duration) Option { return func(c *config) { c.budget = budget } }

// WithMaxWait bounds how long Acquire waits for a lock that is taken; it then returns
// ErrTaken. The default is no bound but ctx; from 1 ms to 366 days.
func WithMaxWait(d time.Duration) Option {
	return func(c *config) { c.maxWait = optional[time.Duration]{d, true} }
}

// WithAutoExtend renews every lease at a third of its ttl, for as long as its context
// lives, but lets none be held for longer than maxHold: a holder that hangs must not
// keep the lock for ever. When maxHold has passed the context ends with ErrLost, and
// the lock is free at most one ttl later. The ttl is then how soon the lock of a
// crashed process is free. There is no renewal by default; maxHold is from 1 s to 366
// days.
func WithAutoExtend(maxHold time.Duration) Option {
	return func(c *config) { c.maxHold = optional[time.Duration]{maxHold, true} }
}

// WithLabel sets what a holder calls itself, for whoever looks: see [Locker.Holder].
// The default is the empty label; at most 256 bytes of UTF-8. It stands in Redis as
// it is: nothing personal belongs there.
func WithLabel(label string) Option { return func(c *config) { c.label = label } }

// WithOutageWait has Acquire go on trying while Redis is silent, for as long as it
// may wait, where by default it returns ErrUnavailable within the budget. It suits
// background work that outlasts a failover; a request is better refused at once.
func WithOutageWait() Option { return func(c *config) { c.outages = true } }

// WithReplicaSync counts an acquire and an extend only once n replicas have confirmed
// it (WAIT), so that a failover to one of them does not lose the lock. They have
// timeout to do so, which comes on top of the budget. If they do not, the lock is
// given back, and Acquire returns ErrNotReplicated; a lease that cannot be extended
// so ends at its time. By default Redis answers before its replicas know. n is from 1
// to 100, timeout from 1 ms to 2 s.
//
// It is for a single server, with or without Sentinel, and for a Cluster; not for a
// Ring, and not for NewRedlock, whose servers have no replicas to fail over to.
func WithReplicaSync(n int, timeout time.Duration) Option {
	return func(c *config) { c.replicas = optional[replicaSync]{replicaSync{n, timeout}, true} }
}

func configure(options []Option) (*config, []error) {
	c := &config{prefix: "weir", budget: rdb.DefaultBudget}
	var mistakes []error
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	mistake := func(wrong bool, format string, args ...any) {
		if wrong {
			mistakes = append(mistakes, fmt.Errorf(format, args...))
		}
	}
	mistake(!rdb.ValidPrefix(c.prefix), "WithPrefix(%q): use letters, digits, \"-_.\" and single colons", c.prefix)
	mistake(len(c.label) > maxLabel || !utf8.ValidString(c.label), "WithLabel: must be at most %d bytes of UTF-8, as it is kept with every lock; got %d", maxLabel, len(c.label))
	mistake(c.maxWait.given && (c.maxWait.value < time.Millisecond || c.maxWait.value > maxWaitBound),
		"WithMaxWait(%v): must be from 1ms to %v; leave it out for no bound, and use TryAcquire not to wait", c.maxWait.value, maxWaitBound)
	mistake(c.maxHold.given && (c.maxHold.value < time.Second || c.maxHold.value > maxHoldBound),
		"WithAutoExtend(%v): the maximum hold must be from 1s to %v; leave it out for no renewal", c.maxHold.value, maxHoldBound)
	r := c.replicas.value
	mistake(c.replicas.given && (r.n < 1 || r.n > maxReplicas),
		"WithReplicaSync(%d, %v): must be from 1 to %d replicas; leave it out for none", r.n, r.timeout, maxReplicas)
	mistake(c.replicas.given && (r.timeout < minReplicaWait || r.timeout > maxReplicaWait),
		"WithReplicaSync(%d, %v): the timeout must be from %v to %v, as a client gives up reading after 3s", r.n, r.timeout, minReplicaWait, maxReplicaWait)
	return c, mistakes
}

// confirmable says what keeps client's writes from being confirmed by replicas.
func (c *config) confirmable(client redis.UniversalClient) error {
	if _, ring := client.(*redis.Ring); ring && c.replicas.given {
		return fmt.Errorf("WithReplicaSync: a Ring does not tell which server holds a key: use a client of the server, or of a Cluster")
	}
	return nil
}
