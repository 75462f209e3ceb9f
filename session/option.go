package session

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// Option configures [New].
type Option func(*config)

type config struct {
	lifetime time.Duration
	idle     time.Duration
	idleSet  bool
	budget   time.Duration
	prefix   string
	name     string
	sameSite http.SameSite
	insecure bool
}

// WithLifetime sets the absolute timeout: a session ends that long after it
// began, however much it is used. The default is 24 h; from 1 s to 366 days.
func WithLifetime(d time.Duration) Option { return func(c *config) { c.lifetime = d } }

// WithIdleTimeout sets how long a session lives without being looked at. The
// default is 30 min, or the lifetime if that is shorter; at least 1 s, at most
// the lifetime. It is pushed back only when a tenth of it has passed, by PEXPIRE,
// without writing the data again.
func WithIdleTimeout(d time.Duration) Option {
	return func(c *config) { c.idle, c.idleSet = d, true }
}

// WithPrefix sets how every key in Redis begins; the default is "scs:session", that
// of scs/redisstore. It may hold letters, digits, "-_." and single colons.
// Managers of one prefix take each other's tokens.
func WithPrefix(prefix string) Option { return func(c *config) { c.prefix = prefix } }

// WithTimeout sets the budget of one call to Redis; the default is 50 ms; from
// 1 ms to 30 s.
func WithTimeout(budget time.Duration) Option { return func(c *config) { c.budget = budget } }

// WithCookieName sets the cookie's name; the default is "__Host-session", or
// "session" under WithInsecureCookie. A name that begins with "__Host-" or
// "__Secure-" makes browsers enforce what it says (RFC 6265bis section 4.1.3).
func WithCookieName(name string) Option { return func(c *config) { c.name = name } }

// WithSameSite sets the cookie's SameSite attribute; the default is Lax. None
// makes the cookie go along with requests from other sites, which then need a
// defence against CSRF of their own.
func WithSameSite(s http.SameSite) Option { return func(c *config) { c.sameSite = s } }

// WithInsecureCookie sends the cookie over plain HTTP too, without Secure and
// without the __Host- name: whoever listens on the network can take over the
// session. It is for development on a machine that is not called localhost, or
// with a browser that refuses Secure cookies even there; Chrome, Firefox and curl
// since 7.79 accept them from http://localhost.
func WithInsecureCookie() Option { return func(c *config) { c.insecure = true } }

const maxLifetime = 366 * 24 * time.Hour

func configure(options []Option) (*config, []error) {
	c := &config{
		lifetime: 24 * time.Hour,
		budget:   rdb.DefaultBudget,
		prefix:   defaultPrefix,
		sameSite: http.SameSiteLaxMode,
	}
	var mistakes []error
	for i, o := range options {
		if o == nil {
			mistakes = append(mistakes, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(c)
	}
	if c.lifetime < time.Second || c.lifetime > maxLifetime {
		mistakes = append(mistakes, fmt.Errorf("WithLifetime(%v): must be at least 1s and at most %v; leave it out for 24h", c.lifetime, maxLifetime))
	}
	if !rdb.ValidPrefix(c.prefix) {
		mistakes = append(mistakes, fmt.Errorf("WithPrefix(%q): use letters, digits, \"-_.\" and single colons", c.prefix))
	}
	switch {
	case !c.idleSet:
		c.idle = min(30*time.Minute, c.lifetime)
	case c.idle < time.Second:
		mistakes = append(mistakes, fmt.Errorf("WithIdleTimeout(%v): must be at least 1s; leave it out for 30m, or give the lifetime to end sessions by that alone", c.idle))
	case c.idle > c.lifetime && c.lifetime >= time.Second:
		mistakes = append(mistakes, fmt.Errorf("WithIdleTimeout(%v): longer than the lifetime of %v, which would end the session first: give at most that", c.idle, c.lifetime))
	}
	return c, append(mistakes, c.cookieMistakes()...)
}

func (c *config) cookieMistakes() (mistakes []error) {
	if c.name == "" {
		c.name = "__Host-session"
		if c.insecure {
			c.name = "session"
		}
	}
	if err := (&http.Cookie{Name: c.name, Value: "x"}).Valid(); err != nil {
		mistakes = append(mistakes, fmt.Errorf("WithCookieName(%q): not a token of RFC 6265: use letters, digits, \"-\" and \"_\"", c.name))
	}
	lower := strings.ToLower(c.name) // browsers match prefixes without regard to case
	if c.insecure && (strings.HasPrefix(lower, "__host-") || strings.HasPrefix(lower, "__secure-")) {
		mistakes = append(mistakes, fmt.Errorf("WithCookieName(%q) with WithInsecureCookie: browsers drop a cookie of that name without Secure: choose a name without the prefix", c.name))
	}
	switch c.sameSite {
	case http.SameSiteLaxMode, http.SameSiteStrictMode:
	case http.SameSiteNoneMode:
		if c.insecure {
			mistakes = append(mistakes, errors.New("WithSameSite(None) with WithInsecureCookie: browsers drop such a cookie: keep Secure, or use Lax"))
		}
	default:
		mistakes = append(mistakes, fmt.Errorf("WithSameSite(%d): use http.SameSiteLaxMode, http.SameSiteStrictMode or http.SameSiteNoneMode", c.sameSite))
	}
	return mistakes
}
