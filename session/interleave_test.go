package session_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// A campaign of random interleavings: visits to a few sessions over three managers, each
// cut into its begin, its look, its changes and its commit, are mixed by one goroutine, so
// that a seed repeats a run. Now and then somebody else's whole request comes between two
// commands of one step. A model says after each step what every token must show.
//
// WEIR_SOAK=1, as make soak sets, makes it long; WEIR_SEED repeats it from one world on.
//
// Red when Manager.find does not ask the index, when the scripts end.lua and swap.lua do
// not compare, when end.lua leaves no mark, and when add.lua does not look for one.

// interleavings is how many worlds there are of a kind.
func interleavings(short int) int {
	switch {
	case os.Getenv("WEIR_SOAK") != "":
		return 25 * short
	case testing.Short():
		return max(short/10, 1)
	}
	return short
}

func seedOf(t *testing.T) uint64 {
	seed := rand.Uint64() >> 16
	if s := os.Getenv("WEIR_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("WEIR_SEED=%s: %v", s, err)
		}
	}
	t.Logf("WEIR_SEED=%d", seed)
	return seed
}

// worldManagers are three of a service's instances, with a client each.
func worldManagers(t *testing.T, b *testkit.Backend, current **world, options ...session.Option) (ms [3]*session.Manager) {
	options = append(options, session.WithTimeout(worldBudget), session.WithMaxSessions(worldMax, session.EvictOldest))
	for i := range ms {
		client := b.Client(t, func(o *redis.UniversalOptions) { o.ReadTimeout = worldBudget }) // 3 s are not enough on a busy machine
		client.AddHook(interposer{current})
		ms[i] = newManager(t, client, options...)
	}
	return ms
}

func TestInterleavings(t *testing.T) {
	t.Parallel()
	for kind, worlds := range map[string]int{"mini": 10, "server": 200, "sentinel": 20, "cluster": 100, "cluster3": 100} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var b *testkit.Backend
			if kind == "mini" {
				b = testkit.Mini(t)
			} else {
				b = testkit.Shared(t, kind)
			}
			var current *world
			prefix := b.Prefix(t)
			ms := worldManagers(t, b, &current, session.WithPrefix(prefix), session.WithRenewal(time.Hour))
			plain := b.Client(t)
			seed, all := seedOf(t), interleavings(worlds)
			for n := range all {
				current = newWorld(t, seed+uint64(n), ms, plain, prefix)
				if current.run(); t.Failed() {
					return
				}
			}
			t.Logf("%d interleavings", all)
		})
	}
}

// The same while time passes: renewals, idle timeouts and absolute deadlines.
func TestInterleavings_time(t *testing.T) {
	t.Parallel()
	seed, all := seedOf(t), interleavings(100)
	for n := range all {
		synctest.Test(t, func(t *testing.T) {
			b := testkit.Memory(t)
			var current *world
			ms := worldManagers(t, b, &current, session.WithPrefix("p"), session.WithLifetime(worldLife),
				session.WithIdleTimeout(worldIdle), session.WithRenewal(7*time.Minute))
			current = newWorld(t, seed+uint64(n), ms, b.Client(t), "p")
			current.timed = true
			current.run()
			current = nil // or the client would hold its own engine, by the hook, for good
		})
		if t.Failed() {
			return
		}
	}
	t.Logf("%d interleavings", all)
}
