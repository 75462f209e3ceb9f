package lock

import (
	"crypto/sha1"
	"encoding/hex"
	"time"
)

// Gates is how many locks somebody waits for in l.
func Gates(l *Locker) int {
	l.gates.mu.Lock()
	defer l.gates.mu.Unlock()
	return len(l.gates.m)
}

// StopTimers leaves a lease to its clock alone.
func StopTimers(l *Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expiry.Stop()
}

// Age brings the end of a lease closer.
func Age(l *Lease, d time.Duration) { l.until.Add(-int64(d)) }

// Renew is what the renewal timer calls.
func Renew(l *Lease) { l.renew() }

// IsScript reports whether a command runs the script that is so named, known to the
// server or not.
func IsScript(args []any, name string) bool {
	text := lockLua + map[string]string{
		"acquire": acquireLua, "extend": extendLua, "adopt": adoptLua, "release": releaseLua, "holder": holderLua,
	}[name]
	sum := sha1.Sum([]byte(text))
	return len(args) > 1 && (args[1] == text || args[1] == hex.EncodeToString(sum[:]))
}

// Waiting is how many calls queue behind the one that asks Redis for a lock.
func Waiting(l *Locker, key string) int {
	l.gates.mu.Lock()
	defer l.gates.mu.Unlock()
	if g := l.gates.m[l.redisKey(key)]; g != nil {
		return len(g.queue)
	}
	return -1
}
