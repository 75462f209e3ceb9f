package middleware

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	chi "github.com/go-chi/chi/v5/middleware"
)

// KeyFunc says whom a request counts against. Requests of one key share a
// limit. Keys may hold any bytes: Redis gets only a digest.
//
// A KeyFunc that cannot tell returns an error that wraps [ErrNoKey]; the request
// is then answered 400. It never returns "": that would be one limit for
// everybody it cannot tell apart.
type KeyFunc func(*http.Request) (string, error)

// ErrNoKey says that a request does not show what a KeyFunc looks for.
var ErrNoKey = errors.New("middleware: the request has no key")

// KeyByIP is the client's address: of IPv4 all of it, of IPv6 the /64.
//
// The address is that found by one of chi's ClientIPFrom… middlewares, if
// mounted outside; else that of the peer. Behind a proxy without such a
// middleware all clients are the proxy: mount the one that fits the deployment.
// No forwarding header is read here, as any client can write one.
//
// IPv4 in IPv6 is taken for IPv4, be it mapped (::ffff:0:0/96) or translated
// (64:ff9b::/96, RFC 6052): by /64 all of it would be one client. Zones are
// dropped. Other IPv6 counts by /64: that much a single customer has, and could
// use one address a request. For another length see [KeyByIPPrefix].
//
// A peer without an IP address, such as one on a Unix socket, has no key.
func KeyByIP(r *http.Request) (string, error) { return keyByPrefix(r, 64) }

// KeyByClientIP is [KeyByIP] behind proxies: a request of which no ClientIPFrom…
// middleware outside has found the address has no key, where KeyByIP counts it
// against its peer, which may be the proxy of all.
func KeyByClientIP(r *http.Request) (string, error) {
	if !chi.GetClientIPAddr(r.Context()).IsValid() {
		return "", fmt.Errorf("%w: no middleware outside has found the client's address", ErrNoKey)
	}
	return KeyByIP(r)
}

// KeyByIPPrefix is [KeyByIP] with IPv6 addresses counted by a prefix of the given
// length: 56 or 48 where providers give that much to each customer, 128 where
// every address is known to be somebody else's. IPv4 is not affected.
//
// It panics if bits is outside of 32 to 128: a shorter one is several providers'.
func KeyByIPPrefix(bits int) KeyFunc {
	if bits < 32 || bits > 128 {
		panic(fmt.Sprintf("middleware.KeyByIPPrefix(%d): the length of an IPv6 prefix must be from 32 to 128 bits: 64 is what KeyByIP counts by", bits))
	}
	return func(r *http.Request) (string, error) { return keyByPrefix(r, bits) }
}

func keyByPrefix(r *http.Request, bits int) (string, error) {
	addr, err := addressOf(r)
	if err != nil {
		return "", err
	}
	if addr.Is4() {
		return addr.String(), nil
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	return prefix.String(), nil
}

// addressOf is the client's address as KeyByIP explains, whole.
func addressOf(r *http.Request) (netip.Addr, error) {
	addr := chi.GetClientIPAddr(r.Context())
	if !addr.IsValid() {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if err != nil {
			host = r.RemoteAddr
		}
		if addr, err = netip.ParseAddr(host); err != nil {
			return addr, fmt.Errorf("%w: the peer's address %q is not an IP address", ErrNoKey, r.RemoteAddr)
		}
	}
	return foldIPv4(addr.WithZone("")), nil
}

// foldIPv4 takes IPv4 in IPv6 for IPv4.
func foldIPv4(addr netip.Addr) netip.Addr {
	addr = addr.Unmap()
	if translated.Contains(addr) {
		ip := addr.As16()
		addr = netip.AddrFrom4([4]byte(ip[12:]))
	}
	return addr
}

// translated is how IPv4 clients look behind a translator (NAT64): RFC 6052
// section 2.1.
var translated = netip.MustParsePrefix("64:ff9b::/96")

// KeyByUser is whom user names, such as the user that an authentication
// outside has put into the request's context. "" says that there is none: the
// request then has no key. To count those by something else, write a KeyFunc that
// asks both, and puts a word before each so that no user is named like an
// address.
func KeyByUser(user func(*http.Request) string) KeyFunc {
	if user == nil {
		panic("middleware.KeyByUser: the function is nil: give one that says who sent a request")
	}
	return func(r *http.Request) (string, error) {
		if name := user(r); name != "" {
			return name, nil
		}
		return "", fmt.Errorf("%w: there is no user", ErrNoKey)
	}
}

// KeyByHeader is the value of the named header field, such as an API key that
// something outside has verified: a client that may choose the value freely
// chooses its limit freely.
//
// A request without the field has no key, nor has one with several lines of it.
// What verified one of them may not have seen the others: a client could put its
// good key in the one and a new name in the other, and be somebody else each time.
func KeyByHeader(name string) KeyFunc {
	if name == "" {
		panic("middleware.KeyByHeader: the field has no name: write one such as X-API-Key")
	}
	if name = http.CanonicalHeaderKey(name); name == "Host" {
		panic("middleware.KeyByHeader: net/http keeps Host apart from the fields: write a KeyFunc that returns r.Host")
	}
	return func(r *http.Request) (string, error) {
		switch values := r.Header[name]; {
		case len(values) > 1:
			return "", fmt.Errorf("%w: field %s has %d lines; want one", ErrNoKey, name, len(values))
		case len(values) == 0 || values[0] == "":
			return "", fmt.Errorf("%w: field %s is missing", ErrNoKey, name)
		default:
			return values[0], nil
		}
	}
}

// KeyByRoute is the pattern that the request matched: "GET /users/{id}" in
// http.ServeMux, as it was registered; "/users/{id}" in chi, whose patterns have
// no method. It is known to what wraps the route's handler. What wraps a router
// (chi's Use) comes before the route is matched: there a request has no key, or,
// below another router, that one's pattern, such as "/api/*" for all of its routes.
func KeyByRoute(r *http.Request) (string, error) {
	if r.Pattern == "" {
		return "", fmt.Errorf("%w: no route was matched yet: wrap the route's handler", ErrNoKey)
	}
	return r.Pattern, nil
}

// JoinKeys counts by several keys at once, such as address and route. Different
// lists of keys have different joined keys, whatever the keys hold.
func JoinKeys(keys ...KeyFunc) KeyFunc {
	if len(keys) == 0 {
		panic("middleware.JoinKeys: no key function: all requests would share one limit")
	}
	for _, k := range keys {
		if k == nil {
			panic("middleware.JoinKeys: a key function is nil")
		}
	}
	return func(r *http.Request) (string, error) {
		parts := make([]string, len(keys))
		for i, k := range keys {
			var err error
			if parts[i], err = k(r); err != nil {
				return "", err
			}
			if parts[i] == "" {
				return "", ErrNoKey
			}
		}
		return join(parts), nil
	}
}

// join puts each part behind its length, so that no part imitates a separator.
func join(parts []string) string {
	var b []byte
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	return string(b)
}
