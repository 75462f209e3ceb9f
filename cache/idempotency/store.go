package idempotency

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// Store reserves keys, and keeps their outcomes.
//
// It is safe for concurrent use, in any number of processes, and needs no Close. While
// a call of Wait waits it hears of the end of a claim on the one connection for messages
// that all of Weir shares on a client.
type Store struct {
	conn   *rdb.Conn
	prefix string
	budget time.Duration
	ttl    time.Duration
	lease  time.Duration
	crash  Crash

	// ahead is by how many µs Redis's clock is ahead of this process's, at most; 0
	// until that is known.
	ahead atomic.Int64
}

// New returns a Store on client. It does no I/O: it works while Redis is down.
//
// Its errors are of kind ErrConfig, all mistakes joined: a nil client, a nil option, a
// time out of the bounds that its option names, a policy that there is not.
func New(client redis.UniversalClient, options ...Option) (*Store, error) {
	cfg, mistakes := configure(options)
	conn, err := rdb.Open(client, cfg.budget)
	if err := rdb.Misconfigured("idempotency.New", append(mistakes, err)...); err != nil {
		return nil, err
	}
	return &Store{
		conn:   conn,
		prefix: cfg.prefix,
		budget: cfg.budget,
		ttl:    cfg.ttl,
		lease:  cfg.lease,
		crash:  cfg.crash,
	}, nil
}

// Reserve claims key for the caller, or says what is known of it. fingerprint is what
// the same request has in common with its repetitions, such as a digest of it; another
// one under the same key is told Differs. It may be empty, and is then the same for all.
//
// If the Answer's State is Claimed, the caller does the work, and then calls Finish,
// Release or Interrupt of its Claim. In any other state, and beside an error, it must
// not do the work.
//
// Errors: ErrUnavailable; ErrCorrupt; ErrEmptyKey; ctx.Err() when ctx ends first. What an
// unanswered call may have claimed is given back, which may take another budget; if that
// fails as well, the key may be Interrupted.
func (s *Store) Reserve(ctx context.Context, key, fingerprint string) (Answer, error) {
	if err := check(ctx, key); err != nil {
		return Answer{}, edge("reserve", err)
	}
	a, err := s.ask(ctx, s.redisKey(key), fingerprint, false)
	return a, edge("reserve", err)
}

// Look says what is known of key: Free, Kept, Busy or Interrupted. It changes nothing.
//
// Errors: ErrUnavailable; ErrCorrupt; ErrEmptyKey; ctx.Err() when ctx ends first.
func (s *Store) Look(ctx context.Context, key string) (Answer, error) {
	return s.see(ctx, "look", key, lookScript)
}

// Forget lets go of key, with whatever is kept under it, unless it is in flight. It
// returns what was known of it: if that is Busy nothing was changed, else the next
// request with the key does the work again. It is for an operator who has found out
// what became of an Interrupted one.
//
// Errors: ErrUnavailable, and then the key may or may not be forgotten; ErrCorrupt;
// ErrEmptyKey; ctx.Err() when ctx ends first.
func (s *Store) Forget(ctx context.Context, key string) (Answer, error) {
	return s.see(ctx, "forget", key, forgetScript)
}

func (s *Store) see(ctx context.Context, call, key string, script *rdb.Script) (Answer, error) {
	if err := check(ctx, key); err != nil {
		return Answer{}, edge(call, err)
	}
	cmd := script.Cmd(s.redisKey(key))
	if err := s.conn.Exec(ctx, cmd); err != nil {
		return Answer{}, edge(call, err)
	}
	a, _, err := parse(cmd)
	return a, edge(call, err)
}

func check(ctx context.Context, key string) error {
	if key == "" {
		return ErrEmptyKey
	}
	return ctx.Err()
}

// redisKey names the key's record. No text of a user's reaches Redis.
func (s *Store) redisKey(key string) string {
	return rdb.Key(s.prefix, "idempotency", rdb.Digest(key))
}

// ask runs the claim script, a second time if it did not know what time it was.
func (s *Store) ask(ctx context.Context, record, fingerprint string, waits bool) (Answer, error) {
	c := s.newClaim(ctx, record)
	a, word, err := s.claim(ctx, c, fingerprint, waits)
	if err == nil && word == wordLate {
		// The answer is here, so it was not late: the clocks were not as they were.
		a, word, err = s.claim(ctx, c, fingerprint, waits)
	}
	if err == nil && (word == wordLate || word == wordGone) {
		err = fmt.Errorf("%w: the clock of Redis has leapt", ErrUnavailable)
	}
	if err != nil {
		c.giveUp(ctx)
		return Answer{}, err
	}
	if a.State == Claimed {
		c.begin()
		a.Claim = c
	}
	return a, nil
}

func (s *Store) claim(ctx context.Context, c *Claim, fingerprint string, waits bool) (Answer, word, error) {
	c.asked = time.Now()
	sent := micros(c.asked)
	deadline := int64(0)
	if ahead := s.ahead.Load(); ahead != 0 {
		deadline = sent + ahead + s.budget.Microseconds()
	}
	cmd := claimScript.On(c.keys, c.id, fingerprint, s.lease.Milliseconds(), s.ttl.Milliseconds(),
		int(s.crash), flag(waits), deadline)
	if err := s.conn.Exec(ctx, cmd); err != nil {
		return Answer{}, "", err
	}
	a, word, err := parse(cmd)
	if err == nil {
		s.sawClock(sent, a.at)
	}
	return a, word, err
}

// sawClock notes by how much Redis's clock is ahead, at most: it said at after sent. The
// highest is kept: of several servers the one that is most ahead counts.
func (s *Store) sawClock(sent, at int64) {
	for {
		ahead, known := at-sent, s.ahead.Load()
		if known != 0 && ahead <= known || s.ahead.CompareAndSwap(known, ahead) {
			return
		}
	}
}

// started anchors this process's clock, which is monotonic.
var started = time.Now()

func micros(t time.Time) int64 { return t.Sub(started).Microseconds() }

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
