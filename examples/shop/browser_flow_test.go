package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/go-weir/weir/internal/testkit"
)

const (
	desktop = 1280
	phone   = 390
)

// Two devices and a third window, in a real browser: what the page promises works as
// it says, and the console stays silent.
func TestBrowser(t *testing.T) {
	b := chromium(t)
	s, v := open(t, testkit.Mini(t).Client(t), func(cfg *config) {
		cfg.visits, cfg.orders, cfg.payment = 300, 3, 400*time.Millisecond
	})
	url := strings.Replace(v.url, "127.0.0.1", "localhost", 1)

	laptop := b.window(b.ctx, desktop)
	laptop.open(url)
	laptop.comes("[data-link]", "connected")
	laptop.shoot("home-anonymous-desktop")

	// Register.
	laptop.open(url + "/register")
	laptop.fill("#name", "Ada")
	laptop.fill("#email", "ada@example.com")
	laptop.fill("#password", password)
	laptop.shoot("register-desktop")
	laptop.press("main button")
	laptop.comes(".message", "Welcome, Ada.")
	laptop.press(`form[action="/credit"] button`)
	laptop.comes("[data-balance]", "€100.00")

	// A second device logs in, and watches.
	mobile := b.window(b.ctx, phone, chromedp.WithNewBrowserContext())
	mobile.open(url + "/login")
	mobile.fill("#email", "ada@example.com")
	mobile.fill("#password", "a wrong one")
	mobile.press("main button")
	mobile.comes(".alert[role=alert]:not([data-alert])", "wrong")
	mobile.fill("#password", password)
	mobile.shoot("login-phone")
	mobile.press("main button")
	mobile.comes("[data-link]", "connected")

	// An order in the one window arrives in the other.
	laptop.open(url + "/products/1")
	laptop.fill("#quantity", "2")
	laptop.shoot("product-desktop")
	laptop.press(`form[action="/orders"] button`)
	laptop.comes("h1", "Order ")
	mobile.comes("[data-heard]", "2 × Green tea")
	mobile.comes("[data-heard]", "confirmed")

	// Pay, and pay again with the same key, as a browser does that sends a form twice.
	laptop.shoot("order-open-desktop")
	again := fmt.Sprintf(`fetch(%q, {method: "POST", body: new URLSearchParams({key: %q})}).then(a => a.status + " " + a.url)`,
		laptop.eval(`document.querySelector("[data-pay]").action`), laptop.eval(`document.querySelector("[data-pay] [name=key]").value`))
	paid := make(chan struct{})
	go func() { defer close(paid); laptop.press("[data-pay] button") }()
	mobile.comes("[data-locks]", "1") // the lock is held while it is being paid
	mobile.shoot("home-locked-phone")
	<-paid
	laptop.comes(".message", "Paid.")
	order := laptop.eval("location.href")
	if got := laptop.eval(again); got != "200 "+order {
		t.Errorf("the same payment again: %s; want to be sent to %s", got, order)
	}
	if n := count(t, s.source, "payments"); n != 1 {
		t.Errorf("%d payments; want 1", n)
	}
	mobile.comes("[data-heard]", "paid")
	laptop.open(url)
	laptop.comes("[data-balance]", "€74.20") // 100.00 - 2 × 12.90, once

	// The limit of orders: three a minute, and the fourth is refused.
	for range 2 {
		laptop.open(url + "/products/5")
		laptop.press(`form[action="/orders"] button`)
		laptop.comes("h1", "Order ")
	}
	laptop.open(url + "/products/5")
	laptop.press(`form[action="/orders"] button`)
	laptop.comes("h1", "Too Many Requests")
	laptop.comes("main", "Status 429")
	laptop.shoot("limited-desktop")

	// Two devices, and out of both at once.
	laptop.open(url + "/orders")
	laptop.shoot("orders-desktop")
	laptop.open(url + "/account")
	if got := laptop.eval(`String(document.querySelectorAll("[data-devices] > li").length)`); got != "2" {
		t.Errorf("%s devices; want 2", got)
	}
	laptop.shoot("account-desktop")
	mobile.open(url + "/account")
	mobile.shoot("account-phone")
	mobile.open(url)
	mobile.comes("[data-link]", "connected")
	mobile.comes("[data-left-of]", "a minute")
	mobile.shoot("home-phone")
	laptop.press("[data-end-all] button")
	laptop.comes("#you-title", "Your account")
	mobile.comes("[data-alert]", "You have been logged out.")
	mobile.shoot("logged-out-phone")
	mobile.open(url + "/account")
	mobile.comes("h1", "Unauthorized")

	// A name that is a script is text.
	admin := b.window(b.ctx, desktop, chromedp.WithNewBrowserContext())
	admin.open(url + "/login")
	admin.fill("#email", adminEmail)
	admin.fill("#password", adminPassword)
	admin.press("main button")
	admin.open(url + "/admin")
	admin.fill("#name-2", hostileName)
	admin.press(`form[action="/admin/products/2"] button`)
	admin.open(url + "/products/2")
	admin.comes("h1", hostileName)
	admin.open(url)
	admin.comes(".grid", hostileName)
	admin.comes("[data-link]", "connected")
	admin.shoot("home-admin-desktop")
	if n := count(t, s.source, "incidents"); n != 0 {
		t.Errorf("%d incidents", n)
	}
}

const hostileName = `<script>alert(1)</script><img src=x onerror=alert(2)>`
