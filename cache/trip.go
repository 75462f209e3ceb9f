package cache

import (
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"strconv"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	//go:embed lua/data.lua
	dataLua string
	//go:embed lua/fresh.lua
	freshLua string
	//go:embed lua/ask.lua
	askLua string
	//go:embed lua/fill.lua
	fillLua string
	//go:embed lua/set.lua
	setLua string
	//go:embed lua/drop.lua
	dropLua string
	//go:embed lua/yield.lua
	yieldLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/intend.lua
	intendLua string
	//go:embed lua/finish.lua
	finishLua string
	//go:embed lua/untag.lua
	untagLua string
	//go:embed lua/clear.lua
	clearLua string
	//go:embed lua/pulse.lua
	pulseLua string
	//go:embed lua/find.lua
	findLua string
	//go:embed lua/keep.lua
	keepLua string
	//go:embed lua/purge.lua
	purgeLua string
	//go:embed lua/pass.lua
	passLua string
	//go:embed lua/body.lua
	bodyLua string
	//go:embed lua/hold.lua
	holdLua string
)

// Those that may run twice for one call: they answer by their token as before, or do
// once more what an invalidation that is not yet acknowledged may do at any time.
// fill and finish end the lease by which they would be known.
var (
	askScript    = rdb.NewReplayableScript(freshLua + dataLua + askLua)
	fillScript   = rdb.NewScript(dataLua + fillLua)
	setScript    = rdb.NewReplayableScript(dataLua + setLua)
	dropScript   = rdb.NewReplayableScript(dataLua + dropLua)
	yieldScript  = rdb.NewReplayableScript(dataLua + yieldLua)
	renewScript  = rdb.NewReplayableScript(dataLua + renewLua)
	intendScript = rdb.NewReplayableScript(dataLua + intendLua)
	finishScript = rdb.NewScript(dataLua + finishLua)
	untagScript  = rdb.NewReplayableScript(dataLua + untagLua)
	clearScript  = rdb.NewReplayableScript(dataLua + clearLua)
	pulseScript  = rdb.NewReplayableScript(dataLua + pulseLua)
	findScript   = rdb.NewReplayableScript(dataLua + bodyLua + findLua)
	keepScript   = rdb.NewReplayableScript(dataLua + bodyLua + keepLua)
	purgeScript  = rdb.NewReplayableScript(dataLua + purgeLua)
	passScript   = rdb.NewReplayableScript(dataLua + passLua)
	holdScript   = rdb.NewReplayableScript(dataLua + bodyLua + holdLua)
)

// verdict is what ask.lua says.
type verdict int64

const (
	missing verdict = iota // and nobody was asked to load it
	fresh
	yours   // to load
	theirs  // to wait for
	refresh // fresh, and yours to load again
	writing // to load without storing
	cooling // a load has failed lately, and a stale value stands in
	passing // it could not be kept lately: nobody waits for it
	renamed // variants are told apart by other names
)

// answer is the reply of ask.lua.
type answer struct {
	verdict verdict
	state   state
	now     int64 // ms of Redis TIME
	found   bool
	expired bool // it was made stale
	entry   entry
	first   string        // the body beside the entry, or the first chunk
	along   bool          // if it came along
	left    time.Duration // of somebody else's lease
	size    int           // of the entry's text
	sent    int64         // when it was asked, on the clock of monotonic
}

// state is a shard's: its epoch and the number of its last write.
type state struct {
	epoch string
	n     uint64
}

// newToken names a lease, or a new epoch.
func newToken() string { return rand.Text() }

// earliness is a random factor: an entry is refreshed by so many times its cost before
// its end.
func earliness(beta float64) float64 {
	if beta == 0 {
		return 0
	}
	return -beta * math.Log(1-mathrand.Float64())
}

// drawn is how long before its end the near tier's copy of an entry ends, so that Redis
// is asked whether it should be refreshed.
func drawn(beta float64, cost time.Duration) time.Duration {
	return time.Duration(earliness(beta) * float64(cost))
}

// decimal is an earliness as scripts read it.
func decimal(factor float64) string {
	if factor == 0 {
		return "0" // as mostly, and without an allocation
	}
	return strconv.FormatFloat(factor, 'f', 3, 64)
}

// askCmd plans to read p, and with a token to take its lease if need be. damaged is
// the put of an entry that does not decode.
func askCmd(p *place, set *settings, token, damaged string) *rdb.Cmd {
	if token == "" {
		return askScript.On(p.keys(), p.name, "", 0, "0", "")
	}
	return askScript.On(p.keys(), p.name, token, set.lease.Milliseconds(), decimal(earliness(set.early)), damaged)
}

// ask reads p: see askCmd.
func (s *Store) ask(ctx context.Context, p *place, set *settings, token, damaged string) (answer, error) {
	sent := monotonic()
	cmd := askCmd(p, set, token, damaged)
	if err := s.conn.Exec(ctx, cmd); err != nil {
		return answer{}, err
	}
	return parseAnswer(cmd.Slice(), sent)
}

func parseAnswer(reply []any, sent int64) (a answer, err error) {
	a.sent = sent
	if len(reply) != 6 {
		return a, errReply
	}
	v, ok1 := reply[0].(int64)
	now, ok2 := reply[1].(int64)
	n, ok3 := reply[2].(int64)
	epoch, ok4 := reply[3].(string)
	left, ok5 := reply[5].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || v < 0 || verdict(v) > renamed {
		return a, errReply
	}
	a.verdict, a.now, a.state, a.left = verdict(v), now, state{epoch, uint64(n)}, time.Duration(left)*time.Millisecond
	if text, ok := reply[4].(string); ok {
		if a.entry, err = parseEntry(text); err != nil {
			return a, fmt.Errorf("%w: an entry: %w", ErrCorrupt, err)
		}
		a.found, a.size = true, len(text)
		if epoch == "" {
			a.state.epoch = a.entry.epoch // what is served has the shard's: fresh.lua
		}
	}
	return a, nil
}

var errReply = fmt.Errorf("%w: a script's reply is not of this version", ErrCorrupt)

// outcome is the reply of the scripts that write.
type outcome struct {
	done  bool
	state state
	sent  int64 // when the script was sent, on the clock of monotonic
}

func parseOutcome(reply []any, sent int64) (o outcome, err error) {
	if len(reply) == 1 {
		return outcome{}, nil // fill.lua, not stored
	}
	if len(reply) != 3 {
		return o, errReply
	}
	done, ok1 := reply[0].(int64)
	n, ok2 := reply[1].(int64)
	epoch, ok3 := reply[2].(string)
	if !ok1 || !ok2 || !ok3 {
		return o, errReply
	}
	return outcome{done == 1, state{epoch, uint64(n)}, sent}, nil
}

// write runs a plan whose script replies as parseOutcome reads it.
func (s *Store) write(ctx context.Context, cmd *rdb.Cmd) (outcome, error) {
	sent := monotonic()
	if err := s.conn.Exec(ctx, cmd); err != nil {
		return outcome{}, err
	}
	return parseOutcome(cmd.Slice(), sent)
}

// keeping is what is to be stored, ready to be sent.
type keeping struct {
	ttl, keep time.Duration
	cost      time.Duration
	early     time.Duration // by which the near tier's copy ends earlier, for WithEarlyRefresh
	flags     string
	tags      []string
	data      []byte
}

// args are those of fill.lua and its kin from the third on.
func (k *keeping) args(name, token string) []any {
	return []any{name, token, k.ttl.Milliseconds(), k.keep.Milliseconds(), k.cost.Milliseconds(), k.flags, tagNames(k.tags), k.data}
}

// keeping prepares data, which was encoded by set's codec, or is nil for what the
// source does not have.
func (set *settings) keeping(data []byte, absent bool, n *notes, cost time.Duration) (*keeping, error) {
	k := &keeping{cost: cost, tags: set.tags, ttl: set.ttl}
	if absent {
		k.flags, k.ttl = flagAbsent, set.negative
	} else if len(data) > set.maxBytes {
		return nil, fmt.Errorf("%w: the value takes %d bytes: at most %d are stored, see WithMaxBytes", ErrConfig, len(data), set.maxBytes)
	} else {
		k.data, k.flags = pack(data, set.compress)
	}
	if n != nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.err != nil {
			return nil, n.err
		}
		if n.ttl > 0 {
			k.ttl = n.ttl
		}
		if len(n.tags) > 0 {
			k.tags = append(append([]string(nil), k.tags...), n.tags...)
			if err := checkTags(k.tags); err != nil {
				n.err = fmt.Errorf("%w: %w", ErrConfig, err)
				return nil, n.err
			}
		}
	}
	k.ttl -= time.Duration(mathrand.Float64() * set.jitter * float64(k.ttl))
	k.ttl = max(k.ttl, minTTL)
	k.keep, k.early = k.ttl, drawn(set.early, cost)
	if !absent {
		k.keep += set.stale
	}
	return k, nil
}

// started anchors the process's own clock, which no correction moves.
var started = time.Now()

func monotonic() int64 { return int64(time.Since(started)) }
