package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// store is where locks are kept: one Redis, or several for a [NewRedlock]. Its calls
// return within the budget.
type store interface {
	// acquire asks for the lock once.
	acquire(ctx context.Context, c *claim, who waiting) (grant, error)
	// extend makes the lock last for ttl from now on. Without a lease the grant is
	// not held, and never will be again.
	extend(ctx context.Context, c *claim, ttl time.Duration) (grant, error)
	// release frees the lock; freed is false if it was not the claim's any more.
	release(ctx context.Context, c *claim) (freed bool, err error)
	holder(ctx context.Context, lock string) (h Holder, ok bool, err error)
	// watch has wake called when a lock's end is announced on channel.
	watch(channel string, wake func()) *watch
}

// waiting is who waits for a lock that is asked for.
type waiting int

const (
	nobody waiting = iota // the caller gives up if it is taken
	caller                // the caller waits if it is taken
	others                // so it does, and others wait behind it
)

// grant is what an acquire or an extend has come to.
type grant struct {
	held  bool
	begun time.Time     // if held: the ttl counts from here
	left  time.Duration // else how long the lock is taken, for all that is known
	token int64
	since time.Time
	now   int64 // of Redis, in µs; 0 if it is not known
	late  bool  // Redis came to it when nobody waited any more
}

// single keeps locks in one Redis.
type single struct {
	conn     *rdb.Conn
	scripts  *scripts
	replicas replicaSync   // none if 0
	patience time.Duration // how long a call waits at most
	clocks   clocks
}

func (s *single) acquire(ctx context.Context, c *claim, who waiting) (grant, error) {
	g, err := s.take(ctx, c, who)
	if g.held {
		c.token, c.since = g.token, g.since
	}
	return g, err
}

// take runs the script that takes the lock if it is free.
func (s *single) take(ctx context.Context, c *claim, who waiting) (grant, error) {
	server := s.conn.Server(ctx, c.lock)
	for range 2 {
		begun := time.Now()
		latest := s.clocks.latest(server, begun.Add(s.patience))
		cmd := s.scripts.acquire.On(c.keys, c.owner, millis(c.ttl), lifetime(c.ttl), c.label, int(who), latest)
		g, err := s.grant(ctx, c, cmd)
		s.clocks.learn(server, begun, g.now)
		if !g.late {
			return g, err
		}
	}
	return grant{}, errLate
}

func (s *single) extend(ctx context.Context, c *claim, ttl time.Duration) (grant, error) {
	return s.grant(ctx, c, s.scripts.extend.On(c.keys, c.owner, millis(ttl), lifetime(ttl)))
}

// grant runs a script that says who holds the lock.
func (s *single) grant(ctx context.Context, c *claim, cmd *rdb.Cmd) (grant, error) {
	begun := time.Now() // before the request: Redis counts from a later moment
	err := s.exec(ctx, cmd)
	if err != nil && !errors.Is(err, rdb.ErrCorrupt) || cmd.Repeated() {
		c.doubtful.Store(true)
	}
	if err != nil {
		return grant{}, err
	}
	word, values, err := parse(cmd)
	switch {
	case err != nil:
		return grant{}, err
	case word == "held" && len(values) >= 2 && values[0] > 0:
		g := grant{held: true, begun: begun, token: values[0], since: time.UnixMicro(values[1])}
		if len(values) == 3 && !cmd.Repeated() { // or its time is of another run
			g.now = values[2]
		}
		return g, nil
	case word == "late" && len(values) == 1:
		return grant{late: true, now: values[0]}, nil
	case word == "taken" && len(values) == 1:
		return grant{left: time.Duration(values[0]) * time.Millisecond}, nil
	case word == "lost" || word == "gone":
		return grant{}, nil
	}
	return grant{}, fmt.Errorf("%w: the script returned %q and %d values", rdb.ErrCorrupt, word, len(values))
}

// exec runs a script that gives or prolongs a lock, and has it confirmed.
func (s *single) exec(ctx context.Context, cmd *rdb.Cmd) error {
	if s.replicas.n == 0 {
		return s.conn.Exec(ctx, cmd)
	}
	confirmed, err := s.conn.Confirm(ctx, cmd, s.replicas.n, s.replicas.timeout)
	if err != nil {
		return err
	}
	if word, _, _ := parse(cmd); word == "held" && confirmed < s.replicas.n {
		return fmt.Errorf("%w: %w: %d of %d within %v", rdb.ErrUnavailable, ErrNotReplicated, confirmed, s.replicas.n, s.replicas.timeout)
	}
	return nil
}

func (s *single) release(ctx context.Context, c *claim) (freed bool, err error) {
	gone := int64(0)
	if c.doubtful.Load() {
		gone = goneLife.Milliseconds()
	}
	cmd := s.scripts.release.On(c.keys, c.owner, c.channel, gone).Again(1)
	if err := s.conn.Exec(ctx, cmd); err != nil {
		return false, err
	}
	word, _, err := parse(cmd)
	return word == "freed", err
}

// parse reads a script's reply: a word, and numbers behind it.
func parse(cmd *rdb.Cmd) (word string, values []int64, err error) {
	list := cmd.Slice()
	if len(list) > 0 {
		word, _ = list[0].(string)
	}
	if word == "" {
		return "", nil, fmt.Errorf("%w: the script returned %T", rdb.ErrCorrupt, cmd.Val())
	}
	if word == "corrupt" && len(list) == 2 {
		return "", nil, fmt.Errorf("%w: %v", rdb.ErrCorrupt, list[1])
	}
	for _, v := range list[1:] {
		if n, ok := v.(int64); ok {
			values = append(values, n)
		}
	}
	return word, values, nil
}
