package redigo

import (
	"context"
	"math/rand/v2"
	"strings"

	redigo "github.com/gomodule/redigo/redis"

	"github.com/go-weir/weir/internal/rdb"
)

// transaction is what was sent since MULTI.
type transaction struct {
	calls []*call
	dirty bool // a command was refused: EXEC will be
}

// run takes a queue of commands to the deployment: consecutive ones as one pipeline,
// and those between them that need more (KEYS, EXEC, a command without a key where
// keys lie apart) each as a step of its own. After a step without an answer no other
// is tried: redigo's connection would be broken, too.
type run struct {
	d    *deployment
	conn *rdb.Conn
	ctx  context.Context
	tx   *transaction

	batch []*call // of the pipeline to come
	lost  error   // why there was no answer
}

func (r *run) all(calls []*call) {
	for _, c := range calls {
		r.one(c)
	}
	r.pipeline()
}

// one answers a call, or puts it into the batch.
func (r *run) one(c *call) {
	switch c.name {
	case "multi", "exec", "discard":
		r.bracket(c)
		return
	}
	refusal := refusalOf(c, r.d.sharded(), r.tx != nil)
	switch {
	case refusal != "":
		c.refuse(refusal)
		if r.tx != nil {
			r.tx.dirty = true
		}
	case r.tx != nil:
		r.tx.calls = append(r.tx.calls, c)
		c.answer("QUEUED")
	case c.name == "keys":
		r.step(c, r.keys)
	case r.d.sharded() && keyOf(c) == "":
		r.step(c, r.keyless)
	default:
		r.batch = append(r.batch, c)
	}
}

// bracket answers what begins or ends a transaction, as Redis does.
func (r *run) bracket(c *call) {
	switch {
	case len(c.args) > 1 && c.name == "exec":
		r.tx = nil
		c.refuse("EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command")
	case len(c.args) > 1:
		c.refuse(redigo.Error("ERR wrong number of arguments for '" + c.name + "' command"))
		if r.tx != nil {
			r.tx.dirty = true
		}
	case c.name == "multi" && r.tx != nil:
		c.refuse("ERR MULTI calls can not be nested")
	case c.name == "multi":
		r.tx = new(transaction)
		c.answer("OK")
	case r.tx == nil:
		c.refuse(redigo.Error("ERR " + strings.ToUpper(c.name) + " without MULTI"))
	case c.name == "discard":
		r.tx = nil
		c.answer("OK")
	default:
		r.step(c, r.exec)
	}
}

// step runs what cannot go with the others, after those before it.
func (r *run) step(c *call, do func(*call) error) {
	r.pipeline()
	if r.lost != nil {
		r.tx = nil
		c.lose(r.lost)
		return
	}
	r.lost = do(c)
}

// pipeline runs the batch.
func (r *run) pipeline() {
	calls := r.batch
	r.batch = nil
	if len(calls) == 0 {
		return
	}
	if r.lost != nil {
		for _, c := range calls {
			c.lose(r.lost)
		}
		return
	}
	cmds := make([]*rdb.Cmd, len(calls))
	for i, c := range calls {
		cmds[i] = c.plan(keyOf(c))
	}
	_ = r.conn.Exec(r.ctx, cmds...) // each command has its own error
	for i, c := range calls {
		if err := c.settle(cmds[i]); err != nil && r.lost == nil {
			r.lost = err
		}
	}
}

const aborted redigo.Error = "EXECABORT Transaction discarded because of previous errors."

// exec runs the transaction.
func (r *run) exec(c *call) error {
	tx := r.tx
	r.tx = nil
	switch {
	case tx.dirty:
		c.refuse(aborted)
		return nil
	case len(tx.calls) == 0:
		c.answer([]any{})
		return nil
	}
	keys := make([]string, len(tx.calls))
	first := ""
	for i, q := range tx.calls {
		keys[i] = keyOf(q)
		if first == "" {
			first = keys[i]
		}
	}
	if r.d.apart(keys) {
		c.refuse("CROSSSLOT Keys of one transaction must lie on one shard of the Ring: give them one {hash tag}, and use no commands without a key")
		return nil
	}
	cmds := make([]*rdb.Cmd, len(tx.calls))
	for i, q := range tx.calls {
		cmds[i] = q.plan(first)
	}
	_ = r.conn.Transact(r.ctx, cmds...)
	return c.conclude(tx.calls, cmds)
}

// conclude gives EXEC its reply, and returns the error if it got none.
func (c *call) conclude(queued []*call, cmds []*rdb.Cmd) error {
	elements := make([]any, len(cmds))
	refused := 0
	for i, q := range queued {
		result := &call{name: q.name, args: q.args}
		if err := result.settle(cmds[i]); err != nil {
			c.lose(err)
			return err
		}
		elements[i] = result.element()
		e, ok := elements[i].(redigo.Error)
		switch {
		case ok && strings.HasPrefix(string(e), "CROSSSLOT"):
			c.refuse(e + ": give the keys of one transaction one {hash tag}")
			return nil
		case ok && strings.HasPrefix(string(e), "EXECABORT"):
			c.refuse(e)
			refused++
		case ok && atQueueing(e):
			// The server refused it when it was sent, not when it was run. If
			// QUEUED has not been received yet it is not too late to say so.
			q.err, q.reply = result.err, nil
			refused++
		}
	}
	switch {
	case c.err != nil: // EXECABORT
	case refused == len(cmds):
		c.refuse(aborted) // no command was left to show it
	default:
		c.answer(elements)
	}
	return nil
}

// atQueueing reports whether e may be how a server refuses a command inside MULTI,
// which aborts the whole.
func atQueueing(e redigo.Error) bool {
	for _, prefix := range []string{
		"ERR unknown command", "ERR unknown subcommand", "ERR Unknown subcommand", "ERR wrong number of arguments",
		"ERR Command not allowed inside a transaction", "ERR This Redis command is not allowed",
		"NOAUTH", "NOPERM", "OOM", "READONLY", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "BUSY", "MOVED", "ASK", "TRYAGAIN",
	} {
		if strings.HasPrefix(string(e), prefix) {
			return true
		}
	}
	return false
}

// keys is KEYS by SCAN.
func (r *run) keys(c *call) error {
	found := []any{}
	seen := make(map[string]struct{})
	err := r.conn.Scan(r.ctx, c.arg(1), func(keys []string) error {
		for _, k := range keys {
			if _, again := seen[k]; !again {
				seen[k] = struct{}{}
				found = append(found, []byte(k))
			}
		}
		return nil
	})
	if err != nil {
		return c.fail(err)
	}
	c.answer(found)
	return nil
}

// keyless runs a command that names no key where keys lie apart: on one master, or
// on every one if it is about all keys or changes what each keeps for itself.
func (r *run) keyless(c *call) error {
	masters, err := r.conn.Masters(r.ctx)
	if err != nil {
		return c.fail(err)
	}
	if !concernsAll(c) {
		masters = masters[rand.IntN(len(masters)):][:1]
	}
	var sum int64
	for _, m := range masters {
		cmd := c.plan("")
		_ = m.Exec(r.ctx, cmd)
		if err := c.settle(cmd); err != nil || c.err != nil {
			return err
		}
		sum += cmd.Int()
	}
	if c.name == "dbsize" {
		c.answer(sum)
	}
	return nil
}
