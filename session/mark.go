package session

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
)

// A mark stands in Redis in a session's place for a short time after it ended: a
// request that was under way must neither write the session back nor begin a new
// one over it.
//
// Its bytes are those of an scs session that is empty and has been over since
// 1970, so that scs/redisstore, should it be swapped in right now, finds nobody
// there. They are written out, as encoding/gob numbers types anew in each program,
// and all processes must know each other's marks.
const (
	markHead = "%\x7f\x03\x01\x02\xff\x80\x00\x01\x02\x01\bDeadline\x01\xff\x82\x00\x01\x06Values\x01\xff\x84\x00\x00\x00" +
		"\x10\xff\x81\x05\x01\x01\x04Time\x01\xff\x82\x00\x00\x00" +
		"'\xff\x83\x04\x01\x01\x17map[string]interface {}\x01\xff\x84\x00\x01\f\x01\x10\x00\x00" +
		"D\xff\x80\x01\x0f\x01\x00\x00\x00\x0ew\x91\xf7\x00\x00\x00\x00\x00\xff\xff\x01\x01\v__weir.mark\x06string\f\x19\x00\x17"
	markTail = "\x00"
	nonceLen = 22
)

// kind is what stands under a session's name.
type kind byte

const (
	absent kind = iota
	live
	// ended: the session is over. Its nonce tells one end from another.
	ended kind = 'e'
	// rotated: the visitor has logged in or out, and a new token whose cookie may be
	// on its way. Who comes with the old one must not get yet another.
	rotated kind = 'r'
	// moved: the session has a new token, which whoever has the old one can derive
	// with the nonce: see derive.
	moved kind = 'm'
)

func markOf(k kind, nonce string) string { return markHead + string(rune(k)) + nonce + markTail }

// parseMark returns live for what is no mark.
func parseMark(stored string) (k kind, nonce string) {
	rest, ok := strings.CutPrefix(stored, markHead)
	if !ok || len(rest) != 1+nonceLen+len(markTail) {
		return live, ""
	}
	switch k := kind(rest[0]); k {
	case ended, rotated, moved:
		return k, rest[1 : 1+nonceLen]
	}
	return live, ""
}

// newNonce returns 128 random bits as 22 characters.
func newNonce() string { return randomText(16) }

func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}
