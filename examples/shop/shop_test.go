package main

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// each runs a test on every kind of Redis. The shop names its keys itself, so each
// test has a Redis of its own.
func each(t *testing.T, run func(t *testing.T, b *testkit.Backend)) {
	t.Run("mini", func(t *testing.T) { run(t, testkit.Mini(t)) })
	if testing.Short() {
		return
	}
	t.Run("server", func(t *testing.T) { run(t, testkit.Server(t)) })
	t.Run("cluster of three", func(t *testing.T) { run(t, testkit.Cluster3(t)) })
}

type homePage struct {
	Balance int64
	Orders  []Order
	Roles   []string
	Best    []sold
	Heard   []Heard
}

// From the account to the leaderboard. It goes red without Idempotency around pay, and
// without payable's look at whose the order is.
func TestShop_order(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *testkit.Backend) {
		s, v := open(t, b.Client(t))
		if v.post("/orders", "product", "1", "quantity", "1").status != http.StatusUnauthorized {
			t.Error("an order of nobody")
		}
		v.join("ada@example.com", "20")

		// More than the credit is refused, and the refusal is kept under its key. What is
		// topped up afterwards is there for the next payment, which has a new key.
		order := as[Order](t, v.post("/orders", "product", "1", "quantity", "3").want(t, 201))
		pay := "/orders/" + order.ID + "/pay"
		v.post(pay, "key", "poor").want(t, 402)
		v.post("/credit", "amount", "30", "key", "second").want(t, 200)
		if a := v.post("/credit", "amount", "30", "key", "second"); as[homePage](t, a).Balance != 5000 {
			t.Errorf("topped up twice with one key: %s; want 5000", a.body)
		}
		if a := v.post(pay, "key", "poor").want(t, 402); a.header.Get("Idempotent-Replayed") != "true" {
			t.Error("a refusal is not replayed")
		}
		first := v.post(pay, "key", "rich").want(t, 200)
		second := v.post(pay, "key", "rich").want(t, 200)
		if second.body != first.body || second.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("paid twice with one key: %q, %v; want a replay of %q", second.body, second.header, first.body)
		}
		v.post(pay, "key", "another").want(t, 409)
		if home := as[homePage](t, v.get("/")); home.Balance != 5000-3*1290 {
			t.Errorf("balance %d; want %d", home.Balance, 5000-3*1290)
		}

		// What is written through is there when the answer is; what consumers do comes.
		if got := as[Order](t, v.get("/orders/"+order.ID)); !got.IsPaid() {
			t.Errorf("%+v is not paid", got)
		}
		testkit.Eventually(t, "the confirmation", func() bool {
			confirmed, err := s.source.confirmed(t.Context(), order.ID)
			return err == nil && confirmed
		})
		var home homePage
		testkit.Eventually(t, "the lists made of orders", func() bool {
			home = as[homePage](t, v.get("/"))
			return len(home.Orders) == 1 && len(home.Best) == 1 && len(home.Heard) == 3
		})
		if home.Orders[0].ID != order.ID || !home.Orders[0].IsPaid() || home.Best[0].Pieces != 3 || home.Best[0].Product.ID != 1 {
			t.Errorf("home: %+v", home)
		}

		// An event that comes again changes nothing: TestShop_order goes red without the
		// NX of countSale, the LRem of remember or the OR IGNORE of confirm.
		paid := as[Order](t, first)
		for _, kind := range []string{orderCreated, orderPaid} {
			if err := s.confirm(t.Context(), Happened{kind, paid}); err != nil {
				t.Error(err)
			}
			if err := s.count(t.Context(), Happened{kind, paid}); err != nil {
				t.Error(err)
			}
		}
		home = as[homePage](t, v.get("/"))
		if len(home.Orders) != 1 || home.Best[0].Pieces != 3 {
			t.Errorf("after a second delivery: %+v", home)
		}

		// It is nobody else's.
		other := newVisitor(t, v.url)
		other.join("eve@example.com", "100")
		other.get("/orders/"+order.ID).want(t, 404)
		other.post(pay, "key", "rich").want(t, 404)

		// Only the shop's own roles have no lifetime, and accounts, which hold money.
		for _, key := range testkit.Keys(t, b.Client(t), "") {
			ttl, err := b.Client(t).TTL(t.Context(), key).Result()
			if err != nil || ttl < 0 && !strings.HasSuffix(key, ":roles") && !strings.HasPrefix(key, "weir:quota:") {
				t.Errorf("%s lives for %v, %v", key, ttl, err)
			}
		}
		if n := count(t, s.source, "incidents"); n != 0 {
			t.Errorf("%d incidents", n)
		}
	})
}

// Many pay one order at once, in two processes' worth of shops, some with the same key.
// It is charged once, and the database's constraints had nothing to refuse: without
// Serialize around pay there are incidents.
func TestShop_payTogether(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *testkit.Backend) {
		slow := func(cfg *config) { cfg.payment = 20 * time.Millisecond }
		s1, v := open(t, b.Client(t), slow)
		_, v2 := open(t, b.Client(t), slow, func(cfg *config) { cfg.db = s1.cfg.db })
		v.join("ada@example.com", "100")
		for range 3 {
			order := as[Order](t, v.post("/orders", "product", "3", "quantity", "1").want(t, 201))
			before := as[homePage](t, v.get("/")).Balance
			var wg sync.WaitGroup
			statuses := make([]int, 12)
			for i := range statuses {
				buyer := v.at([]string{v.url, v2.url}[i%2])
				wg.Go(func() {
					statuses[i] = buyer.post("/orders/"+order.ID+"/pay", "key", order.ID+strconv.Itoa(i/3)).status
				})
			}
			wg.Wait()
			if !slices.Contains(statuses, 200) || slices.ContainsFunc(statuses, func(s int) bool { return s != 200 && s != 409 }) {
				t.Errorf("statuses %v; want some 200, else 409", statuses)
			}
			if got := before - as[homePage](t, v.get("/")).Balance; got != order.Total {
				t.Errorf("charged %d for an order of %d", got, order.Total)
			}
		}
		if n := count(t, s1.source, "payments"); n != 3 {
			t.Errorf("%d payments; want 3", n)
		}
		if n := count(t, s1.source, "incidents"); n != 0 {
			t.Errorf("%d incidents: something reached the database's constraints", n)
		}
	})
}

// Goes red without the Delete in rename, or the purge in editProduct.
func TestShop_caches(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *testkit.Backend) {
		s1, v := open(t, b.Client(t))
		_, v2 := open(t, b.Client(t), func(cfg *config) { cfg.db = s1.cfg.db })
		v.join("ada@example.com", "")
		v.status()
		before := s1.live.now()
		v.status()
		if after := s1.live.now(); after.Hits != before.Hits+1 || after.Misses != before.Misses {
			t.Errorf("counts %+v, then %+v; want one more hit", before, after)
		}
		v.post("/account", "name", "Ada Lovelace").want(t, 200)
		if got := v.status().User; got != "Ada Lovelace" {
			t.Errorf("renamed, and still %q", got)
		}
		testkit.Eventually(t, "the new name elsewhere", func() bool { return v.at(v2.url).status().User == "Ada Lovelace" })

		// Pages, with and without a cookie.
		path := "/products/2"
		v.get(path).want(t, 200)
		if a := v.get(path); !strings.Contains(a.header.Get("Cache-Status"), ";hit") {
			t.Errorf("Cache-Status %q; want a hit", a.header.Get("Cache-Status"))
		}
		v2.get(path, "Accept", "text/html").want(t, 200)
		admin := newVisitor(t, v.url)
		admin.logIn(adminEmail, adminPassword)
		testkit.Eventually(t, "the role", func() bool { return admin.get("/admin").status == 200 })
		admin.post("/admin/products/2", "name", hostileName, "price", "12.5", "about", "&").want(t, 200)
		if got := as[Product](t, v.get(path)); got.Name != hostileName || got.Price != 1250 {
			t.Errorf("changed, and still %+v", got)
		}
		for _, path := range []string{path, "/products", "/"} {
			testkit.Eventually(t, path+" elsewhere", func() bool {
				body := v2.get(path, "Accept", "text/html").body
				if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") {
					t.Fatalf("%s: a name is markup:\n%s", path, body)
				}
				return strings.Contains(body, "&lt;script&gt;alert(1)")
			})
		}
		admin.post("/admin/products/99", "name", "x", "price", "1").want(t, 404)
		v.get("/admin").want(t, 403)
		v.post("/admin/products/2", "name", "x", "price", "1").want(t, 403)
	})
}

func TestShop_devices(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *testkit.Backend) {
		_, laptop := open(t, b.Client(t))
		laptop.join("ada@example.com", "")
		var others []*visitor
		for range 3 {
			other := newVisitor(t, laptop.url)
			other.logIn("ada@example.com", password)
			others = append(others, other)
		}
		type device struct {
			ID      string
			Current bool
		}
		devices := as[[]device](t, laptop.get("/account").want(t, 200))
		if len(devices) != 4 {
			t.Fatalf("devices %v; want 4", devices)
		}
		laptop.post("/devices/"+others[0].status().Session+"/end").want(t, 200)
		if others[0].status().User != "" || others[1].status().User == "" {
			t.Error("another device was ended than the one asked for")
		}
		laptop.post("/devices/nobodys/end").want(t, 404)
		others[1].post("/devices/end").want(t, 200)
		if laptop.status().User != "" || others[2].status().User != "" || others[1].status().User == "" {
			t.Error("ending the others did not, or ended this one")
		}
		laptop.logIn("ada@example.com", password)
		laptop.post("/devices/end-all").want(t, 200)
		if laptop.status().User != "" || others[1].status().User != "" {
			t.Error("logged out everywhere, and somebody is not")
		}
	})
}

func TestShop_limits(t *testing.T) {
	t.Parallel()
	_, v := open(t, testkit.Mini(t).Client(t), func(cfg *config) { cfg.logins, cfg.orders, cfg.joins, cfg.visits = 3, 2, 2, 60 })
	v.join("ada@example.com", "100")
	for range 5 { // what succeeds does not count
		v.logIn("ada@example.com", password)
	}
	for range 3 {
		v.post("/login", "email", "ada@example.com", "password", "wrong").want(t, 401)
	}
	if a := v.post("/login", "email", "ada@example.com", "password", password).want(t, 429); a.header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	for range 2 {
		v.post("/orders", "product", "1", "quantity", "1").want(t, 201)
	}
	v.post("/orders", "product", "1", "quantity", "1").want(t, 429)
	newVisitor(t, v.url).join("eve@example.com", "")
	v.post("/register", "email", "mallory@example.com", "name", "M", "password", password).want(t, 429)

	// Asking how the limit stands costs nothing.
	left := v.get("/status").header.Get("X-RateLimit-Remaining")
	if again := v.get("/status").header.Get("X-RateLimit-Remaining"); left == "" || again != left {
		t.Errorf("X-RateLimit-Remaining %q, then %q", left, again)
	}
	for v.get("/products").status == 200 {
	}
	a := v.get("/products", "Accept", "text/html").want(t, 429)
	if !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") || !strings.Contains(a.body, "Status 429") {
		t.Errorf("429 for people: %s %s", a.header.Get("Content-Type"), a.body)
	}
	v.get("/healthz").want(t, 200)
}
