package rfc9111

import "strings"

// A scanner takes a field line apart into the members of a directive list:
//
//	#( token [ "=" ( token / quoted-string ) ] )     (RFC 9111 5.2)
//
// Its strings are parts of the line, so that scanning allocates nothing.
type scanner struct {
	rest string

	name   string // "" if the member does not begin with a token
	arg    string // between the quotes, quoted pairs still in it, if quoted
	hasArg bool
	quoted bool

	malformed    bool // something other than the above came before the comma
	unterminated bool // a quoted string had no end
}

// next moves to the next member that is not empty (RFC 9110 5.6.1.2: a
// recipient ignores a reasonable number of empty ones), false at the end.
func (s *scanner) next() bool {
	*s = scanner{rest: s.rest}
	for s.rest != "" && (isOWS(s.rest[0]) || s.rest[0] == ',') {
		s.rest = s.rest[1:]
	}
	if s.rest == "" {
		return false
	}
	s.name = s.token()
	if s.rest != "" && s.rest[0] == '=' {
		s.rest = s.rest[1:]
		s.hasArg = true
		s.argument()
	}
	s.finish()
	return true
}

func (s *scanner) argument() {
	if s.rest == "" || s.rest[0] != '"' {
		s.arg = s.token()
		s.malformed = s.arg == ""
		return
	}
	end := quotedEnd(s.rest)
	if end < 0 {
		// Reading on behind the quote finds directives the quote would have
		// hidden. The caller makes sure that they cannot permit anything.
		s.malformed, s.unterminated = true, true
		s.rest = s.rest[1:]
		return
	}
	s.quoted = true
	s.arg = s.rest[1 : end-1]
	s.rest = s.rest[end:]
}

// finish skips to the next comma. Quoted strings on the way are stepped over,
// so that what is written in one is never taken for a directive.
func (s *scanner) finish() {
	s.malformed = s.malformed || s.name == ""
	for s.rest != "" && s.rest[0] != ',' {
		if s.rest[0] == '"' {
			s.malformed = true
			if end := quotedEnd(s.rest); end >= 0 {
				s.rest = s.rest[end:]
				continue
			}
			s.unterminated = true
		}
		if !isOWS(s.rest[0]) {
			s.malformed = true
		}
		s.rest = s.rest[1:]
	}
}

// token cuts the longest token off the rest (RFC 9110 5.6.2); it may be empty.
func (s *scanner) token() string {
	i := 0
	for i < len(s.rest) && tchar[s.rest[i]] {
		i++
	}
	t := s.rest[:i]
	s.rest = s.rest[i:]
	return t
}

// quotedEnd returns the length of the quoted-string (RFC 9110 5.6.4) that s
// begins with, or -1 if it has no end.
func quotedEnd(s string) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return i + 1
		case '\\':
			i++
		}
	}
	return -1
}

// unescape replaces each quoted pair by its second octet.
func unescape(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// tchar are the octets of a token (RFC 9110 5.6.2).
var tchar = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tchar[s[i]] {
			return false
		}
	}
	return s != ""
}

func isOWS(c byte) bool { return c == ' ' || c == '\t' }

func trimOWS(s string) string {
	for s != "" && isOWS(s[0]) {
		s = s[1:]
	}
	for s != "" && isOWS(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

// fold reports whether s is the lower-case ASCII word in any case. It is not
// strings.EqualFold, which would also match letters outside ASCII.
func fold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
