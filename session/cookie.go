package session

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// cookieConfig is what options say of the cookie.
type cookieConfig struct {
	name        string
	sameSite    http.SameSite
	insecure    bool
	domain      string
	path        string
	partitioned bool
}

// WithCookieName sets the cookie's name; the default is "__Host-session",
// "__Secure-session" with a domain or path, and "session" under [WithInsecureCookie].
// A name that begins with "__Host-" or "__Secure-" makes browsers enforce what it says
// (RFC 6265bis section 4.1.3). "__Host-Http-session" has those which know it (draft
// layered-cookies) refuse one that was set by script, too; others treat it as
// __Host-.
func WithCookieName(name string) Option {
	return option("WithCookieName", func(c *config) { c.cookie.name = name })
}

// WithSameSite sets the cookie's SameSite attribute; the default is Lax. None
// makes the cookie go along with requests from other sites, which then need a
// defence against CSRF of their own: see the package's page.
func WithSameSite(s http.SameSite) Option {
	return option("WithSameSite", func(c *config) { c.cookie.sameSite = s })
}

// WithInsecureCookie sends the cookie over plain HTTP too, without Secure and
// without the __Host- name: whoever listens on the network can take over the
// session. It is for development on a machine that is not called localhost, or
// with a browser that refuses Secure cookies even there; Chrome, Firefox and curl
// since 7.79 accept them from http://localhost.
func WithInsecureCookie() Option {
	return option("WithInsecureCookie", func(c *config) { c.cookie.insecure = true })
}

// WithCookieDomain sends the cookie to all hosts of a domain, such as "example.com"
// for shop.example.com and www.example.com. Each of them then sees it and can set it:
// a weakness of the least of them is one of all. The default is the host that set it.
func WithCookieDomain(domain string) Option {
	return option("WithCookieDomain", func(c *config) { c.cookie.domain = domain })
}

// WithCookiePath sends the cookie only to paths below path; the default is "/". It is
// no protection: pages of other paths reach it by a frame (RFC 6265 section 8.5).
func WithCookiePath(path string) Option {
	return option("WithCookiePath", func(c *config) { c.cookie.path = path })
}

// WithPartitioned keeps the cookie of a site that is embedded in others apart for each
// of them (CHIPS): give it with WithSameSite(http.SameSiteNoneMode).
func WithPartitioned() Option {
	return option("WithPartitioned", func(c *config) { c.cookie.partitioned = true })
}

// mistakes fills in the name, given that of the manager, and lists what cannot be.
func (c *cookieConfig) mistakes(manager string) (all []error) {
	wrong := func(format string, args ...any) { all = append(all, fmt.Errorf(format, args...)) }
	if c.name == "" {
		c.name = c.defaultName(manager)
	}
	if err := (&http.Cookie{Name: c.name, Value: "x"}).Valid(); err != nil {
		wrong("WithCookieName(%q): not a token of RFC 6265: use letters, digits, \"-\" and \"_\"", c.name)
	}
	lower := strings.ToLower(c.name) // browsers match prefixes without regard to case
	host := strings.HasPrefix(lower, "__host-")
	prefixed := host || strings.HasPrefix(lower, "__secure-") || strings.HasPrefix(lower, "__http-")
	if c.insecure && prefixed {
		wrong("WithCookieName(%q) with WithInsecureCookie: browsers drop a cookie of that name without Secure: choose a name without the prefix", c.name)
	}
	if c.domain != "" {
		if err := (&http.Cookie{Name: "n", Value: "x", Domain: c.domain}).Valid(); err != nil {
			wrong("WithCookieDomain(%q): no domain name: write one such as \"example.com\"", c.domain)
		}
		if host {
			wrong("WithCookieDomain(%q) with WithCookieName(%q): browsers drop a __Host- cookie that has a Domain: leave the domain out, or begin the name with __Secure-", c.domain, c.name)
		}
	}
	if !strings.HasPrefix(c.path, "/") || (&http.Cookie{Name: "n", Value: "x", Path: c.path}).Valid() != nil {
		wrong("WithCookiePath(%q): must begin with \"/\" and hold no semicolon or control character", c.path)
	} else if c.path != "/" && host {
		wrong("WithCookiePath(%q) with WithCookieName(%q): browsers drop a __Host- cookie whose path is not \"/\": leave the path out, or begin the name with __Secure-", c.path, c.name)
	}
	if c.partitioned && c.insecure {
		all = append(all, errors.New("WithPartitioned with WithInsecureCookie: browsers drop such a cookie: keep Secure"))
	}
	switch c.sameSite {
	case http.SameSiteLaxMode, http.SameSiteStrictMode:
	case http.SameSiteNoneMode:
		if c.insecure {
			all = append(all, errors.New("WithSameSite(None) with WithInsecureCookie: browsers drop such a cookie: keep Secure, or use Lax"))
		}
	default:
		wrong("WithSameSite(%d): use http.SameSiteLaxMode, http.SameSiteStrictMode or http.SameSiteNoneMode", c.sameSite)
	}
	return all
}

func (c *cookieConfig) defaultName(manager string) string {
	name := "session"
	if manager != "" {
		name = manager
	}
	switch {
	case c.insecure:
		return name
	case c.domain != "" || c.path != "/":
		return "__Secure-" + name
	}
	return "__Host-" + name
}

// maxCookieAge is what browsers keep a cookie at most (RFC 6265bis section 5.5).
const maxCookieAge = 400 * 24 * time.Hour

// cookieOf is what tells the browser of token; an empty token takes it away.
func (m *Manager) cookieOf(token string, expiry time.Time, persist bool) *http.Cookie {
	c := &http.Cookie{
		Name:        m.Cookie.Name,
		Value:       token,
		Domain:      m.Cookie.Domain,
		Path:        m.Cookie.Path,
		Secure:      m.Cookie.Secure,
		HttpOnly:    m.Cookie.HttpOnly,
		SameSite:    m.Cookie.SameSite,
		Partitioned: m.Cookie.Partitioned,
	}
	switch {
	case token == "":
		c.Expires, c.MaxAge = time.Unix(1, 0), -1
	case persist:
		// Rounded up: the browser must not forget the session before we do.
		age := min(time.Until(expiry), maxCookieAge-time.Second)
		c.MaxAge = int(age/time.Second) + 1
		c.Expires = time.Now().Add(age + time.Second)
	}
	return c
}
