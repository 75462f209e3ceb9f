package event

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// pollEvery is how often a stream is looked at though nobody has said that something
// is there: for what others XADD, and while the link is down.
const pollEvery = time.Second

// signLeft is what stream_leave.lua publishes. Others publish an entry's id.
const signLeft = "left"

// awaited has an element in c once something may be in a stream.
type awaited struct {
	c            chan struct{}
	left         atomic.Bool // the last sign was, or an earlier one, that of a consumer that left
	subscription *rdb.Subscription
	ready        <-chan struct{}
}

// await listens to a stream's channel. Whoever adds an entry publishes there, in the
// same script.
func await(conn *rdb.Conn, channel string) *awaited {
	w := &awaited{c: make(chan struct{}, 1)}
	w.subscription = conn.Subscribe(channel, rdb.Listener{
		Message: func(_, text string) {
			if text == signLeft {
				w.left.Store(true)
			}
			w.wake()
		},
		Gap: w.wake,
	})
	w.ready = w.subscription.Ready()
	return w
}

func (w *awaited) stop() { w.subscription.Close() }

// wake leaves one element for whoever waits, however often it is called.
func (w *awaited) wake() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}

// wait waits for a sign, at most d, and reports whether there was one; ok is false when
// ctx has ended.
func (w *awaited) wait(ctx context.Context, d time.Duration) (woken, ok bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, false
	case <-w.ready:
		w.ready = nil // what was published before is found now
	case <-w.c:
	case <-timer.C:
		return false, true
	}
	return true, true
}

// jitter is d, up to a fifth more or less.
func jitter(d time.Duration) time.Duration { return d - d/5 + rand.N(2*d/5+1) }

// halfJitter is d, up to a half less.
func halfJitter(d time.Duration) time.Duration { return d - rand.N(d/2+1) }
