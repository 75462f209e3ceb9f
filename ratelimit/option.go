package ratelimit

import (
	"cmp"
	"context"
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
	exact     int
	instances int
	open      bool
	closed    bool
	noScripts bool
	denyCache time.Duration
	ban       *ban
	shadow    bool
	observe   func(context.Context, Event)
}

// ban is what WithBan says.
type ban struct {
	denials int
	within  time.Duration
	lasting time.Duration
}

const (
	// defaultExact is how many members Redis keeps in the compact form of a
	// sorted set (zset-max-listpack-entries).
	defaultExact     = 128
	maxExact         = 100_000
	defaultDenyCache = time.Second
	maxDenials       = 1000
)

// WithName tells limiters apart that have the same limits. Limiters of one name
// and prefix share their counts, in all processes; others never do. They should
// have the same longest window, as what has left it is forgotten: for limits that
// change from request to request see [Limiter.With].
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

// WithExact sets up to which limit each request is kept by itself, so that not
// one is admitted too late; the default is 128, from 1 to 100,000. A higher limit
// is kept in batches of less than 1/56 of it: never too many are admitted, at
// most 1.8 % too few, and a refund finds only the key's latest admissions, at
// least 32.
//
// A refund writes all admissions anew that came after the one it takes back: of
// 30,000 of them it keeps Redis busy for a tenth of a second.
//
// The price of an exact key is 28 bytes a request up to 128 requests, as Redis
// keeps such sets compact, and 134 beyond: 114 KB at a limit of 1,000, 1.3 MB at
// 10,000. A key in batches takes less than 4 KB up to limits of some millions (5 KB at
// the highest), and some 14 KB more for each further limit that is kept so.
func WithExact(requests int) Option {
	return optionFunc(func(c *config) { c.exact = requests })
}

// WithoutScripts keeps the limits by MULTI, for servers that forbid EVALSHA and
// EVAL; a limiter that meets such a refusal (NOPERM) does so by itself from then
// on. All processes that share a key must count it the same way.
//
// The counts are as exact. A cost is at most 10,000, as each unit is a member. A denial that this process did not see coming costs a
// second round trip, which takes back what the first one counted; every request
// takes 134 bytes beyond 128 of them, as batches need scripts. Smooth limits,
// AtOnce and WithBan need scripts: New refuses them beside this option.
func WithoutScripts() Option {
	return optionFunc(func(c *config) { c.noScripts = true })
}

// WithDenyCache sets for how long this process refuses a key by itself, once Redis
// has denied it: until the instant at which it would be admitted, but at most the
// given time, by default 1 s. Refusals then cost no round trip.
//
// The bound is for what may free a key early: a refund or Reset in another
// process, or a higher limit. (What this process does takes effect at once.) 0
// switches it off; at most 1 h. It remembers some 900,000 keys, in at most 64 MB,
// and forgets first whom it asks about first. Denials by AtOnce are not
// remembered, nor those by several limits at once, nor, until a ban begins, any under
// WithBan.
func WithDenyCache(longest time.Duration) Option {
	return optionFunc(func(c *config) { c.denyCache = longest })
}

// WithBan refuses a key outright for the time lasting, once it has been denied
// so many times within a window: at most 1,000 denials, both times from 1 ms to
// 366 days. Without it a denial changes nothing; with it each is counted, in
// Redis, over all processes; but not those of requests that cost more than is ever
// admitted. While Redis is silent a ban is known to the processes that have met it,
// for WithDenyCache's time. See also [Limiter.Ban] and [Limiter.Reset].
func WithBan(denials int, within, lasting time.Duration) Option {
	return optionFunc(func(c *config) { c.ban = &ban{denials, within, lasting} })
}

// WithShadow admits every request, and tells by Result.Shadowed, hence to the
// observer, which would have been denied. Those are not counted, so what it tells
// is what would happen. Errors are told too, and admit.
func WithShadow() Option {
	return optionFunc(func(c *config) { c.shadow = true })
}

// WithObserver has f called once for each decision of Allow and AllowN, in the
// caller's goroutine, before they return. Unset it costs nothing. f must be safe
// for concurrent use, and quick.
func WithObserver(f func(context.Context, Event)) Option {
	return optionFunc(func(c *config) {
		c.observe = f
		if f == nil {
			c.observe = func(context.Context, Event) {}
		}
	})
}

// Event is what an observer is told of one decision.
type Event struct {
	// Key is whom it was about, as given to Allow.
	Key string
	// Result is the verdict; it holds nothing if Err is set, but under WithShadow.
	Result Result
	// Err is why there is no verdict.
	Err error
	// Took is how long the decision took.
	Took time.Duration
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

var errNeedsScripts = errors.New("without scripts there are no Smooth, AtOnce and WithBan: keep limits such as PerMinute(n) only")

func configure(limit Limit, options []Option) (*config, []error) {
	c := &config{prefix: "weir", budget: rdb.DefaultBudget, exact: defaultExact, instances: 1, denyCache: defaultDenyCache}
	limit.apply(c)
	var mistakes []error
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o.apply(c)
	}
	mistakes = append(mistakes, mistakesOf(c.limits)...)
	if !rdb.ValidPrefix(c.prefix) {
		mistakes = append(mistakes, fmt.Errorf("WithPrefix(%q): use letters, digits, \"-_.\" and single colons", c.prefix))
	}
	if c.exact < 1 || c.exact > maxExact {
		mistakes = append(mistakes, fmt.Errorf("WithExact(%d): must be from 1 to %d; leave it out for %d", c.exact, maxExact, defaultExact))
	}
	if c.instances < 1 {
		mistakes = append(mistakes, fmt.Errorf("WithInstances(%d): must be at least 1, the number of processes that share the limit", c.instances))
	}
	if c.open && c.closed {
		mistakes = append(mistakes, errors.New("WithFailOpen and WithFailClosed exclude each other: keep one, or neither to count locally"))
	}
	if c.denyCache < 0 || c.denyCache > time.Hour {
		mistakes = append(mistakes, fmt.Errorf("WithDenyCache(%v): must be from 0, which switches it off, to 1h; leave it out for %v", c.denyCache, defaultDenyCache))
	}
	mistakes = append(mistakes, c.ban.mistakes())
	if c.noScripts && (c.ban != nil || slices.ContainsFunc(c.limits, func(l Limit) bool { return l.kind != Sliding })) {
		mistakes = append(mistakes, errNeedsScripts)
	}
	sortLimits(c.limits)
	if c.name == "" {
		names := make([]string, len(c.limits))
		for i, l := range c.limits {
			names[i] = fmt.Sprintf("%d/%v", l.requests, l.window)
			if l.kind != Sliding {
				names[i] = l.String()
			}
		}
		c.name = strings.Join(names, " ")
	}
	return c, mistakes
}

func (b *ban) mistakes() error {
	if b == nil {
		return nil
	}
	var all []error
	if b.denials < 1 || b.denials > maxDenials {
		all = append(all, fmt.Errorf("WithBan(%d, …): the number of denials must be from 1 to %d", b.denials, maxDenials))
	}
	for _, d := range []time.Duration{b.within, b.lasting} {
		if d < minWindow || d > maxWindow {
			all = append(all, fmt.Errorf("WithBan: the time of %v must be from %v to %v", d, minWindow, maxWindow))
		}
	}
	return errors.Join(all...)
}

// mistakesOf finds what is wrong with limits, alone and together.
func mistakesOf(limits []Limit) (all []error) {
	for i, l := range limits {
		all = append(all, l.mistakes())
		for _, other := range limits[:i] {
			switch {
			case l.kind == InFlight && other.kind == InFlight:
				all = append(all, fmt.Errorf("limits %v and %v are both AtOnce: keep the lower one", other, l))
			case l.kind == other.kind && l.window == other.window:
				all = append(all, fmt.Errorf("limits %v and %v have one window: keep the lower one", other, l))
			case strings.EqualFold(l.Name(), other.Name()):
				all = append(all, fmt.Errorf("limits %v and %v are both named %q: name one by Named", other, l, l.Name()))
			}
		}
	}
	if len(limits) > maxLimits {
		all = append(all, fmt.Errorf("%d limits: keep at most %d", len(limits), maxLimits))
	}
	return all
}

// sortLimits brings the shortest window first, whatever the kind; AtOnce last.
func sortLimits(limits []Limit) {
	slices.SortStableFunc(limits, func(a, b Limit) int {
		if c := cmp.Compare(a.rank(), b.rank()); c != 0 {
			return c
		}
		return cmp.Compare(a.window, b.window)
	})
}

func (l Limit) rank() int {
	if l.kind == InFlight {
		return 1
	}
	return 0
}
