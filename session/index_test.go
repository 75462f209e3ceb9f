package session_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

func init() { testkit.Role("index-add", addMany) }

// A user is one on an index, with what a test asks of Redis directly.
type user struct {
	tb testing.TB
	session.Index
	client redis.UniversalClient
	tag    string
}

func newUser(tb testing.TB, b *testkit.Backend, limit int, refuse bool) user {
	tb.Helper()
	return userOn(tb, b.Client(tb), b.Prefix(tb), limit, refuse)
}

func userOn(tb testing.TB, client redis.UniversalClient, name string, limit int, refuse bool) user {
	tb.Helper()
	ix, err := session.NewIndex(client, "scs:session", limit, refuse)
	if err != nil {
		tb.Fatal(err)
	}
	return user{tb, ix, client, ix.Tag(name)}
}

// sid is a session's id: the label, padded to an id's length.
func sid(label string) string { return label + strings.Repeat("_", max(0, 16-len(label))) }

func (u user) add(label string, age time.Duration) []string {
	u.tb.Helper()
	evicted, err := u.Add(u.tb.Context(), u.tag, sid(label), "blob of "+label, time.Hour, age)
	if err != nil {
		u.tb.Fatalf("add %s: %v", label, err)
	}
	return labels(evicted)
}

func labels(entries []session.IndexEntry) []string {
	var all []string
	for _, e := range entries {
		all = append(all, strings.TrimRight(e.ID, "_"))
	}
	return all
}

// listed are the sessions in list's order.
func (u user) listed() []string {
	u.tb.Helper()
	entries, err := u.List(u.tb.Context(), u.tag)
	if err != nil {
		u.tb.Fatalf("list: %v", err)
	}
	return labels(entries)
}

// drained are those of a batch, in alphabetical order.
func (u user) drained(batch string) []string {
	u.tb.Helper()
	ids := make(map[string]bool)
	err := u.Drain(u.tb.Context(), u.tag, batch, func(entries []session.IndexEntry) error {
		for _, label := range labels(entries) {
			ids[label] = true
		}
		return nil
	})
	if err != nil {
		u.tb.Fatalf("drain: %v", err)
	}
	return slices.Sorted(maps.Keys(ids))
}

// alive are the ids in the index by now, whatever their scores.
func (u user) alive() []string {
	u.tb.Helper()
	ids, err := u.client.ZRange(u.tb.Context(), u.Key(u.tag, "ids"), 0, -1).Result()
	if err != nil {
		u.tb.Fatal(err)
	}
	for i, id := range ids {
		ids[i] = strings.TrimRight(id, "_")
	}
	slices.Sort(ids)
	return ids
}

// check verifies what must be true at any instant: ids and info have the same
// members and expire together, with the last of them; and no key is for ever.
func (u user) check() {
	u.tb.Helper()
	ctx := u.tb.Context()
	ids, info := u.Key(u.tag, "ids"), u.Key(u.tag, "info")
	tx := u.client.Pipeline() // not MULTI, which Redis refuses when it is out of memory
	members, values := tx.ZRangeWithScores(ctx, ids, 0, -1), tx.HGetAll(ctx, info)
	idsEnd, infoEnd := tx.Do(ctx, "pexpiretime", ids), tx.Do(ctx, "pexpiretime", info)
	if _, err := tx.Exec(ctx); err != nil {
		u.tb.Fatal(err)
	}
	inIDs := make(map[string]bool)
	end := int64(-2) // there is no key
	for _, m := range members.Val() {
		inIDs[m.Member.(string)] = true
		end = int64(m.Score)
	}
	if got, want := slices.Sorted(maps.Keys(values.Val())), slices.Sorted(maps.Keys(inIDs)); !slices.Equal(got, want) {
		u.tb.Fatalf("info: got %q; want those of ids, %q", got, want)
	}
	for _, cmd := range []*redis.Cmd{idsEnd, infoEnd} {
		// miniredis keeps what is left of a life, and so tells an instant that is off
		// by as long as the machine is busy; -2 is no key.
		if got, _ := cmd.Int64(); max(got-end, end-got) > 5000*min(1, max(0, end)) {
			u.tb.Fatalf("%v: got %d; want %d, the last score", cmd.Args(), got, end)
		}
	}
	for _, key := range testkit.Keys(u.tb, u.client, "weir:session-user:{"+u.tag+"}") {
		if ttl := u.client.PTTL(ctx, key).Val(); ttl == -1 {
			u.tb.Fatalf("%s has no expiry", key)
		}
	}
}

func same(tb testing.TB, what string, got []string, want ...string) {
	tb.Helper()
	if !slices.Equal(got, want) {
		tb.Fatalf("%s: got %.999q; want %.999q", what, fmt.Sprint(got), fmt.Sprint(want))
	}
}

func TestIndex_contract(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		u, ctx := newUser(t, b, 0, false), t.Context()
		const blob = "\x00.\xff\r\n{}.again"
		if _, err := u.Add(ctx, u.tag, sid("a"), blob, time.Hour, 0); err != nil {
			t.Fatal(err)
		}
		u.check()
		if alive, err := u.Alive(ctx, u.tag, sid("a"), sid("b")); err != nil || !slices.Equal(alive, []bool{true, false}) {
			t.Errorf("alive: got %v, %v; want [true false]", alive, err)
		}
		entries, err := u.List(ctx, u.tag)
		if err != nil || len(entries) != 1 {
			t.Fatalf("list: got %v, %v; want one", entries, err)
		}
		first := entries[0]
		now := u.client.Time(ctx)
		if now.Err() == nil && (first.Created.After(now.Val()) || !first.Created.Equal(first.Seen) || !first.Expires.Equal(first.Seen.Add(time.Hour))) {
			t.Errorf("times: got %v; want created and seen by now, expires an hour later", first)
		}
		if first.ID != sid("a") || first.Blob != blob {
			t.Errorf("got %q; want the id and the blob", first)
		}

		testkit.Eventually(t, "the next millisecond", func() bool { return u.client.Time(ctx).Val().After(first.Created.Add(2 * time.Millisecond)) })
		key := b.Prefix(t) // in another slot
		u.client.Set(ctx, key, "session", time.Minute)
		if ok, err := u.Touch(ctx, u.tag, sid("a"), "new", 2*time.Hour, key); !ok || err != nil {
			t.Fatalf("touch: got %v, %v; want true", ok, err)
		}
		u.check()
		entries, _ = u.List(ctx, u.tag)
		if e := entries[0]; !e.Created.Equal(first.Created) || !e.Seen.After(first.Seen) || !e.Expires.Equal(e.Seen.Add(2*time.Hour)) || e.Blob != "new" {
			t.Errorf("touched: got %v; want the same creation, a new seen, two hours", e)
		}
		if ok, err := u.Renew(ctx, u.tag, sid("b"), "x", time.Hour); ok || err != nil {
			t.Errorf("renew of none: got %v, %v; want false", ok, err)
		}
		if ok, err := u.Renew(ctx, u.tag, sid("a"), "x", time.Hour); !ok || err != nil {
			t.Errorf("renew: got %v, %v; want true", ok, err)
		}
		u.check()

		if e, ok, err := u.Remove(ctx, u.tag, sid("a")); !ok || err != nil || e.ID != sid("a") || e.Blob != "x" || e.Expires.IsZero() {
			t.Errorf("remove: got %v, %v, %v; want the entry", e, ok, err)
		}
		u.check()
		if e, ok, err := u.Remove(ctx, u.tag, sid("a")); ok || err != nil {
			t.Errorf("remove of none: got %v, %v, %v; want false", e, ok, err)
		}
		same(t, "alive", u.alive())

		u.add("b", 0)
		u.add("c", 0)
		u.add("d", 0)
		batch, err := u.RemoveAll(ctx, u.tag, sid("c"))
		if err != nil || batch == "" {
			t.Fatalf("removeAll: got %q, %v; want a batch", batch, err)
		}
		u.check()
		same(t, "alive but c", u.alive(), "c")
		if ok, err := u.Renew(ctx, u.tag, sid("b"), "x", time.Hour); ok || err != nil {
			t.Errorf("renew of an ended one: got %v, %v; want false", ok, err)
		}
		again := errors.New("again")
		if err := u.Drain(ctx, u.tag, batch, func([]session.IndexEntry) error { return again }); err != again {
			t.Errorf("drain: got %v; want each's error", err)
		}
		same(t, "drained", u.drained(batch), "b", "d")
		same(t, "drained again", u.drained(batch))
		if entries, _ = u.List(ctx, u.tag); len(entries) != 1 || entries[0].Blob != "blob of c" || entries[0].Created.IsZero() {
			t.Errorf("kept: got %v; want c as it was", entries)
		}
		if batch, err = u.RemoveAll(ctx, u.tag, sid("nobody")); err != nil {
			t.Fatal(err)
		}
		u.check()
		same(t, "alive", u.alive())
		same(t, "drained", u.drained(batch), "c")
		if batch, err = u.RemoveAll(ctx, u.tag, ""); batch != "" || err != nil {
			t.Errorf("removeAll of none: got %q, %v; want no batch", batch, err)
		}
		if err := u.Drain(ctx, u.tag, "", nil); err != nil {
			t.Errorf("drain of none: got %v", err)
		}
	})
}

// Tenants and users are apart, and no name is in a key.
func TestIndex_tag(t *testing.T) {
	t.Parallel()
	client := testkit.Mini(t).Client(t)
	tags := make(map[string]string)
	for _, prefix := range []string{"a", "ab"} {
		ix, _ := session.NewIndex(client, prefix, 0, false)
		for _, name := range []string{"alice", "balice", "lice", "\x00", "}{", strings.Repeat("x", 999)} {
			tag := ix.Tag(name)
			if other, taken := tags[tag]; taken || len(tag) != 22 || strings.Contains(tag, name) {
				t.Errorf("%q of %q: got %q; want 22 characters of its own, not %q's", name, prefix, tag, other)
			}
			tags[tag] = name
			if got, want := ix.Key(tag, "gone", "x"), "weir:session-user:{"+tag+"}:gone:x"; got != want {
				t.Errorf("got %q; want %q", got, want)
			}
		}
	}
}

// A walk by HSCAN may meet an entry twice.
func TestIndex_newestFirst(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli
	got := session.NewestFirst([]session.IndexEntry{
		{ID: "a", Created: at(1), Expires: at(8)}, {ID: "c", Created: at(2), Expires: at(7)}, {ID: "b", Created: at(2)},
		{ID: "d", Created: at(3)}, {ID: "a", Created: at(1), Expires: at(9)}, {ID: "c", Created: at(2), Expires: at(6)},
	})
	same(t, "sorted", labels(got), "d", "c", "b", "a")
	if !got[1].Expires.Equal(at(7)) || !got[3].Expires.Equal(at(9)) {
		t.Errorf("got %v; want the later ones of c and a", got)
	}
}

func TestIndex_shortestLife(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	u, ctx := newUser(t, b, 0, false), t.Context()
	b.Miniredis().SetTime(time.UnixMilli(1_800_000_000_000))
	for _, life := range []time.Duration{0, time.Nanosecond, -time.Hour} {
		if _, err := u.Add(ctx, u.tag, sid("a"), "", life, 0); err != nil {
			t.Fatal(err)
		}
		same(t, "alive for "+life.String(), u.listed(), "a")
	}
}

func TestIndex_evictsTheOldest(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		u, ctx := newUser(t, b, 0, false), t.Context()
		// The oldest by creation, not by what is left of its life.
		for i, created := range []int{40, 10, 30, 20, 20, 50} {
			id := sid(string(rune('a' + i)))
			u.add(id, 0)
			u.client.HSet(ctx, u.Key(u.tag, "info"), id, fmt.Sprintf("%d.99.blob %d", created, i))
		}
		u.client.ZAdd(ctx, u.Key(u.tag, "ids"), redis.Z{Member: sid("past"), Score: 1})
		u.client.HSet(ctx, u.Key(u.tag, "info"), sid("past"), "5.5.") // takes no one's turn to go

		limited := userOn(t, u.client, b.Prefix(t), 4, false)
		evicted, err := limited.Add(ctx, u.tag, sid("new"), "", time.Hour, 0)
		if err != nil || len(evicted) != 3 {
			t.Fatalf("add: got %v, %v; want three evicted", evicted, err)
		}
		same(t, "evicted", labels(evicted), "b", "d", "e") // d and e by their ids
		for _, e := range evicted {
			if !strings.HasPrefix(e.Blob, "blob ") || e.Created.UnixMilli() > 20 || e.Seen.UnixMilli() != 99 || e.Expires.Before(time.UnixMilli(1e12)) {
				t.Errorf("evicted: got %v; want all of it", e)
			}
		}
		u.check()
		same(t, "alive", u.alive(), "a", "c", "f", "new")
		limited.tag = u.tag
		same(t, "evicted", limited.add("new2", 0), "c")
		same(t, "evicted by the same again", limited.add("new2", 0))
		same(t, "alive", u.alive(), "a", "f", "new", "new2")

		refusing := userOn(t, u.client, b.Prefix(t), 4, true)
		refusing.tag = u.tag
		if _, err := refusing.Add(ctx, u.tag, sid("x"), "", time.Hour, 0); err != session.ErrIndexFull {
			t.Errorf("refusing: got %v; want errTooMany", err)
		}
		u.check()
		same(t, "alive", u.alive(), "a", "f", "new", "new2")
		same(t, "evicted by one who is there", refusing.add("a", 0))
		// One past its score takes nobody's place.
		u.client.ZAdd(ctx, u.Key(u.tag, "ids"), redis.Z{Member: sid("f"), Score: 1})
		same(t, "evicted", refusing.add("x", 0))
		same(t, "alive", u.alive(), "a", "new", "new2", "x")
		u.check()
		// Nor do many: with a limit all of them are purged.
		for i := range 150 {
			u.client.ZAdd(ctx, u.Key(u.tag, "ids"), redis.Z{Member: sid(strconv.Itoa(i)), Score: 1})
			u.client.HSet(ctx, u.Key(u.tag, "info"), sid(strconv.Itoa(i)), "1.1.")
		}
		roomy := userOn(t, u.client, b.Prefix(t), 5, false)
		roomy.tag = u.tag
		same(t, "evicted", roomy.add("y", 0))
		same(t, "alive", u.alive(), "a", "new", "new2", "x", "y")
		u.check()
	})
}

// addMany adds args[2] sessions on each of args[3] goroutines and tells who was evicted.
func addMany(ctx context.Context, args []string) error {
	client, err := testkit.Connect(args[0])
	if err != nil {
		return err
	}
	defer client.Close()
	ix, err := session.NewIndex(client, "scs:session", limitOfFive, false)
	if err != nil {
		return err
	}
	each, _ := strconv.Atoi(args[2])
	goroutines, _ := strconv.Atoi(args[3])
	evicted, err := addInParallel(ctx, ix, args[1], fmt.Sprintf("c%d", testkit.RoleIndex()), each, goroutines)
	testkit.Emit(evicted)
	return err
}

const limitOfFive = 5

func addInParallel(ctx context.Context, ix session.Index, tag, name string, each, goroutines int) (evicted []string, err error) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				out, e := ix.Add(ctx, tag, sid(fmt.Sprintf("%s-%d-%d", name, g, i)), "blob", time.Hour, 0)
				mu.Lock()
				evicted, err = append(evicted, labels(out)...), errors.Join(err, e)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return evicted, err
}

// At no instant has a user more sessions than allowed, and each that went was
// handed out once. Red without add's forget of those it evicts.
func TestIndex_limitIsExact(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("needs processes")
	}
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		u, ctx := newUser(t, b, limitOfFive, false), t.Context()
		const children, each, inChild, here = 2, 10, 13, 24
		sampling, samples, most := make(chan bool), 0, int64(0)
		sampler := sync.WaitGroup{}
		sampler.Go(func() {
			for {
				select {
				case <-sampling:
					return
				default:
					most = max(most, u.client.ZCard(ctx, u.Key(u.tag, "ids")).Val())
					samples++
				}
			}
		})
		processes := testkit.Spawn(t, children, "index-add", b.Spec(), u.tag, strconv.Itoa(each), strconv.Itoa(inChild))
		gone, err := addInParallel(ctx, u.Index, u.tag, "p", each, here)
		if err != nil {
			t.Error(err)
		}
		for _, ids := range testkit.Decode[[]string](t, processes.Wait()) {
			gone = append(gone, ids...)
		}
		close(sampling)
		sampler.Wait()
		if most > limitOfFive || samples == 0 {
			t.Errorf("most alive at once: got %d in %d samples; want at most %d", most, samples, limitOfFive)
		}
		all := append(gone, u.alive()...)
		slices.Sort(all)
		if n, distinct := len(all), len(slices.Compact(slices.Clone(all))); n != (children*inChild+here)*each || distinct != n {
			t.Errorf("evicted and alive: got %d, %d of them distinct; want %d", n, distinct, (children*inChild+here)*each)
		}
		u.check()
		t.Logf("%d samples, at most %d alive", samples, most)
	})
}

// A login that began before the end of all sessions is beaten; one that began
// later is not. Red without the mark, and by the first of the cases with < for <=
// or an age that is rounded down.
func TestIndex_markBeatsLoginsUnderWay(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	u, ctx := newUser(t, b, 0, false), t.Context()
	end := time.UnixMicro(1_800_000_000_123_456)
	b.Miniredis().SetTime(end)
	if _, err := u.RemoveAll(ctx, u.tag, ""); err != nil {
		t.Fatal(err)
	}
	b.Miniredis().SetTime(end.Add(time.Second))
	for i, tt := range []struct {
		age  time.Duration
		want error
	}{
		{time.Second, session.ErrIndexBeaten},
		{time.Second - time.Nanosecond, session.ErrIndexBeaten},
		{time.Second - time.Microsecond, nil},
		{time.Minute, session.ErrIndexBeaten},
		{-time.Minute, nil},
		{0, nil},
		{session.MaxAge, session.ErrIndexBeaten},
	} {
		if _, err := u.Add(ctx, u.tag, sid(strconv.Itoa(i)), "", time.Hour, tt.age); err != tt.want {
			t.Errorf("age %v: got %v; want %v", tt.age, err, tt.want)
		}
	}
	other := userOn(t, u.client, "other", 0, false)
	other.add("x", session.MaxAge-1)
	// Too long ago to be known.
	if _, err := other.Add(ctx, other.tag, sid("y"), "", time.Hour, session.MaxAge); err != session.ErrIndexBeaten {
		t.Errorf("age %v: got %v; want errBeaten", session.MaxAge, err)
	}
}

// A login right after the end of all sessions, in the same millisecond, holds.
func TestIndex_loginAfterTheEnd(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		u := newUser(t, b, 0, false)
		for range 100 {
			if _, err := u.RemoveAll(t.Context(), u.tag, ""); err != nil {
				t.Fatal(err)
			}
			u.add("a", 0)
			same(t, "alive", u.alive(), "a")
		}
	})
}

// However logins and an end of all sessions meet: each login was beaten, or its
// session was ended and is handed out; and the one that stays, stays.
func TestIndex_addBesideRemoveAll(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		client, ctx := b.Client(t), t.Context()
		rounds := map[string]int{"mini": 300, "server": 2000}[b.Name()]
		if rounds == 0 {
			rounds = 500
		}
		var beaten, ended atomic.Int64
		for round := range rounds {
			u := userOn(t, client, b.Prefix(t), 0, false)
			u.add("keep", 0)
			var wg sync.WaitGroup
			var batch string
			outcomes := make([]error, 4)
			began := time.Now()
			for i := range outcomes {
				wg.Go(func() {
					for range rand.IntN(4) {
						runtime.Gosched()
					}
					// What the call may take is its budget, see NewIndex.
					age := time.Since(began) + 20*time.Second
					_, outcomes[i] = u.Add(ctx, u.tag, sid(strconv.Itoa(i)), "", time.Hour, age)
				})
			}
			wg.Go(func() {
				for range rand.IntN(4) {
					runtime.Gosched()
				}
				var err error
				if batch, err = u.RemoveAll(ctx, u.tag, sid("keep")); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			same(t, fmt.Sprintf("round %d: alive", round), u.alive(), "keep")
			var want []string
			for i, err := range outcomes {
				switch err {
				case nil:
					want = append(want, strconv.Itoa(i))
					ended.Add(1)
				case session.ErrIndexBeaten:
					beaten.Add(1)
				default:
					t.Fatal(err)
				}
			}
			same(t, "drained", u.drained(batch), want...)
			u.check()
		}
		if beaten.Load() == 0 || ended.Load() == 0 {
			t.Errorf("got %d beaten and %d ended; want some of either", beaten.Load(), ended.Load())
		}
		t.Logf("%d rounds: %d beaten, %d ended", rounds, beaten.Load(), ended.Load())
	})
}

// Whatever is done, in whatever order, as time passes: who should be alive is, the
// keys are consistent, and nothing is left in the end.
func TestIndex_anyOrder(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 3} {
		for seed := range uint64(8) {
			t.Run(fmt.Sprintf("limit %d, seed %d", limit, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { anyOrder(t, testkit.Memory(t), limit, seed, 0) })
			})
		}
	}
}

// The same on every Redis, where no time passes that ends an entry.
func TestIndex_anyOrderForReal(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for _, limit := range []int{0, 3} {
			anyOrder(t, b, limit, 1, time.Hour)
		}
	})
}

// anyOrder runs in a bubble, unless every life is longer than the test.
func anyOrder(t *testing.T, b *testkit.Backend, limit int, seed uint64, least time.Duration) {
	u, ctx, dice := newUser(t, b, limit, false), t.Context(), rand.New(rand.NewPCG(seed, 1))
	type life struct{ created, ends time.Time }
	model := make(map[string]life)
	someone := func() string { return sid(strconv.Itoa(dice.IntN(12))) }
	ids, info := u.Key(u.tag, "ids"), u.Key(u.tag, "info")
	for step := range 600 {
		before := maps.Clone(model)
		id, lasting := someone(), least+time.Duration(1+dice.IntN(5000))*time.Millisecond
		now := time.Now()
		what := ""
		switch dice.IntN(10) {
		case 0, 1, 2:
			id = sid(fmt.Sprintf("%d-%d", step, dice.IntN(9)))
			what = "add"
			evicted, err := u.Add(ctx, u.tag, id, what, lasting, 0)
			if err == session.ErrIndexBeaten {
				continue // in the same instant, which the bubble's clock makes usual
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range evicted {
				if _, ok := model[e.ID]; !ok {
					t.Fatalf("step %d: evicted %s, which was not alive", step, e.ID)
				}
				delete(model, e.ID)
			}
			for _, e := range evicted {
				for other, l := range model {
					if least == 0 && l.ends.After(now) && l.created.Before(e.Created) {
						t.Fatalf("step %d: evicted %v; want %s of %v", step, e, other, l.created)
					}
				}
			}
			model[id] = life{now, now.Add(lasting)}
		case 3, 4:
			what = "renew"
			id = oneOf(dice, model, id)
			ok, err := u.Renew(ctx, u.tag, id, what, lasting)
			if err != nil {
				t.Fatal(err)
			}
			if l, known := model[id]; known && l.ends.After(now) && !ok {
				t.Fatalf("step %d: renew of one alive: got false", step)
			} else if ok {
				model[id] = life{l.created, now.Add(lasting)}
			}
		case 5:
			what = "remove"
			id = oneOf(dice, model, id)
			_, ok, err := u.Remove(ctx, u.tag, id)
			if l := model[id]; err != nil || l.ends.After(now) && !ok {
				t.Fatalf("step %d: remove: got %v, %v", step, ok, err)
			}
			delete(model, id)
		case 6:
			if dice.IntN(3) > 0 {
				continue
			}
			what = "removeAll"
			keep := oneOf(dice, model, id)
			batch, err := u.RemoveAll(ctx, u.tag, keep)
			if err != nil {
				t.Fatal(err)
			}
			for other := range model {
				if other != keep {
					delete(model, other)
				}
			}
			if dice.IntN(2) == 0 {
				u.drained(batch)
			}
		case 7:
			what = "list"
			var want []string
			for id, l := range model {
				if l.ends.After(now) {
					want = append(want, strings.TrimRight(id, "_"))
				}
			}
			got := u.listed()
			slices.Sort(got)
			slices.Sort(want)
			same(t, fmt.Sprintf("step %d: listed", step), got, want...)
		case 8:
			what = "persist" // and heal by the next write
			u.client.Persist(ctx, ids)
			u.client.Persist(ctx, info)
			if len(u.alive()) == 0 {
				continue
			}
			anyone := u.alive()[0]
			if ok, err := u.Renew(ctx, u.tag, sid(anyone), what, lasting); !ok || err != nil {
				t.Fatalf("step %d: renew: got %v, %v", step, ok, err)
			}
			model[sid(anyone)] = life{model[sid(anyone)].created, now.Add(lasting)}
		case 9:
			if least > 0 {
				continue
			}
			what = "sleep"
			time.Sleep(time.Duration(dice.IntN(3000)) * time.Millisecond)
		}
		now = time.Now()
		alive := make(map[string]bool)
		for _, label := range u.alive() {
			alive[sid(label)] = true
			if _, ok := model[sid(label)]; !ok {
				t.Fatalf("step %d, %s: %s is alive; want not: before %v", step, what, label, before)
			}
		}
		for id, l := range model {
			if l.ends.After(now) && !alive[id] {
				t.Fatalf("step %d, %s: %s is not alive; want until %v, now %v", step, what, id, l.ends, now)
			}
		}
		if limit > 0 && len(alive) > limit {
			t.Fatalf("step %d, %s: %d alive; want at most %d", step, what, len(alive), limit)
		}
		u.check()
	}
	if least > 0 {
		return
	}
	time.Sleep(2 * time.Hour)
	if keys := testkit.Keys(t, u.client, "weir"); len(keys) != 0 {
		t.Errorf("left in the end: %q", keys)
	}
}

// oneOf is one of the model's as a rule, else the other.
func oneOf[V any](dice *rand.Rand, model map[string]V, other string) string {
	if ids := slices.Sorted(maps.Keys(model)); len(ids) > 0 && dice.IntN(5) > 0 {
		return ids[dice.IntN(len(ids))]
	}
	return other
}
