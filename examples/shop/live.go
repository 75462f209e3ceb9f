package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/cache/event"
)

// live is what the page shows as it happens: what this process counts of itself, which
// it tells all pages, and the orders that it has heard of, for pages that are loaded.
type live struct {
	instance string
	topic    *event.Topic[Counts]
	all      *event.Pattern[json.RawMessage]

	mu     sync.Mutex
	counts Counts
	held   map[string]int // orders being paid
	heard  []Heard        // the latest one first
}

// Counts is what a process tells of itself. The numbers are since its start.
type Counts struct {
	Instance     string
	Hits, Misses uint64   // of data
	Pages, Made  uint64   // answered from what was kept, and made
	Locks        []string // orders being paid, each under its lock
	Payments     uint64   // for which a lock was held
}

// Heard is an event of an order, by its topic.
type Heard struct {
	Topic string
	Notice
}

const (
	tellAtMostEvery  = 250 * time.Millisecond
	tellAtLeastEvery = 5 * time.Second // or a page takes this process for gone
	heardLength      = 8
)

// observe counts what becomes of reads of the data cache.
func (l *live) observe(_ context.Context, e cache.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Kind {
	case cache.NearHit, cache.Hit:
		l.counts.Hits++
	case cache.Miss:
		l.counts.Misses++
	}
}

// watch counts what middleware.Cache, inside of it, has answered from what it kept.
func (l *live) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		l.mu.Lock()
		defer l.mu.Unlock()
		if strings.Contains(w.Header().Get("Cache-Status"), ";hit") {
			l.counts.Pages++
		} else {
			l.counts.Made++
		}
	})
}

// hold shows that an order is locked, until free is called.
func (l *live) hold(order string) (free func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held[order]++
	l.counts.Payments++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[order]--; l.held[order] == 0 {
			delete(l.held, order)
		}
	}
}

func (l *live) now() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.Instance = l.instance
	c.Locks = slices.Sorted(maps.Keys(l.held))
	return c
}

func (l *live) latest() []Heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.heard)
}

// tell publishes the counts when they change. Nobody may be there to hear.
func (l *live) tell(ctx context.Context) {
	tick := time.NewTicker(tellAtMostEvery)
	defer tick.Stop()
	var last Counts
	var told time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		c := l.now()
		same := c.Hits == last.Hits && c.Misses == last.Misses && c.Pages == last.Pages && c.Made == last.Made &&
			c.Payments == last.Payments && slices.Equal(c.Locks, last.Locks)
		if same && time.Since(told) < tellAtLeastEvery {
			continue
		}
		if err := l.topic.Publish(ctx, c); err == nil {
			last, told = c, time.Now()
		}
	}
}

// listen hears of orders, of all processes. It begins with those in the source, and
// reads them again when it may have missed something.
func (l *live) listen(ctx context.Context, source *source) {
	sub, err := l.all.Subscribe()
	if err != nil {
		slog.ErrorContext(ctx, "shop: cannot hear of orders", "err", err)
		return
	}
	defer sub.Close()
	l.reload(ctx, source)
	for e, err := range sub.All(ctx) {
		if errors.Is(err, event.ErrGap) {
			l.reload(ctx, source)
			continue
		}
		if err == nil && e.Topic != orderCounts {
			err = l.hear(e.Topic, e.Value)
		}
		if err != nil {
			slog.WarnContext(ctx, "shop: not an order", "err", err)
		}
	}
}

func (l *live) hear(topic string, told json.RawMessage) error {
	heard := Heard{Topic: topic}
	if err := json.Unmarshal(told, &heard.Notice); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = slices.Insert(l.heard, 0, heard)
	l.heard = l.heard[:min(len(l.heard), heardLength)]
	return nil
}

func (l *live) reload(ctx context.Context, source *source) {
	orders, err := source.latest(ctx, heardLength)
	if err != nil {
		slog.WarnContext(ctx, "shop: cannot read the latest orders", "err", err)
		return
	}
	heard := make([]Heard, 0, len(orders))
	for _, o := range orders {
		topic := orderCreated
		if o.IsPaid() {
			topic = orderPaid
		}
		heard = append(heard, Heard{Topic: topic, Notice: noticeOf(o)})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = heard
}
