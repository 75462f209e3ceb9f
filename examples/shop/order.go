package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"

	"github.com/go-weir/weir/cache"
)

// Order is what somebody has ordered. Total is in cents.
type Order struct {
	ID       string
	User     int64
	Product  int64
	Item     string
	Quantity int64
	Total    int64
	Created  time.Time
	Paid     time.Time // zero until it is
}

// Short is enough of the id to tell orders on a page apart.
func (o Order) Short() string { return short(o.ID) }

func short(id string) string { return id[:min(6, len(id))] }

// IsPaid is for templates.
func (o Order) IsPaid() bool { return !o.Paid.IsZero() }

const mostAtOnce = 99 // of one product in an order

// order places one: written through, so that the cache has it when the answer leaves,
// together with its event.
func (s *shop) order(w http.ResponseWriter, r *http.Request, user User) {
	order, err := s.newOrder(r, user)
	if err == nil {
		err = s.orders.Store(r.Context(), order.ID, order, s.source.addOrder)
	}
	if err = written(r.Context(), err); err != nil {
		s.fail(w, r, err)
		return
	}
	s.relay.kick()
	w.Header().Set("Location", "/orders/"+order.ID)
	s.done(w, r, http.StatusCreated, "/orders/"+order.ID, "Thank you. Your order is placed.", order)
}

func (s *shop) newOrder(r *http.Request, user User) (Order, error) {
	id, err := strconv.ParseInt(r.PostFormValue("product"), 10, 64)
	if err != nil {
		return Order{}, invalid("There is no such product.")
	}
	quantity, err := strconv.ParseInt(r.PostFormValue("quantity"), 10, 64)
	if err != nil || quantity < 1 || quantity > mostAtOnce {
		return Order{}, invalid("An order is for 1 to 99 pieces.")
	}
	// The price is the source's, not that of a cache.
	product, err := s.source.product(r.Context(), id)
	if errors.Is(err, cache.ErrNotFound) {
		return Order{}, invalid("There is no such product.")
	}
	if err != nil {
		return Order{}, err
	}
	return Order{
		ID: strings.ToLower(rand.Text()), User: user.ID, Product: product.ID, Item: product.Name,
		Quantity: quantity, Total: quantity * product.Price, Created: time.Now().Truncate(time.Microsecond),
	}, nil
}

// written takes what a write through the cache has returned: if the source has it,
// it is written, even if the cache could not be told.
func written(ctx context.Context, err error) error {
	if errors.Is(err, cache.ErrNotInvalidated) {
		slog.WarnContext(ctx, "shop: the cache may be behind", "err", err)
		return nil
	}
	return err
}

// orderOf is the order of the request's path, if it is user's. Whose it is else is
// nobody's business: it is then not found.
func (s *shop) orderOf(r *http.Request, user User) (Order, error) {
	id := chi.URLParam(r, "order")
	order, err := s.orders.Load(r.Context(), id, func(ctx context.Context) (Order, error) { return s.source.order(ctx, id) })
	if err == nil && order.User != user.ID {
		err = cache.ErrNotFound
	}
	return order, err
}

func (s *shop) showOrder(w http.ResponseWriter, r *http.Request, user User) {
	order, err := s.orderOf(r, user)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	confirmed, err := s.source.confirmed(r.Context(), order.ID)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "order", page{Title: "Order " + order.Short(), User: &user, Order: order, Confirmed: confirmed, Key: rand.Text()}, order)
}

// showOrders is the list of the latest ones: the ids from a list of Redis, and the
// orders in one more round trip for all of them.
func (s *shop) showOrders(w http.ResponseWriter, r *http.Request, user User) {
	desk, err := s.desk.read(r.Context(), &user)
	var orders []Order
	if err == nil {
		orders, err = s.load(r.Context(), desk.recent)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.show(w, r, http.StatusOK, "orders", page{Title: "Your orders", User: &user, Orders: orders}, orders)
}

// load returns orders in the order of their ids.
func (s *shop) load(ctx context.Context, ids []string) ([]Order, error) {
	found, err := s.orders.LoadMany(ctx, ids, s.source.ordersByID)
	if err != nil {
		return nil, err
	}
	orders := make([]Order, 0, len(ids))
	for _, id := range ids {
		if order, ok := found[id]; ok {
			orders = append(orders, order)
		}
	}
	return orders, nil
}

// addOrder writes an order and its event, or neither.
func (s *source) addOrder(ctx context.Context, o Order) error {
	return s.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO orders (id, user, product, item, quantity, total, created) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			o.ID, o.User, o.Product, o.Item, o.Quantity, o.Total, o.Created.UnixMicro())
		return errors.Join(err, addEvent(ctx, tx, orderCreated, o))
	})
}

const orderColumns = `SELECT id, user, product, item, quantity, total, created, paid FROM orders `

func scanOrder(row interface{ Scan(...any) error }) (o Order, err error) {
	var created, paid int64
	err = row.Scan(&o.ID, &o.User, &o.Product, &o.Item, &o.Quantity, &o.Total, &created, &paid)
	o.Created = time.UnixMicro(created)
	if paid > 0 {
		o.Paid = time.UnixMicro(paid)
	}
	return o, found(err)
}

func (s *source) order(ctx context.Context, id string) (Order, error) {
	return scanOrder(s.db.QueryRowContext(ctx, orderColumns+`WHERE id = ?`, id))
}

func (s *source) ordersByID(ctx context.Context, ids []string) (map[string]Order, error) {
	list, err := json.Marshal(ids)
	if err != nil {
		return nil, err
	}
	orders, err := s.listOrders(ctx, `WHERE id IN (SELECT value FROM json_each(?))`, string(list))
	found := make(map[string]Order, len(orders))
	for _, o := range orders {
		found[o.ID] = o
	}
	return found, err
}

// latest are the orders placed last, of all users.
func (s *source) latest(ctx context.Context, n int) ([]Order, error) {
	return s.listOrders(ctx, `ORDER BY rowid DESC LIMIT ?`, n)
}

func (s *source) listOrders(ctx context.Context, where string, args ...any) (orders []Order, err error) {
	rows, err := s.db.QueryContext(ctx, orderColumns+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		o, err := scanOrder(rows)
		if err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, rows.Err()
}
