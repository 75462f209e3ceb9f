package cache

import (
	"context"
	"strings"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// watch is the wait of this process's callers for the end of somebody else's claim. It
// may end too early, which costs them a look; never too late, but for what a message
// takes. Its waiters are guarded by the Store's mu.
type watch struct {
	lease   string
	waiters int
	cancel  context.CancelFunc
	done    chan struct{}
}

// watch joins the wait for the claim that f has met, or begins it.
func (s *Store) watch(f *Found) *watch {
	s.mu.Lock()
	defer s.mu.Unlock()
	lease := f.leaseKey()
	if w := s.watches[lease]; w != nil {
		w.waiters++
		return w
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watch{lease: lease, waiters: 1, cancel: cancel, done: make(chan struct{})}
	s.watches[lease] = w
	channel := s.waking(f.wakeName())
	s.run(func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.watches[lease] == w {
				delete(s.watches, lease)
			}
			close(w.done)
		}()
		s.untilFree(ctx, lease, channel)
	})
	return w
}

// unwatch takes a caller off a wait, which ends with the last one.
func (s *Store) unwatch(w *watch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.waiters--; w.waiters == 0 {
		w.cancel()
		if s.watches[w.lease] == w {
			delete(s.watches, w.lease) // who comes now begins anew
		}
	}
}

// untilFree returns when the lease has ended, or Redis is silent.
func (s *Store) untilFree(ctx context.Context, lease, channel string) {
	ended, stop := context.WithCancel(ctx) // by the message that tells of its end
	defer stop()
	missed := make(chan struct{}, 1)
	sub := s.conn.Subscribe(channel, rdb.Listener{
		Message: func(string, string) { stop() },
		Gap: func() {
			select {
			case missed <- struct{}{}:
			default:
			}
		},
	})
	defer sub.Close()
	pause(ended, sub.Ready(), maxPoll)
	for poll := minPoll; ended.Err() == nil; poll = min(2*poll, maxPoll) {
		left := s.leased(ended, lease)
		if left <= 0 {
			return
		}
		if !sub.Live() {
			left = min(left, poll)
		}
		pause(ended, missed, left)
	}
}

// leased is for how long a lease lasts at the most; 0 if there is none, or Redis is
// silent. Nor does one count that is not marked as waited for: it was taken after the one
// that was met, and its end would wake nobody.
func (s *Store) leased(ctx context.Context, lease string) time.Duration {
	value := rdb.NewCmd(lease, "get", lease).Replayable()
	left := rdb.NewCmd(lease, "pttl", lease).Replayable()
	if err := s.conn.Exec(ctx, value, left); err != nil {
		return 0
	}
	if text, _ := value.Text(); !strings.HasPrefix(text, "L ") || !strings.HasSuffix(text, " 1") {
		return 0
	}
	return time.Duration(left.Int()) * time.Millisecond
}
