package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/cache/idempotency"
	"github.com/go-weir/weir/cache/lock"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
	"github.com/go-weir/weir/ratelimit/quota"
	"github.com/go-weir/weir/session"
)

// shop is the engines, all on one client, and what is behind them.
type shop struct {
	cfg    config
	source *source
	desk   *desk
	live   *live
	relay  *relay

	visits, logins, joins, placed *ratelimit.Limiter

	credits        *quota.Ledger
	sessions       *session.Manager
	flash          session.Flash[string]
	store          *cache.Store
	purger         *middleware.Purger
	refresher      *middleware.Refresher
	users          *cache.Cache[User]
	orders         *cache.Cache[Order]
	products       *cache.Cache[[]Product]
	locks          *lock.Locker
	once           *idempotency.Store
	bus            *event.Bus
	confirmedTopic *event.Topic[Notice]
	events         *middleware.EventsHandler
}

// newShop makes everything and asks Redis for nothing, so that it works while Redis
// is down. All mistakes come in one error.
func newShop(cfg config, rdb redis.UniversalClient) (*shop, error) {
	s := &shop{cfg: cfg, desk: &desk{rdb: rdb, wait: cfg.wait}, live: &live{instance: cfg.instance, held: make(map[string]int)}}
	var mistakes []error
	try := func(err error) { mistakes = append(mistakes, err) }
	var err error

	s.visits, err = ratelimit.New(rdb, ratelimit.PerMinute(cfg.visits).Named("visits"), ratelimit.WithName("shop visits"), ratelimit.WithTimeout(cfg.wait))
	try(err)
	s.logins, err = ratelimit.New(rdb, ratelimit.PerMinute(cfg.logins).Named("logins"), ratelimit.WithName("shop logins"), ratelimit.WithTimeout(cfg.wait))
	try(err)
	s.joins, err = ratelimit.New(rdb, ratelimit.PerHour(cfg.joins).Named("accounts"), ratelimit.WithName("shop accounts"), ratelimit.WithTimeout(cfg.wait))
	try(err)
	s.placed, err = ratelimit.New(rdb, ratelimit.PerMinute(cfg.orders).Named("orders"), ratelimit.WithName("shop orders"), ratelimit.WithTimeout(cfg.wait))
	try(err)
	s.credits, err = quota.New(rdb, quota.WithName("shop credit"), quota.WithIDLifetime(rememberPayments), quota.WithTimeout(cfg.wait))
	try(err)
	s.sessions, err = session.New(rdb, session.WithTimeout(cfg.wait))
	try(err)
	s.store, err = cache.New(rdb, cache.WithTTL(5*time.Minute), cache.WithNear(8<<20), cache.WithObserver(s.live.observe), cache.WithTimeout(cfg.wait))
	try(err)
	s.locks, err = lock.New(rdb, lock.WithAutoExtend(time.Minute), lock.WithLabel(cfg.instance), lock.WithTimeout(cfg.wait))
	try(err)
	s.once, err = idempotency.New(rdb, idempotency.WithLease(cfg.lease), idempotency.WithTimeout(cfg.wait))
	try(err)
	s.bus, err = event.New(rdb, event.WithTimeout(cfg.wait))
	try(err)
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}

	s.users, err = cache.For[User](s.store, "shop.user", cache.WithNegativeTTL(time.Minute))
	try(err)
	s.orders, err = cache.For[Order](s.store, "shop.order", cache.WithNegativeTTL(time.Minute))
	try(err)
	s.products, err = cache.For[[]Product](s.store, "shop.products")
	try(err)
	try(s.openEvents())
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	s.flash = session.NewFlash[string](s.sessions, "flash")
	s.purger = middleware.NewPurger(s.store)
	s.refresher = middleware.NewRefresher()
	s.source, err = openSource(context.Background(), cfg.db)
	if err != nil {
		return nil, err
	}
	s.relay.source = s.source
	return s, nil
}

func (s *shop) openEvents() error {
	created, err1 := event.NewTopic[Notice](s.bus, orderCreated)
	paid, err2 := event.NewTopic[Notice](s.bus, orderPaid)
	confirmed, err3 := event.NewTopic[Notice](s.bus, orderConfirmed)
	counts, err4 := event.NewTopic[Counts](s.bus, orderCounts)
	// A browser is given all of it over one connection, under the topics' names.
	all, err5 := event.NewPattern[json.RawMessage](s.bus, "order.*")
	stream, err6 := event.NewStream[Happened](s.bus, "shop.orders")
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return err
	}
	s.confirmedTopic = confirmed
	s.live.topic, s.live.all = counts, all
	s.relay = &relay{
		stream: stream,
		topics: map[string]*event.Topic[Notice]{orderCreated: created, orderPaid: paid},
		kicked: make(chan struct{}, 1),
	}
	s.events = middleware.Events(middleware.FromPattern(all), middleware.WithMaxStreams(1000))
	return nil
}

// work does what no request asks for, until ctx ends.
func (s *shop) work(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.appoint(ctx) })
	wg.Go(func() { s.relay.run(ctx) })
	wg.Go(func() { s.live.tell(ctx) })
	wg.Go(func() { s.live.listen(ctx, s.source) })
	wg.Go(func() { s.consume(ctx, "confirmation", s.confirm) })
	wg.Go(func() { s.consume(ctx, "count", s.count) })
}

// appoint gives the administrator their role, as soon as Redis is there.
func (s *shop) appoint(ctx context.Context) {
	for {
		user, err := s.source.appoint(ctx, s.cfg.admin)
		if err == nil {
			err = s.desk.giveRole(ctx, user, roleAdmin)
		}
		if err == nil {
			return
		}
		slog.WarnContext(ctx, "shop: no administrator yet", "err", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// drain ends the open event streams when the server is told to stop.
func (s *shop) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.events.Shutdown(ctx) // who does not take it is cut off
}

// close ends the rest. The client is its maker's.
func (s *shop) close() error {
	s.refresher.Close()
	s.store.Close()
	return errors.Join(s.bus.Close(), s.source.db.Close())
}

// handler is the shop's routes. The order of the wrappers is that of middleware's
// page.
func (s *shop) handler() http.Handler {
	r := chi.NewRouter()
	r.Use(secure, pages, crossOrigin())
	r.Get("/healthz", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	r.Get("/static/{name}", s.static)
	r.Method(http.MethodGet, "/events", s.events)
	r.Group(s.routes)
	r.NotFound(func(w http.ResponseWriter, r *http.Request) { s.fail(w, r, cache.ErrNotFound) })
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		middleware.WriteProblem(w, middleware.Problem{Status: http.StatusMethodNotAllowed}, 0)
	})
	return r
}

func (s *shop) routes(r chi.Router) {
	cost := func(r *http.Request) int {
		if r.URL.Path == "/status" { // a page's script asks how the limit stands
			return 0
		}
		return 1
	}
	visits := middleware.RateLimit(s.visits, middleware.KeyByIP, middleware.WithCostFunc(cost))

	// Pages that are the same for everybody: one round trip for limit and page.
	kept := r.With(middleware.OneTrip(visits, s.live.watch,
		middleware.Cache(s.store, middleware.WithRefresher(s.refresher), middleware.WithTargets(pageCacheField))))
	kept.Get("/products", s.showProducts)
	kept.Get("/products/{id}", s.showProduct)

	// All others look at the session: one for limit and session.
	r = r.With(middleware.OneTrip(visits, middleware.Session(s.sessions)))
	r.With(middleware.AnonymousFallback).Get("/", s.showHome)
	r.Get("/status", s.status)
	r.Get("/login", s.showForm("login", "Log in"))
	r.Get("/register", s.showForm("register", "New account"))
	r.Get("/orders", s.withUser(s.showOrders))
	r.Get("/orders/{order}", s.withUser(s.showOrder))
	r.Get("/account", s.withUser(s.showAccount))
	r.Get("/admin", s.admin(s.showAdmin))

	// Only failed logins count, and while one is under way it does, too.
	r.With(middleware.RateLimit(s.logins, middleware.KeyByIP, middleware.WithRefund(middleware.OnSuccess)), form).Post("/login", s.login)
	r.With(middleware.RateLimit(s.joins, middleware.KeyByIP, middleware.WithRefund(middleware.OnFailure)), form).Post("/register", s.register)
	r.With(form).Post("/logout", s.logout)
	r.With(form).Post("/account", s.withUser(s.rename))
	r.With(form).Post("/devices/end", s.withUser(s.endOthers))
	r.With(form).Post("/devices/{device}/end", s.withUser(s.endDevice))
	r.With(form).Post("/devices/end-all", s.withUser(s.endAll))
	r.With(form).Post("/credit", s.withUser(s.topUp))
	r.With(form).Post("/admin/products/{id}", s.admin(s.editProduct))

	byUser := middleware.KeyByUser(s.byUser)
	user := r.With(s.onlyUsers)
	user.With(middleware.RateLimit(s.placed, byUser), form, middleware.Idempotency(s.once, byUser)).Post("/orders", s.withUser(s.order))
	// A body is a form, whatever else Content-Type says of it: a script's has a charset.
	user.With(form, middleware.Idempotency(s.once, byUser, middleware.WithRequired(), middleware.WithCompletion(), middleware.WithFingerprintFields()),
		middleware.Serialize(s.locks, byOrder, middleware.WithLockTTL(s.cfg.lease)),
	).Post("/orders/{order}/pay", s.withUser(s.pay))
}
