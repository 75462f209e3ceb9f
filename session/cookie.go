package session

import (
	"net/http"
	"slices"
	"time"
)

// maxTokens is how many different tokens of one request are looked up. A browser
// sends several cookies of one name when they were set for different domains or
// paths; which one is ours only Redis knows.
const maxTokens = 4

// tokensOf returns the tokens in r's cookies, in their order. What has not a
// token's form is none, and never reaches Redis.
func (m *Manager) tokensOf(r *http.Request) (tokens []string) {
	for _, c := range r.CookiesNamed(m.Cookie.Name) {
		if len(tokens) < maxTokens && isToken(c.Value) && !slices.Contains(tokens, c.Value) {
			tokens = append(tokens, c.Value)
		}
	}
	return tokens
}

// isToken reports whether s has the form of scs's tokens: 32 bytes in base64url
// without padding.
func isToken(s string) bool {
	if len(s) != 43 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// cookie is what tells the browser of token; an empty token takes it away.
func (m *Manager) cookie(token string, expiry time.Time, persist bool) *http.Cookie {
	c := &http.Cookie{
		Name:     m.Cookie.Name,
		Value:    token,
		Path:     m.Cookie.Path,
		Secure:   m.Cookie.Secure,
		HttpOnly: m.Cookie.HttpOnly,
		SameSite: m.Cookie.SameSite,
	}
	switch {
	case token == "":
		c.Expires, c.MaxAge = time.Unix(1, 0), -1
	case persist:
		// Rounded up: the browser must not forget the session before we do.
		c.MaxAge = int(time.Until(expiry)/time.Second) + 1
		c.Expires = expiry.Add(time.Second)
	}
	return c
}
