package middleware_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A hundred visitors at once, 25 at each of four processes, of a page that nobody has:
// the handler makes it once. The long form has 50 trials, a handler that takes 300 ms,
// and checks that the slowest visitor waits for at most 100 ms more than the slowest of as
// many past the cache.
//
// Red when find.lua gives the claim to all, answer does not wait, or keep.lua does not
// wake.
func TestCache_collapse(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	for _, near := range []bool{false, true} {
		t.Run(fmt.Sprint("near ", near), func(t *testing.T) {
			origin := time.Duration(campaign(30, 300)) * time.Millisecond
			c := openChain(t, 4, storefront{Near: near, Origin: origin})
			var bare, slowest, beyond []time.Duration
			once := 0
			trials := campaign(5, 50)
			for trial := range trials {
				path := fmt.Sprint("/page/", trial)
				took := make([]time.Duration, 100)
				c.together(100, func(i int) {
					s, err := c.get(t.Context(), i, path)
					if err != nil || !strings.HasPrefix(s.body, path+" ") {
						t.Errorf("%s: got %q, %v", path, s.body, err)
					}
					took[i] = s.took
				})
				bare = append(bare, c.bare(100))
				slowest = append(slowest, slices.Max(took))
				beyond = append(beyond, slowest[trial]-bare[trial])
				if n := c.calls(path); n == 1 {
					once++
				} else {
					t.Errorf("%s: the handler was called %d times; want 1", path, n)
				}
			}
			t.Logf("one call in %d of %d trials of 100; the slowest of each: %s", once, trials, spread(slowest))
			t.Logf("past the cache: %s; the difference: %s", spread(bare), spread(beyond))
			if c.idle(slices.Max(bare), 100*time.Millisecond) {
				c.bounded("the slowest visitor", slices.Max(beyond), 100*time.Millisecond)
			}
		})
	}
}

// The process that makes an answer is killed: one other makes it, when the claim has
// ended.
//
// Red when find.lua takes a claim without PX and gives one without an end none.
func TestCache_collapseKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	const lease = 3 * time.Second // cache.WithLease's default
	var slowest []time.Duration
	for range campaign(1, 10) {
		c := openChain(t, 4, storefront{Origin: 300 * time.Millisecond})
		const path = "/stop/here"
		go func() { _, _ = c.get(t.Context(), 0, path) }()
		c.children.Next()
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 75 {
			wg.Go(func() {
				s, err := c.get(t.Context(), 1+i%3, path)
				if err != nil || s.body != path+` for "", call 2` {
					t.Errorf("got %q, %v", s.body, err)
				}
				c.bounded("who waited for the dead", s.took, lease+c.Origin+100*time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				slowest = append(slowest, s.took)
			})
		}
		c.children.Kill(0)
		wg.Wait()
		if n := c.calls(path); n != 2 {
			t.Errorf("the handler was called %d times; want 2", n)
		}
		c.children.Stop()
	}
	t.Logf("waited after a kill: %s", spread(slowest))
}

// What becomes of the request that makes the answer is its own affair: its client leaves,
// or its handler panics, and the others have theirs from one more call.
//
// Red when forward does not give the claim up in a defer.
func TestCache_collapseBroken(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	t.Parallel()
	c := openChain(t, 4, storefront{Origin: time.Duration(campaign(30, 300)) * time.Millisecond})
	for _, kind := range []string{"leave", "panic", "abort"} {
		var took []time.Duration
		rounds := campaign(3, 50)
		for round := range rounds {
			path := fmt.Sprintf("/%s/%d", kind, round)
			ctx, leave := context.WithCancel(t.Context())
			failed := 0
			var mu sync.Mutex
			ask := func(ctx context.Context, i int) {
				s, err := c.get(ctx, i, path)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					failed++
				} else if want := path + ` for "", call 2`; s.body != want {
					t.Errorf("got %q; want %q", s.body, want)
				}
				took = append(took, s.took)
			}
			var wg sync.WaitGroup
			if kind == "leave" {
				wg.Go(func() { ask(ctx, 0) })
				c.children.Next()
				time.AfterFunc(c.Origin/2, leave)
			}
			c.together(20, func(i int) { ask(t.Context(), i) })
			wg.Wait()
			leave()
			// A client of net/http asks again if a connection ends before an answer begins.
			if n := c.calls(path); n != 2 || failed > 1 || failed == 0 && kind != "panic" {
				t.Errorf("%s: the handler was called %d times, %d failed; want 2, and the first", path, n, failed)
			}
		}
		t.Logf("%s: %d rounds of 20, two calls each: %s", kind, rounds, spread(took))
	}
}
