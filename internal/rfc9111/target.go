package rfc9111

import (
	"net/http"
	"time"

	"github.com/dunglas/httpsfv"
)

// defaultTargets is the target list of a Policy without one (RFC 9213 3).
var defaultTargets = []string{"Cdn-Cache-Control"}

// Directives reads what governs a response: the first of the policy's targeted
// fields that is there, not empty and without a parsing error, or else
// Cache-Control (RFC 9213 2.2).
func (p Policy) Directives(h http.Header) ResponseDirectives {
	targets := p.Targets
	if targets == nil {
		targets = defaultTargets
	}
	for _, name := range targets {
		if lines := h[name]; len(lines) > 0 {
			if d, ok := parseTargeted(lines); ok {
				return d
			}
		}
	}
	return ParseResponseDirectives(h)
}

// parseTargeted reads the lines of a targeted field, a Dictionary of structured
// fields (RFC 9213 2.1). Parameters are ignored. What is of another type than its
// directive takes is read as Cache-Control is: it forbids, and does not permit.
func parseTargeted(lines []string) (d ResponseDirectives, ok bool) {
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil || len(dict.Names()) == 0 {
		return ResponseDirectives{}, false
	}
	d.Targeted = true
	for _, name := range dict.Names() {
		member, _ := dict.Get(name)
		item, isItem := member.(httpsfv.Item)
		if isItem && item.Value == false {
			continue // "?0": the directive is said not to apply
		}
		d.member(name, item.Value)
	}
	d.settle()
	return d, true
}

// member adds a member of a targeted field; value is nil for an inner list.
func (d *ResponseDirectives) member(name string, value any) {
	seconds := func() Seconds {
		if n, ok := value.(int64); ok && n >= 0 {
			return Seconds{Value: time.Duration(min(n, int64(MaxDelta/time.Second))) * time.Second, Present: true, Valid: true}
		}
		return Seconds{}.spoilt()
	}
	flag := func() bool {
		d.Malformed = d.Malformed || value != true
		return true
	}
	scope := func() Scope {
		s := scanner{hasArg: true}
		switch v := value.(type) {
		case string:
			s.arg = v
		case httpsfv.Token:
			s.arg = string(v)
		}
		return Scope{}.and(&s)
	}
	switch name {
	case "max-age":
		d.MaxAge = seconds()
	case "s-maxage":
		d.SMaxage = seconds()
	case "stale-while-revalidate":
		d.StaleWhileRevalidate = seconds()
	case "stale-if-error":
		d.StaleIfError = seconds()
	case "no-store":
		d.NoStore = flag()
	case "no-cache":
		d.NoCache = scope()
	case "private":
		d.Private = scope()
	case "must-revalidate":
		d.MustRevalidate = flag()
	case "proxy-revalidate":
		d.ProxyRevalidate = flag()
	case "public":
		d.Public = flag()
	case "must-understand":
		d.MustUnderstand = flag()
	case "immutable":
		d.Immutable = flag()
	}
}
