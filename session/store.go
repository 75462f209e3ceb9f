package session

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

var (
	//go:embed lua/create.lua
	createText string
	//go:embed lua/swap.lua
	swapText string
	//go:embed lua/end.lua
	endText string
	//go:embed lua/put.lua
	putText string
	//go:embed lua/touch.lua
	touchText string

	createScript = rdb.NewReplayableScript(createText)
	swapScript   = rdb.NewReplayableScript(swapText)
	endScript    = rdb.NewReplayableScript(endText)
	// swapOnceScript is not sent again when its connection breaks.
	swapOnceScript = rdb.NewScript(swapText)
	putScript      = rdb.NewReplayableScript(putText)
	touchScript    = rdb.NewReplayableScript(touchText)
)

// defaultPrefix is that of scs/redisstore and scs/goredisstore, whose sessions a
// Store reads and which read a Store's: the value is the codec's bytes as they
// are.
const defaultPrefix = "scs:session"

// Store keeps sessions in Redis for any scs.SessionManager: it is an scs.Store,
// CtxStore, IterableStore and IterableCtxStore on the injected client, be it of a
// single server, a Sentinel or a Cluster. Keys and bytes are those of scs/redisstore
// and scs/goredisstore.
//
// A [Manager] has one inside, and promises more than scs can on any store: see the
// package's page.
//
// When Redis is silent its calls return ErrUnavailable, within the budget (50 ms,
// [WithTimeout]). The methods without a context are those with one that never ends.
// It is safe for concurrent use. No key it writes is without expiry.
type Store struct {
	conn   *rdb.Conn
	prefix string
	ring   *ring // nil: not encrypted
	plain  bool  // what is not encrypted is accepted, too
	grace  time.Duration
}

// NewStore returns a Store on the client. It does no I/O. Of the options it takes
// [WithPrefix], [WithTimeout], [WithEncryption] and [WithInsecurePlaintext]; the others are a manager's, and
// refused.
//
// Its errors are of kind ErrConfig, all mistakes joined.
func NewStore(client redis.UniversalClient, options ...Option) (*Store, error) {
	cfg, mistakes := configure(options)
	for _, name := range cfg.given {
		switch name {
		case "WithPrefix", "WithTimeout", "WithEncryption", "WithInsecurePlaintext":
		default:
			mistakes = append(mistakes, fmt.Errorf("%s: configures a Manager, not a Store: give it to session.New, or set what it says on your scs.SessionManager", name))
		}
	}
	conn, err := rdb.Open(client, cfg.budget)
	if err := rdb.Misconfigured("session.NewStore", append(mistakes, err)...); err != nil {
		return nil, err
	}
	return newStore(conn, cfg), nil
}

func newStore(conn *rdb.Conn, cfg *config) *Store {
	return &Store{conn: conn, prefix: cfg.prefix + ":", ring: cfg.ring, plain: cfg.plainData, grace: graceOf(cfg.budget)}
}

// FindCtx returns the data stored for token; found is false when there is none.
// It is one round trip. A key of another type, or data that does not decrypt, is
// ErrCorrupt.
func (s *Store) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	f, err := s.find(ctx, token)
	if err != nil || f.kind != live {
		return nil, false, err
	}
	return f.data, true, nil
}

// CommitCtx stores data for token until expiry. An expiry in the past deletes.
func (s *Store) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	life := time.Until(expiry)
	if life < time.Millisecond {
		return s.DeleteCtx(ctx, token)
	}
	stored, err := s.stored(token, value{data: data})
	if err != nil {
		return err
	}
	key := s.prefix + token
	return s.exec(ctx, "commit", rdb.NewCmd(key, "set", key, stored, "px", ms(life)).Replayable())
}

// DeleteCtx removes what is stored for token, if anything.
func (s *Store) DeleteCtx(ctx context.Context, token string) error {
	key := s.prefix + token
	return s.exec(ctx, "delete", rdb.NewCmd(key, "del", key).Replayable())
}

// AllCtx returns the data of all sessions by their tokens: it walks the keys with
// SCAN, on a Cluster those of every master, and fetches them in batches. Each step
// takes at most the budget. What cannot be decrypted, or is of another type, is left
// out, as is what ended meanwhile.
func (s *Store) AllCtx(ctx context.Context) (map[string][]byte, error) {
	all := make(map[string][]byte)
	err := s.all(ctx, func(names []string, data [][]byte) error {
		for i, name := range names {
			all[name] = data[i]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Find is FindCtx without a context.
func (s *Store) Find(token string) (data []byte, found bool, err error) {
	return s.FindCtx(context.Background(), token)
}

// Commit is CommitCtx without a context.
func (s *Store) Commit(token string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expiry)
}

// Delete is DeleteCtx without a context.
func (s *Store) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// All is AllCtx without a context.
func (s *Store) All() (map[string][]byte, error) { return s.AllCtx(context.Background()) }

func (s *Store) find(ctx context.Context, name string, with ...*rdb.Cmd) (found, error) {
	get, ttl := s.look(name)
	if err := s.exec(ctx, "find", append([]*rdb.Cmd{get, ttl}, with...)...); err != nil {
		return found{}, err
	}
	stored, ok := get.Text()
	if !ok {
		return found{}, nil
	}
	f, err := s.read(name, stored)
	f.left = time.Duration(ttl.Int()) * time.Millisecond
	return f, err
}

// look plans a find.
func (s *Store) look(name string) (get, ttl *rdb.Cmd) {
	key := s.prefix + name
	return rdb.NewCmd(key, "get", key).Replayable(), rdb.NewCmd(key, "pttl", key).Replayable()
}

// read takes apart what Redis holds under a name.
func (s *Store) read(name, stored string) (found, error) {
	k, nonce := parseMark(stored)
	f := found{kind: k, nonce: nonce, stored: stored}
	if k != live {
		return f, nil
	}
	if s.ring == nil || s.plain && !isSealed(stored) {
		f.data = []byte(stored)
		return f, nil
	}
	data, err := s.ring.open([]byte(stored), s.prefix+name)
	if err != nil {
		return found{}, fmt.Errorf("session: find: %w", err)
	}
	f.data = data
	return f, nil
}

// isSealed reports whether a record looks like one that was encrypted.
func isSealed(stored string) bool { return stored != "" && stored[0] == sealMagic }

// stored makes what Redis is to hold.
func (s *Store) stored(name string, v value) (string, error) {
	switch {
	case v.mark != "":
		return v.mark, nil
	case s.ring == nil:
		return string(v.data), nil
	}
	sealed, err := s.ring.seal(v.data, s.prefix+name)
	if err != nil {
		return "", fmt.Errorf("session: encrypt: %w", err)
	}
	return string(sealed), nil
}

func (s *Store) create(ctx context.Context, name string, data []byte, life time.Duration) (found, error) {
	stored, err := s.stored(name, value{data: data})
	if err != nil {
		return found{}, err
	}
	cmd := createScript.Cmd(s.prefix+name, stored, ms(life))
	if err := s.exec(ctx, "create", cmd); err != nil {
		return found{}, err
	}
	if cmd.Int() == 0 {
		return found{}, ErrEnded
	}
	return found{kind: live, data: data, stored: stored, left: life}, nil
}

func (s *Store) put(ctx context.Context, name string, data []byte, life time.Duration) (ok bool, err error) {
	stored, err := s.stored(name, value{data: data})
	if err != nil {
		return false, err
	}
	cmd := putScript.Cmd(s.prefix+name, stored, ms(life), markHead)
	if err := s.exec(ctx, "commit", cmd); err != nil {
		return false, err
	}
	return cmd.Int() == 1, nil
}

func (s *Store) swap(ctx context.Context, name, was string, next value, with ...*rdb.Cmd) (ok bool, now found, err error) {
	stored, err := s.stored(name, next)
	if err != nil {
		return false, found{}, err
	}
	cmd := swapScript.Cmd(s.prefix+name, versionOf(was), stored, ms(next.life)).Again(1)
	switch {
	case next.mark != "":
		cmd = endScript.Cmd(s.prefix+name, versionOf(was), stored, ms(next.life)).Again(1)
	case next.once:
		cmd = swapOnceScript.Cmd(s.prefix+name, versionOf(was), stored, ms(next.life))
	}
	if err := s.exec(ctx, "commit", append([]*rdb.Cmd{cmd}, with...)...); err != nil {
		return false, found{}, err
	}
	if other, differs := cmd.Text(); differs {
		now, err = s.read(name, other)
		return false, now, err
	}
	if cmd.Int() == 0 {
		return false, found{}, nil
	}
	return true, found{kind: live, data: next.data, stored: stored, left: next.life}, nil
}

func (s *Store) mark(ctx context.Context, names []string, mark string) error {
	cmds := make([]*rdb.Cmd, len(names))
	for i, name := range names {
		cmds[i] = endScript.Cmd(s.prefix+name, "", mark, ms(s.grace))
	}
	return s.exec(ctx, "end", cmds...)
}

func (s *Store) touch(ctx context.Context, name string, _ found, life time.Duration, with ...*rdb.Cmd) error {
	return s.exec(ctx, "touch", append([]*rdb.Cmd{touchScript.Cmd(s.prefix+name, ms(life), markHead)}, with...)...)
}

// perBatch is how many sessions one pipeline fetches.
const perBatch = 100

func (s *Store) all(ctx context.Context, each func(names []string, data [][]byte) error) error {
	var own error
	err := s.conn.Scan(ctx, rdb.Pattern(s.prefix), func(keys []string) error {
		for len(keys) > 0 && own == nil {
			n := min(len(keys), perBatch)
			own = s.fetch(ctx, keys[:n], each)
			keys = keys[n:]
		}
		return own
	})
	if own != nil {
		return own
	}
	return s.fail(ctx, "iterate", err)
}

func (s *Store) fetch(ctx context.Context, keys []string, each func(names []string, data [][]byte) error) error {
	cmds := make([]*rdb.Cmd, len(keys))
	for i, key := range keys {
		cmds[i] = rdb.NewCmd(key, "get", key).Replayable()
	}
	if err := s.conn.Exec(ctx, cmds...); err != nil && !isCorrupt(err) {
		return s.fail(ctx, "iterate", err)
	}
	var names []string
	var data [][]byte
	for i, cmd := range cmds {
		if err := cmd.Err(); err != nil && !isCorrupt(err) {
			return s.fail(ctx, "iterate", err)
		}
		stored, ok := cmd.Text()
		if !ok {
			continue // ended meanwhile, or no session
		}
		name := strings.TrimPrefix(keys[i], s.prefix)
		if f, err := s.read(name, stored); err == nil && f.kind == live {
			names, data = append(names, name), append(data, f.data)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return each(names, data)
}

func (s *Store) exec(ctx context.Context, what string, cmds ...*rdb.Cmd) error {
	return s.fail(ctx, what, s.conn.Exec(ctx, cmds...))
}

func (s *Store) fail(ctx context.Context, what string, err error) error {
	if err == nil || err == ctx.Err() { // the caller's own end passes as it is
		return err
	}
	rdb.Remember(ctx, err) // a Visit's context has the memory; others keep none
	return fmt.Errorf("session: %s: %w", what, err)
}

// ms is a duration in the milliseconds that Redis counts in, at least one. It is a
// duration, not an instant, that goes to Redis, whose clock may be another.
func ms(d time.Duration) int64 { return max(d.Milliseconds(), 1) }
