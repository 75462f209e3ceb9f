package main

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache/event"
	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/ratelimit/quota"
)

// buyer orders and pays, and does as a customer does to whom something goes wrong:
// tries again, with the same key while that may help, and with a new one when told that
// nobody knows.
type buyer struct {
	*visitor
	user    int64
	urls    []string // of the instances
	turn    int
	ordered []Order // that were answered 201
	paid    map[string]bool
	topped  int64
	logouts int
	odd     []string // answers that nobody should get
}

const buyerTopUp = 500_00

// next goes to another instance.
func (b *buyer) next() {
	b.turn++
	b.url = b.urls[b.turn%len(b.urls)]
}

// patiently sends a form until it is answered by something else than a refusal that
// passes: 503, or an instance that is gone.
func (b *buyer) patiently(ctx context.Context, path string, pairs ...string) (answer, bool) {
	for ctx.Err() == nil {
		a := b.post(path, pairs...)
		if a.err == nil && a.status != http.StatusServiceUnavailable && (a.status != http.StatusConflict || a.header.Get("Retry-After") == "") {
			return a, true
		}
		b.next()
		time.Sleep(20 * time.Millisecond)
	}
	return answer{}, false
}

// buy is one order, paid by two requests with the same key, to two instances at once.
func (b *buyer) buy(ctx context.Context, n int) {
	b.next()
	a := b.post("/orders", "product", "1", "quantity", "1")
	if a.err != nil || a.status == http.StatusServiceUnavailable {
		time.Sleep(20 * time.Millisecond)
		return // it may be placed or not; either way its event must be
	}
	b.expect(a, 201)
	if a.status != 201 {
		return
	}
	order := as[Order](b.t, a)
	b.ordered = append(b.ordered, order)
	b.settle(ctx, order, n)
}

func (b *buyer) settle(ctx context.Context, order Order, n int) {
	path := "/orders/" + order.ID + "/pay"
	for try := 0; ctx.Err() == nil; try++ {
		key := fmt.Sprintf("%s-%d-%d", order.ID, n, try)
		twin := b.at(b.urls[(b.turn+1)%len(b.urls)])
		done := make(chan struct{})
		go func() { defer close(done); twin.post(path, "key", key) }()
		a, ok := b.patiently(ctx, path, "key", key)
		<-done
		switch {
		case !ok:
		case a.status == 200, a.status == 409 && strings.Contains(a.body, "paid already"):
			b.paid[order.ID] = true
			return
		case a.status == 409: // interrupted: the instance has died
		case a.status == 402:
			top := fmt.Sprintf("top-up-%s-%d", order.ID, try)
			if a, ok := b.patiently(ctx, "/credit", "amount", "500", "key", top); ok {
				b.expect(a, 200)
				b.topped += buyerTopUp
			}
		default:
			b.expect(a, 200)
			return
		}
	}
}

func (b *buyer) expect(a answer, status int) {
	if a.status == 401 {
		b.logouts++
	}
	if a.status != status && len(b.odd) < 3 {
		b.odd = append(b.odd, fmt.Sprintf("%d %s", a.status, a.body))
	}
}

// shoppers are some, each with an account and some credit.
func shoppers(t *testing.T, n int, urls ...string) []*buyer {
	t.Helper()
	var all []*buyer
	for i := range n {
		b := &buyer{visitor: newVisitor(t, urls[0]), urls: urls, turn: i, paid: make(map[string]bool), topped: buyerTopUp}
		b.join(fmt.Sprintf("buyer%d@example.com", i), "500")
		b.user = as[Order](t, b.insist("/orders", "product", "5", "quantity", "1").want(t, 201)).User
		all = append(all, b)
	}
	return all
}

// together has all of them buy until stop is closed.
func together(t *testing.T, buyers []*buyer, stop <-chan struct{}) (wait func()) {
	ctx, cancel := context.WithTimeout(t.Context(), long(5*time.Minute, 40*time.Minute))
	var wg sync.WaitGroup
	for _, b := range buyers {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					b.buy(ctx, n)
				}
			}
		})
	}
	return func() { wg.Wait(); cancel() }
}

// audit compares what buyers were told, the database, the ledger and the stream.
func audit(t *testing.T, buyers []*buyer, db string, rdb redis.UniversalClient) {
	t.Helper()
	source, err := openSource(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	defer source.db.Close()
	ledger, err := quota.New(rdb, quota.WithName("shop credit"), quota.WithIDLifetime(rememberPayments), quota.WithTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	// What load has left undone may take a while; it must not stand still.
	begin := time.Now()
	todo := func() int {
		return count(t, source, "outbox") + count(t, source, "orders") - count(t, source, "confirmations")
	}
	backlog := todo()
	for left := backlog; left > 0; {
		testkit.Eventually(t, fmt.Sprintf("less to do than %d", left), func() bool { return todo() < left })
		left = todo()
	}
	t.Logf("%d events and confirmations were open at the end of the load, none %v later", backlog, time.Since(begin).Round(time.Millisecond))
	orders, payments := count(t, source, "orders"), count(t, source, "payments")
	if n := count(t, source, "incidents"); n != 0 {
		t.Errorf("%d incidents: something reached the database's constraints", n)
	}
	known, paid := 0, 0
	for _, b := range buyers {
		for _, o := range b.ordered {
			stored, err := source.order(t.Context(), o.ID)
			if err != nil {
				t.Errorf("order %s was answered 201 and is lost: %v", o.ID, err)
			}
			if b.paid[o.ID] != stored.IsPaid() {
				t.Errorf("order %s: told %v, stored %v", o.ID, b.paid[o.ID], stored.Paid)
			}
		}
		var spent sql.NullInt64
		if err := source.db.QueryRowContext(t.Context(), `SELECT sum(amount) FROM payments WHERE user = ?`, b.user).Scan(&spent); err != nil {
			t.Fatal(err)
		}
		receipt, err := ledger.Balance(t.Context(), account(b.user))
		if err != nil || receipt.Balance != b.topped-spent.Int64 {
			t.Errorf("buyer %d: balance %d, %v; want %d - %d", b.user, receipt.Balance, err, b.topped, spent.Int64)
		}
		if b.logouts > 0 || len(b.odd) > 0 {
			t.Errorf("buyer %d: logged out %d times; odd answers %q", b.user, b.logouts, b.odd)
		}
		known, paid = known+len(b.ordered), paid+len(b.paid)
	}
	created, repeated := events(t, rdb)
	if created != orders {
		t.Errorf("%d orders, and events of %d", orders, created)
	}
	t.Logf("%d orders, %d of them answered; %d payments, %d of them answered; %d events, %d repeated", orders, known, payments, paid, created, repeated)
}

// events counts the orders that the stream tells of, and how often it repeats itself.
func events(t *testing.T, rdb redis.UniversalClient) (orders, repeated int) {
	t.Helper()
	bus, err1 := event.New(rdb, event.WithTimeout(time.Second))
	if err1 != nil {
		t.Fatal(err1)
	}
	defer bus.Close()
	stream, err := event.NewStream[Happened](bus, "shop.orders")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for after := event.Oldest; ; {
		page, err := stream.Read(t.Context(), after, 1000)
		if err != nil || page.Missed {
			t.Fatal("the stream: ", err, page.Missed)
		}
		for _, e := range page.Entries {
			id := e.Value.Kind + " " + e.Value.Order.ID
			if seen[id] {
				repeated++
			} else if e.Value.Kind == orderCreated {
				orders++
			}
			seen[id] = true
		}
		if len(page.Entries) == 0 {
			return orders, repeated
		}
		after = page.Next
	}
}

// long makes a campaign's figures those of WEIR_SOAK=1.
func long[T cmp.Ordered](short, soak T) T {
	if os.Getenv("WEIR_SOAK") != "" {
		return soak
	}
	return short
}

// Two instances on one Redis and one database, load on both, and one of them is killed
// with -9, again and again: nothing is charged twice, no order is without its event and
// its confirmation, nobody is logged out.
//
// It goes red without the id of Deduct in charge (balances), and without addEvent in
// addOrder (orders without an event).
func TestShop_killed(t *testing.T) {
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	b := testkit.Server(t)
	redisURL := "redis://" + b.Addrs()[0]
	cfg := testConfig(t, func(cfg *config) { cfg.lease = 2 * time.Second })
	steady := start(t, cfg, redisURL)
	victim := start(t, cfg, redisURL)
	addr := strings.TrimPrefix(victim.url, "http://") // each has the same

	buyers := shoppers(t, long(6, 16), steady.url, victim.url)
	stop := make(chan struct{})
	wait := together(t, buyers, stop)
	for range long(3, 100) {
		time.Sleep(700 * time.Millisecond) // load
		victim.kill()
		victim = start(t, cfg, redisURL, "-listen", addr)
	}
	close(stop)
	wait()
	for _, v := range buyers {
		if v.status().User == "" {
			t.Errorf("buyer %d is logged out", v.user)
		}
	}
	audit(t, buyers, cfg.db, b.Client(t))
}
