package rdb

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
)

// maxPlainID is the longest id that stands in a key as it is. Longer ones cost
// memory in Redis for every key, and are hashed.
const maxPlainID = 64

// Key names a key: prefix:kind:{id}, then :part for each part. The braces are
// the key's hash tag, so all keys of one id live in one slot and may be used in
// one script. An id that is long, or has characters other than letters, digits
// and "-_.", is replaced by "~" and the base64url SHA-256 of it; no id can
// imitate another. prefix, kind and parts are Weir's own words, or checked by
// [ValidPrefix].
func Key(prefix, kind, id string, parts ...string) string {
	if !isPlain(id) {
		sum := sha256.Sum256([]byte(id))
		id = "~" + base64.RawURLEncoding.EncodeToString(sum[:])
	}
	var b strings.Builder
	n := len(prefix) + len(kind) + len(id) + 4
	for _, p := range parts {
		n += len(p) + 1
	}
	b.Grow(n)
	b.WriteString(prefix)
	b.WriteByte(':')
	b.WriteString(kind)
	b.WriteString(":{")
	b.WriteString(id)
	b.WriteByte('}')
	for _, p := range parts {
		b.WriteByte(':')
		b.WriteString(p)
	}
	return b.String()
}

// ValidPrefix reports whether prefix can begin a key: letters, digits, "-_." and
// single colons between them. A brace in it would take the place of the hash
// tag.
func ValidPrefix(prefix string) bool {
	for _, part := range strings.Split(prefix, ":") {
		if !isPlain(part) {
			return false
		}
	}
	return true
}

func isPlain(s string) bool {
	if s == "" || len(s) > maxPlainID {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// Digest is the base64url SHA-256 of fields, each behind its length, so that
// different lists of fields have different digests whatever bytes they hold.
// It keeps personal data (addresses, user names, URLs) out of Redis.
func Digest(fields ...string) string {
	n := 0
	for _, f := range fields {
		n += len(f) + binary.MaxVarintLen64
	}
	// Most keys are short: this buffer keeps them off the heap.
	buf := make([]byte, 0, 256)
	if n > cap(buf) {
		buf = make([]byte, 0, n)
	}
	for _, f := range fields {
		buf = binary.AppendUvarint(buf, uint64(len(f)))
		buf = append(buf, f...)
	}
	sum := sha256.Sum256(buf)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
