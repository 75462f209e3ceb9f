package session_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2/memstore"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

func TestWithMaxSize(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t), session.WithMaxSize(1000))
	token := login(t, m, "alice")
	for _, cookie := range []string{token, ""} {
		v := visit(m, cookie)
		m.Put(v, "big", strings.Repeat("x", 1000))
		if c, err := v.Commit(); c != nil || !errors.Is(err, session.ErrTooLarge) {
			t.Errorf("got %v, %v; want ErrTooLarge", c, err)
		}
	}
	v := visit(m, token)
	if m.GetString(v, "user") != "alice" || m.Exists(v, "big") {
		t.Errorf("got keys %v; want the session as it was", m.Keys(v))
	}
	// Two halves that fit, and do not when they are merged.
	a, b := visit(m, token), visit(m, token)
	m.Put(a, "a", strings.Repeat("x", 500))
	m.Put(b, "b", strings.Repeat("x", 500))
	commit(t, a)
	if _, err := b.Commit(); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("merged: got %v; want ErrTooLarge", err)
	}
}

// keyring is n keys of 32 bytes.
func keyring(n int) (keys [][]byte) {
	for i := range n {
		keys = append(keys, bytes.Repeat([]byte{byte(i + 1)}, 32))
	}
	return keys
}

func TestWithEncryption(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb, ctx := b.Client(t), t.Context()
		keys := keyring(2)
		user := "user-" + b.Prefix(t)
		of := func(keys ...[]byte) *session.Manager {
			return newManager(t, rdb, session.WithEncryption(keys...), session.WithDevice(func(r *http.Request) string { return r.Method + " of a test" }))
		}
		old := of(keys[0])
		token := loginAs(t, old, login(t, old, "alice"), user)
		stored := rdb.Get(ctx, keyOf(token)).Val()
		if stored == "" || strings.Contains(stored, "alice") || strings.Contains(stored, user) {
			t.Errorf("stored: got %q; want nothing legible", stored)
		}
		for _, key := range testkit.Keys(t, rdb, "weir:session-user:") {
			if rdb.Type(ctx, key).Val() != "hash" {
				continue
			}
			if got := fmt.Sprint(rdb.HVals(ctx, key).Val()); strings.Contains(got, "GET of") {
				t.Errorf("index: got %q; want nothing legible", got)
			}
		}

		// Key rotation: the new key is known everywhere, then encrypts, then the old
		// one goes.
		for step, m := range []*session.Manager{of(keys[0], keys[1]), of(keys[1], keys[0])} {
			v := visit(m, token)
			if m.User(v) != user || m.GetString(v, "user") != "alice" {
				t.Fatalf("step %d: got %q, %q", step, m.User(v), m.GetString(v, "user"))
			}
			if infos := list(t, m, token, user); len(infos) != 1 || infos[0].Device != "GET of a test" {
				t.Errorf("step %d: list: got %+v", step, infos)
			}
			m.Put(v, "step", step)
			commit(t, v)
			other := visit(m, token)
			m.Put(other, "step", step)
			if err := m.Update(other, "n", func(any) any { return step }); err != nil {
				t.Error(err)
			}
		}
		last := of(keys[1])
		if v := visit(last, token); last.User(v) != user || last.GetInt(v, "n") != 1 {
			t.Errorf("the new key alone: got %q, %d", last.User(v), last.GetInt(v, "n"))
		}
		v := visit(old, token)
		if old.User(v) != "" || !errors.Is(v.Warning(), session.ErrCorrupt) {
			t.Errorf("the old key alone: got %q, warning %v; want nobody and ErrCorrupt", old.User(v), v.Warning())
		}

		// One record under another's name is nobody's.
		mallory := login(t, last, "mallory")
		rdb.Set(ctx, keyOf(mallory), rdb.Get(ctx, keyOf(token)).Val(), time.Hour)
		v = visit(last, mallory)
		if got := last.GetString(v, "user"); got != "" || !errors.Is(v.Warning(), session.ErrCorrupt) {
			t.Errorf("moved: got %q, warning %v; want nobody and ErrCorrupt", got, v.Warning())
		}

		// What was stored in plain is refused, unless it is asked for by name.
		plain := login(t, newManager(t, rdb), "plain")
		if v := visit(last, plain); last.GetString(v, "user") != "" || !errors.Is(v.Warning(), session.ErrCorrupt) {
			t.Errorf("plain: got %q, warning %v; want nobody and ErrCorrupt", last.GetString(v, "user"), v.Warning())
		}
		lenient := newManager(t, rdb, session.WithEncryption(keys[1]), session.WithInsecurePlaintext())
		v = visit(lenient, plain)
		if got := lenient.GetString(v, "user"); got != "plain" {
			t.Errorf("plain, allowed: got %q", got)
		}
		lenient.Put(v, "n", 1)
		commit(t, v)
		if v := visit(last, plain); last.GetString(v, "user") != "plain" {
			t.Errorf("once written it is encrypted: got %q, warning %v", last.GetString(v, "user"), v.Warning())
		}
	})
}

// A key that was given is the caller's: changing it later changes nothing.
func TestWithEncryption_keepsKeys(t *testing.T) {
	t.Parallel()
	rdb, keys := testkit.Mini(t).Client(t), keyring(1)
	m := newManager(t, rdb, session.WithEncryption(keys...))
	clear(keys[0])
	token := login(t, m, "alice")
	if m := newManager(t, rdb, session.WithEncryption(keyring(1)...)); m.GetString(visit(m, token), "user") != "alice" {
		t.Error("the key was not copied")
	}
}

// An observer is told of what happens, once each, and of no token.
func TestWithObserver(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	var mu sync.Mutex
	var events []session.Event
	m := newManager(t, rdb, session.WithMaxSessions(1, session.EvictOldest),
		session.WithObserver(func(context.Context, session.Event) {}),
		session.WithObserver(func(_ context.Context, e session.Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, e)
		}))
	told := func(step string, want ...string) {
		t.Helper()
		var got []string
		for _, e := range events {
			text := e.Kind.String()
			if e.User != "" {
				text += " " + e.User
			}
			if (e.User == "") != (e.ID == "") {
				text += " without both"
			}
			got = append(got, text)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q; want %q", step, got, want)
		}
		events = nil
	}
	token := login(t, m, "alice")
	told("begun", "created")
	v := visit(m, token)
	m.Get(v, "user")
	commit(t, v)
	told("read")
	v = visit(m, token)
	if err := m.RenewToken(v); err != nil {
		t.Fatal(err)
	}
	c, err := v.Commit()
	if err != nil {
		t.Fatal(err)
	}
	told("renewed", "renewed")
	first := loginAs(t, m, c.Value, "alice")
	told("login", "logged in alice")
	second := loginAs(t, m, "", "alice")
	told("login again", "logged in alice", "evicted alice")
	v = visit(m, first)
	m.Put(v, "late", 1)
	commit(t, v)
	events = nil
	v = visit(m, second)
	if err := m.Destroy(v); err != nil {
		t.Fatal(err)
	}
	commit(t, v)
	told("logout", "ended alice")
	visit(m, strings.Repeat("A", 43)).Ready()
	told("unknown", "expired")
	loginAs(t, m, "", "bob")
	events = nil
	if err := m.EndAll(t.Context(), "bob"); err != nil {
		t.Fatal(err)
	}
	told("end all", "ended bob")
	token = login(t, m, "alice")
	rdb.Set(t.Context(), keyOf(token), "garbage", time.Hour)
	events = nil
	v = visit(m, token)
	v.Ready()
	if len(events) != 1 || !errors.Is(events[0].Err, session.ErrCorrupt) {
		t.Errorf("garbage: got %v; want ErrCorrupt", events)
	}
	told("garbage", "damaged")
	token = login(t, m, "alice")
	v = visit(m, token)
	m.Put(v, "n", 1)
	rdb.Del(t.Context(), keyOf(token))
	events = nil
	commit(t, v)
	told("ended meanwhile", "lost")
}

// Any scs store may take Redis's place; tokens reach it as digests.
func TestWithStore(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	s := memstore.NewWithCleanupInterval(0)
	m := newManager(t, rdb, session.WithStore(s))
	token := login(t, m, "alice")
	if len(testkit.Keys(t, rdb, "")) != 0 {
		t.Error("there is something in Redis")
	}
	all, err := s.All()
	if err != nil || len(all) != 1 || all[strings.TrimPrefix(keyOf(token), "scs:session:")] == nil {
		t.Errorf("stored: got %v, %v; want it under the digest", all, err)
	}
	a, b := visit(m, token), visit(m, token)
	m.Put(a, "a", 1)
	m.Put(b, "b", 2)
	commit(t, a)
	commit(t, b)
	v := visit(m, token)
	if got := fmt.Sprintf("%v %v %v", m.Get(v, "a"), m.Get(v, "b"), m.Get(v, "user")); got != "1 2 alice" {
		t.Errorf("merged: got %s", got)
	}
	n := 0
	if err := m.Iterate(t.Context(), func(ctx context.Context) error { n++; return nil }); err != nil || n != 1 {
		t.Errorf("iterate: got %d, %v; want 1", n, err)
	}
	bound := loginAs(t, m, token, "alice")
	if userOf(m, bound) != "alice" || userOf(m, token) != "" {
		t.Errorf("bound: got %q and %q", userOf(m, bound), userOf(m, token))
	}
	slow := visit(m, bound)
	m.Put(slow, "late", 1)
	if err := m.EndAll(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if userOf(m, bound) != "" {
		t.Error("ended: it is alive")
	}
	if c, err := slow.Commit(); c != nil || err != nil || slow.Warning() == nil {
		t.Errorf("late: got %v, %v, warning %v", c, err, slow.Warning())
	}
}

func TestWithInsecurePlainTokens(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	m := newManager(t, rdb, session.WithInsecurePlainTokens())
	token := login(t, m, "alice")
	if rdb.Exists(t.Context(), "scs:session:"+token).Val() != 1 {
		t.Errorf("got keys %v; want the token's own", testkit.Keys(t, rdb, ""))
	}
	if got := m.GetString(visit(m, token), "user"); got != "alice" {
		t.Errorf("got %q", got)
	}
}

// Iterate finds every session, ends those it is told to (scs's own ends nothing where
// tokens are hashed), and passes over marks, damaged ones and those ended by their
// user's index.
func TestManager_Iterate(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb := b.Client(t)
		prefix := b.Prefix(t)
		m := newManager(t, rdb, session.WithPrefix(prefix))
		var tokens []string
		for i := range 250 {
			tokens = append(tokens, login(t, m, fmt.Sprint("user", i)))
		}
		bob := prefix + "bob"
		bound := loginAs(t, m, login(t, m, "bob"), bob)
		ended := visit(m, tokens[0])
		if err := m.Destroy(ended); err != nil {
			t.Fatal(err)
		}
		rdb.Set(t.Context(), prefix+":damaged", "x", time.Hour)
		rdb.RPush(t.Context(), prefix+":list", "x")
		rdb.Expire(t.Context(), prefix+":list", time.Hour)
		seen := make(map[string]int)
		err := m.Iterate(t.Context(), func(ctx context.Context) error {
			user := m.GetString(ctx, "user")
			seen[user]++
			switch user {
			case "user1", "bob":
				return m.Destroy(ctx)
			case "user2":
				m.Put(ctx, "seen", true)
				_, _, err := m.Commit(ctx)
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) != 250 || seen["user0"] != 0 || seen["bob"] != 1 {
			t.Errorf("got %d, user0 %d, bob %d; want 250, 0, 1", len(seen), seen["user0"], seen["bob"])
		}
		if got := m.GetString(visit(m, tokens[1]), "user"); got != "" {
			t.Errorf("destroyed: got %q", got)
		}
		if got := userOf(m, bound); got != "" || len(list(t, m, "", bob)) != 0 {
			t.Errorf("destroyed: got %q", got)
		}
		if v := visit(m, tokens[2]); !m.GetBool(v, "seen") || m.GetString(v, "user") != "user2" {
			t.Errorf("changed: got keys %v", m.Keys(v))
		}
		own := errors.New("enough")
		if err := m.Iterate(t.Context(), func(context.Context) error { return own }); err != own {
			t.Errorf("got %v; want the function's error", err)
		}
		all, err := newStore(t, rdb, session.WithPrefix(prefix)).All()
		if err != nil || len(all) != 248+1 { // and the damaged one, which only a codec knows to be
			t.Errorf("all: got %d, %v; want 249", len(all), err)
		}
	})
}
