package event

import (
	"fmt"
	"time"
)

// The defaults of Consume, and the bounds of what may be set.
const (
	defaultWorkers       = 1
	defaultMaxDeliveries = 5
	defaultBackoff       = time.Second
	defaultMaxBackoff    = time.Minute
	defaultClaimAfter    = 30 * time.Second
	defaultGrace         = 10 * time.Second

	mostWorkers   = 1000
	mostDelivered = 1000
	minBackoff    = time.Millisecond
	maxBackoff    = 24 * time.Hour
	minClaimAfter = 100 * time.Millisecond
	maxClaimAfter = 24 * time.Hour
	maxGrace      = time.Hour

	// waitersPerWorker bounds how many entries wait for their next delivery while
	// later ones are handled: else a handler that always fails would draw the whole
	// stream into its consumer.
	waitersPerWorker = 8
)

// ConsumeOption configures [Stream.Consume].
type ConsumeOption func(*consumeConfig)

type consumeConfig struct {
	workers       int
	maxDeliveries int
	minBackoff    time.Duration
	maxBackoff    time.Duration
	claimAfter    time.Duration
	grace         time.Duration
	name          *string
	fromNow       bool
	notice        func(Notice)
}

// WithWorkers sets how many handlers run side by side in this consumer. The default
// is 1, which keeps the order: an entry that fails then holds up those behind it until
// it is handled or dead. With more, later entries pass it. From 1 to 1000.
func WithWorkers(n int) ConsumeOption { return func(c *consumeConfig) { c.workers = n } }

// WithMaxDeliveries sets how often an entry is given to handlers, all consumers of the
// group together, before it becomes a dead letter. The default is 5; from 1 to 1000.
func WithMaxDeliveries(n int) ConsumeOption { return func(c *consumeConfig) { c.maxDeliveries = n } }

// WithBackoff sets how long an entry whose handler failed waits for its next delivery:
// least after the first, twice as long after each further one, at most most; by chance
// up to half of it less. The default is 1 second and 1 minute; from 1 ms to 24 hours.
func WithBackoff(least, most time.Duration) ConsumeOption {
	return func(c *consumeConfig) { c.minBackoff, c.maxBackoff = least, most }
}

// WithClaimAfter sets how long a consumer may give no sign before others take over
// what it has in hand; they look twice in that time, so that it takes up to about half
// of it more. A living one gives a sign four times in that time, however long its
// handlers run; a process that is paused or cut off for longer finds its entries in
// other hands. The default is 30 seconds; from 100 ms to 24 hours. All consumers of a
// group should have the same.
func WithClaimAfter(d time.Duration) ConsumeOption {
	return func(c *consumeConfig) { c.claimAfter = d }
}

// WithGrace sets how long handlers that run when the consumer is to end may go on.
// Then their context ends. The default is 10 seconds; from 0, at once, to 1 hour.
func WithGrace(d time.Duration) ConsumeOption { return func(c *consumeConfig) { c.grace = d } }

// WithConsumer names the consumer, such as by its host: when it starts it takes over
// at once what an earlier one of that name had in hand, instead of after the time of
// WithClaimAfter. No two of one name may run at a time: the later one would take the
// entries that the other is handling. 1 to 64 letters, digits and "-_.".
func WithConsumer(name string) ConsumeOption { return func(c *consumeConfig) { c.name = &name } }

// WithFromNow has a group that does not exist yet begin with what is published from
// now on. Without it such a group begins with the oldest entry kept. It says nothing
// to a group that exists.
func WithFromNow() ConsumeOption { return func(c *consumeConfig) { c.fromNow = true } }

// WithNotice has notice called for what an operator should know; see [Notice]. It is
// called by one goroutine, which also takes entries, so it must return at once.
// Without it notices go to slog.Default.
func WithNotice(notice func(Notice)) ConsumeOption {
	return func(c *consumeConfig) { c.notice = notice }
}

func configureConsume(group string, handled bool, options []ConsumeOption) (*consumeConfig, []error) {
	c := &consumeConfig{
		workers:       defaultWorkers,
		maxDeliveries: defaultMaxDeliveries,
		minBackoff:    defaultBackoff,
		maxBackoff:    defaultMaxBackoff,
		claimAfter:    defaultClaimAfter,
		grace:         defaultGrace,
		notice:        logNotice,
	}
	var mistakes []error
	if !validName(group) {
		mistakes = append(mistakes, fmt.Errorf("group %q: use 1 to 64 letters, digits and \"-_.\"", group))
	}
	if !handled {
		mistakes = append(mistakes, fmt.Errorf("handler is nil: pass what is to be done with an entry"))
	}
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	if c.name != nil && !validName(*c.name) {
		mistakes = append(mistakes, fmt.Errorf("WithConsumer(%q): use 1 to 64 letters, digits and \"-_.\"; leave it out for a name of chance", *c.name))
	}
	if c.notice == nil {
		mistakes = append(mistakes, fmt.Errorf("WithNotice(nil): pass a function; leave it out for slog.Default"))
	}
	return c, append(mistakes, c.limits()...)
}

// limits are the mistakes in numbers and times.
func (c *consumeConfig) limits() (mistakes []error) {
	if c.workers < 1 || c.workers > mostWorkers {
		mistakes = append(mistakes, fmt.Errorf("WithWorkers(%d): must be from 1 to %d; leave it out for %d", c.workers, mostWorkers, defaultWorkers))
	}
	if c.maxDeliveries < 1 || c.maxDeliveries > mostDelivered {
		mistakes = append(mistakes, fmt.Errorf("WithMaxDeliveries(%d): must be from 1 to %d; leave it out for %d", c.maxDeliveries, mostDelivered, defaultMaxDeliveries))
	}
	if c.minBackoff < minBackoff || c.maxBackoff < c.minBackoff || c.maxBackoff > maxBackoff {
		mistakes = append(mistakes, fmt.Errorf("WithBackoff(%v, %v): must be from %v to %v, the least first; leave it out for %v and %v", c.minBackoff, c.maxBackoff, minBackoff, maxBackoff, defaultBackoff, defaultMaxBackoff))
	}
	if c.claimAfter < minClaimAfter || c.claimAfter > maxClaimAfter {
		mistakes = append(mistakes, fmt.Errorf("WithClaimAfter(%v): must be from %v to %v; leave it out for %v", c.claimAfter, minClaimAfter, maxClaimAfter, defaultClaimAfter))
	}
	if c.grace < 0 || c.grace > maxGrace {
		mistakes = append(mistakes, fmt.Errorf("WithGrace(%v): must be from 0 to %v; leave it out for %v", c.grace, maxGrace, defaultGrace))
	}
	return mistakes
}
