package ratelimit

import (
	"crypto/rand"
	"embed"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-weir/weir/internal/rdb"
)

//go:embed lua/*.lua
var lua embed.FS

// features are the keys that a limiter has use for. Its scripts have the parts
// for those, and no others.
type features uint8

const (
	hasLog    features = 1 << iota // sliding windows
	hasSmooth                      // even rates
	hasFlight                      // requests in flight
	hasBan
)

// keyParts are the keys in Redis of one key of a limiter, in the order in which
// scripts get them, with the names they have there.
var keyParts = []struct {
	feature features
	name    string
	part    string // behind the base; none for the log
}{
	{hasLog, "log", ""},
	{hasSmooth, "smooth", "smooth"},
	{hasFlight, "flight", "flight"},
	{hasBan, "ban", "ban"},
	{hasBan, "strikes", "strikes"},
}

// scripts are a limiter's, by its features.
type scripts struct {
	admit, refund, restore *rdb.Script
}

// scriptsOf makes the scripts for some features, once.
func scriptsOf(f features) *scripts {
	allScripts.Lock()
	defer allScripts.Unlock()
	s := allScripts.m[f]
	if s == nil {
		admit := []string{"request"}
		for _, p := range []struct {
			feature features
			files   []string
		}{
			{hasLog, []string{"log", "sliding"}},
			{hasSmooth, []string{"smooth"}},
			{hasFlight, []string{"atonce"}},
			{hasBan, []string{"ban"}},
		} {
			if f&p.feature != 0 {
				admit = append(admit, p.files...)
			}
		}
		s = &scripts{
			// Each carries ids, by which a second run finds what the first has done.
			admit:   rdb.NewReplayableScript(assemble(f, append(admit, "admit")...)),
			refund:  rdb.NewReplayableScript(assemble(f, "log", "refund")),
			restore: rdb.NewReplayableScript(assemble(f, "log", "restore")),
		}
		allScripts.m[f] = s
	}
	return s
}

var allScripts = struct {
	sync.Mutex
	m map[features]*scripts
}{m: make(map[features]*scripts)}

// renew and forbid have one key each.
var (
	renew  = rdb.NewReplayableScript(read("prelude") + read("renew"))
	forbid = rdb.NewReplayableScript(read("prelude") + read("forbid"))
)

// assemble puts a script together: the prelude, names for its keys, the parts.
func assemble(f features, parts ...string) string {
	var b strings.Builder
	b.WriteString(read("prelude"))
	n := 0
	for _, k := range keyParts {
		if f&k.feature != 0 {
			n++
			fmt.Fprintf(&b, "local %s = KEYS[%d]\n", k.name, n)
		} else {
			fmt.Fprintf(&b, "local %s = nil\n", k.name)
		}
	}
	for _, p := range parts {
		b.WriteString(read(p))
	}
	return b.String()
}

func read(name string) string {
	text, err := lua.ReadFile("lua/" + name + ".lua")
	if err != nil { // it is embedded
		panic(err)
	}
	return string(text)
}

// digestLength is how much of a key's SHA-256 names it in Redis: 128 bits, in
// base64url. Nobody meets another's count by accident below 2^64 keys.
const digestLength = 22

// base names the key's log in Redis, and begins the names of its other keys. Keys
// are often addresses or user names: only their digest reaches Redis.
//
// The longest window is part of it: a limiter that keeps admissions for a minute
// would trim away what one of the same name, but with an hour, still counts.
func (e *engine) base(key string) string {
	return rdb.Key(e.prefix, "limit", rdb.Digest(e.name, e.longest, key)[:digestLength])
}

// keys are the keys in Redis that f has use for.
func (f features) keys(base string) []string {
	if f == hasLog {
		return []string{base}
	}
	keys := make([]string, 0, len(keyParts))
	for _, k := range keyParts {
		switch {
		case f&k.feature == 0:
		case k.part == "":
			keys = append(keys, base)
		default:
			keys = append(keys, base+":"+k.part)
		}
	}
	return keys
}

// processID tells this process's requests from all others'.
var processID = func() string {
	var id [6]byte
	_, _ = rand.Read(id[:]) // crypto/rand.Read never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}()

var requests atomic.Uint64

// requestID is unique over all processes, and short: each admission keeps its
// id in Redis for a window. It holds base64url's characters only, as scripts put
// it between others.
func requestID() string {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var buf [8 + 11]byte
	n := copy(buf[:], processID)
	for counter := requests.Add(1); counter > 0; counter >>= 6 {
		buf[n] = digits[counter&63]
		n++
	}
	return string(buf[:n])
}
