package event

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// The defaults of a Bus, and the bounds of what may be set.
const (
	defaultWindow = 10 * time.Minute
	minWindow     = 2 * rdb.MaxBudget
	maxWindow     = 366 * 24 * time.Hour

	defaultBuffer = 256
	mostBuffer    = 1_000_000
)

// Option configures [New].
type Option func(*config)

type config struct {
	prefix string
	budget time.Duration
	codec  Codec
	window time.Duration
}

// WithPrefix sets how every channel and key in Redis begins; the default is "weir". It
// may hold letters, digits, "-_." and single colons. Buses of different prefixes hear
// nothing of each other.
func WithPrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithTimeout sets the budget of one Publish: the longest that it waits for Redis,
// connecting included. The default is 50 ms; from 1 ms to 30 s.
func WithTimeout(budget time.Duration) Option { return func(c *config) { c.budget = budget } }

// WithCodec sets how events become bytes; the default is [JSON]. All processes need the
// same.
func WithCodec(codec Codec) Option { return func(c *config) { c.codec = codec } }

// WithOnceWindow sets how long PublishOnce remembers an event's id: the same id after
// that time is a new event. The default is 10 minutes; from 1 minute to 366 days. An id
// takes about 150 bytes of Redis.
func WithOnceWindow(d time.Duration) Option { return func(c *config) { c.window = d } }

func configure(options []Option) (*config, []error) {
	c := &config{prefix: "weir", budget: rdb.DefaultBudget, codec: defaultCodec, window: defaultWindow}
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
	if c.codec == nil {
		mistakes = append(mistakes, errors.New("WithCodec(nil): pass a Codec, such as event.MessagePack, or leave it out for event.JSON"))
	}
	if c.window < minWindow || c.window > maxWindow {
		mistakes = append(mistakes, fmt.Errorf("WithOnceWindow(%v): must be from %v, twice the longest budget, to %v; leave it out for %v", c.window, minWindow, maxWindow, defaultWindow))
	}
	return c, mistakes
}

// SubscribeOption configures one subscription.
type SubscribeOption func(*subscribeConfig)

type subscribeConfig struct {
	size   int
	policy Overflow
}

// Overflow says what happens to a subscription whose buffer is full because its
// subscriber does not keep up. Whatever is dropped is counted, and told as a [Gap].
type Overflow int

const (
	// DropOldest makes room by dropping what has waited longest. It is the default.
	DropOldest Overflow = iota
	// DropNewest drops what comes while there is no room.
	DropNewest
	// Coalesce keeps one event for each key, the latest: see [Topic.KeyedBy]. An event
	// takes the place of the one with its key that still waits, which is no loss and no
	// Gap. Only a buffer full of different keys drops the oldest. Events without a key
	// replace nothing.
	Coalesce
	// Disconnect ends the subscription: what has been buffered is delivered, and then
	// [ErrSlow].
	Disconnect
)

// WithBuffer sets how many events a subscription holds for a subscriber that is busy,
// and what happens to one more. The default is 256 and DropOldest; from 1 to
// 1,000,000. A buffer takes memory for what is in it, not for what could be.
func WithBuffer(n int, policy Overflow) SubscribeOption {
	return func(c *subscribeConfig) { c.size, c.policy = n, policy }
}

func configureSubscribe(options []SubscribeOption) (*subscribeConfig, []error) {
	c := &subscribeConfig{size: defaultBuffer}
	var mistakes []error
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	if c.size < 1 || c.size > mostBuffer {
		mistakes = append(mistakes, fmt.Errorf("WithBuffer(%d, …): must be from 1 to %d; leave it out for %d", c.size, mostBuffer, defaultBuffer))
	}
	if c.policy < DropOldest || c.policy > Disconnect {
		mistakes = append(mistakes, fmt.Errorf("WithBuffer(…, %d): must be DropOldest, DropNewest, Coalesce or Disconnect", c.policy))
	}
	return c, mistakes
}

// validName reports whether a topic, stream, group or consumer can be called name: a
// key's id that is not hashed.
func validName(name string) bool {
	return len(name) <= 64 && !strings.Contains(name, ":") && rdb.ValidPrefix(name)
}
