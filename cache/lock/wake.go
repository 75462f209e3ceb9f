package lock

import "github.com/go-weir/weir/internal/rdb"

// watch is what the waiters of a process hear of one lock: that it may be free.
type watch struct{ subscriptions []*rdb.Subscription }

func (s *single) watch(channel string, wake func()) *watch {
	return &watch{[]*rdb.Subscription{s.conn.Subscribe(channel, rdb.Listener{
		Message: func(string, string) { wake() },
		Lost:    wake, // from here on they look for themselves
		Gap:     wake,
	})}}
}

func (q *quorum) watch(channel string, wake func()) *watch {
	all := new(watch)
	for _, s := range q.servers {
		all.subscriptions = append(all.subscriptions, s.watch(channel, wake).subscriptions...)
	}
	return all
}

// ready is closed when announcements are first heard, from one server at least.
func (w *watch) ready() <-chan struct{} { return w.subscriptions[0].Ready() }

// live reports whether no announcement from now on is missed.
func (w *watch) live() bool {
	for _, s := range w.subscriptions {
		if !s.Live() {
			return false
		}
	}
	return true
}

func (w *watch) close() {
	for _, s := range w.subscriptions {
		s.Close()
	}
}
