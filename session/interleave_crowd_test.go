package session_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// Truly side by side: what holds whichever way they interleave.
func TestInterleavings_parallel(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"server", "cluster3"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := testkit.Shared(t, kind)
			prefix := b.Prefix(t)
			ms := three(t, b, session.WithPrefix(prefix), session.WithRenewal(time.Hour))
			for round := range interleavings(10) {
				c := &crowd{t: t, ms: ms, round: round, user: fmt.Sprint(prefix, round), lasting: true}
				c.run()
			}
		})
	}
}

// crowd is twelve requests of one session side by side.
type crowd struct {
	t     *testing.T
	ms    [3]*session.Manager
	round int
	user  string

	mu      sync.Mutex
	tokens  map[string]bool // that were given out
	kept    []string        // keys of acknowledged commits
	updates int
	lasting bool // nobody has logged out, here or everywhere
}

func (c *crowd) run() {
	token := loginAs(c.t, c.ms[0], login(c.t, c.ms[0], "x"), c.user)
	c.tokens = map[string]bool{token: true}
	if c.round%3 == 0 {
		ageing(c.t, c.ms[0], token)
	}
	var done sync.WaitGroup
	for i := range 12 {
		done.Go(func() { c.request(i, token) })
	}
	done.Wait()
	c.check()
}

func (c *crowd) request(i int, token string) {
	m := c.ms[i%3]
	v := visit(m, token)
	if m.User(v) == "" {
		return
	}
	key, updated := "", false
	put := func() {
		key = fmt.Sprint("k", i)
		m.Put(v, key, i+1)
	}
	switch {
	case i < 6:
		put()
	case i < 10:
		updated = m.Update(v, "n", inc) == nil
	case i == 10 && c.round%3 == 1:
		_ = m.RenewToken(v)
		put()
	case i == 11 && c.round%5 > 2:
		end := m.Destroy
		if c.round%5 == 4 {
			end = func(context.Context) error { return m.EndAll(context.Background(), c.user) }
		}
		if err := end(v); err != nil {
			c.t.Error(err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lasting = false
		return
	}
	cookie, err := v.Commit()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.t.Error(err)
	}
	if cookie != nil && cookie.Value != "" {
		c.tokens[cookie.Value] = true
	}
	if key != "" && v.Warning() == nil {
		c.kept = append(c.kept, key)
	}
	if updated {
		c.updates++
	}
}

func (c *crowd) check() {
	m, alive := c.ms[1], 0
	for token := range c.tokens {
		v := visit(m, token)
		if m.User(v) == "" {
			continue
		}
		alive++
		for _, key := range c.kept {
			if !m.Exists(v, key) {
				c.t.Errorf("round %d: %s was acknowledged and is lost", c.round, key)
			}
		}
		if got := m.GetInt(v, "n"); got != c.updates {
			c.t.Errorf("round %d: counter: got %d; want %d", c.round, got, c.updates)
		}
	}
	if c.lasting != (alive > 0) {
		c.t.Errorf("round %d: %d tokens alive; logged out: %v", c.round, alive, !c.lasting)
	}
}
