package bench

import (
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
)

// Each contestant keeps an easy limit: the wrapper asks what it means to ask. Only
// the references need be in all tables of times.
func TestContestants(t *testing.T) {
	t.Parallel()
	addr := testkit.Server(t).Addrs()[0]
	seen := map[string]bool{}
	for _, c := range contestants {
		if seen[c.name] {
			t.Errorf("two contestants are named %q", c.name)
		}
		seen[c.name] = true
		t.Run(c.name, func(t *testing.T) {
			client := c.dial(addr, 0)
			defer client.Close()
			limiter, err := c.open(client, limit{5, time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			keys := keysOf(c, 2)
			admitted := 0
			for range 9 {
				allowed, err := limiter.allow(t.Context(), keys[0])
				if err != nil {
					t.Fatal(err)
				}
				if allowed {
					admitted++
				}
			}
			if want := 5; admitted != want && !c.floor {
				t.Errorf("%d of 9 admitted; want %d", admitted, want)
			}
			if limiter.spend == nil {
				return
			}
			for i, want := range []bool{true, true, false} {
				if allowed, err := limiter.spend(t.Context(), keys[1], 2); allowed != want || err != nil {
					t.Errorf("request %d of cost 2: %v, %v; want %v", i+1, allowed, err, want)
				}
			}
		})
	}
	for _, in := range []table{inAllowed, inDenied, inDistance} {
		all := map[string]bool{}
		for _, c := range entrants(in) {
			all[c.name] = true
		}
		for _, name := range references {
			if !all[name] {
				t.Errorf("%s is compared with, but not in the table %q", name, in)
			}
		}
	}
}
