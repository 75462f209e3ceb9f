package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// soonEnough is far above the budget of 50 ms, for loaded machines. Without deadlines
// an answer takes go-redis's timeouts, which are seconds.
const soonEnough = 2 * time.Second

// Redis stands still, and is killed, under load: pages that need no Redis answer, the
// others say 503 in time, and all goes on when it is back, without a restart.
//
// It goes red without AnonymousFallback at the start page, and with desk.read called
// without within.
func TestShop_redisTakenAway(t *testing.T) {
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	b := testkit.Server(t, "--appendonly", "yes", "--appendfsync", "no") // what is written outlives the process
	cfg := testConfig(t, func(cfg *config) { cfg.wait, cfg.lease = 50*time.Millisecond, 2*time.Second })
	p := start(t, cfg, "redis://"+b.Addrs()[0])
	buyers := shoppers(t, long(4, 16), p.url)
	user := newVisitor(t, p.url)
	user.join("ada@example.com", "100")
	order := as[Order](t, user.insist("/orders", "product", "1", "quantity", "1").want(t, 201))
	stop := make(chan struct{})
	wait := together(t, buyers, stop)

	for range long(1, 10) {
		for name, outage := range map[string]struct{ begin, end func() }{
			"SIGSTOP": {b.Pause, b.Resume},
			"kill -9": {b.Kill, func() { b.Restart(t) }},
		} {
			time.Sleep(300 * time.Millisecond) // load
			outage.begin()
			slowest := silent(t, name, user, order)
			outage.end()
			testkit.Eventually(t, "all of it again", func() bool {
				return user.get("/account").status == 200 && user.get("/orders/"+order.ID).status == 200
			})
			t.Logf("%s: the slowest answer took %v", name, slowest)
		}
	}
	close(stop)
	wait()
	if got := user.status(); got.User != "Ada" {
		t.Errorf("logged out: %+v", got)
	}
	user.insist("/orders/"+order.ID+"/pay", "key", "after").want(t, 200)
	audit(t, buyers, cfg.db, b.Client(t))
}

// silent asks for what there is while Redis is away.
func silent(t *testing.T, name string, user *visitor, order Order) (slowest time.Duration) {
	t.Helper()
	nobody := newVisitor(t, user.url)
	ask := func(what string, a answer, want int) {
		t.Helper()
		slowest = max(slowest, a.took)
		if a.err != nil || a.status != want {
			t.Errorf("%s: %s: %d %v %s; want %d", name, what, a.status, a.err, a.body, want)
		}
		if a.took > soonEnough {
			t.Errorf("%s: %s took %v", name, what, a.took)
		}
		if want == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %s: 503 without Retry-After", name, what)
		}
	}
	for range 3 {
		for _, path := range []string{"/", "/products", "/products/1", "/login", "/healthz", "/static/shop.css", "/status"} {
			ask("nobody's "+path, nobody.get(path), 200)
		}
		if a := nobody.get("/", "Accept", "text/html"); !strings.Contains(a.body, "Green tea") || !strings.Contains(a.body, "not available at the moment") {
			t.Errorf("%s: the start page says %s", name, a.body)
		}
		ask("somebody's /", user.get("/"), 200)
		ask("nobody's unknown page", nobody.get("/nothing"), 404)
		for _, path := range []string{"/account", "/orders", "/orders/" + order.ID, "/status"} {
			ask("somebody's "+path, user.get(path), 503)
		}
		ask("an order", user.post("/orders", "product", "1", "quantity", "1"), 503)
		ask("a payment", user.post("/orders/"+order.ID+"/pay", "key", "during"), 503)
		ask("credit", user.post("/credit", "amount", "1", "key", "during"), 503)
		ask("a login", nobody.post("/login", "email", "ada@example.com", "password", password), 503)
		ask("events", nobody.get("/events", "Accept", "application/json"), 406)
	}
	return slowest
}
