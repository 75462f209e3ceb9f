package lock

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/rdb"
)

// NewRedlock returns a Locker whose locks are kept on several independent servers,
// each behind a client of its own, and are held by whom a majority names. It does no
// I/O. See the package's page on what it costs and assumes.
//
// Its errors are of kind ErrConfig, all mistakes joined: those of New, fewer than
// three clients, one client twice, WithReplicaSync.
func NewRedlock(clients []redis.UniversalClient, options ...Option) (*Locker, error) {
	cfg, mistakes := configure(options)
	if len(clients) < leastRedlock {
		mistakes = append(mistakes, fmt.Errorf("%d clients: must be at least %d, of servers that share nothing: use New for one", len(clients), leastRedlock))
	}
	if cfg.replicas.given {
		mistakes = append(mistakes, errors.New("WithReplicaSync: leave it out: servers of a Redlock have no replicas to fail over to"))
	}
	q := &quorum{majority: len(clients)/2 + 1}
	seen := make(map[any]bool)
	for i, client := range clients {
		conn, err := rdb.Open(client, cfg.budget)
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("client %d: %w", i+1, err))
			continue
		}
		server := conn.Server(context.Background(), "")
		if seen[server] {
			mistakes = append(mistakes, fmt.Errorf("client %d is one of those before: a server has one vote", i+1))
		}
		seen[server] = true
		q.servers = append(q.servers, &single{conn: conn, scripts: standard, patience: cfg.budget})
	}
	if err := rdb.Misconfigured("lock.NewRedlock", mistakes...); err != nil {
		return nil, err
	}
	return cfg.locker(q), nil
}

// quorum keeps locks in several Redises that know nothing of each other.
type quorum struct {
	servers  []*single
	majority int
}

// splitVote is how long, at most, those pause of whom none has got a majority.
const splitVote = 25 * time.Millisecond

func (q *quorum) acquire(ctx context.Context, c *claim, who waiting) (grant, error) {
	begun := time.Now()
	v := q.ask(func(s *single) (grant, error) {
		return s.take(ctx, c, who)
	})
	if len(v.held) >= q.majority {
		// The highest of a majority, known to a majority: the next one, of which
		// one at least is of this one, has a higher one.
		best := slices.MaxFunc(v.held, func(a, b grant) int { return cmp.Compare(a.token, b.token) })
		c.token, c.since = best.token, best.since
		v = q.adopt(ctx, c, c.ttl, who)
	}
	if len(v.held) >= q.majority {
		return grant{held: true, begun: begun, token: c.token, since: c.since}, nil
	}
	// What was given comes back, or nobody would get a majority. Its id is spent.
	_, _ = q.release(detached(ctx), c)
	c.begin()
	switch {
	case ctx.Err() != nil:
		return grant{}, ctx.Err()
	case len(v.failed) > len(q.servers)-q.majority:
		return grant{}, v.failed[0]
	}
	return grant{left: v.taken(q.majority)}, nil
}

// adopt has every server that can take part in what the majority has decided.
func (q *quorum) adopt(ctx context.Context, c *claim, ttl time.Duration, who waiting) vote {
	waits := 0
	if who == others {
		waits = 1
	}
	return q.ask(func(s *single) (grant, error) {
		return s.grant(ctx, c, s.scripts.adopt.On(c.keys, c.owner, millis(ttl), lifetime(ttl), c.label, waits, c.token, c.since.UnixMicro()))
	})
}

func (q *quorum) extend(ctx context.Context, c *claim, ttl time.Duration) (grant, error) {
	begun := time.Now()
	v := q.adopt(ctx, c, ttl, nobody)
	switch {
	case len(v.held) >= q.majority:
		return grant{held: true, begun: begun, token: c.token, since: c.since}, nil
	case len(v.held)+len(v.failed) >= q.majority:
		return grant{}, v.failed[0] // those that failed may still hold it
	}
	return grant{}, nil
}

func (q *quorum) release(ctx context.Context, c *claim) (freed bool, err error) {
	v := q.ask(func(s *single) (grant, error) {
		freed, err := s.release(ctx, c)
		return grant{held: freed}, err
	})
	switch {
	case len(v.held) >= q.majority:
		return true, nil
	case len(v.held)+len(v.failed) >= q.majority:
		return false, v.failed[0]
	}
	return false, nil
}

// holder is whom a majority names.
func (q *quorum) holder(ctx context.Context, lock string) (Holder, bool, error) {
	var (
		mu    sync.Mutex
		named = make(map[int64][]Holder)
	)
	v := q.ask(func(s *single) (grant, error) {
		h, ok, err := s.holder(ctx, lock)
		if ok {
			mu.Lock()
			defer mu.Unlock()
			named[h.Token] = append(named[h.Token], h)
		}
		return grant{}, err
	})
	for _, all := range named {
		if len(all) >= q.majority {
			// Those that end first leave it without its majority.
			slices.SortFunc(all, func(a, b Holder) int { return cmp.Compare(b.Left, a.Left) })
			return all[q.majority-1], true, nil
		}
	}
	if len(v.failed) > len(q.servers)-q.majority {
		return Holder{}, false, v.failed[0]
	}
	return Holder{}, false, nil
}

// vote is what the servers have answered.
type vote struct {
	held, refused []grant
	failed        []error
}

// ask asks all servers side by side, and returns when each has answered or used up its
// budget: what came after that would come after the release.
func (q *quorum) ask(call func(*single) (grant, error)) vote {
	type answer struct {
		grant
		err      error
		panicked any
	}
	answers := make(chan answer, len(q.servers))
	for _, s := range q.servers {
		go func() {
			var a answer
			defer func() {
				a.panicked = recover() // a hook of the user's
				answers <- a
			}()
			a.grant, a.err = call(s)
		}()
	}
	var (
		v        vote
		panicked any
	)
	for range q.servers {
		switch a := <-answers; {
		case a.panicked != nil:
			panicked = a.panicked
		case a.err != nil:
			v.failed = append(v.failed, a.err)
		case a.held:
			v.held = append(v.held, a.grant)
		default:
			v.refused = append(v.refused, a.grant)
		}
	}
	if panicked != nil {
		panic(panicked)
	}
	return v
}

// taken is how long a majority cannot be had, for all that is known: until so many
// of those that refused are free that the rest are too few to prevent it.
func (v *vote) taken(majority int) time.Duration {
	missing := majority - len(v.held)
	if missing <= 0 || missing > len(v.refused) {
		return rand.N(splitVote)
	}
	slices.SortFunc(v.refused, func(a, b grant) int { return cmp.Compare(a.left, b.left) })
	left := v.refused[missing-1].left
	if len(v.held) > 0 {
		// Others got what this one has given back just now, or nobody a majority.
		left = min(left, rand.N(splitVote))
	}
	return left
}
