package cache

import (
	"context"
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/codec"
	"github.com/go-weir/weir/internal/rdb"
)

// Option configures a [Store], a view of it, or one call: see each for where it may be
// given. What is given to [New] holds for all views, what is given to [For] for that
// one, what is given to a call for the call.
type Option func(*config)

// level is where an option is given.
type level int

const (
	atNew level = iota
	atFor
	atCall
)

// config is what options record.
type config struct {
	settings
	level    level
	prefix   string
	budget   time.Duration
	near     int64
	maxBody  int64
	observe  func(context.Context, Event)
	clone    any // a func(V) V
	mistakes []error

	bytesGiven bool
}

// settings are what may differ from call to call.
type settings struct {
	ttl, negative, stale, soft, load, lease time.Duration

	jitter, early float64
	compress      int
	maxBytes      int
	codec         Codec
	tags          []string
}

const (
	minTTL = time.Millisecond
	maxTTL = 366 * 24 * time.Hour

	defaultMaxBytes = 1 << 20
	maxMaxBytes     = 512 << 20

	defaultMaxBody = 64 << 20
	maxMaxBody     = maxChunks * chunkBytes

	defaultLoadTimeout = 30 * time.Second
	maxLoadTimeout     = 10 * time.Minute

	defaultLease = 3 * time.Second
	minLease     = 100 * time.Millisecond
	maxLease     = time.Minute

	defaultJitter = 0.1
	minNear       = 1 << 16
	maxTags       = 128
	maxTagBytes   = 256
)

// Codec turns values into bytes and back; [JSON], [Gob] and [MessagePack] are some.
// Decode gets a pointer to a value of the view's type. A Codec must be safe for
// concurrent use, and Decode must not keep data.
type Codec = codec.Codec

// The codecs that come with the package. JSON is the default: it can be read in Redis,
// and fields may be added to a type. Gob keeps Go's types but describes them in each
// entry. MessagePack is as JSON, in about two thirds of the bytes.
var (
	JSON        Codec = codec.JSON{}
	Gob         Codec = codec.Gob{}
	MessagePack Codec = codec.MessagePack{}
)

// WithTTL sets how long an entry is fresh, from 1 ms to 366 days. It may be given to
// New, For and a call that stores; a load may say it by [Expire].
//
// For middleware.Cache it is the lifetime of a response that says nothing about its
// freshness, in place of the heuristic of RFC 9111 section 4.2.2, and as it for the
// statuses 200, 203, 204, 300, 301, 308, 404, 405, 410, 414 and 501, or any that says
// public. Without this option such a response is stored only if it has a
// Last-Modified, for a tenth of its age. middleware.WithDefaultTTL says it for one
// response cache.
func WithTTL(ttl time.Duration) Option {
	return func(c *config) {
		c.check(ttl >= minTTL && ttl <= maxTTL, "WithTTL(%v): must be from %v to %v", ttl, minTTL, maxTTL)
		c.ttl = ttl
	}
}

// WithJitter shortens each lifetime by up to this part of it, at random, so that
// entries which were stored together do not end together; the default is 0.1, 0
// switches it off, at most 0.5. It may be given to New, For and a call that stores.
// Of responses see middleware.WithTTLJitter.
func WithJitter(part float64) Option {
	return func(c *config) {
		c.check(part >= 0 && part <= 0.5, "WithJitter(%v): must be from 0 to 0.5; leave it out for %v", part, defaultJitter)
		c.jitter = part
	}
}

// WithNegativeTTL keeps it for so long that the source has no such thing: a load that
// returns [ErrNotFound] is then not repeated meanwhile. From 1 ms to 366 days; by
// default nothing is kept. It may be given to New, For and Load.
func WithNegativeTTL(ttl time.Duration) Option {
	return func(c *config) {
		c.check(ttl >= minTTL && ttl <= maxTTL, "WithNegativeTTL(%v): must be from %v to %v; leave it out to ask the source each time", ttl, minTTL, maxTTL)
		c.negative = ttl
	}
}

// WithStale keeps an entry for grace beyond its lifetime, to stand in where a load
// fails, or takes longer than soft; the load then goes on, and what it brings is
// stored. A soft of 0 waits for the load. After a failure nobody loads again for up to
// 1 s, in which the stale value is served at once. The default is not to serve what is stale. It may be given to New, For and a
// call that stores, which decides on grace, or Load, which decides on soft.
func WithStale(grace, soft time.Duration) Option {
	return func(c *config) {
		c.check(grace >= minTTL && grace <= maxTTL, "WithStale(%v, …): grace must be from %v to %v; leave the option out to serve nothing stale", grace, minTTL, maxTTL)
		c.check(soft >= 0 && soft <= maxLoadTimeout, "WithStale(…, %v): soft must be from 0 to %v; 0 waits for the load", soft, maxLoadTimeout)
		c.stale, c.soft = grace, soft
	}
}

// WithEarlyRefresh has an entry loaded again, in the background, before its lifetime
// ends: at random, the likelier the nearer the end and the longer its load took
// (XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache Stampede
// Prevention", VLDB 2015). beta above 1 refreshes earlier, below 1 later; from 0.1 to
// 100. By default nothing is refreshed early, and nobody waits for a refresh. A load of
// less than 1 ms counts as none. It may be given to New, For and Load. Of responses see
// middleware.WithEarlyRefresh.
func WithEarlyRefresh(beta float64) Option {
	return func(c *config) {
		c.check(beta >= 0.1 && beta <= 100, "WithEarlyRefresh(%v): must be from 0.1 to 100; 1 is the usual value", beta)
		c.early = beta
	}
}

// WithLoadTimeout bounds a load: its context ends then, with cause [ErrLoadTimeout].
// The default is 30 s; from 1 ms to 10 min. It may be given to New, For and Load.
func WithLoadTimeout(d time.Duration) Option {
	return func(c *config) {
		c.check(d >= time.Millisecond && d <= maxLoadTimeout, "WithLoadTimeout(%v): must be from 1ms to %v; leave it out for %v", d, maxLoadTimeout, defaultLoadTimeout)
		c.load = d
	}
}

// WithLease sets how soon another process loads when one has died while loading, and
// how long a write through the cache that died keeps its key from being stored. A lease
// is renewed while the work goes on. The default is 3 s; from 100 ms to 1 min. It may be
// given to New, For and a call.
func WithLease(d time.Duration) Option {
	return func(c *config) {
		c.check(d >= minLease && d <= maxLease, "WithLease(%v): must be from %v to %v; leave it out for %v", d, minLease, maxLease, defaultLease)
		c.lease = d
	}
}

// WithCodec sets how values become bytes; the default is [JSON]. What was stored by
// another codec does not decode. It may be given to New and For.
func WithCodec(codec Codec) Option {
	return func(c *config) {
		c.notAtCall("WithCodec")
		c.check(codec != nil, "WithCodec(nil): pass a Codec, such as cache.MessagePack, or leave it out for cache.JSON")
		c.codec = codec
	}
}

// WithCompression compresses values of at least so many bytes (Zstandard, RFC 8878), if
// that makes them smaller; from 64. By default nothing is compressed. What is stored is
// read either way. It may be given to New, For and a call that stores.
func WithCompression(from int) Option {
	return func(c *config) {
		c.check(from >= 64, "WithCompression(%d): must be at least 64 bytes, as less does not shrink", from)
		c.compress = from
	}
}

// WithTags has entries die together: [Store.DeleteTags] with one of their tags removes
// them all. A tag has 1 to 256 bytes, an entry at most 128 tags. It may be given to New,
// For and a call that stores, and adds to what is given elsewhere; a load may say it by
// [Tag].
func WithTags(tags ...string) Option {
	return func(c *config) {
		all := append(append([]string(nil), c.tags...), tags...)
		if err := checkTags(all); err != nil {
			c.mistakes = append(c.mistakes, fmt.Errorf("WithTags(%q): %w", tags, err))
		}
		c.tags = all
	}
}

// WithMaxBytes sets the size above which an entry is not stored, and what is compressed
// is not unpacked; the default is 1 MiB, at most 512 MiB, Redis's own bound. It may be
// given to New and For. Given to New it is the bound on responses of middleware.Cache as
// well, unless [WithMaxBody] says another one.
func WithMaxBytes(n int) Option {
	return func(c *config) {
		c.notAtCall("WithMaxBytes")
		c.check(n >= 1 && n <= maxMaxBytes, "WithMaxBytes(%d): must be from 1 to %d; leave it out for %d", n, maxMaxBytes, defaultMaxBytes)
		c.maxBytes = n
		c.bytesGiven = true
	}
}

// WithMaxBody sets the length above which a response of middleware.Cache is not stored, its
// header included; the default is 64 MiB, or what [WithMaxBytes] says if that is given; at
// most 4 GiB. A body of more than 256 KiB is stored in chunks of that length, of which a
// process holds two at a time. It is for New.
func WithMaxBody(n int64) Option {
	return func(c *config) {
		c.onlyAtNew("WithMaxBody")
		c.check(n >= 1 && n <= maxMaxBody, "WithMaxBody(%d): must be from 1 to %d; leave it out for %d", n, int64(maxMaxBody), defaultMaxBody)
		c.maxBody = n
	}
}

// WithClone has a view copy each value that its near tier takes from Set and Store, or
// gives out, so that a caller may change what it passed or gets. Without it values share
// what they point to. It is for For,
// whose type it must fit.
func WithClone[V any](clone func(V) V) Option {
	return func(c *config) {
		c.check(c.level == atFor, "WithClone: belongs to cache.For, as it is about one type")
		c.check(clone != nil, "WithClone(nil): pass a function that copies a value, or leave it out")
		c.clone = clone
	}
}

// WithNear keeps decoded values in this process as well, up to so many bytes of what
// they take in Redis and some 200 for each; from 64 KiB. See "Near tier" in the
// package's page. [Store.Close] is then to be called. It is for New.
func WithNear(bytes int64) Option {
	return func(c *config) {
		c.onlyAtNew("WithNear")
		c.check(bytes >= minNear, "WithNear(%d): must be at least %d bytes; leave it out for no near tier", bytes, minNear)
		c.near = bytes
	}
}

// WithObserver has f called with what becomes of each read and load, on the goroutine
// that it happens on: it must return soon. It is for New.
func WithObserver(f func(context.Context, Event)) Option {
	return func(c *config) {
		c.onlyAtNew("WithObserver")
		c.check(f != nil, "WithObserver(nil): pass a function, or leave it out")
		c.observe = f
	}
}

// WithPrefix sets how every key in Redis begins; the default is "weir". It may
// hold letters, digits, "-_." and single colons. It is for New.
func WithPrefix(prefix string) Option {
	return func(c *config) {
		c.onlyAtNew("WithPrefix")
		c.check(rdb.ValidPrefix(prefix), "WithPrefix(%q): use letters, digits, \"-_.\" and single colons", prefix)
		c.prefix = prefix
	}
}

// WithTimeout sets the budget of one call to Redis; the default is 50 ms; from
// 1 ms to 30 s. It is for New.
func WithTimeout(budget time.Duration) Option {
	return func(c *config) {
		c.onlyAtNew("WithTimeout")
		c.budget = budget // checked by rdb.Open
	}
}

func (c *config) check(good bool, format string, args ...any) {
	if !good {
		c.mistakes = append(c.mistakes, fmt.Errorf(format, args...))
	}
}

func (c *config) onlyAtNew(name string) {
	c.check(c.level == atNew, "%s: belongs to cache.New, as it is about the whole Store", name)
}

func (c *config) notAtCall(name string) {
	c.check(c.level != atCall, "%s: belongs to cache.New or cache.For, as all calls of a view must agree on it", name)
}

func (c *config) apply(options []Option) {
	for i, o := range options {
		if o == nil {
			c.mistakes = append(c.mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
}

func configure(options []Option) *config {
	c := &config{prefix: "weir", budget: rdb.DefaultBudget}
	c.settings = settings{
		jitter: defaultJitter, load: defaultLoadTimeout, lease: defaultLease,
		maxBytes: defaultMaxBytes, codec: JSON,
	}
	c.apply(options)
	switch {
	case c.maxBody > 0:
	case c.bytesGiven:
		c.maxBody = int64(c.maxBytes)
	default:
		c.maxBody = defaultMaxBody
	}
	return c
}

func checkTags(tags []string) error {
	if len(tags) > maxTags {
		return fmt.Errorf("%d tags: an entry has at most %d", len(tags), maxTags)
	}
	for _, tag := range tags {
		if err := checkTag(tag); err != nil {
			return err
		}
	}
	return nil
}

func checkTag(tag string) error {
	if tag == "" || len(tag) > maxTagBytes {
		return fmt.Errorf("tag %.40q: must have 1 to %d bytes", tag, maxTagBytes)
	}
	return nil
}
