package idempotency

import (
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// The defaults, and the bounds of what may be set.
const (
	defaultTTL   = 24 * time.Hour
	minTTL       = time.Minute
	maxTTL       = 366 * 24 * time.Hour
	defaultLease = 10 * time.Second
	minLease     = 100 * time.Millisecond
	maxLease     = time.Hour
)

// Crash is what becomes of a key whose holder died: its lease has ended, and nobody
// knows how far its work had come.
type Crash int

const (
	// Block keeps such a key Interrupted: nobody does the work again until the key's
	// time is over, or somebody who has looked at what happened calls Forget.
	Block Crash = iota
	// Retry lets the next request with the key do the work again. It is for work that
	// does no harm when it is done twice, or that finds its own traces.
	Retry
)

// Option configures [New].
type Option func(*config)

type config struct {
	prefix string
	budget time.Duration
	ttl    time.Duration
	lease  time.Duration
	crash  Crash
}

// WithPrefix sets how every key in Redis begins; the default is "weir". It may hold
// letters, digits, "-_." and single colons. Stores of one prefix share their keys.
func WithPrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithTimeout sets the budget of one call to Redis: the longest that it waits for an
// answer, connecting included. The default is 50 ms; from 1 ms to 30 s.
func WithTimeout(budget time.Duration) Option { return func(c *config) { c.budget = budget } }

// WithTTL sets how long a key is known: from its outcome on, or from the last sign of
// life of a holder that died. A request with the key after that is a new one. The
// default is 24 hours; from 1 minute to 366 days, and at least ten leases.
func WithTTL(d time.Duration) Option { return func(c *config) { c.ttl = d } }

// WithLease sets how long after its last sign of life a holder counts as dead. The
// lease is renewed at each third of it while the work runs, however long that takes. The
// default is 10 s; from 100 ms to 1 h. It should be well above the budget, and above
// the longest that a process may stand still.
func WithLease(d time.Duration) Option { return func(c *config) { c.lease = d } }

// WithCrash sets what becomes of a key whose holder died: Block, which is the default,
// or Retry. It is the policy of the Store that meets the key, so all should have the
// same.
func WithCrash(policy Crash) Option { return func(c *config) { c.crash = policy } }

func configure(options []Option) (*config, []error) {
	c := &config{prefix: "weir", budget: rdb.DefaultBudget, ttl: defaultTTL, lease: defaultLease}
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
	mistake(c.ttl < minTTL || c.ttl > maxTTL, "WithTTL(%v): must be from %v to %v; leave it out for %v", c.ttl, minTTL, maxTTL, defaultTTL)
	mistake(c.lease < minLease || c.lease > maxLease, "WithLease(%v): must be from %v to %v; leave it out for %v", c.lease, minLease, maxLease, defaultLease)
	mistake(c.ttl >= minTTL && c.lease <= maxLease && c.ttl < 10*c.lease,
		"WithTTL(%v): must be at least ten leases of %v, or the key is forgotten while it is in flight", c.ttl, c.lease)
	mistake(c.crash != Block && c.crash != Retry, "WithCrash(%d): must be idempotency.Block or idempotency.Retry; leave it out for Block", c.crash)
	return c, mistakes
}
