package idempotency

import (
	"context"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// How often a waiter asks by itself: rarely while it hears of a claim's end, and else
// after pauses that double.
const (
	heardPause = 5 * time.Second
	firstPause = 5 * time.Millisecond
	mostPause  = 250 * time.Millisecond
)

// Wait is Reserve, but waits while another holder does the work: until that has ended,
// for max at the longest, and then says Busy. It is woken when the holder is done
// (PUBLISH), asks again when the holder's lease ends and every 5 s, and after 5 to 250 ms
// while it cannot hear. A max of 0 or less is Reserve.
//
// Its errors are those of Reserve. A waiter that has none but Redis silent in the middle
// gets ErrUnavailable.
func (s *Store) Wait(ctx context.Context, key, fingerprint string, max time.Duration) (Answer, error) {
	if err := check(ctx, key); err != nil {
		return Answer{}, edge("wait", err)
	}
	record, waits := s.redisKey(key), max > 0
	until := time.Now().Add(max)
	a, err := s.ask(ctx, record, fingerprint, waits)
	if err != nil || a.State != Busy || !waits {
		return a, edge("wait", err)
	}
	wake := make(chan struct{}, 1)
	poke := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	sub := s.conn.Subscribe(record+":done", rdb.Listener{
		Message: func(string, string) { poke() },
		Lost:    poke, // from here on it looks for itself
		Gap:     poke,
	})
	defer sub.Close()
	pause, ready := firstPause, sub.Ready()
	for a.State == Busy {
		left := time.Until(until)
		if left <= 0 {
			return a, nil
		}
		// Looked at before the question: what is announced after it is heard.
		nap := heardPause
		if ready != nil || !sub.Live() {
			nap, pause = pause, min(2*pause, mostPause)
		}
		// A lease ends without a word. Redis counts it in whole ms.
		timer := time.NewTimer(min(nap, left, a.Left+time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return Answer{}, ctx.Err()
		case <-ready:
			ready = nil // to ask once more: nothing was heard until now
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
		if a, err = s.ask(ctx, record, fingerprint, true); err != nil {
			return Answer{}, edge("wait", err)
		}
	}
	return a, nil
}
