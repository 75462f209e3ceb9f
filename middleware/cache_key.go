package middleware

import (
	"encoding/binary"
	"net/http"
	"net/url"
	"strings"
)

// keyOf names the resource that a request is about: all of what makes two
// requests ask for different ones, each part behind its length.
func keyOf(r *http.Request) string {
	path, query := r.URL.EscapedPath(), r.URL.RawQuery
	// Of two handlers behind different prefixes that http.StripPrefix took off,
	// each has its own resources.
	target := originForm(r.RequestURI)
	if target == "" || isTarget(target, path, query) {
		target = ""
	}
	return keyFor(r, path, query, target)
}

// keyFor is the key of a resource of r's scheme and host. target is what was asked
// for where path and query are not.
func keyFor(r *http.Request, path, query, target string) string {
	parts := [...]string{schemeOf(r), strings.ToLower(r.Host), path, query, target}
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

// keyOfURL is the key under which a GET of u, a URL of r's origin, would be kept by
// the same cache. What http.StripPrefix took off r it would take off u.
func keyOfURL(r *http.Request, u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	asked, _, _ := strings.Cut(originForm(r.RequestURI), "?")
	prefix, suffixed := strings.CutSuffix(asked, r.URL.EscapedPath())
	rest, inside := strings.CutPrefix(path, prefix)
	if !suffixed || prefix == "" || !inside {
		return keyFor(r, path, u.RawQuery, "")
	}
	target := path
	if u.RawQuery != "" {
		target += "?" + u.RawQuery
	}
	return keyFor(r, rest, u.RawQuery, target)
}
