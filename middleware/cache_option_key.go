package middleware

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/go-weir/weir/internal/rfc9111"
)

// QueryRule says by which part of its query a URL is told from others of the same scheme,
// host and path: [IgnoreParams], [SortParams], or a function of the program's own. It gets
// a copy of the URL, with the query as earlier rules left it, and returns the query that
// counts. It must return the same for the same URL, in all processes, and be safe for
// concurrent use.
type QueryRule func(u *url.URL) (query string)

// WithKeyQuery has the cache take queries for the same of which the rules, one after the
// other, make the same. The handler sees the query as it came. URLs without a query are
// told from others as before, and No-Vary-Search of an answer counts on top of the rules.
// The URLs that an unsafe request makes old are found by the same rules; so are those that
// a [Purger] removes, if NewPurger is given the same ones. The default is the query as it
// is, octet for octet.
//
// Two URLs that the rules take for one get one answer, the one that was asked for first: a
// parameter that the handler looks at must not be ignored. A page that prints its own URL
// prints the parameters of whoever asked first. It panics if a rule is nil.
func WithKeyQuery(rules ...QueryRule) CacheOption {
	checkRules("WithKeyQuery", rules)
	rules = slices.Clone(rules)
	return func(c *responseCache) { c.rules = rules }
}

func checkRules(where string, rules []QueryRule) {
	for i, rule := range rules {
		if rule == nil {
			panic(fmt.Sprintf("middleware.%s: rule %d is nil: leave it out", where, i+1))
		}
	}
}

// IgnoreParams leaves parameters out of the key: by name, as "gclid", or all whose names
// begin so, as "utm_*". Names are compared as a form parser reads them, so that %75tm_id is
// utm_id; upper and lower case differ. What is left stays as it is, octet for octet.
//
// A query with a semicolon stays whole: there are servers to which it is an ampersand, and
// what follows it a parameter that counts. It panics if a pattern is empty, is "*" alone,
// or has a star elsewhere than at its end.
func IgnoreParams(patterns ...string) QueryRule {
	names, prefixes := make(map[string]bool), []string(nil)
	for _, pattern := range patterns {
		prefix, starred := strings.CutSuffix(pattern, "*")
		if prefix == "" || strings.Contains(prefix, "*") {
			panic(fmt.Sprintf("middleware.IgnoreParams: %q names no parameters: write a name such as gclid, or the beginning of some such as utm_*", pattern))
		}
		if starred {
			prefixes = append(prefixes, prefix)
		} else {
			names[pattern] = true
		}
	}
	ignored := func(part string) bool {
		name := paramName(part)
		return names[name] || slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	}
	return func(u *url.URL) string {
		parts, plain := params(u.RawQuery)
		if !plain || !slices.ContainsFunc(parts, ignored) {
			return u.RawQuery
		}
		return strings.Join(slices.DeleteFunc(parts, ignored), "&")
	}
}

// SortParams is a [QueryRule] by which the order of parameters with different names does
// not matter; that of parameters with one name does. Names are compared, and queries with
// a semicolon left alone, as by [IgnoreParams].
func SortParams(u *url.URL) string {
	parts, plain := params(u.RawQuery)
	byName := func(a, b string) int { return strings.Compare(paramName(a), paramName(b)) }
	if !plain || slices.IsSortedFunc(parts, byName) {
		return u.RawQuery
	}
	slices.SortStableFunc(parts, byName)
	return strings.Join(parts, "&")
}

// params splits a query; plain is false for one that others may split elsewhere.
func params(query string) (parts []string, plain bool) {
	if strings.Contains(query, ";") {
		return nil, false
	}
	return strings.Split(query, "&"), true
}

func paramName(part string) string {
	name, _, _ := strings.Cut(part, "=")
	return rfc9111.FormDecode(name)
}

// by is the resource that u is by the rules.
func (u resource) by(rules []QueryRule) resource {
	if len(rules) == 0 {
		return u
	}
	path, asked, _ := strings.Cut(u.target, "?")
	if u.target == "" {
		path = u.path
	}
	if asked != "" {
		if asked = u.ruled(rules, path, asked); asked != "" {
			asked = "?" + asked
		}
		u.target = path + asked
	}
	if u.query != "" {
		u.query = u.ruled(rules, path, u.query)
	}
	return u
}

// ruled is what the rules leave of a query.
func (u *resource) ruled(rules []QueryRule, path, query string) string {
	about := url.URL{Scheme: u.scheme, Host: u.host, Path: path, RawPath: path}
	if plain, err := url.PathUnescape(path); err == nil {
		about.Path = plain
	}
	for _, rule := range rules {
		one := about // a rule may change what it gets
		one.RawQuery = query
		query = rule(&one)
	}
	return query
}
