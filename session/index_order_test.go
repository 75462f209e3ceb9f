package session_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

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
