package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/go-weir/weir/cache/event"
)

// consume handles the stream for one group until ctx ends. Each group has all events,
// each process a part of them; what one had in hand when it died another takes over.
func (s *shop) consume(ctx context.Context, group string, handle func(context.Context, Happened) error) {
	err := s.relay.stream.Consume(ctx, group, func(ctx context.Context, e event.Entry[Happened]) error {
		return handle(ctx, e.Value)
	}, event.WithWorkers(4), event.WithClaimAfter(s.cfg.lease), event.WithBackoff(100*time.Millisecond, 10*time.Second),
		// An outage of Redis or of the database makes no dead letters.
		event.WithMaxDeliveries(1000))
	if err != nil {
		slog.ErrorContext(ctx, "shop: consumer ended", "group", group, "err", err)
	}
}

// confirm sends the confirmation of an order. "Sending" is a row in a table here; its
// key makes a second delivery harmless. With a mail server in its place, the order's
// id would be the message's.
func (s *shop) confirm(ctx context.Context, e Happened) error {
	if e.Kind != orderCreated {
		return nil
	}
	first, err := s.source.confirm(ctx, e.Order.ID)
	if err != nil || !first {
		return err
	}
	// Pages hear of it if they are there to hear; nothing depends on it.
	if err := s.confirmedTopic.Publish(ctx, noticeOf(e.Order)); err != nil {
		slog.WarnContext(ctx, "shop: pages were not told", "err", err)
	}
	return nil
}

// count keeps the lists that are made of orders.
func (s *shop) count(ctx context.Context, e Happened) error {
	switch e.Kind {
	case orderCreated:
		return s.desk.remember(ctx, e.Order)
	case orderPaid:
		return s.desk.count(ctx, e.Order)
	}
	return nil
}

func (s *source) confirm(ctx context.Context, order string) (first bool, err error) {
	n, err := s.exec(ctx, `INSERT OR IGNORE INTO confirmations ("order", sent) VALUES (?, ?)`, order, time.Now().UnixMicro())
	return n == 1, err
}

func (s *source) confirmed(ctx context.Context, order string) (is bool, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM confirmations WHERE "order" = ?)`, order).Scan(&is)
	return is, err
}
