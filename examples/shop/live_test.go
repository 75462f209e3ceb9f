package main

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// What happens in one instance is told by another, over one connection.
func TestShop_events(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, b *testkit.Backend) {
		s1, v := open(t, b.Client(t), func(cfg *config) { cfg.instance = "one" })
		_, v2 := open(t, b.Client(t), func(cfg *config) { cfg.instance, cfg.db = "two", s1.cfg.db })
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, v2.url+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", "text/event-stream")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()

		v.join("ada@example.com", "100")
		order := as[Order](t, v.post("/orders", "product", "1", "quantity", "2").want(t, 201))
		v.post("/orders/"+order.ID+"/pay", "key", "k").want(t, 200)
		waiting := []string{
			"event: order.created", "event: order.confirmed", "event: order.paid", "event: order.counts",
			`"Order":"` + order.Short() + `"`, `"Instance":"one"`, `"Instance":"two"`,
		}
		late := time.AfterFunc(30*time.Second, func() { response.Body.Close() })
		defer late.Stop()
		lines := bufio.NewScanner(response.Body)
		for len(waiting) > 0 && lines.Scan() {
			line := lines.Text()
			if strings.Contains(line, order.ID) || strings.Contains(line, "ada@") {
				t.Errorf("everybody is told %q", line)
			}
			var rest []string
			for _, w := range waiting {
				if !strings.Contains(line, w) {
					rest = append(rest, w)
				}
			}
			waiting = rest
		}
		if len(waiting) > 0 {
			t.Errorf("waited in vain for %q: %v", waiting, lines.Err())
		}
	})
}

// An order whose process died right behind the transaction has its event all the same:
// another process finds it in the outbox. It goes red without the tick in relay.run.
func TestRelay_ofTheDead(t *testing.T) {
	t.Parallel()
	s, v := open(t, testkit.Mini(t).Client(t))
	v.join("ada@example.com", "")
	time.Sleep(relayEvery / 10) // the relay has looked, and found nothing
	order := Order{ID: "left", User: 1, Product: 1, Item: "Green tea", Quantity: 1, Total: 1290, Created: time.Now()}
	if err := s.source.addOrder(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the confirmation", func() bool {
		confirmed, err := s.source.confirmed(t.Context(), order.ID)
		return err == nil && confirmed
	})
}
