package rdb

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// Cmd is one command to Redis: first a plan, and after [Conn.Exec] its reply.
type Cmd struct {
	key    string
	args   []any
	script *Script
	replay bool
	again  any // unless nil, one more argument of the second run
	// behind is the command that this one goes with, on one connection and again
	// if that goes again; nil for most.
	behind *Cmd

	repeated bool  // it was sent twice, as its connection broke
	asked    int64 // when it was sent, if that was before its Exec; else 0
	val      any
	err      error
}

// NewCmd plans a command. key is the key it touches, which must also stand
// among args; it decides which part of a Cluster is asked.
//
// A []byte among args must never change again: an attempt that was left behind
// may still be reading it after Exec has returned.
func NewCmd(key string, args ...any) *Cmd { return &Cmd{key: key, args: args} }

// Replayable marks c as safe to run twice: a read, or a write of the same value
// again where nobody else writes the key meanwhile. It returns c.
func (c *Cmd) Replayable() *Cmd {
	c.replay = true
	return c
}

// Again has arg added to the arguments when the command is sent a second time,
// because its connection broke and nobody knows whether it ran. A script may then
// look for traces of its first run, which costs the usual case nothing. It
// returns c.
func (c *Cmd) Again(arg any) *Cmd {
	c.again = arg
	return c
}

// Repeated reports whether the command was sent twice, because its connection broke:
// the first one may run yet, should it be on its way still.
func (c *Cmd) Repeated() bool { return c.repeated }

// Ago is how long ago the reply was asked for, if that was before the Exec that
// brought it: see [Conn.Foresee]; else 0.
func (c *Cmd) Ago() time.Duration {
	if c.asked == 0 {
		return 0
	}
	return time.Duration(now() - c.asked)
}

// Err is nil when Redis replied without error; a nil reply is no error.
func (c *Cmd) Err() error { return c.err }

// Val is the reply as go-redis gives it: nil, int64, float64, bool, string, []any
// or map[any]any. Scripts return the first, second, fifth and sixth.
func (c *Cmd) Val() any { return c.val }

// Text is the reply if it is a string; ok is false for any other, nil included.
func (c *Cmd) Text() (s string, ok bool) {
	s, ok = c.val.(string)
	return s, ok
}

// Int is the reply if it is an integer, else 0.
func (c *Cmd) Int() int64 {
	n, _ := c.val.(int64)
	return n
}

// Slice is the reply if it is an array, else nil.
func (c *Cmd) Slice() []any {
	s, _ := c.val.([]any)
	return s
}

// once is a command that go-redis sends at most one time.
type once struct{ *redis.Cmd }

// NoRetry keeps go-redis from running the command again after a lost reply, and
// from answering it out of a client-side cache.
func (once) NoRetry() bool { return true }

// wire makes what goes to go-redis. It is new for each attempt: an attempt left
// behind may still write to its own. second says that it is the second one: a
// script then goes by EVAL, as a third, should the server not know it, is not made.
func (c *Cmd) wire(ctx context.Context, second bool) once {
	args := c.args
	if second && c.script != nil {
		args = append([]any{"eval", c.script.text}, c.args[2:]...)
	}
	if second && c.again != nil && !isNoScript(c.err) {
		args = append(slices.Clip(args), c.again)
	}
	cmd := redis.NewCmd(ctx, args...)
	// Or a ClusterClient asks for COMMAND first, under a lock and a context of
	// its own (ClusterClient.cmdInfo, go-redis 9.23.0).
	cmd.SetStepCount(1)
	return once{cmd}
}

// settle copies a finished attempt's reply.
func (c *Cmd) settle(w once) (err error) {
	c.val, err = w.Result()
	if err != nil {
		c.val = nil
	}
	return err
}
