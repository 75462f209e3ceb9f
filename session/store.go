package session

import (
	"context"
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// defaultPrefix is that of scs/redisstore and scs/goredisstore, whose sessions a
// Store reads and which read a Store's: the value is the codec's bytes as they
// are.
const defaultPrefix = "scs:session"

// Store keeps sessions for scs: it is an scs.Store and scs.CtxStore on the
// injected client.
//
// Its calls take at most the manager's budget and return ErrUnavailable when
// Redis is silent. It is safe for concurrent use. No key it writes is without
// expiry.
//
// What it calls a token is the name scs gives it for the token: its SHA-256.
type Store struct {
	conn   *rdb.Conn
	prefix string
	idle   time.Duration
}

func (s *Store) key(token string) string { return s.prefix + ":" + token }

// FindCtx returns the data stored for token; found is false when there is none.
// It is one round trip. A key of another type is ErrCorrupt.
func (s *Store) FindCtx(ctx context.Context, token string) (data []byte, found bool, err error) {
	l, _ := ctx.Value(loadingKey{}).(*loading)
	if l != nil && l.again != nil {
		return l.again, true, nil
	}
	get := rdb.NewCmd(s.key(token), "get", s.key(token)).Replayable()
	ttl := rdb.NewCmd(s.key(token), "pttl", s.key(token)).Replayable()
	if err := s.conn.Exec(ctx, get, ttl); err != nil {
		return nil, false, s.fail(ctx, "find", err)
	}
	text, found := get.Text()
	if !found {
		return nil, false, nil
	}
	if l != nil {
		l.record.note(token, time.Duration(ttl.Int())*time.Millisecond, nil)
	}
	return []byte(text), true, nil
}

// CommitCtx stores data for token until expiry, or until the idle timeout if
// that is earlier. An expiry in the past deletes. Within a request that loaded
// the session, a session that is gone meanwhile (logout, expiry) stays gone.
func (s *Store) CommitCtx(ctx context.Context, token string, data []byte, expiry time.Time) error {
	v := s.visitOf(ctx)
	left := s.left(expiry)
	if left < time.Millisecond {
		if err := s.DeleteCtx(ctx, token); err != nil || v == nil {
			return err
		}
		return errEnded
	}
	args := []any{"set", s.key(token), data, "px", left.Milliseconds()}
	known := v != nil && v.record.is(token)
	if known {
		// XX is what keeps an ended session dead: without it a request that was
		// under way during a logout would write the session back.
		args = append(args, "xx")
	}
	cmd := rdb.NewCmd(s.key(token), args...).Replayable()
	if err := s.conn.Exec(ctx, cmd); err != nil {
		return s.fail(ctx, "commit", err)
	}
	if known && cmd.Val() == nil {
		return errEnded
	}
	if v != nil {
		v.record.note(token, left, data)
	}
	return nil
}

// DeleteCtx removes what is stored for token, if anything. Within a request it
// does so also when the visitor has left: a logout must not depend on that.
func (s *Store) DeleteCtx(ctx context.Context, token string) error {
	if s.visitOf(ctx) != nil {
		ctx = context.WithoutCancel(ctx)
	}
	if err := s.conn.Exec(ctx, rdb.NewCmd(s.key(token), "del", s.key(token)).Replayable()); err != nil {
		return s.fail(ctx, "delete", err)
	}
	return nil
}

// touch sets the time that a session has left. It cannot bring one back:
// PEXPIRE does nothing where there is no key.
func (s *Store) touch(ctx context.Context, token string, left time.Duration) error {
	cmd := rdb.NewCmd(s.key(token), "pexpire", s.key(token), left.Milliseconds()).Replayable()
	if err := s.conn.Exec(ctx, cmd); err != nil {
		return s.fail(ctx, "touch", err)
	}
	return nil
}

// left is how long a session lives that is used now and ends at deadline. It is
// a duration, not an instant, that goes to Redis, whose clock may be another.
func (s *Store) left(deadline time.Time) time.Duration {
	return min(time.Until(deadline), s.idle)
}

// visitOf is ctx's visit to this store; there may be visits to others inside.
func (s *Store) visitOf(ctx context.Context) *Visit {
	v := visitOf(ctx)
	for v != nil && v.manager.store != s {
		v = visitOf(v.Context)
	}
	return v
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

func (s *Store) fail(ctx context.Context, what string, err error) error {
	if err == ctx.Err() { // the caller's own end passes as it is
		return err
	}
	rdb.Remember(ctx, err) // a Visit's context has the memory; others keep none
	return fmt.Errorf("session: %s: %w", what, err)
}
