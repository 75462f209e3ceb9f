package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/go-weir/weir/cache/event"
)

// What happens to orders. The kinds are the names of topics, too.
const (
	orderCreated   = "order.created"
	orderPaid      = "order.paid"
	orderConfirmed = "order.confirmed"
	// orderCounts is what each process counts. It is one of the family, so that one
	// pattern, and one connection of a browser, has all.
	orderCounts = "order.counts"
)

// Happened is an event of the stream, which is for the shop's own consumers.
type Happened struct {
	Kind  string
	Order Order
}

// Notice is an event of the topics, which everybody may hear: it does not say whose
// the order is.
type Notice struct {
	Order    string
	Item     string
	Quantity int64
	Total    string
}

func noticeOf(o Order) Notice {
	return Notice{Order: o.Short(), Item: o.Item, Quantity: o.Quantity, Total: money(o.Total)}
}

// addEvent notes an event in the transaction that makes it true; a relay publishes it.
func addEvent(ctx context.Context, tx *sql.Tx, kind string, o Order) error {
	body, err := json.Marshal(Happened{Kind: kind, Order: o})
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO outbox (id, kind, body) VALUES (?, ?, ?)`, kind+" "+o.ID, kind, string(body))
	return err
}

// relay publishes what the outbox holds: at once when it is kicked, and once a second
// what another process has left, having died. An event is taken out when Redis has
// it, so it is published once at least. Its id makes that once in all for ten
// minutes; after that the consumers know it by its order.
type relay struct {
	source *source
	stream *event.Stream[Happened]
	topics map[string]*event.Topic[Notice]
	kicked chan struct{}
}

const (
	relayEvery = time.Second
	relayBatch = 100
)

func (r *relay) kick() {
	select {
	case r.kicked <- struct{}{}:
	default: // one is waiting
	}
}

func (r *relay) run(ctx context.Context) {
	tick := time.NewTicker(relayEvery)
	defer tick.Stop()
	for {
		if err := r.publish(ctx); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "shop: events wait in the outbox", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.kicked:
		case <-tick.C:
		}
	}
}

type outgoing struct {
	id    string
	event Happened
}

func (r *relay) publish(ctx context.Context) error {
	for {
		batch, err := r.source.outgoing(ctx, relayBatch)
		if err != nil {
			return err
		}
		var published []string
		for _, o := range batch {
			if _, _, err = r.stream.PublishOnce(ctx, o.id, o.event); err != nil {
				break
			}
			if _, err = r.topics[o.event.Kind].PublishOnce(ctx, o.id, noticeOf(o.event.Order)); err != nil {
				break
			}
			published = append(published, o.id)
		}
		if len(published) > 0 {
			err = errors.Join(err, r.source.gone(ctx, published))
		}
		if err != nil || len(batch) < relayBatch {
			return err
		}
	}
}

func (s *source) outgoing(ctx context.Context, most int) ([]outgoing, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, body FROM outbox ORDER BY rowid LIMIT ?`, most)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []outgoing
	for rows.Next() {
		var o outgoing
		var body []byte
		if err := rows.Scan(&o.id, &body); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(body, &o.event); err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, rows.Err()
}

func (s *source) gone(ctx context.Context, ids []string) error {
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, `DELETE FROM outbox WHERE id IN (SELECT value FROM json_each(?))`, string(list))
	return err
}
