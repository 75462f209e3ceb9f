package rfc9111

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/dunglas/httpsfv"
)

// NoVarySearch is what a response's No-Vary-Search field says: which differences
// between the queries of two URLs do not matter. The zero value says nothing: all
// do. (draft-ietf-httpbis-no-vary-search)
type NoVarySearch struct {
	keyOrder bool     // the order of different keys does not matter
	all      bool     // no parameter matters
	names    []string // the parameters that do not matter; or with all, that do
}

// ParseNoVarySearch reads the field. One that is no Dictionary, or has a member
// of a type it does not take, says nothing.
func ParseNoVarySearch(h http.Header) NoVarySearch {
	lines := h["No-Vary-Search"]
	if len(lines) == 0 {
		return NoVarySearch{}
	}
	dict, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return NoVarySearch{}
	}
	var n NoVarySearch
	if member, ok := dict.Get("key-order"); ok {
		item, _ := member.(httpsfv.Item)
		if n.keyOrder, ok = item.Value.(bool); !ok {
			return NoVarySearch{}
		}
	}
	if member, ok := dict.Get("params"); ok {
		switch m := member.(type) {
		case httpsfv.Item:
			if n.all, ok = m.Value.(bool); !ok {
				return NoVarySearch{}
			}
		case httpsfv.InnerList:
			if n.names, ok = paramNames(m); !ok {
				return NoVarySearch{}
			}
		}
	}
	if member, ok := dict.Get("except"); ok {
		list, isList := member.(httpsfv.InnerList)
		if !isList || !n.all {
			return NoVarySearch{}
		}
		if n.names, ok = paramNames(list); !ok {
			return NoVarySearch{}
		}
	}
	return n
}

// paramNames reads a list of parameter names, which are written as they are in a
// query: form-urlencoded.
func paramNames(list httpsfv.InnerList) ([]string, bool) {
	var names []string
	for _, item := range list.Items {
		s, ok := item.Value.(string)
		if !ok {
			return nil, false
		}
		name, err := url.QueryUnescape(s)
		if err != nil {
			return nil, false
		}
		names = append(names, name)
	}
	return names, true
}

// None reports whether the field says nothing: queries are compared as they are.
func (n NoVarySearch) None() bool { return !n.keyOrder && !n.all && len(n.names) == 0 }

// Query returns the part of a raw query that matters, in a form in which it is
// equal for two queries that do not differ in what does. None leaves it as it is.
func (n NoVarySearch) Query(raw string) string {
	if n.None() || raw == "" {
		return raw
	}
	type pair struct{ name, value string }
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, value = FormDecode(name), FormDecode(value)
		if slices.Contains(n.names, name) == n.all {
			pairs = append(pairs, pair{name, value})
		}
	}
	if n.keyOrder {
		slices.SortStableFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	}
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.name))
		b.WriteByte('=')
		b.WriteString(url.QueryEscape(p.value))
	}
	return b.String()
}

// FormDecode decodes as the URL standard's form parser does: a percent sign
// without two digits behind it stands for itself.
func FormDecode(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	if d, err := url.QueryUnescape(s); err == nil {
		return d
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			out = append(out, ' ')
		case s[i] == '%' && i+2 < len(s) && unhex(s[i+1]) >= 0 && unhex(s[i+2]) >= 0:
			out = append(out, byte(unhex(s[i+1])<<4|unhex(s[i+2])))
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return string(out)
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return int(c|0x20-'a') + 10
	}
	return -1
}
