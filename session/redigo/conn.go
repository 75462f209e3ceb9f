package redigo

import (
	"context"
	"errors"
	"time"

	redigo "github.com/gomodule/redigo/redis"
)

// view is a redigo.Conn without a connection: what is sent to it waits in a queue
// until Flush, Do or Close, and then goes to the injected client as one pipeline.
type view struct {
	d      *deployment
	queue  []*call // sent, not flushed
	done   []*call // flushed, not received
	tx     *transaction
	closed bool
}

var _ redigo.ConnWithTimeout = (*view)(nil)

// Close drops what was not flushed. The pool calls it for Conns it does not keep.
func (v *view) Close() error {
	if v.closed {
		return errClosed
	}
	v.closed, v.queue, v.done, v.tx = true, nil, nil, nil
	return nil
}

// Err is nil until Close: a silent server breaks no view, as there is no connection
// to be out of step.
func (v *view) Err() error {
	if v.closed {
		return errClosed
	}
	return nil
}

// Send puts a command into the queue. It keeps none of args.
func (v *view) Send(name string, args ...any) error {
	if v.closed {
		return errClosed
	}
	v.queue = append(v.queue, newCall(name, args))
	return nil
}

// Flush sends the queue as one pipeline and waits for the replies, which Receive
// then returns. Its error is that of the first command without a reply, which
// Receive returns again in its place.
func (v *view) Flush() error { return v.flush(0) }

func (v *view) flush(timeout time.Duration) error {
	if v.closed {
		return errClosed
	}
	calls := v.queue
	v.queue = nil
	run := &run{d: v.d, conn: v.d.within(timeout), ctx: context.Background(), tx: v.tx}
	v.tx = nil // should a hook of the user's panic, the transaction is over
	run.all(calls)
	v.tx = run.tx
	v.done = append(v.done, calls...)
	return run.lost
}

// Receive returns the next reply of those flushed. There is nothing to wait for
// when all have been returned: that is an error, where redigo waits for its timeout.
func (v *view) Receive() (any, error) { return v.ReceiveWithTimeout(0) }

// ReceiveWithTimeout is Receive: the waiting was Flush's.
func (v *view) ReceiveWithTimeout(time.Duration) (any, error) {
	switch {
	case v.closed:
		return nil, errClosed
	case len(v.done) == 0:
		return nil, errNothing
	}
	c := v.done[0]
	v.done = v.done[1:]
	if c.err != nil {
		return nil, c.err
	}
	return c.reply, nil
}

var errNothing = errors.New("redigo: Receive: no command was flushed whose reply is still to come")

// Do sends the queue and the command, drops the replies of the former and returns
// that of the latter; the error is the first that any of them met. Do("") flushes
// and returns all replies that were not received yet.
func (v *view) Do(name string, args ...any) (any, error) { return v.DoWithTimeout(0, name, args...) }

// DoWithTimeout is Do with a budget of its own, within the bounds of [WithTimeout];
// 0 means the pool's.
func (v *view) DoWithTimeout(timeout time.Duration, name string, args ...any) (any, error) {
	if v.closed {
		return nil, errClosed
	}
	if name != "" {
		v.queue = append(v.queue, newCall(name, args))
	}
	if len(v.queue)+len(v.done) == 0 {
		return nil, nil
	}
	_ = v.flush(timeout) // the calls have it
	calls := v.done
	v.done = nil
	for _, c := range calls {
		if c.lost {
			return nil, c.err
		}
	}
	if name == "" {
		replies := make([]any, len(calls))
		for i, c := range calls {
			replies[i] = c.element()
		}
		return replies, nil
	}
	var first error
	for _, c := range calls {
		if c.err != nil && first == nil {
			first = c.err
		}
	}
	return calls[len(calls)-1].element(), first
}
