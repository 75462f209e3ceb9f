package middleware

import (
	"encoding/binary"
	"net/http"
	"net/url"
	"strings"
)

// key names the resource: all of what makes two requests ask for different ones,
// each part behind its length.
func (u resource) key() string {
	parts := [...]string{u.scheme, u.host, u.path, u.query, u.target}
	var buf [256]byte
	key := buf[:0]
	for _, p := range parts {
		key = append(binary.AppendUvarint(key, uint64(len(p))), p...)
	}
	return string(key)
}

// originForm cuts scheme and authority off a request target in absolute form
// (RFC 9112 section 3.2.2): they are the Host.
func originForm(target string) string {
	if strings.HasPrefix(target, "/") {
		return target
	}
	if _, rest, ok := strings.Cut(target, "://"); ok {
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			return rest[i:]
		}
		return ""
	}
	return target
}

// isTarget reports whether target is path and query.
func isTarget(target, path, query string) bool {
	rest, ok := strings.CutPrefix(target, path)
	if !ok || query == "" {
		return ok && rest == ""
	}
	return len(rest) == len(query)+1 && rest[0] == '?' && rest[1:] == query
}

func schemeOf(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// effectiveURL is the URI that the client asked for (RFC 9110 section 7.1).
func effectiveURL(r *http.Request) *url.URL {
	u := &url.URL{Scheme: schemeOf(r), Host: r.Host, Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery}
	if asked, err := url.ParseRequestURI(originForm(r.RequestURI)); err == nil {
		u.Path, u.RawPath, u.RawQuery = asked.Path, asked.RawPath, asked.RawQuery
	}
	return u
}

// at is the resource that a GET of another URL of the origin would be about. What
// http.StripPrefix took off r it would take off that one.
func (u resource) at(r *http.Request, other *url.URL) resource {
	path := other.EscapedPath()
	if path == "" {
		path = "/"
	}
	asked, _, _ := strings.Cut(originForm(r.RequestURI), "?")
	prefix, suffixed := strings.CutSuffix(asked, u.path)
	u.path, u.query, u.target = path, other.RawQuery, ""
	if rest, inside := strings.CutPrefix(path, prefix); suffixed && prefix != "" && inside {
		if u.path, u.target = rest, path; u.query != "" {
			u.target += "?" + u.query
		}
	}
	return u
}
