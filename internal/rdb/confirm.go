package rdb

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Confirm sends cmd and, on the same connection right behind it, WAIT: it returns how
// many replicas have what cmd wrote when as many as replicas have, or timeout has
// passed. WAIT knows only of the writes of its own connection; inside of MULTI it
// would not wait, and in a script it is forbidden. timeout comes on top of the budget.
//
// The errors are those of [Conn.Exec]; cmd has its reply also if WAIT alone has failed.
// A Ring does not tell which server a key is on, and cannot confirm.
func (c *Conn) Confirm(ctx context.Context, cmd *Cmd, replicas int, timeout time.Duration) (confirmed int, err error) {
	wait := &Cmd{key: cmd.key, args: []any{"wait", replicas, timeout.Milliseconds()}, behind: cmd}
	cmds := []*Cmd{cmd, wait}
	if err := ctx.Err(); err != nil {
		return 0, fail(cmds, err)
	}
	b := c.core.breakerOf(ctx, cmd.key)
	longer := &Conn{core: c.core, budget: c.budget + timeout}
	longer.exec(ctx, b, cmds, false)
	err = firstError(cmds)
	if c.core.cluster != nil && isMoved(err) {
		// go-redis follows it only on the client that knows all masters.
		c.core.cluster.ReloadState(ctx)
		err = fail(cmds, &unavailable{breaker: b, cause: err})
	}
	return int(wait.Int()), err
}

// sendAsOne sends cmds in one pipeline to the server of key: a Cluster's own pipeline
// would send what has no key to any of them.
func (c *core) sendAsOne(ctx context.Context, key string, cmds []once) {
	if c.cluster == nil {
		pipeline(ctx, c.client.Pipeline(), cmds)
		return
	}
	master, err := c.cluster.MasterForKey(ctx, key)
	if err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
		return
	}
	pipeline(ctx, master.Pipeline(), cmds)
}

// isMoved reports whether a node of a Cluster said that the key is another's.
func isMoved(err error) bool {
	if err == nil || !isReply(err) || errors.Is(err, ErrUnavailable) {
		return false
	}
	return strings.HasPrefix(err.Error(), "MOVED ") || strings.HasPrefix(err.Error(), "ASK ")
}
