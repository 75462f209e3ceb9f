package middleware

import (
	"net/http"
	"strings"
)

// prefersText reports whether whoever sent a request would rather read a refusal
// as text/plain than as application/problem+json (RFC 9110 section 12.5.1). It
// is false when both are as welcome, or neither is: a refusal is never 406.
//
// application/json is taken to welcome application/problem+json, which whoever
// reads the one can read; an exact range and */* are as the RFC says.
func prefersText(h http.Header) bool {
	var problem, text welcome
	for _, line := range h["Accept"] {
		for line != "" {
			var member string
			member, line = cutUnquoted(line, ',')
			r, ok := parseMediaRange(member)
			if !ok {
				continue // malformed; the others may tell
			}
			switch {
			case r.media("*", "*"):
				problem.note(1, r)
				text.note(1, r)
			case r.media("application", "*"):
				problem.note(2, r)
			case r.media("application", "json"):
				problem.note(3, r)
			case r.media("application", "problem+json"):
				problem.note(4, r)
			case r.media("text", "*"):
				text.note(2, r)
			case r.media("text", "plain"):
				text.note(4, r)
			}
		}
	}
	return text.weight > problem.weight
}

// welcome is how welcome a media type is: by the most specific of the ranges it
// is in, and of several equally specific ones the kindest.
type welcome struct{ specific, weight int }

func (w *welcome) note(specific int, r mediaRange) {
	switch {
	case r.other, r.utf8 && specific != 4:
		return // a variant that is not sent
	case r.utf8:
		specific++
	}
	if specific > w.specific {
		*w = welcome{specific, r.weight}
	} else if specific == w.specific {
		w.weight = max(w.weight, r.weight)
	}
}

// mediaRange is one member of Accept.
type mediaRange struct {
	kind, subkind string
	weight        int  // in thousandths
	utf8          bool // it has the parameter charset=utf-8
	other         bool // it has any other parameter
}

func (r mediaRange) media(kind, subkind string) bool {
	return strings.EqualFold(r.kind, kind) && strings.EqualFold(r.subkind, subkind)
}

func parseMediaRange(member string) (r mediaRange, ok bool) {
	r.weight = 1000
	name, rest := cutUnquoted(member, ';')
	r.kind, r.subkind, ok = strings.Cut(trimOWS(name), "/")
	if !ok || !isToken(r.kind) || !isToken(r.subkind) || r.kind == "*" && r.subkind != "*" {
		return r, false
	}
	for rest != "" {
		var parameter string
		parameter, rest = cutUnquoted(rest, ';')
		if parameter = trimOWS(parameter); parameter == "" {
			continue
		}
		name, value, _ := strings.Cut(parameter, "=")
		switch {
		case !isToken(name) || value == "":
			return r, false
		case strings.EqualFold(name, "q"):
			if r.weight, ok = parseWeight(value); !ok {
				return r, false
			}
		case strings.EqualFold(name, "charset") && strings.EqualFold(strings.Trim(value, `"`), "utf-8"):
			r.utf8 = true
		default:
			r.other = true
		}
	}
	return r, true
}

// parseWeight reads a qvalue in thousandths: "0" to "1" with at most three
// decimals (RFC 9110 section 12.4.2).
func parseWeight(s string) (thousandths int, ok bool) {
	if s == "" || len(s) > len("0.000") || s[0] != '0' && s[0] != '1' || len(s) > 1 && s[1] != '.' {
		return 0, false
	}
	thousandths = int(s[0]-'0') * 1000
	for i, unit := 2, 100; i < len(s); i, unit = i+1, unit/10 {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		thousandths += int(s[i]-'0') * unit
	}
	return thousandths, thousandths <= 1000
}

// cutUnquoted cuts s around the first separator that is in no quoted string.
func cutUnquoted(s string, separator byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == separator && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func trimOWS(s string) string { return strings.Trim(s, " \t") }

// isToken reports whether s is a token of RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
