package lock

import (
	"context"
	"strings"
	"testing"
	"time"
)

// Mutate makes l a Locker whose script file has new in the place of old, to find out
// which test notices.
func Mutate(tb testing.TB, l *Locker, file, old, new string) {
	tb.Helper()
	texts := map[string]string{
		"lock": lockLua, "acquire": acquireLua, "extend": extendLua, "adopt": adoptLua, "release": releaseLua, "holder": holderLua,
	}
	if strings.Count(texts[file], old) != 1 {
		tb.Fatalf("%s.lua has %q %d times; want once", file, old, strings.Count(texts[file], old))
	}
	texts[file] = strings.Replace(texts[file], old, new, 1)
	mutated := newScripts(texts["lock"], texts["acquire"], texts["extend"], texts["adopt"], texts["release"], texts["holder"])
	switch s := l.store.(type) {
	case *single:
		s.scripts = mutated
	case *quorum:
		for _, server := range s.servers {
			server.scripts = mutated
		}
	}
}

// mutant is a store with a mistake.
type mutant struct {
	store
	before func(*claim)
	after  func(*claim, *grant)
}

func (m mutant) acquire(ctx context.Context, c *claim, who waiting) (grant, error) {
	if m.before != nil {
		m.before(c)
	}
	g, err := m.store.acquire(ctx, c, who)
	if m.after != nil {
		m.after(c, &g)
	}
	return g, err
}

// CountFromReply makes leases count from when the reply came.
func CountFromReply(l *Locker) {
	l.store = mutant{store: l.store, after: func(_ *claim, g *grant) { g.begun = time.Now() }}
}

// NoMargin makes leases last for the whole ttl.
func NoMargin(l *Locker) {
	l.store = mutant{store: l.store, after: func(c *claim, g *grant) { g.begun = g.begun.Add(margin(c.ttl)) }}
}

// NoDoubt makes a call that gives up think that it has sent nothing.
func NoDoubt(l *Locker) {
	l.store = mutant{store: l.store, after: func(c *claim, _ *grant) { c.doubtful.Store(false) }}
}

// NewIDs makes each attempt have an id of its own.
func NewIDs(l *Locker) {
	l.store = mutant{store: l.store, before: func(c *claim) { c.begin() }}
}

// Minority makes one server of a Redlock enough.
func Minority(l *Locker) { l.store.(*quorum).majority = 1 }

// LateAcquire runs an acquire of one call after the call has given up and given back.
// It reports whether that takes the lock.
func LateAcquire(tb testing.TB, l *Locker, key string, ttl time.Duration) bool {
	tb.Helper()
	c := newClaim(l.redisKey(key), "", ttl)
	c.doubtful.Store(true)
	l.giveUp(context.Background(), c)
	g, err := l.store.acquire(context.Background(), c, nobody)
	if err != nil {
		tb.Fatal(err)
	}
	return g.held
}

// StalledAcquire runs an acquire whose caller waited until long ago. It reports whether
// that takes the lock.
func StalledAcquire(tb testing.TB, l *Locker, key string, ttl time.Duration) bool {
	tb.Helper()
	c, s := newClaim(l.redisKey(key), "", ttl), l.store.(*single)
	cmd := s.scripts.acquire.On(c.keys, c.owner, millis(ttl), lifetime(ttl), "", 0, 1)
	g, err := s.grant(context.Background(), c, cmd)
	if err != nil {
		tb.Fatal(err)
	}
	return g.held
}

// RepeatAcquire runs the acquire of a lease once more, with a ttl, as a network may.
func RepeatAcquire(tb testing.TB, lease *Lease, ttl time.Duration) {
	tb.Helper()
	c := &claim{lock: lease.claim.lock, channel: lease.claim.channel, ttl: ttl, owner: lease.claim.owner, keys: lease.claim.keys}
	if _, err := lease.locker.store.acquire(context.Background(), c, nobody); err != nil {
		tb.Fatal(err)
	}
}

// ForgetTime makes l think that Redis's clock is behind of what it is.
func ForgetTime(l *Locker, d time.Duration) {
	s := l.store.(*single)
	server := s.conn.Server(context.Background(), "")
	v, _ := s.clocks.m.Load(server)
	r := v.(reading)
	r.redis -= d.Microseconds()
	s.clocks.m.Store(server, r)
}
