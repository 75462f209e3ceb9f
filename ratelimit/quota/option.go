package quota

import (
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// The defaults, and the bounds of what may be set.
const (
	defaultIDLifetime = 24 * time.Hour
	defaultMaxIDs     = 100_000
	defaultHold       = time.Minute
	defaultMaxHolds   = 1000

	// minIDLifetime is also how long generated ids are remembered: twice the
	// longest budget, within which a request is repeated by itself.
	minIDLifetime = 2 * rdb.MaxBudget
	maxLifetime   = 366 * 24 * time.Hour
	minHold       = time.Millisecond
	mostIDs       = 10_000_000
	mostHolds     = 100_000
)

// Option configures [New].
type Option func(*config)

type config struct {
	prefix   string
	name     string
	budget   time.Duration
	lifetime time.Duration
	maxIDs   int
	hold     time.Duration
	maxHolds int
}

// WithPrefix sets how every key in Redis begins; the default is "weir". It may
// hold letters, digits, "-_." and single colons.
func WithPrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithName tells ledgers apart, such as one of credits and one of messages. Ledgers
// of one name and prefix share their accounts, in all processes; others never do.
// The default is the empty name.
func WithName(name string) Option { return func(c *config) { c.name = name } }

// WithTimeout sets the budget of one call: the longest that it waits for Redis,
// connecting included. The default is 50 ms; from 1 ms to 30 s.
func WithTimeout(budget time.Duration) Option { return func(c *config) { c.budget = budget } }

// WithIDLifetime sets how long a request's id is remembered, that of Reserve from
// the hold's end on: a repetition after that time is a new request. The default is
// 24 hours; from 1 minute to 366 days. Ids that were generated, because the caller
// gave none, are remembered for 1 minute whatever is set here.
func WithIDLifetime(d time.Duration) Option { return func(c *config) { c.lifetime = d } }

// WithMaxIDs sets how many ids an account remembers at most, generated ones
// included. One more request is refused with ErrFull; none is forgotten early. An
// id takes about 300 bytes in Redis. The default is 100,000, which is 1,666
// requests a second without ids of their own, or 1 a second with, for 24 hours;
// from 1 to 10,000,000. Commit and Cancel need no room.
func WithMaxIDs(n int) Option { return func(c *config) { c.maxIDs = n } }

// WithHold sets how long what Reserve takes is held. The default is 1 minute; from
// 1 ms to 366 days. ReserveFor has a time of its own for each hold.
func WithHold(d time.Duration) Option { return func(c *config) { c.hold = d } }

// WithMaxHolds sets how many holds an account has open at most; one more is refused
// with ErrFull. Should all of them end at once, the next call returns them all, at
// about 1 µs of Redis's time each. The default is 1,000; from 1 to 100,000.
func WithMaxHolds(n int) Option { return func(c *config) { c.maxHolds = n } }

func configure(options []Option) (*config, []error) {
	c := &config{
		prefix:   "weir",
		budget:   rdb.DefaultBudget,
		lifetime: defaultIDLifetime,
		maxIDs:   defaultMaxIDs,
		hold:     defaultHold,
		maxHolds: defaultMaxHolds,
	}
	var mistakes []error
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	if !rdb.ValidPrefix(c.prefix) {
		mistakes = append(mistakes, fmt.Errorf("WithPrefix(%q): use letters, digits, \"-_.\" and single colons", c.prefix))
	}
	if c.lifetime < minIDLifetime || c.lifetime > maxLifetime {
		mistakes = append(mistakes, fmt.Errorf("WithIDLifetime(%v): must be from %v, twice the longest budget, to %v; leave it out for %v", c.lifetime, minIDLifetime, maxLifetime, defaultIDLifetime))
	}
	if c.maxIDs < 1 || c.maxIDs > mostIDs {
		mistakes = append(mistakes, fmt.Errorf("WithMaxIDs(%d): must be from 1, as each request is remembered, to %d; leave it out for %d", c.maxIDs, mostIDs, defaultMaxIDs))
	}
	if c.hold < minHold || c.hold > maxLifetime {
		mistakes = append(mistakes, fmt.Errorf("WithHold(%v): must be from %v to %v, and longer than the work between Reserve and Commit; leave it out for %v", c.hold, minHold, maxLifetime, defaultHold))
	}
	if c.maxHolds < 1 || c.maxHolds > mostHolds {
		mistakes = append(mistakes, fmt.Errorf("WithMaxHolds(%d): must be from 1 to %d, as they may all end in one call; leave it out for %d", c.maxHolds, mostHolds, defaultMaxHolds))
	}
	return c, mistakes
}
