package middleware_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/cache"
	"github.com/go-weir/weir/middleware"
)

// lateness has each process asked for some of the objects, over and over, and returns how
// long after done the last old one was asked for.
func (c *chain) lateness(objects int, want int64, done time.Time) time.Duration {
	var mu sync.Mutex
	var late time.Duration
	c.together(2*len(c.addrs), func(i int) {
		for n := i; ; n += 7 {
			asked := time.Since(done)
			s, err := c.get(c.t.Context(), i, fmt.Sprint("/tagged/", n%objects))
			got, bad := strconv.ParseInt(s.body, 10, 64)
			if err != nil || bad != nil {
				c.t.Errorf("got %q, %v", s.body, err)
				return
			}
			if got < want {
				mu.Lock()
				late = max(late, asked)
				mu.Unlock()
			} else if asked > 100*time.Millisecond {
				return
			}
			if asked > 2*time.Second {
				return
			}
		}
	})
	return late
}

// A purge by tag of thousands of objects reaches the near tiers of four processes. The
// long form has 10,000 objects and 200 purges, and checks the times: none is given later
// than 250 ms after the purge has returned, 50 ms in 99 of a hundred.
//
// Red when untag.lua publishes nothing: then after a second only.
func TestPurger_reach(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIPPED: -short leaves out what takes several processes")
	}
	c := openChain(t, 4, storefront{Near: true})
	store, err := cache.New(c.rdb, cache.WithPrefix(c.Prefix), cache.WithTimeout(cachePatience))
	if err != nil {
		t.Fatal(err)
	}
	purger := middleware.NewPurger(store)
	objects, version := campaign(300, 10_000), int64(0)
	purge := func() time.Time {
		version = c.rdb.Incr(t.Context(), c.Prefix+":version").Val()
		if err := purger.Tags(t.Context(), "tagged"); err != nil {
			t.Fatal(err)
		}
		return time.Now()
	}
	fill := func() { // each process has all, and none is old
		c.together(8, func(i int) {
			for n := i / 4; n < objects; n += 2 {
				s, err := c.get(t.Context(), i, fmt.Sprint("/tagged/", n))
				if err != nil || s.body != fmt.Sprint(version) {
					t.Errorf("object %d at process %d: version %q, %v; want %d", n, i%4, s.body, err, version)
					return
				}
			}
		})
	}
	purge()
	fill()
	var late []time.Duration
	purges := campaign(4, 200)
	for n := range purges {
		done := purge()
		late = append(late, c.lateness(min(objects, 200), version, done))
		if n%(purges/2) == 0 {
			fill()
		}
		if t.Failed() {
			return
		}
	}
	fill()
	t.Logf("%d purges of %d objects: the last old one was asked for after %s", purges, objects, spread(late))
	if worst := late[purges-1]; worst > time.Second {
		t.Errorf("an old one was asked for %v after the purge; want the bound of 1 s", worst)
	}
	c.bounded("the last old one of a hundred purges", late[purges-1], 250*time.Millisecond)
	c.bounded("in 99 of a hundred purges the last old one", late[purges*99/100-1], 50*time.Millisecond)
}
