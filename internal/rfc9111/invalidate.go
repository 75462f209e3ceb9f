package rfc9111

import (
	"net/http"
	"net/url"
	"strings"
)

// Invalidates reports whether the response to a request makes what is stored for
// its URI invalid (RFC 9111 4.4): one that is no error, to a method that is
// unsafe or not known to be safe (RFC 9110 9.2.1).
func Invalidates(method string, status int) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		return false
	}
	return status >= 200 && status < 400
}

// Invalidated returns the further URIs that such a response makes invalid: those
// in Location and Content-Location that have the request URI's origin (RFC 9111
// 4.4). Those of another origin are left alone, or else anybody could empty
// anybody's cache; so is the request URI itself, and what is no URI.
func Invalidated(request *url.URL, h http.Header) []*url.URL {
	var out []*url.URL
	for _, key := range [...]string{"Location", "Content-Location"} {
		lines := h[key]
		if len(lines) != 1 {
			continue
		}
		u, err := url.Parse(trimOWS(lines[0]))
		if err != nil {
			continue
		}
		u = request.ResolveReference(u)
		if sameOrigin(request, u) && !sameResource(request, u) && (len(out) == 0 || !sameResource(out[0], u)) {
			out = append(out, u)
		}
	}
	return out
}

// sameURL reports whether a reference, resolved against base, is base again.
func sameURL(base *url.URL, reference string) bool {
	u, err := url.Parse(trimOWS(reference))
	if err != nil {
		return false
	}
	u = base.ResolveReference(u)
	return sameOrigin(base, u) && sameResource(base, u)
}

// sameOrigin compares scheme, host and port (RFC 9110 4.3.1).
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

// sameResource compares path and query of two URLs of one origin.
func sameResource(a, b *url.URL) bool {
	path := func(u *url.URL) string {
		if p := u.EscapedPath(); p != "" {
			return p
		}
		return "/" // RFC 9110 4.2.3
	}
	return path(a) == path(b) && a.RawQuery == b.RawQuery
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return p
	case strings.EqualFold(u.Scheme, "https"):
		return "443"
	}
	return "80"
}
