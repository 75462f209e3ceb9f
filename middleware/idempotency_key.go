package middleware

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strings"
)

// maxIdempotencyKey is the longest key, in characters.
const maxIdempotencyKey = 255

var (
	errNoIdempotencyKey = errors.New("no Idempotency-Key")
	errIdempotencyKey   = errors.New("malformed Idempotency-Key")
	errBodyTooLarge     = errors.New("body too large")
)

// IdempotencyKey is the key under which [Idempotency] asks its store: what an operator
// calls [idempotency.Store.Look] and [idempotency.Store.Forget] with. route is the
// pattern that the request matched, as r.Pattern has it where Idempotency is mounted, or
// the path if there was none; key is the client's, without quotes.
func IdempotencyKey(principal, method, route, key string) string {
	return join([]string{principal, method, route, key})
}

// requestIdempotencyKey reads a request's Idempotency-Key: a String of RFC 9651 section
// 3.3.3, without parameters, or unless quoted is set the bare text. What is in the
// quotes, or bare, must be visible ASCII.
func requestIdempotencyKey(lines []string, quoted bool) (string, error) {
	if len(lines) == 0 {
		return "", errNoIdempotencyKey
	}
	text := strings.Trim(lines[0], " \t")
	if len(lines) > 1 || text == "" {
		return "", errIdempotencyKey
	}
	key := text
	if text[0] == '"' {
		var ok bool
		if key, ok = unquoteKey(text); !ok {
			return "", errIdempotencyKey
		}
	} else if quoted || strings.ContainsAny(text, `",\`) {
		// A quote or a backslash in it is a String gone wrong; a comma is two lines
		// that somebody on the way has joined.
		return "", errIdempotencyKey
	}
	if len(key) < 1 || len(key) > maxIdempotencyKey {
		return "", errIdempotencyKey
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return "", errIdempotencyKey
		}
	}
	return key, nil
}

// unquoteKey takes the quotes and backslashes off text, which begins with a quote.
func unquoteKey(text string) (key string, ok bool) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return b.String(), i == len(text)-1
		case '\\':
			i++
			if i == len(text) || text[i] != '"' && text[i] != '\\' {
				return "", false
			}
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// readBody reads r's body, of at most limit bytes. The handler needs another.
func readBody(r *http.Request, limit int) ([]byte, error) {
	switch {
	case r.ContentLength > int64(limit):
		return nil, errBodyTooLarge // before a client that waits for 100 sends it
	case r.Body == nil || r.Body == http.NoBody:
		return nil, nil
	}
	var b bytes.Buffer
	if r.ContentLength > 0 {
		b.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(r.Body, int64(limit)+1)); err != nil {
		return nil, err
	}
	if b.Len() > limit {
		return nil, errBodyTooLarge
	}
	return b.Bytes(), nil
}

// fingerprint is what a request has in common with its repetitions: a SHA-256 of its
// method, path, query, the named fields and its body, each behind its length.
func fingerprint(r *http.Request, fields []string, body []byte) string {
	b := make([]byte, 0, 256)
	add := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	add(r.Method)
	add(r.URL.EscapedPath())
	add(r.URL.RawQuery)
	for _, name := range fields {
		lines := r.Header[name]
		b = binary.AppendUvarint(b, uint64(len(lines)))
		for _, line := range lines {
			add(line)
		}
	}
	h := sha256.New()
	h.Write(b)
	h.Write(body) // the last one needs no length
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}
