package session

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
)

// A token is what a browser's cookie holds. That of a session which is bound to a
// user also says where in Redis to look whether it still is, so that one round
// trip finds out both:
//
//	secret (43)                   256 random bits in base64url, as scs makes them
//	secret (43) id (16) tag (22)  id: the session's public id; tag: a digest of the user
//
// Redis knows a session by the digest of its whole token: one that was altered is
// unknown.
const (
	secretLen = 43
	idLen     = 16
	tagLen    = 22
	boundLen  = secretLen + idLen + tagLen
)

// maxTokens is how many different tokens of one request are looked up. A browser
// sends several cookies of one name when they were set for different domains or
// paths; which one is ours only Redis knows.
const maxTokens = 4

func newSecret() string { return randomText(32) }
func newID() string     { return randomText(12) }

// binding says to which user's index a session belongs, and under which id. Its
// zero value is that of a session without user.
type binding struct{ id, tag string }

func (b binding) bound() bool { return b.id != "" }

// bindingOf reads a token's binding.
func bindingOf(token string) binding {
	if len(token) != boundLen {
		return binding{}
	}
	return binding{id: token[secretLen : secretLen+idLen], tag: token[secretLen+idLen:]}
}

// token joins a secret with the binding.
func (b binding) token(secret string) string { return secret[:secretLen] + b.id + b.tag }

// derive is the token that follows token in a periodic renewal. Who sees the nonce
// in Redis cannot derive it, having only the token's digest; who has the token can,
// as long as the nonce is there. So all of a visitor's parallel requests arrive at
// one new token, and a lost answer logs nobody out.
func derive(token, nonce string) string {
	mac := hmac.New(sha256.New, []byte(token[:secretLen]))
	mac.Write([]byte("weir session renewal\x00" + nonce))
	return bindingOf(token).token(base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
}

// digest is the name under which scs stores a session with HashTokenInStore.
func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// tokensOf returns the tokens in r's cookies of a name, in their order. What has not
// a token's form is none, and never reaches Redis.
func tokensOf(r *http.Request, name string) (tokens []string) {
	for _, c := range r.CookiesNamed(name) {
		if len(tokens) < maxTokens && isToken(c.Value) && !slices.Contains(tokens, c.Value) {
			tokens = append(tokens, c.Value)
		}
	}
	return tokens
}

// isToken reports whether s has the form of a token.
func isToken(s string) bool {
	if len(s) != secretLen && len(s) != boundLen {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}
