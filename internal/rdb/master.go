package rdb

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// scanCount is how many keys one step of a Scan looks at: some tenths of a millisecond
// of a server that meanwhile serves nobody else.
const scanCount = 250

// sharded are the clients whose keys lie on several servers: *redis.ClusterClient
// and *redis.Ring, also as part of a type of the user's. An *AutoPipeliner does not
// tell what is behind it, and passes for one server.
type (
	clustered interface {
		ForEachMaster(context.Context, func(context.Context, *redis.Client) error) error
	}
	ringed interface{ GetShardClients() []*redis.Client }
)

// Masters returns a Conn to each server that holds keys, with c's budget: of a
// Cluster every master, as the Cluster names them now, which is one round trip; of
// a Ring every shard that it takes for up; of other clients c itself. The Conns are
// good as long as the injected client, but a failover makes other masters: ask
// again for each task.
//
// A Cluster that does not answer within the budget, or ctx, is ErrUnavailable or
// ctx.Err(), as in [Conn.Exec]. So it is, at times, when a single node is silent:
// go-redis asks one at random. Commands on a master's Conn have that Conn's own
// breaker, and pass by hooks of the Cluster's or Ring's: go-redis calls those of
// its nodes (OnNewNode).
func (c *Conn) Masters(ctx context.Context) ([]*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var nodes []*redis.Client
	switch client := c.core.client.(type) {
	case clustered:
		var err error
		if nodes, err = c.mastersOf(ctx, client); err != nil {
			return nil, err
		}
	case ringed:
		nodes = client.GetShardClients()
	default:
		return []*Conn{c}, nil
	}
	if len(nodes) == 0 {
		return nil, &unavailable{breaker: &c.core.breaker, cause: errors.New("no master is known")}
	}
	conns := make([]*Conn, len(nodes))
	for i, node := range nodes {
		conns[i] = &Conn{core: coreOf(node), budget: c.budget}
	}
	return conns, nil
}

// mastersOf asks a Cluster for its masters. It may leave a goroutine behind, as
// Exec does: go-redis loads the topology without regard to a deadline.
func (c *Conn) mastersOf(parent context.Context, client clustered) ([]*redis.Client, error) {
	b := &c.core.breaker
	budget := left(parent, b, c.budget)
	if budget <= 0 {
		return nil, &unavailable{breaker: b, cause: errSilent}
	}
	begun := now()
	leave, ok := b.admit(begun, budget)
	if !ok {
		return nil, &unavailable{breaker: b, cause: errBreakerOpen}
	}
	ctx, cancel := context.WithTimeout(parent, budget)
	defer cancel()

	found := new(topology)
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }() // see attempt
		found.err = client.ForEachMaster(ctx, found.add)
	}()
	err := context.DeadlineExceeded // of the budget, unless classify sees the caller's own end
	// When the time is over go-redis may still name the masters it knew before; but
	// nobody answered. The context's own timer is a moment behind the socket's.
	if end, _ := ctx.Deadline(); await(ctx, done) && time.Now().Before(end) {
		err = found.err
	}
	err = classify(parent, b, err)
	o := outcomeOf(err)
	if u, ok := err.(*unavailable); ok {
		u.took = time.Duration(now() - begun)
	}
	if o == silent && budget < DefaultBudget && ctx.Err() != nil {
		o = abandoned // see exec
	}
	b.report(now(), leave, o)
	if err != nil {
		return nil, err
	}
	return found.nodes, nil
}

// topology is what a Cluster says of itself.
type topology struct {
	mu    sync.Mutex
	nodes []*redis.Client
	err   error
}

// add takes note of a master; ForEachMaster calls it for all side by side.
func (t *topology) add(_ context.Context, node *redis.Client) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.nodes = append(t.nodes, node)
	return nil
}

// Scan gives each the keys that match pattern, on every master, some at a time; a
// step looks at about 250 keys, and each step has the budget to itself. It ends
// with the first error, each's own included.
//
// What SCAN guarantees holds for each master: a key that is there all the time is
// given at least once, and at times twice. A key that moves between masters
// meanwhile may be given twice or missed. The errors are those of [Conn.Exec] and
// [Conn.Masters].
func (c *Conn) Scan(ctx context.Context, pattern string, each func(keys []string) error) error {
	masters, err := c.Masters(ctx)
	if err != nil {
		return err
	}
	for _, m := range masters {
		if err := m.scan(ctx, pattern, each); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) scan(ctx context.Context, pattern string, each func(keys []string) error) error {
	for cursor := "0"; ; {
		step := NewCmd("", "scan", cursor, "match", pattern, "count", scanCount).Replayable()
		if err := c.Exec(ctx, step); err != nil {
			return err
		}
		keys, next, err := page(step.Val())
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := each(keys); err != nil {
				return err
			}
		}
		if next == "0" {
			return nil
		}
		cursor = next
	}
}

// page takes the reply to SCAN apart.
func page(reply any) (keys []string, cursor string, err error) {
	parts, _ := reply.([]any)
	if len(parts) == 2 {
		var isText, isList bool
		var list []any
		cursor, isText = parts[0].(string)
		list, isList = parts[1].([]any)
		keys = make([]string, 0, len(list))
		for _, k := range list {
			if k, ok := k.(string); ok {
				keys = append(keys, k)
			}
		}
		if isText && isList && len(keys) == len(list) {
			return keys, cursor, nil
		}
	}
	return nil, "", fmt.Errorf("%w: SCAN replied %T", ErrCorrupt, reply)
}

// special makes the characters literal that mean something in a pattern.
var special = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// Pattern matches the keys that begin with prefix, whatever characters it has.
func Pattern(prefix string) string { return special.Replace(prefix) + "*" }
