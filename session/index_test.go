package session_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

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
