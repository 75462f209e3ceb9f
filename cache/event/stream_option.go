package event

import (
	"fmt"
	"time"
)

// The defaults of a Stream, and the bounds of what may be set.
const (
	defaultRetention     = 7 * 24 * time.Hour
	defaultMaxLen        = 100_000
	defaultDeadRetention = 30 * 24 * time.Hour
	defaultMaxDead       = 10_000

	minRetention = time.Second
	maxRetention = 366 * 24 * time.Hour
	mostEntries  = 100_000_000
)

// StreamOption configures [NewStream].
type StreamOption func(*streamConfig)

type streamConfig struct {
	retention     time.Duration
	maxLen        int
	deadRetention time.Duration
	maxDead       int
}

// WithRetention sets how long an event is kept, read or not: longer than the longest
// time for which all consumers of a group may be down. The default is 7 days; from 1
// second to 366 days. The stream as a whole, with the note of what its groups have
// read, lives twice that time after the last event was published or a consumer was
// there.
func WithRetention(d time.Duration) StreamOption { return func(c *streamConfig) { c.retention = d } }

// WithMaxLen sets how many events are kept at most, read or not; up to about 100 more
// may stay, as Redis trims in blocks. The default is 100,000; from 1 to 100,000,000.
func WithMaxLen(n int) StreamOption { return func(c *streamConfig) { c.maxLen = n } }

// WithDeadLetters sets how many dead letters are kept at most, roughly, and for how
// long after the last one came. The default is 10,000, and 30 days; from 1 to
// 100,000,000, and from 1 second to 366 days. Past that number the oldest go, which a
// NoticeDead tells.
func WithDeadLetters(most int, retention time.Duration) StreamOption {
	return func(c *streamConfig) { c.maxDead, c.deadRetention = most, retention }
}

func configureStream(name string, options []StreamOption) (*streamConfig, []error) {
	c := &streamConfig{
		retention:     defaultRetention,
		maxLen:        defaultMaxLen,
		deadRetention: defaultDeadRetention,
		maxDead:       defaultMaxDead,
	}
	var mistakes []error
	if !validName(name) {
		mistakes = append(mistakes, fmt.Errorf("name %q: use 1 to 64 letters, digits and \"-_.\"", name))
	}
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	if c.retention < minRetention || c.retention > maxRetention {
		mistakes = append(mistakes, fmt.Errorf("WithRetention(%v): must be from %v to %v; leave it out for %v", c.retention, minRetention, maxRetention, defaultRetention))
	}
	if c.maxLen < 1 || c.maxLen > mostEntries {
		mistakes = append(mistakes, fmt.Errorf("WithMaxLen(%d): must be from 1 to %d; leave it out for %d", c.maxLen, mostEntries, defaultMaxLen))
	}
	if c.maxDead < 1 || c.maxDead > mostEntries || c.deadRetention < minRetention || c.deadRetention > maxRetention {
		mistakes = append(mistakes, fmt.Errorf("WithDeadLetters(%d, %v): must be from 1 to %d, and from %v to %v; leave it out for %d and %v", c.maxDead, c.deadRetention, mostEntries, minRetention, maxRetention, defaultMaxDead, defaultDeadRetention))
	}
	return c, mistakes
}
