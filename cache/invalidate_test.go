package cache_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/cache"
)

func TestInvalidate_contract(t *testing.T) {
	t.Parallel()
	each(t, map[string]func(rig){
		"tags":                testTags,
		"tags are remembered": testTagsRemembered,
		"prefixes":            testPrefixes,
		"many prefixes":       testManyPrefixes,
		"patterns":            testPatterns,
		"a pattern's reach":   testPatternReach,
		"clear":               testClear,
	})
}

func testTags(r rig) {
	ctx := r.t.Context()
	other := viewOf[string](r.t, r.store, "other", cache.WithTags("view"))
	fill := func() {
		for i := range 40 { // on all shards
			key := fmt.Sprint(i)
			r.set(key, "v", cache.WithTags("all", "parity "+fmt.Sprint(i%2)))
			noError(r.t, other.Set(ctx, key, "v", cache.WithTags("all")))
		}
	}
	count := func(want, wantOther int) {
		r.t.Helper()
		var keys []string
		for i := range 40 {
			keys = append(keys, fmt.Sprint(i))
		}
		mine, err1 := r.GetMany(ctx, keys...)
		others, err2 := other.GetMany(ctx, keys...)
		if err1 != nil || err2 != nil || len(mine) != want || len(others) != wantOther {
			r.t.Errorf("got %d and %d, %v, %v; want %d and %d", len(mine), len(others), err1, err2, want, wantOther)
		}
	}
	fill()
	count(40, 40)
	noError(r.t, r.store.DeleteTags(ctx, "parity 1"))
	count(20, 40)
	noError(r.t, r.store.DeleteTags(ctx, "nothing has it"))
	count(20, 40)
	noError(r.t, r.another().store.DeleteTags(ctx, "view", "parity 0"))
	count(0, 0)
	fill()
	noError(r.t, r.store.DeleteTags(ctx, "all"))
	count(0, 0)
	fill()
	count(40, 40)
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprint("tag ", i)
	}
	r.set("k", "v", cache.WithTags("tag 39"))
	noError(r.t, r.store.DeleteTags(ctx, many...))
	r.wants("k", "")
	r.everythingExpires()
}

// An invalidation of a tag that nothing has is remembered for the sake of loads under way,
// and one is not forgotten while entries live. Protected by PX of untag.lua.
func testTagsRemembered(r rig) {
	noError(r.t, r.store.DeleteTags(r.t.Context(), "t"))
	r.lasts(r.store.TagKey("v", "k", "t"), 15*time.Minute)
	r.set("k", "v", cache.WithTTL(time.Hour), cache.WithTags("t"))
	noError(r.t, r.store.DeleteTags(r.t.Context(), "t"))
	r.lasts(r.store.TagKey("v", "k", "t"), time.Hour)
	r.loads("k", "v", func(ctx context.Context) (string, error) {
		noError(r.t, r.store.DeleteTags(r.t.Context(), "new"))
		cache.Tag(ctx, "new")
		return "v", nil
	})
	r.wants("k", "")
}

func testPrefixes(r rig) {
	ctx := r.t.Context()
	other := viewOf[string](r.t, r.store, "v2")
	for _, prefix := range append(strange, "plain") {
		r.set(prefix, "v")
		r.set(prefix+"x", "v")
		r.set("x"+prefix, "v")
		noError(r.t, other.Set(ctx, prefix+"x", "v"))
		noError(r.t, r.DeletePrefix(ctx, prefix))
		r.wants(prefix, "")
		r.wants(prefix+"x", "")
		if !strings.HasPrefix("x"+prefix, prefix) {
			r.wants("x"+prefix, "v")
		}
		if v, ok, err := other.Get(ctx, prefix+"x"); v != "v" || !ok || err != nil {
			r.t.Errorf("another view's: got %q, %v, %v", v, ok, err)
		}
		r.set(prefix, "after")
		r.wants(prefix, "after")
	}
}

// Protected by the floor in clear.lua: the 65th takes the place of the oldest, which
// must not come back.
func testManyPrefixes(r rig) {
	ctx := r.t.Context()
	r.set("first-k", "v")
	noError(r.t, r.DeletePrefix(ctx, "first-"))
	r.set("between", "v")
	for i := range cache.MaxPrefixes {
		noError(r.t, r.DeletePrefix(ctx, fmt.Sprintf("p%02d-", i)))
		r.wants("first-k", "")
	}
	if len(r.rdb.HGet(ctx, r.store.MetaKey("v", "k"), "p").Val()) > 64*20 {
		r.t.Error("more than 64 prefixes are remembered")
	}
	r.set("after", "v")
	r.wants("after", "v")
	r.wants("first-k", "")
	// One that covers those remembered takes their place.
	noError(r.t, r.DeletePrefix(ctx, "p"))
	if got := r.rdb.HGet(ctx, r.store.MetaKey("v", "k"), "p").Val(); strings.Count(got, ":v:p") != 1 {
		r.t.Errorf("remembered: %q", got)
	}
	r.wants("after", "v")
	noError(r.t, r.store.Clear(ctx))
	r.wants("after", "")
	if r.rdb.HExists(ctx, r.store.MetaKey("v", "k"), "p").Val() {
		r.t.Error("prefixes are remembered that Clear covers")
	}
}

// What DeletePattern removes is what Redis's own KEYS says, with patterns and keys made
// of few characters at random.
func testPatterns(r rig) {
	ctx := r.t.Context()
	rnd := rand.New(rand.NewPCG(1, 2))
	text := func(alphabet string, n int) string {
		b := make([]byte, 1+rnd.IntN(n))
		for i := range b {
			b[i] = alphabet[rnd.IntN(len(alphabet))]
		}
		return string(b)
	}
	alphabet := `ab*?[-]\`
	if r.backend.Name() == "mini" {
		alphabet = "ab*?" // its own idea of the others is not Redis's
	}
	rounds := 60
	if r.backend.Name() == "mini" {
		rounds = 10
	}
	for range rounds {
		pattern := text(alphabet, 5)
		var keys, want []string
		for range 12 {
			keys = append(keys, text(alphabet, 4))
		}
		for _, key := range keys {
			r.set(key, "v")
		}
		for _, key := range keys {
			if !matches(ctx, r, pattern, key) {
				want = append(want, key)
			}
		}
		noError(r.t, r.DeletePattern(ctx, pattern))
		for _, key := range keys {
			_, left, err := r.Get(ctx, key)
			if err != nil || left == matches(ctx, r, pattern, key) {
				r.t.Errorf("%q and key %q: left %v, %v; want the other; %q are to stay", pattern, key, left, err, want)
			}
		}
		noError(r.t, r.Clear(ctx))
	}
}

// matches asks Redis itself.
func matches(ctx context.Context, r rig, pattern, key string) bool {
	if r.backend.Name() == "mini" { // its own: only what path.Match says, too
		ok, err := path.Match(pattern, key)
		return err == nil && ok
	}
	found, err := r.rdb.Eval(ctx, `
		redis.call('SET', KEYS[1], '1', 'PX', 5000)
		local found = redis.call('SCAN', '0', 'MATCH', ARGV[1], 'COUNT', 100000)[2]
		redis.call('DEL', KEYS[1])
		for _, k in ipairs(found) do if k == KEYS[1] then return 1 end end
		return 0`, []string{r.prefix + ":{m}:" + key}, r.prefix+":{m}:"+pattern).Int()
	if err != nil && err != redis.Nil {
		r.t.Fatal(err)
	}
	return found == 1
}

// Keys that look as if they were another view's, or another key. Protected by the
// three ? in Store.pattern: no key's text can stand in place of a shard's name.
func testPatternReach(r rig) {
	ctx := r.t.Context()
	other := viewOf[string](r.t, r.store, "w")
	for _, key := range []string{"x}:e:v:guest-1", "04s}:e:v:guest-1", "}:e:v:guest-1"} {
		r.set(key, "v")
		noError(r.t, other.Set(ctx, key, "v"))
	}
	for i := range 40 {
		r.set(fmt.Sprint("guest-", i), "v")
	}
	noError(r.t, r.DeletePattern(ctx, "guest-*"))
	for i := range 40 { // on all shards
		r.wants(fmt.Sprint("guest-", i), "")
	}
	for _, key := range []string{"x}:e:v:guest-1", "04s}:e:v:guest-1", "}:e:v:guest-1"} {
		r.wants(key, "v")
		if _, ok, err := other.Get(ctx, key); !ok || err != nil {
			r.t.Errorf("another view's %q: got %v, %v; want it to stay", key, ok, err)
		}
	}
	r.set("kept", "v", cache.WithTags("guest-1"))
	noError(r.t, r.DeletePattern(ctx, "guest-*"))
	r.wants("kept", "v")
}

func testClear(r rig) {
	ctx := r.t.Context()
	other := viewOf[string](r.t, r.store, "other")
	bystander := newRig(r.t, r.backend)
	bystander.set("k", "v")
	fill := func() {
		r.set("k", "v")
		noError(r.t, other.Set(ctx, "k", "v"))
	}
	fill()
	page := bench{Store: r.store, t: r.t}
	page.keep("/page", "", "", "page", time.Minute)
	noError(r.t, r.Clear(ctx))
	r.wants("k", "")
	if _, ok, _ := other.Get(ctx, "k"); !ok {
		r.t.Error("Clear of one view took another's")
	}
	page.wants("/page", "", "page")
	fill()
	noError(r.t, r.store.Clear(ctx))
	r.wants("k", "")
	if _, ok, _ := other.Get(ctx, "k"); ok {
		r.t.Error("Clear left another view's")
	}
	page.wants("/page", "", "")
	bystander.wants("k", "v")
	fill()
	r.wants("k", "v")
}
