package rdb

import (
	"crypto/sha1"
	"encoding/hex"
)

// Script is a Lua script kept in an engine's lua folder. It is sent by its
// SHA-1; a server that does not know it yet gets the text, once, and knows it
// from then on.
type Script struct {
	text   string
	sha    any // a string, boxed once for all calls
	replay bool
}

// NewScript returns a script that must not run twice for one call.
func NewScript(text string) *Script {
	sum := sha1.Sum([]byte(text))
	return &Script{text: text, sha: hex.EncodeToString(sum[:])}
}

// NewReplayableScript returns a script that may run twice for one call: it only
// reads, writes the same again, or carries a request id by which its second run
// changes nothing and answers as the first did.
func NewReplayableScript(text string) *Script {
	s := NewScript(text)
	s.replay = true
	return s
}

// Cmd plans one run of s on a single key. It does no I/O. See [NewCmd] on args.
func (s *Script) Cmd(key string, args ...any) *Cmd {
	full := make([]any, 4, 5+len(args))
	full[0], full[1], full[2], full[3] = "evalsha", s.sha, 1, key
	return &Cmd{key: key, args: append(full, args...), script: s, replay: s.replay}
}

// On plans one run of s on several keys, which must share a hash tag: see [Key].
func (s *Script) On(keys []string, args ...any) *Cmd {
	full := make([]any, 3, 4+len(keys)+len(args))
	full[0], full[1], full[2] = "evalsha", s.sha, len(keys)
	for _, key := range keys {
		full = append(full, key)
	}
	return &Cmd{key: keys[0], args: append(full, args...), script: s, replay: s.replay}
}
