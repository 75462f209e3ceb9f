package ratelimit

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// Option configures [New]. A [Limit] is an Option too: one more tier.
type Option interface{ apply(*config) }

type optionFunc func(*config)

func (f optionFunc) apply(c *config) { f(c) }

type config struct {
	limits    []Limit
	name      string
	prefix    string
	budget    time.Duration
	instances int
	open      bool
	closed    bool
}

// WithName tells limiters apart that have the same limits. Limiters of one name,
// prefix and longest window share their counts, in all processes; others never
// do. A number that changes under the same name keeps what was counted.
//
// The default is made of the limits ("10/1s 1000/1h0m0s"): two limiters with
// equal limits then share their counts, and a changed limit begins from nothing.
func WithName(name string) Option {
	return optionFunc(func(c *config) { c.name = name })
}

// WithPrefix sets how every key in Redis begins; the default is "weir". It may
// hold letters, digits, "-_." and single colons.
func WithPrefix(prefix string) Option {
	return optionFunc(func(c *config) { c.prefix = prefix })
}

// WithTimeout sets the budget of one decision: the longest that Allow waits for
// Redis, connecting included. The default is 50 ms; from 1 ms to 30 s.
func WithTimeout(budget time.Duration) Option {
	return optionFunc(func(c *config) { c.budget = budget })
}

// WithInstances says how many processes share the limit, so that each knows its
// part of it while Redis is silent: the limit divided by n, rounded down, at
// least 1. The default is 1: each process then admits the whole limit. It
// changes nothing while Redis answers.
func WithInstances(n int) Option {
	return optionFunc(func(c *config) { c.instances = n })
}

// WithFailOpen admits every request while Redis is silent, in place of counting
// locally. It excludes WithFailClosed.
func WithFailOpen() Option {
	return optionFunc(func(c *config) { c.open = true })
}

// WithFailClosed makes Allow return ErrUnavailable while Redis is silent, in
// place of counting locally; middleware.RateLimit then answers 503 with
// Retry-After. It excludes WithFailOpen.
func WithFailClosed() Option {
	return optionFunc(func(c *config) { c.closed = true })
}

func configure(limit Limit, options []Option) (*config, []error) {
	c := &config{prefix: "weir", budget: rdb.DefaultBudget, instances: 1}
	limit.apply(c)
	var mistakes []error
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o.apply(c)
	}
	for i, l := range c.limits {
		mistakes = append(mistakes, l.mistake())
		for _, other := range c.limits[:i] {
			if other.window == l.window {
				mistakes = append(mistakes, fmt.Errorf("limits %v and %v have one window: keep the lower one", other, l))
			}
		}
	}
	if !rdb.ValidPrefix(c.prefix) {
		mistakes = append(mistakes, fmt.Errorf("WithPrefix(%q): use letters, digits, \"-_.\" and single colons", c.prefix))
	}
	if c.instances < 1 {
		mistakes = append(mistakes, fmt.Errorf("WithInstances(%d): must be at least 1, the number of processes that share the limit", c.instances))
	}
	if c.open && c.closed {
		mistakes = append(mistakes, errors.New("WithFailOpen and WithFailClosed exclude each other: keep one, or neither to count locally"))
	}
	// The longest window, which says how long admissions are kept, comes last.
	slices.SortStableFunc(c.limits, func(a, b Limit) int { return cmp.Compare(a.window, b.window) })
	if c.name == "" {
		names := make([]string, len(c.limits))
		for i, l := range c.limits {
			names[i] = fmt.Sprintf("%d/%v", l.requests, l.window)
		}
		c.name = strings.Join(names, " ")
	}
	return c, mistakes
}
