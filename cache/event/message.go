package event

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// What goes through Redis is one line of header and the event's bytes:
//
//	weir1 id time key\n
//	{"the":"event"}
//
// id and key are escaped as in a URL's query; time is in µs since 1970, by Redis's
// clock, and put in by lua/publish.lua. A message without a header is somebody else's:
// all of it is the event's bytes, without id, time and key.

const (
	family  = "weir"
	version = "1"
)

// envelope is a message's header.
type envelope struct {
	id, key string
	time    time.Time
}

// seal makes what stands before the time and after it.
func seal(id, key string, data []byte) (head, tail string) {
	head = family + version + " " + url.QueryEscape(id) + " "
	var b strings.Builder
	escaped := url.QueryEscape(key)
	b.Grow(len(escaped) + len(data) + 2)
	b.WriteByte(' ')
	b.WriteString(escaped)
	b.WriteByte('\n')
	b.Write(data)
	return head, b.String()
}

// unseal takes a message apart.
func unseal(payload string) (e envelope, body string, err error) {
	if !hasHeader(payload) {
		return envelope{}, payload, nil
	}
	header, body, found := strings.Cut(payload, "\n")
	first, rest, _ := strings.Cut(header, " ")
	id, rest, _ := strings.Cut(rest, " ")
	at, key, complete := strings.Cut(rest, " ")
	switch micros, err := strconv.ParseInt(at, 10, 64); {
	case first != family+version:
		return envelope{}, payload, fmt.Errorf("%w: a message of version %.20q, this is %s%s", ErrCorrupt, first, family, version)
	case !found, !complete, err != nil, micros < 0, strings.Contains(key, " "):
		return envelope{}, payload, fmt.Errorf("%w: header %.100q", ErrCorrupt, header)
	default:
		e.time = time.UnixMicro(micros)
	}
	if e.id, err = url.QueryUnescape(id); err == nil {
		e.key, err = url.QueryUnescape(key)
	}
	if err != nil {
		return envelope{}, payload, fmt.Errorf("%w: header %.100q: %w", ErrCorrupt, header, err)
	}
	return e, body, nil
}

// hasHeader reports whether a message begins as one of ours does, of whatever version.
func hasHeader(payload string) bool {
	rest, ours := strings.CutPrefix(payload, family)
	digits := 0
	for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
		digits++
	}
	return ours && digits > 0 && digits < len(rest) && rest[digits] == ' '
}

// keyOf is a message's key; empty if it has none.
func keyOf(payload string) string {
	e, _, err := unseal(payload)
	if err != nil {
		return ""
	}
	return e.key
}
