package session

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"

	"github.com/go-weir/weir/internal/rdb"
)

// Option configures [New] and [NewStore].
type Option func(*config)

type config struct {
	given    []string // the options' names
	lifetime time.Duration
	idle     *time.Duration
	remember *remembered
	renewal  *time.Duration
	budget   time.Duration
	maxSize  int

	prefix      string
	prefixGiven bool
	name        string
	store       scs.Store
	codec       scs.Codec
	ring        *ring
	keys        [][]byte
	plainData   bool
	plainTokens bool

	cookie cookieConfig

	limit       *int
	full        WhenFull
	clientIP    func(*http.Request) string
	device      func(*http.Request) string
	observer    func(context.Context, Event)
	nilFunction []string // options that were given nil
}

// remembered are the timeouts of sessions that RememberMe was called on.
type remembered struct{ idle, lifetime time.Duration }

// option makes an Option that leaves its name.
func option(name string, set func(*config)) Option {
	return func(c *config) {
		c.given = append(c.given, name)
		set(c)
	}
}

// WithLifetime sets the absolute timeout: a session ends that long after it
// began, or after its last login, however much it is used. The default is 24 h;
// from 1 s to 366 days.
func WithLifetime(d time.Duration) Option {
	return option("WithLifetime", func(c *config) { c.lifetime = d })
}

// WithIdleTimeout sets how long a session lives without being looked at. The
// default is 30 min, or the lifetime if that is shorter; at least 1 s, at most
// the lifetime. It is pushed back only when a tenth of it has passed, by PEXPIRE,
// without writing the data again.
func WithIdleTimeout(d time.Duration) Option {
	return option("WithIdleTimeout", func(c *config) { c.idle = &d })
}

// WithRememberMe gives sessions on which RememberMe(ctx, true) was called timeouts
// of their own, such as 30 days each: their cookie outlives the browser, and so must
// they. Without it RememberMe makes the cookie persistent and changes no timeout. idle
// is from 1 s to the lifetime, which is at most 366 days.
//
// NIST SP 800-63B asks for a new login after 30 days at the latest, whatever is
// remembered.
func WithRememberMe(idle, lifetime time.Duration) Option {
	return option("WithRememberMe", func(c *config) { c.remember = &remembered{idle, lifetime} })
}

// WithRenewal gives a session a new token each time its token is older than every
// and the session is looked at (OWASP: renewal timeout), so that a token which leaked
// is good for that long at most. For a grace period (30 s) the old token still leads
// to the session, and to the new token's cookie: requests that were under way, and
// one whose answer was lost, stay logged in. The default is never; from 1 min to the
// lifetime.
func WithRenewal(every time.Duration) Option {
	return option("WithRenewal", func(c *config) { c.renewal = &every })
}

// WithMaxSize sets how many bytes a session's data may have, encoded; the default
// is 64 KiB; from 256 to 16 MiB. A change that makes it larger is not saved:
// [Visit.Commit] returns ErrTooLarge, and middleware.Session answers 500.
func WithMaxSize(bytes int) Option {
	return option("WithMaxSize", func(c *config) { c.maxSize = bytes })
}

// WithName keeps several managers apart that share a Redis or a site, such as those
// of users and staff, or of tenants: their keys begin with name and ":session", and
// their cookie is named __Host- and name. [WithPrefix] and [WithCookieName] have
// precedence. It may hold letters, digits, "-", "_" and ".".
func WithName(name string) Option {
	return option("WithName", func(c *config) { c.name = name })
}

// WithPrefix sets how every session's key in Redis begins; the default is
// "scs:session", that of scs/redisstore. It may hold letters, digits, "-_." and
// single colons. Managers of one prefix take each other's tokens.
func WithPrefix(prefix string) Option {
	return option("WithPrefix", func(c *config) { c.prefix, c.prefixGiven = prefix, true })
}

// WithTimeout sets the budget of one call to Redis; the default is 50 ms; from
// 1 ms to 30 s.
func WithTimeout(budget time.Duration) Option {
	return option("WithTimeout", func(c *config) { c.budget = budget })
}

// WithStore keeps the sessions in a store of your choice, such as scs/redisstore over
// package session/redigo; tokens still reach it as digests only. Such a store cannot
// compare and set: of two requests that write one session within the same millisecond
// one may be lost, and one that writes while it ends may bring it back. Nor does it
// tell times to live, so that each look at a session is also a write. What binds
// sessions to users stays in the client's Redis. The default is a [Store].
//
// The store's own timeouts are its own: Weir's budget does not bound it.
func WithStore(store scs.Store) Option {
	return option("WithStore", func(c *config) {
		c.store = store
		c.notNil("WithStore", store == nil)
	})
}

// WithCodec sets how a session becomes bytes; the default is that of scs, gob, which
// scs/redisstore's users have in Redis. See [JSONCodec].
func WithCodec(codec scs.Codec) Option {
	return option("WithCodec", func(c *config) {
		c.codec = codec
		c.notNil("WithCodec", codec == nil)
	})
}

// WithEncryption encrypts the sessions' data in Redis with AES-256-GCM, the key in
// Redis being associated data: who can read Redis does not read sessions, and who can
// write there cannot move one's data to another. Each key has 32 bytes: keep them
// where you keep other secrets, not in Redis.
//
// The first key encrypts, all decrypt. To change keys put the new one behind the
// old one everywhere, then swap them, and take the old one away when the lifetime has
// passed: nobody is logged out.
//
// Sessions that were stored before encryption was switched on are taken for damaged,
// which logs their visitors out, unless [WithInsecurePlaintext] is given as well.
// IP addresses and devices in the list of a user's sessions are encrypted, too.
func WithEncryption(keys ...[]byte) Option {
	copied := make([][]byte, len(keys)) // the caller's may be wiped
	for i, key := range keys {
		copied[i] = bytes.Clone(key)
	}
	return option("WithEncryption", func(c *config) { c.keys = copied })
}

// WithInsecurePlaintext accepts sessions that are not encrypted along with those that
// are, for the time after [WithEncryption] was switched on: whoever can write to Redis
// can then make up sessions. Take it away when the lifetime has passed.
func WithInsecurePlaintext() Option {
	return option("WithInsecurePlaintext", func(c *config) { c.plainData = true })
}

// WithInsecurePlainTokens stores sessions under the tokens themselves, as scs does
// without HashTokenInStore: whoever can read Redis can take over every session. It is
// for the time in which a service that ran scs/redisstore that way is moved to Weir
// with nobody logged out.
func WithInsecurePlainTokens() Option {
	return option("WithInsecurePlainTokens", func(c *config) { c.plainTokens = true })
}

// WhenFull says what happens to a login beyond [WithMaxSessions].
type WhenFull int

const (
	// EvictOldest ends the user's session that was begun first.
	EvictOldest WhenFull = iota
	// RefuseNew has Login return ErrTooMany.
	RefuseNew
)

// WithMaxSessions sets how many sessions a user may have at a time, exact also under
// parallel logins in several processes; the default is any number; from 1 to 1,000.
// A session that has expired counts for up to a tenth of the idle timeout longer.
func WithMaxSessions(n int, full WhenFull) Option {
	return option("WithMaxSessions", func(c *config) { c.limit, c.full = &n, full })
}

// WithClientIP sets where the list of a user's sessions has the visitor's address
// from; the default is the connection's remote address. Behind a proxy give the
// function that reads what your proxy sets, such as chi's middleware.GetClientIP: a
// header that visitors can send themselves says what they like.
func WithClientIP(ip func(*http.Request) string) Option {
	return option("WithClientIP", func(c *config) {
		c.clientIP = ip
		c.notNil("WithClientIP", ip == nil)
	})
}

// WithDevice sets what the list of a user's sessions says of the visitor's device;
// the default is the User-Agent field. At most 256 bytes of it are kept.
func WithDevice(device func(*http.Request) string) Option {
	return option("WithDevice", func(c *config) {
		c.device = device
		c.notNil("WithDevice", device == nil)
	})
}

// WithObserver has f called for what happens to sessions: see [Event]. It is called
// in the request's goroutine, after the fact, with the context that middleware.Session
// was called with, in which this session is not; it must be safe for concurrent use,
// and quick. Given several times, each is called.
func WithObserver(f func(context.Context, Event)) Option {
	return option("WithObserver", func(c *config) {
		c.notNil("WithObserver", f == nil)
		if before := c.observer; before != nil && f != nil {
			c.observer = func(ctx context.Context, e Event) { before(ctx, e); f(ctx, e) }
			return
		}
		c.observer = f
	})
}

func (c *config) notNil(name string, isNil bool) {
	if isNil {
		c.nilFunction = append(c.nilFunction, name)
	}
}

const (
	defaultLifetime = 24 * time.Hour
	defaultIdle     = 30 * time.Minute
	defaultMaxSize  = 64 << 10
	minMaxSize      = 256
	maxMaxSize      = 16 << 20
	maxLifetime     = 366 * 24 * time.Hour
	minRenewal      = time.Minute
	maxSessionLimit = 1000
)

func configure(options []Option) (*config, []error) {
	c := &config{
		lifetime: defaultLifetime,
		budget:   rdb.DefaultBudget,
		maxSize:  defaultMaxSize,
		prefix:   defaultPrefix,
		cookie:   cookieConfig{sameSite: http.SameSiteLaxMode, path: "/"},
	}
	var mistakes []error
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	for _, name := range c.nilFunction {
		mistakes = append(mistakes, fmt.Errorf("%s(nil): leave it out for the default", name))
	}
	mistakes = append(mistakes, c.timeMistakes()...)
	mistakes = append(mistakes, c.storeMistakes()...)
	return c, append(mistakes, c.cookie.mistakes(c.name)...)
}

func (c *config) timeMistakes() (mistakes []error) {
	wrong := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	if c.lifetime < time.Second || c.lifetime > maxLifetime {
		wrong("WithLifetime(%v): must be at least 1s and at most %v; leave it out for 24h", c.lifetime, maxLifetime)
	}
	switch {
	case c.idle == nil:
		idle := min(defaultIdle, c.lifetime)
		c.idle = &idle
	case *c.idle < time.Second:
		wrong("WithIdleTimeout(%v): must be at least 1s; leave it out for 30m, or give the lifetime to end sessions by that alone", *c.idle)
	case *c.idle > c.lifetime && c.lifetime >= time.Second:
		wrong("WithIdleTimeout(%v): longer than the lifetime of %v, which would end the session first: give at most that", *c.idle, c.lifetime)
	}
	if r := c.remember; r != nil {
		if r.lifetime < time.Second || r.lifetime > maxLifetime {
			wrong("WithRememberMe: a lifetime of %v: must be at least 1s and at most %v", r.lifetime, maxLifetime)
		} else if r.idle < time.Second || r.idle > r.lifetime {
			wrong("WithRememberMe: an idle timeout of %v: must be at least 1s and at most its lifetime of %v", r.idle, r.lifetime)
		}
	}
	if c.renewal != nil && (*c.renewal < minRenewal || *c.renewal > c.lifetime) {
		wrong("WithRenewal(%v): must be at least %v and at most the lifetime of %v; leave it out to keep tokens", *c.renewal, minRenewal, c.lifetime)
	}
	return mistakes
}

func (c *config) storeMistakes() (mistakes []error) {
	wrong := func(format string, args ...any) { mistakes = append(mistakes, fmt.Errorf(format, args...)) }
	if c.name != "" {
		if !rdb.ValidPrefix(c.name) {
			wrong("WithName(%q): use letters, digits, \"-\", \"_\" and \".\", at most 64", c.name)
		} else if !c.prefixGiven {
			c.prefix = c.name + ":session"
		}
	}
	if !rdb.ValidPrefix(c.prefix) {
		wrong("WithPrefix(%q): use letters, digits, \"-_.\" and single colons", c.prefix)
	}
	if c.maxSize < minMaxSize || c.maxSize > maxMaxSize {
		wrong("WithMaxSize(%d): must be from %d to %d bytes; leave it out for %d", c.maxSize, minMaxSize, maxMaxSize, defaultMaxSize)
	}
	if c.limit != nil && (*c.limit < 1 || *c.limit > maxSessionLimit) {
		wrong("WithMaxSessions(%d): must be from 1 to %d; leave it out for any number", *c.limit, maxSessionLimit)
	}
	if c.full != EvictOldest && c.full != RefuseNew {
		wrong("WithMaxSessions: WhenFull(%d): use session.EvictOldest or session.RefuseNew", c.full)
	}
	if c.keys != nil {
		ring, errs := newRing(c.keys)
		c.ring, mistakes = ring, append(mistakes, errs...)
		if c.store != nil {
			wrong("WithEncryption with WithStore: only Weir's own store encrypts: leave one of them out")
		}
	}
	if c.plainData && c.keys == nil {
		wrong("WithInsecurePlaintext without WithEncryption: nothing is encrypted anyway: leave it out")
	}
	return mistakes
}
