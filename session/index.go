package session

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	//go:embed lua/index.lua
	indexLua string
	//go:embed lua/add.lua
	addLua string
	//go:embed lua/renew.lua
	renewLua string
	//go:embed lua/remove.lua
	removeLua string
	//go:embed lua/clear.lua
	clearLua string
	//go:embed lua/list.lua
	listLua string
	//go:embed lua/since.lua
	sinceLua string
)

// All may run twice for one call: renew writes the same again, list reads, and the
// others find what their first run has done.
var (
	addScript    = rdb.NewReplayableScript(indexLua + addLua)
	renewScript  = rdb.NewReplayableScript(indexLua + renewLua)
	removeScript = rdb.NewReplayableScript(indexLua + removeLua)
	clearScript  = rdb.NewReplayableScript(indexLua + clearLua)
	listScript   = rdb.NewReplayableScript(indexLua + listLua)
	sinceScript  = rdb.NewReplayableScript(sinceLua)
)

const (
	// markLife is how long an end of all sessions is remembered, for the logins
	// that were under way.
	markLife = time.Hour

	// maxAge is the age from which a login may have begun before a mark that has
	// expired. It is less than markLife, as TIME and expiry read the clock at
	// instants that differ.
	maxAge = markLife - time.Minute

	// pageSize is how many entries one command walks, in one to three milliseconds.
	pageSize = 500
)

var (
	// errBeaten says that all sessions of the user were ended after the login
	// began, which is thereby void.
	errBeaten = errors.New("session: all sessions of the user were ended while the login was under way")

	// errTooMany says that the user has as many sessions as allowed.
	errTooMany = errors.New("session: the user has as many sessions as allowed")
)

// index knows which sessions of each user are alive: a session that is bound to a
// user is alive if and only if its id is in that user's index. Each change of it is
// one script on one slot, so it is exact under any parallelism. What a session
// holds lies elsewhere; its owner cleans up what the index returns as ended.
//
// A user is named by a tag, see [index.tag]. Ids are the caller's: 16 characters of
// base64url, each used for one add. A blob is opaque, and must not be changed after
// the call. All instants are Redis's, to the millisecond.
//
// Errors are those of [rdb.Conn.Exec], unwrapped. ErrUnavailable does not mean that
// nothing was done. ErrCorrupt, a key of another type, does.
//
//	weir:session-user:{tag}:ids         sorted set  until the last entry's time
//	weir:session-user:{tag}:info        hash        the same
//	weir:session-user:{tag}:ended       string      1 h
//	weir:session-user:{tag}:gone:batch  hash        until drained, at most 1 h
//	weir:session-user:{tag}:gone:id     hash        1 min, for a second run of the call
//
// Redis's eviction may take one of ids and info. Without ids all sessions have
// ended. Without info they live, but are not listed until their next touch, and
// count as created then, or as the oldest when one has to go.
//
// An index is safe for concurrent use.
type index struct {
	conn   *rdb.Conn
	prefix string // the manager's for its sessions, to keep tenants apart
	limit  int    // how many sessions of a user may be alive; 0 for any number
	refuse bool   // rather than evict
}

// entry is what the index knows of a session.
type entry struct {
	id            string
	created, seen time.Time // zero if the info was lost
	expires       time.Time // when it may be forgotten; zero if that is not known any more
	blob          []byte
}

// tag is what a user is called in Redis, where names are not to be read: 128 bits of
// a SHA-256. Nobody meets another's sessions by accident below 2^64 users. user may be
// any bytes.
func (x *index) tag(user string) string {
	return rdb.Digest("session-user", x.prefix, user)[:tagLen]
}

func (x *index) key(tag string, parts ...string) string {
	return rdb.Key("weir", "session-user", tag, parts...)
}

// alive plans the question whether a session is alive; see [index.present].
func (x *index) alive(tag, id string) *rdb.Cmd {
	key := x.key(tag, "ids")
	return rdb.NewCmd(key, "zscore", key, id).Replayable()
}

// present is alive's answer. It means nothing while cmd.Err is not nil.
func (x *index) present(cmd *rdb.Cmd) bool { return cmd.Val() != nil }

// add makes a session alive for life, at least 1 ms, and returns those which ended
// to make room: the ones created first. age is how long ago the login began, when add
// is called.
//
// The error is errBeaten when all sessions were ended since the login began, or
// that is not known as it began an hour ago; and errTooMany when the user has
// enough. after names a removeAll that does not count: the login's own.
//
// Redis does not see when the login began, only how long before the call reached it,
// or shortly before that. lead is how long after the last removeAll it began at most,
// or -1 if there was none. If that is no longer than the call took, it may have begun
// before: see [index.since].
//
// Adding an id again that is alive renews it, and evicts nobody.
func (x *index) add(ctx context.Context, tag, id string, blob []byte, life, age time.Duration, after string) (evicted []entry, lead time.Duration, err error) {
	if age >= maxAge {
		return nil, 0, errBeaten
	}
	refuse := 0
	if x.refuse {
		refuse = 1
	}
	keys := []string{x.key(tag, "ids"), x.key(tag, "info"), x.key(tag, "ended"), x.key(tag, "gone", id)}
	// Rounded up: no login seems to have begun later than it did.
	began := max(0, age+time.Microsecond-1).Microseconds()
	cmd := addScript.On(keys, id, blob, ms(life), began, x.limit, refuse, after).Again("again")
	if err := x.conn.Exec(ctx, cmd); err != nil {
		return nil, 0, err
	}
	reply := cmd.Slice()
	if len(reply) == 0 {
		return nil, 0, errReply(cmd)
	}
	switch reply[0] {
	case int64(-1):
		return nil, 0, errBeaten
	case int64(0):
		return nil, 0, errTooMany
	}
	if len(reply) < 2 {
		return nil, 0, errReply(cmd)
	}
	lead = -1
	if text, _ := reply[1].(string); text != "" {
		µs, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, 0, errReply(cmd)
		}
		lead = time.Duration(µs) * time.Microsecond
	}
	return entriesOf(reply[2:]), lead, nil
}

// since is how long ago a user's sessions were all ended, or -1 if that is an hour
// ago or never was.
func (x *index) since(ctx context.Context, tag string) (time.Duration, error) {
	cmd := sinceScript.Cmd(x.key(tag, "ended"))
	if err := x.conn.Exec(ctx, cmd); err != nil {
		return 0, err
	}
	if cmd.Int() < 0 {
		return -1, nil
	}
	return time.Duration(cmd.Int()) * time.Microsecond, nil
}

// renew gives a session a new blob, and life from now on; it counts as seen now. ok
// is false, and nothing changed, if it is not alive.
func (x *index) renew(ctx context.Context, tag, id string, blob []byte, life time.Duration) (ok bool, err error) {
	cmd := x.touch(tag, id, blob, life)
	if err := x.conn.Exec(ctx, cmd); err != nil {
		return false, err
	}
	return cmd.Int() == 1, nil
}

// touch is the plan of a renew, to be sent together with other commands. Its reply
// is 1, or 0 if the session is not alive.
func (x *index) touch(tag, id string, blob []byte, life time.Duration) *rdb.Cmd {
	return renewScript.On([]string{x.key(tag, "ids"), x.key(tag, "info")}, id, blob, ms(life))
}

// remove ends a session and returns what it was; ok is false if it was not alive.
// It works when Redis is out of memory.
func (x *index) remove(ctx context.Context, tag, id string) (e entry, ok bool, err error) {
	keys := []string{x.key(tag, "ids"), x.key(tag, "info"), x.key(tag, "gone", id)}
	cmd := removeScript.On(keys, id).Again("again")
	if err := x.conn.Exec(ctx, cmd); err != nil {
		return entry{}, false, err
	}
	entries := entriesOf(cmd.Slice())
	if len(entries) == 0 {
		return entry{}, false, nil
	}
	return entries[0], true, nil
}

// removeAll ends all sessions of a user but keep, which may be "", and every login
// that began before. The cost does not depend on how many there are. batch names
// the call, and what they were, for [index.drain]; some is false if there was nothing.
// It works when Redis is out of memory.
func (x *index) removeAll(ctx context.Context, tag, keep string) (batch string, some bool, err error) {
	batch = newID()
	keys := []string{x.key(tag, "ids"), x.key(tag, "info"), x.key(tag, "ended"), x.key(tag, "gone", batch)}
	cmd := clearScript.On(keys, batch, keep, markLife.Milliseconds()).Again("again")
	if err := x.conn.Exec(ctx, cmd); err != nil {
		return "", false, err
	}
	return batch, cmd.Int() == 1, nil
}

// drain hands out what a removeAll has ended, some hundred at a time, and then
// deletes it from Redis. An entry may come twice, and has no time of expiry. When
// each returns an error drain returns it, and may be called again from the start,
// within an hour of the removeAll.
func (x *index) drain(ctx context.Context, tag, batch string, each func([]entry) error) error {
	key := x.key(tag, "gone", batch)
	for cursor := "0"; ; {
		cmd := rdb.NewCmd(key, "hscan", key, cursor, "count", pageSize).Replayable()
		if err := x.conn.Exec(ctx, cmd); err != nil {
			return err
		}
		reply := cmd.Slice()
		if len(reply) != 2 {
			return errReply(cmd)
		}
		pairs, _ := reply[1].([]any)
		entries := make([]entry, 0, len(pairs)/2)
		for i := 0; i+1 < len(pairs); i += 2 {
			entries = append(entries, entryOf(pairs[i], "", pairs[i+1]))
		}
		if len(entries) > 0 {
			if err := each(entries); err != nil {
				return err
			}
		}
		if cursor, _ = reply[0].(string); cursor == "0" || cursor == "" {
			break
		}
	}
	return x.conn.Exec(ctx, rdb.NewCmd(key, "unlink", key).Replayable())
}

// list returns a user's sessions, the last created first, but none that is past its
// time; of those it purges some. It takes a round trip for each few hundred. Sessions
// that begin or end meanwhile may be in it or not.
func (x *index) list(ctx context.Context, tag string) ([]entry, error) {
	keys := []string{x.key(tag, "ids"), x.key(tag, "info")}
	var entries []entry
	for cursor := "0"; ; {
		cmd := listScript.On(keys, cursor, pageSize)
		if err := x.conn.Exec(ctx, cmd); err != nil {
			return nil, err
		}
		reply := cmd.Slice()
		if len(reply) == 0 {
			return nil, errReply(cmd)
		}
		entries = append(entries, entriesOf(reply[1:])...)
		if cursor, _ = reply[0].(string); cursor == "0" || cursor == "" {
			break
		}
	}
	return newestFirst(entries), nil
}

// newestFirst sorts what a walk has met, some of it twice and perhaps renewed in
// between: then the later one counts. The last is the one that would be evicted.
func newestFirst(entries []entry) []entry {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(b.created.Compare(a.created), strings.Compare(b.id, a.id), b.expires.Compare(a.expires))
	})
	return slices.CompactFunc(entries, func(a, b entry) bool { return a.id == b.id })
}

// entriesOf reads id, score and info of each entry from a script's reply.
func entriesOf(reply []any) []entry {
	if len(reply) == 0 {
		return nil
	}
	entries := make([]entry, 0, len(reply)/3)
	for i := 0; i+2 < len(reply); i += 3 {
		entries = append(entries, entryOf(reply[i], reply[i+1], reply[i+2]))
	}
	return entries
}

// entryOf reads one entry. Info that is not ours is taken for lost: that a session
// lives or has ended is true without it.
func entryOf(id, score, info any) entry {
	var e entry
	e.id, _ = id.(string)
	if s, _ := score.(string); s != "" {
		e.expires, _ = instant(s)
	}
	text, _ := info.(string)
	created, rest, _ := strings.Cut(text, ".")
	seen, blob, ok := strings.Cut(rest, ".")
	c, ok1 := instant(created)
	s, ok2 := instant(seen)
	if ok && ok1 && ok2 {
		e.created, e.seen, e.blob = c, s, []byte(blob)
	}
	return e
}

func instant(ms string) (t time.Time, ok bool) {
	n, err := strconv.ParseInt(ms, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	return time.UnixMilli(n), true
}

func errReply(cmd *rdb.Cmd) error {
	return fmt.Errorf("%w: the index's reply is %T", ErrCorrupt, cmd.Val())
}
