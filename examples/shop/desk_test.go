package main

import (
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// All that a page reads of the desk is one round trip.
func TestDesk_oneTrip(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	d := &desk{rdb: proxy.Client(t), wait: 2 * time.Second}
	user := User{ID: 7}
	first, second := Order{ID: "a", User: 7, Product: 1, Quantity: 2}, Order{ID: "b", User: 7, Product: 3, Quantity: 5}
	for _, o := range []Order{first, second} {
		if err := d.remember(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if err := d.count(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.giveRole(t.Context(), user, roleAdmin); err != nil {
		t.Fatal(err)
	}
	proxy.Reset()
	v, err := d.read(t.Context(), &user)
	if err != nil || len(v.board) != 2 || v.board[0].Score != 5 || len(v.recent) != 2 || v.recent[0] != "b" || len(v.roles) != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	if got := proxy.RoundTrips(); got != 1 {
		t.Errorf("%d round trips; want 1", got)
	}
}

// A server that is silent is waited for once, then for a while not at all.
func TestDesk_silent(t *testing.T) {
	t.Parallel()
	proxy := testkit.NewProxy(t, testkit.Mini(t).Addrs()[0])
	d := &desk{rdb: proxy.Client(t), wait: 200 * time.Millisecond}
	proxy.Hang()
	for i, most := range []time.Duration{soonEnough, d.wait} {
		begin := time.Now()
		_, err := d.read(t.Context(), nil)
		if took := time.Since(begin); err == nil || took > most {
			t.Errorf("call %d: %v after %v; want an error within %v", i, err, took, most)
		}
	}
	proxy.Heal()
	testkit.Eventually(t, "an answer", func() bool { _, err := d.read(t.Context(), nil); return err == nil })
}
