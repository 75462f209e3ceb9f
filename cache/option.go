package cache

import (
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// Option configures [New].
type Option func(*config)

type config struct {
	prefix   string
	budget   time.Duration
	ttl      *time.Duration // nil: not given
	maxBytes int
}

const (
	minTTL = time.Millisecond
	maxTTL = 366 * 24 * time.Hour

	defaultMaxBytes = 1 << 20
	maxMaxBytes     = 512 << 20
)

// WithTTL sets the lifetime of what comes without one: for middleware.Cache a
// response that says nothing about its freshness, in place of the heuristic of
// RFC 9111 section 4.2.2, and as it for the statuses 200, 203, 204, 300, 301, 308,
// 404, 405, 410, 414 and 501, or any that says public. From 1 ms to 366 days. Without this option such a
// response is stored only if it has a Last-Modified, for a tenth of its age.
func WithTTL(ttl time.Duration) Option { return func(c *config) { c.ttl = &ttl } }

// WithMaxBytes sets the size above which an entry is not stored; the default is
// 1 MiB, at most 512 MiB, Redis's own bound.
func WithMaxBytes(n int) Option { return func(c *config) { c.maxBytes = n } }

// WithPrefix sets how every key in Redis begins; the default is "weir". It may
// hold letters, digits, "-_." and single colons.
func WithPrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithTimeout sets the budget of one call to Redis; the default is 50 ms; from
// 1 ms to 30 s.
func WithTimeout(budget time.Duration) Option { return func(c *config) { c.budget = budget } }

func configure(options []Option) (*config, []error) {
	c := &config{prefix: "weir", budget: rdb.DefaultBudget, maxBytes: defaultMaxBytes}
	var mistakes []error
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	if c.ttl != nil && (*c.ttl < minTTL || *c.ttl > maxTTL) {
		mistakes = append(mistakes, fmt.Errorf("WithTTL(%v): must be from %v to %v; leave it out to store only what has a lifetime of its own", *c.ttl, minTTL, maxTTL))
	}
	if c.maxBytes < 1 || c.maxBytes > maxMaxBytes {
		mistakes = append(mistakes, fmt.Errorf("WithMaxBytes(%d): must be from 1 to %d; leave it out for %d", c.maxBytes, maxMaxBytes, defaultMaxBytes))
	}
	if !rdb.ValidPrefix(c.prefix) {
		mistakes = append(mistakes, fmt.Errorf("WithPrefix(%q): use letters, digits, \"-_.\" and single colons", c.prefix))
	}
	return c, mistakes
}
