package session_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// state is all that is stored for a user, whatever its type.
func (u user) state() map[string]string {
	u.tb.Helper()
	ctx, all := u.tb.Context(), make(map[string]string)
	for _, key := range testkit.Keys(u.tb, u.client, "weir:session-user:{"+u.tag+"}") {
		kind := u.client.Type(ctx, key).Val()
		switch kind {
		case "zset":
			all[key] = fmt.Sprint(u.client.ZRangeWithScores(ctx, key, 0, -1).Val())
		case "hash":
			all[key] = fmt.Sprint(u.client.HGetAll(ctx, key).Val())
		case "string":
			all[key] = u.client.Get(ctx, key).Val()
		case "list":
			all[key] = fmt.Sprint(u.client.LRange(ctx, key, 0, -1).Val())
		}
		all[key] = kind + " " + all[key]
	}
	return all
}

// A key of another type is ErrCorrupt, and nothing is half done. Red if a script
// writes before it has read all its keys.
func TestIndex_wrongType(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ctx := t.Context()
		client := b.Client(t)
		for _, tt := range []struct {
			key  []string
			call string // one letter each
		}{
			{[]string{"ids"}, "aAERTOXL"},
			{[]string{"info"}, "AERTOXL"},
			{[]string{"ended"}, "AEX"},
			{[]string{"gone", sid("a")}, "O"},
			{[]string{"gone", "batch"}, "D"},
		} {
			u, limited := userOn(t, client, b.Prefix(t), 0, false), userOn(t, client, b.Prefix(t), 1, false)
			limited.tag = u.tag
			u.add("a", 0)
			u.add("b", 0)
			key := u.Key(u.tag, tt.key...)
			client.Del(ctx, key)
			client.RPush(ctx, key, "something", "else")
			before := u.state()
			for _, c := range tt.call {
				var err error
				switch c {
				case 'a':
					_, err = u.Alive(ctx, u.tag, sid("a"))
				case 'A':
					_, err = u.Add(ctx, u.tag, sid("c"), "", time.Hour, 0)
				case 'E':
					_, err = limited.Add(ctx, u.tag, sid("c"), "", time.Hour, 0)
				case 'R':
					_, err = u.Renew(ctx, u.tag, sid("a"), "", time.Hour)
				case 'T':
					_, err = u.Touch(ctx, u.tag, sid("a"), "", time.Hour, b.Prefix(t))
				case 'O':
					_, _, err = u.Remove(ctx, u.tag, sid("a"))
				case 'X':
					_, err = u.RemoveAll(ctx, u.tag, sid("a"))
				case 'L':
					_, err = u.List(ctx, u.tag)
				case 'D':
					err = u.Drain(ctx, u.tag, "batch", nil)
				}
				// miniredis words it differently when a script meets it.
				if !errors.Is(err, session.ErrCorrupt) && (b.Name() != "mini" || err == nil || !strings.Contains(err.Error(), "WRONGTYPE")) {
					t.Errorf("%s, %c: got %v; want ErrCorrupt", tt.key, c, err)
				}
				if after := u.state(); !maps.Equal(after, before) {
					t.Fatalf("%s, %c: got %v; want nothing changed of %v", tt.key, c, after, before)
				}
			}
		}
	})
}

// What goes to an id of an earlier use is not taken for this one's.
func TestIndex_strangeTrace(t *testing.T) {
	t.Parallel()
	u := newUser(t, testkit.Mini(t), 1, false)
	u.client.RPush(t.Context(), u.Key(u.tag, "gone", sid("b")), "else")
	u.add("a", 0)
	same(t, "evicted", u.add("b", 0), "a")
	u.check()
}

// Every write gives the keys their expiry back that somebody took. Red without the
// settle of the script.
func TestIndex_persisted(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ctx := t.Context()
		u := newUser(t, b, 0, false)
		refusing := userOn(t, u.client, b.Prefix(t), 1, true)
		refusing.tag = u.tag
		u.add("a", 0)
		u.add("z", 0)
		for name, write := range map[string]func(){
			"add":   func() { u.add("b", 0) },
			"again": func() { u.add("a", 0) },
			"mark": func() {
				u.client.Set(ctx, u.Key(u.tag, "ended"), "1.batch", 0)
				u.add("d", 0)
			},
			"refused": func() {
				if _, err := refusing.Add(ctx, u.tag, sid("x"), "", time.Hour, 0); err != session.ErrIndexFull {
					t.Errorf("got %v; want errTooMany", err)
				}
			},
			"renew":  func() { _, _ = u.Renew(ctx, u.tag, sid("a"), "", time.Hour) },
			"remove": func() { u.add("c", 0); u.persist(); _, _, _ = u.Remove(ctx, u.tag, sid("c")) },
			"keep":   func() { _, _ = u.RemoveAll(ctx, u.tag, sid("a")) },
			"purge": func() {
				u.client.ZAdd(ctx, u.Key(u.tag, "ids"), redis.Z{Member: sid("past"), Score: 1})
				u.client.HSet(ctx, u.Key(u.tag, "info"), sid("past"), "1.1.")
				u.listed()
			},
		} {
			t.Run(name, func(t *testing.T) {
				u.persist()
				write()
				u.check()
			})
		}
	})
}

func (u user) persist() {
	u.client.Persist(u.tb.Context(), u.Key(u.tag, "ids"))
	u.client.Persist(u.tb.Context(), u.Key(u.tag, "info"))
}

// Redis may evict one of the two keys.
func TestIndex_lostKey(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		ctx, u := t.Context(), newUser(t, b, 2, false)
		ids, info := u.Key(u.tag, "ids"), u.Key(u.tag, "info")
		u.add("a", 0)
		u.add("b", 0)
		u.client.Del(ctx, ids)
		same(t, "alive without ids", u.alive())
		same(t, "evicted", u.add("c", 0))
		u.check() // a and b have gone from info, too
		u.client.Del(ctx, ids)
		same(t, "listed without ids", u.listed())
		u.check()
		u.add("c", 0)
		u.client.Del(ctx, ids)
		batch, err := u.RemoveAll(ctx, u.tag, sid("c"))
		if err != nil {
			t.Error(err)
		}
		same(t, "alive without ids", u.alive())
		same(t, "drained without ids", u.drained(batch), "c") // it cannot stay
		u.check()

		u.add("c", 0)
		u.add("d", 0)
		u.client.HSet(ctx, info, sid("nobody"), "1.1.")
		if n := len(u.listed()); n != 2 {
			t.Errorf("listed beside an orphan: got %d; want 2", n)
		}
		u.check()
		u.client.Del(ctx, info)
		same(t, "listed without info", u.listed())
		if ok, err := u.Renew(ctx, u.tag, sid("d"), "d", time.Hour); !ok || err != nil {
			t.Errorf("renew: got %v, %v; want true", ok, err)
		}
		same(t, "listed after renew", u.listed(), "d")
		same(t, "evicted", u.add("e", 0), "c") // whose creation nobody knows
		u.check()
		u.client.HSet(ctx, info, sid("d"), "not ours")
		if _, ok, err := u.Remove(ctx, u.tag, sid("d")); !ok || err != nil {
			t.Errorf("remove: got %v, %v; want true", ok, err)
		}
		u.client.Del(ctx, info)
		if batch, err := u.RemoveAll(ctx, u.tag, sid("e")); batch != "" || err != nil {
			t.Errorf("removeAll: got %q, %v; want nothing to drain", batch, err)
		}
		same(t, "kept without info", u.alive(), "e")
		u.client.HSet(ctx, info, sid("nobody"), "1.1.")
		if _, ok, err := u.Remove(ctx, u.tag, sid("e")); !ok || err != nil {
			t.Errorf("remove: got %v, %v; want true", ok, err)
		}
		u.check() // what info had was nobody's
		u.add("e", 0)
		u.client.Del(ctx, info)
		if batch, err := u.RemoveAll(ctx, u.tag, ""); batch != "" || err != nil {
			t.Errorf("removeAll: got %q, %v; want nothing to drain", batch, err)
		}
		u.check()
	})
}

// What adds fails whole when Redis is out of memory, what ends works, the mark too.
// Red when add's or renew's first write is not its ZADD, or clear's is its SET.
func TestIndex_outOfMemory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	b := testkit.Server(t)
	ctx, u := t.Context(), newUser(t, b, 3, false)
	limit := func(bytes string) {
		t.Helper()
		if err := u.client.ConfigSet(ctx, "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	other := userOn(t, u.client, "other", 0, false)
	for _, id := range []string{"a", "b", "c"} {
		u.add(id, 0)
	}
	u.client.ZAdd(ctx, u.Key(u.tag, "ids"), redis.Z{Member: sid("past"), Score: 1})
	u.client.HSet(ctx, u.Key(u.tag, "info"), sid("past"), "1.1.")
	limit("1")
	before := u.state()
	if _, err := u.Add(ctx, u.tag, sid("d"), "", time.Hour, 0); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("add: got %v; want ErrUnavailable", err)
	}
	if _, err := other.Add(ctx, other.tag, sid("d"), "", time.Hour, 0); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("first add: got %v; want ErrUnavailable", err)
	}
	if _, err := u.Renew(ctx, u.tag, sid("a"), "", time.Hour); !errors.Is(err, session.ErrUnavailable) {
		t.Errorf("renew: got %v; want ErrUnavailable", err)
	}
	if after := u.state(); !maps.Equal(after, before) {
		t.Errorf("got %v; want nothing changed of %v", after, before)
	}
	if n := len(u.listed()); n != 3 {
		t.Errorf("listed: got %d; want 3", n)
	}
	u.check()
	if e, ok, err := u.Remove(ctx, u.tag, sid("a")); !ok || err != nil {
		t.Errorf("remove: got %v, %v, %v; want a", e, ok, err)
	}
	batch, err := u.RemoveAll(ctx, u.tag, sid("c"))
	if err != nil {
		t.Errorf("removeAll: got %v", err)
	}
	same(t, "alive", u.alive(), "c")
	same(t, "drained", u.drained(batch), "b")
	if _, err := other.RemoveAll(ctx, other.tag, ""); err != nil {
		t.Errorf("removeAll of none: got %v", err)
	}
	limit("0")
	for _, u := range []user{u, other} {
		if _, err := u.Add(ctx, u.tag, sid("e"), "", time.Hour, time.Minute); err != session.ErrIndexBeaten {
			t.Errorf("add after removeAll: got %v; want errBeaten", err)
		}
		u.check()
	}
}

func TestIndex_scriptsForgotten(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	u := newUser(t, testkit.Server(t), 1, false)
	ctx := t.Context()
	for range 2 {
		flush := func() { u.client.ScriptFlush(ctx) }
		flush()
		u.add("a", 0)
		flush()
		if ok, err := u.Touch(ctx, u.tag, sid("a"), "", time.Hour, "key"); !ok || err != nil {
			t.Errorf("touch: got %v, %v; want true", ok, err)
		}
		flush()
		same(t, "listed", u.listed(), "a")
		flush()
		if _, ok, err := u.Remove(ctx, u.tag, sid("a")); !ok || err != nil {
			t.Errorf("remove: got %v, %v; want true", ok, err)
		}
		u.add("b", 0)
		flush()
		batch, err := u.RemoveAll(ctx, u.tag, "")
		if err != nil {
			t.Error(err)
		}
		same(t, "drained", u.drained(batch), "b")
	}
}

// So many entries work, with others busy; see the log for what each command took.
func TestIndex_tenThousand(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs redis-server")
	}
	const n = 10_000
	b := testkit.Server(t, "--slowlog-max-len", "100000", "--slowlog-log-slower-than", "0")
	ctx, u := t.Context(), newUser(t, b, 0, false)
	measure := func(what string, f func()) {
		t.Helper()
		u.client.Do(ctx, "slowlog", "reset")
		begun := time.Now()
		f()
		took := time.Since(begun)
		logs, err := u.client.SlowLogGet(ctx, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		var longest redis.SlowLog
		for _, l := range logs {
			if l.Duration > longest.Duration && !strings.EqualFold(l.Args[0], "slowlog") {
				longest = l
			}
		}
		t.Logf("%s: %v; the longest command: %v", what, took.Round(10*time.Microsecond), longest.Duration)
	}
	blob := strings.Repeat("b", 200)
	fill := func(from, to int) {
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := from + g; i < to; i += 8 {
					if _, err := u.Add(ctx, u.tag, fmt.Sprintf("%016d", i), blob, time.Hour, 0); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	measure(fmt.Sprintf("add %d", n), func() { fill(0, n) })
	stop, busy := make(chan bool), sync.WaitGroup{}
	busy.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_, _ = u.Renew(ctx, u.tag, fmt.Sprintf("%016d", rand.IntN(n)), blob, 2*time.Hour)
			}
		}
	})
	measure("list", func() {
		entries, err := u.List(ctx, u.tag)
		distinct := make(map[string]bool)
		for _, e := range entries {
			distinct[e.ID] = true
		}
		if err != nil || len(entries) != n || len(distinct) != n {
			t.Errorf("list: got %d, %d of them distinct, %v; want %d", len(entries), len(distinct), err, n)
		}
		if !slices.IsSortedFunc(entries, func(a, b session.IndexEntry) int { return b.Created.Compare(a.Created) }) {
			t.Errorf("list: got another order; want the newest first")
		}
	})
	close(stop)
	busy.Wait()
	limited := userOn(t, u.client, b.Prefix(t), n, false)
	limited.tag = u.tag
	measure(fmt.Sprintf("add that evicts one of %d", n), func() {
		if got := len(limited.add("one", 0)); got != 1 {
			t.Errorf("evicted: got %d; want 1", got)
		}
	})
	measure("add without a limit", func() { u.add("two", 0) })
	measure("touch", func() { _, _ = u.Renew(ctx, u.tag, sid("two"), blob, time.Hour) })
	var batch string
	measure("removeAll", func() {
		var err error
		if batch, err = u.RemoveAll(ctx, u.tag, sid("two")); err != nil {
			t.Error(err)
		}
	})
	same(t, "alive", u.alive(), "two")
	measure("drain", func() {
		if got := len(u.drained(batch)); got != n {
			t.Errorf("drained: got %d; want %d", got, n)
		}
	})
	fill(n, 2*n)
	five := userOn(t, u.client, b.Prefix(t), 5, false)
	five.tag = u.tag
	measure("add after the limit was lowered to 5", func() {
		if got := len(five.add("three", 0)); got != n-3 {
			t.Errorf("evicted: got %d; want %d", got, n-3)
		}
	})
	u.check()
	if _, err := u.RemoveAll(ctx, u.tag, ""); err != nil {
		t.Error(err)
	}

	// All past their time, but for one: they go a few at each add, and as listed.
	fill(0, n)
	pipe := u.client.Pipeline()
	for i := range n - 1 {
		pipe.ZAdd(ctx, u.Key(u.tag, "ids"), redis.Z{Member: fmt.Sprintf("%016d", i), Score: 1})
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	measure("add that purges", func() { u.add("four", 0) })
	if got, want := len(u.alive()), n+1-100; got != want {
		t.Errorf("after one add: got %d; want %d", got, want)
	}
	u.check()
	measure("lists that purge", func() {
		for lists := 1; len(u.alive()) > 2; lists++ {
			same(t, "listed", u.listed(), "four", fmt.Sprintf("%016d", n-1))
			if lists > 10 {
				t.Fatal("after ten lists some are there that are past their time")
			}
		}
	})
	same(t, "alive", u.alive(), fmt.Sprintf("%016d", n-1), "four")
	u.check()
}
