package ratelimit

import (
	"crypto/rand"
	_ "embed"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

//go:embed lua/admit.lua
var admitLua string

// admit carries the request's id, so a run repeated after a lost reply finds
// its own entry and counts nothing.
var admit = rdb.NewReplayableScript(admitLua)

// digestLength is how much of a key's SHA-256 names it in Redis: 128 bits, in
// base64url. Nobody meets another's count by accident below 2^64 keys.
const digestLength = 22

// redisKey names the sorted set of key's admissions. Keys are often addresses
// or user names: only their digest reaches Redis.
//
// The longest window is part of it: a limiter that keeps admissions for a minute
// would trim away what one of the same name, but with an hour, still counts.
func (l *Limiter) redisKey(key string) string {
	return rdb.Key(l.prefix, "limit", rdb.Digest(l.name, l.longest, key)[:digestLength])
}

// plan is the whole decision as one command. It does no I/O.
func (l *Limiter) plan(redisKey string) *rdb.Cmd {
	var buf [12]any // on the stack: room for five limits
	args := append(append(buf[:0], requestID()), l.tail...)
	return admit.Cmd(redisKey, args...)
}

// verdict reads the script's reply.
func (l *Limiter) verdict(reply []any) (Result, error) {
	var n [6]int64
	if len(reply) != len(n) {
		return Result{}, fmt.Errorf("%w: the script returned %d values, want %d", rdb.ErrCorrupt, len(reply), len(n))
	}
	for i, v := range reply {
		var ok bool
		if n[i], ok = v.(int64); !ok {
			return Result{}, fmt.Errorf("%w: the script returned a %T, want integers", rdb.ErrCorrupt, v)
		}
	}
	if n[1] < 0 || n[1] >= int64(len(l.limits)) {
		return Result{}, fmt.Errorf("%w: the script named limit %d of %d", rdb.ErrCorrupt, n[1], len(l.limits))
	}
	return Result{
		Allowed:    n[0] == 1,
		Limit:      l.limits[n[1]],
		Remaining:  int(n[2]),
		At:         time.UnixMicro(n[3]),
		ResetAfter: time.Duration(n[4]) * time.Microsecond,
		RetryAfter: time.Duration(n[5]) * time.Microsecond,
	}, nil
}

// processID tells this process's requests from all others'.
var processID = func() (id [8]byte) {
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
	return id
}()

var requests atomic.Uint64

// requestID is unique over all processes, and short: each admission keeps its
// id in Redis for a window.
func requestID() string {
	var buf [len(processID) + binary.MaxVarintLen64]byte
	n := copy(buf[:], processID[:])
	n += binary.PutUvarint(buf[n:], requests.Add(1))
	return string(buf[:n])
}
