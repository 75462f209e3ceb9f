package session_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
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
