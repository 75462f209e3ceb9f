package session_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// patient is a budget that a busy machine does not exceed.
var patient = session.WithTimeout(10 * time.Second)

// store is all that scs may ask of a session store.
type store interface {
	scs.CtxStore
	scs.IterableStore
	scs.IterableCtxStore
}

var _ store = (*session.Store)(nil)

// newStore returns a store that a busy machine does not exceed.
func newStore(tb testing.TB, client redis.UniversalClient, options ...session.Option) *session.Store {
	tb.Helper()
	s, err := session.NewStore(client, append([]session.Option{patient}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// isStored reports whether Redis holds a session under key, and not nothing or the
// mark of one that has ended.
func isStored(tb testing.TB, client redis.UniversalClient, key string) bool {
	tb.Helper()
	stored, err := client.Get(context.Background(), key).Bytes()
	if err == redis.Nil {
		return false
	}
	if err != nil {
		tb.Fatal(err)
	}
	_, values, err := scs.GobCodec{}.Decode(stored)
	if err != nil {
		tb.Fatal(err)
	}
	return values["__weir.mark"] == nil
}

// newManager returns a manager on client that a busy machine does not exceed.
func newManager(tb testing.TB, client redis.UniversalClient, options ...session.Option) *session.Manager {
	tb.Helper()
	m, err := session.New(client, append([]session.Option{patient}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// visit begins a visit of a browser that has the token.
func visit(m *session.Manager, token string) *session.Visit {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	if token != "" {
		r.AddCookie(&http.Cookie{Name: m.Cookie.Name, Value: token})
	}
	return m.Visit(r)
}

// login stores a session and returns its token.
func login(tb testing.TB, m *session.Manager, user string) string {
	tb.Helper()
	v := visit(m, "")
	m.Put(v, "user", user)
	c, err := v.Commit()
	if err != nil || c == nil {
		tb.Fatalf("login: got %v, %v; want a cookie", c, err)
	}
	return c.Value
}

// keyOf is where scs stores get the session of a token under HashTokenInStore.
func keyOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return "scs:session:" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func TestStore_contract(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb, ctx := b.Client(t), t.Context()
		s := newStore(t, rdb)
		token := b.Prefix(t)
		key := "scs:session:" + token
		in := func(d time.Duration) time.Time { return time.Now().Add(d) }

		find := func(step string, want []byte) {
			t.Helper()
			got, found, err := s.FindCtx(ctx, token)
			if err != nil || found != (want != nil) || !bytes.Equal(got, want) {
				t.Fatalf("%s: find: got %q, %v, %v; want %q", step, got, found, err, want)
			}
			got, found, err = s.Find(token)
			if err != nil || found != (want != nil) || !bytes.Equal(got, want) {
				t.Fatalf("%s: find without a context: got %q, %v, %v; want %q", step, got, found, err, want)
			}
		}
		lives := func(step string, least, most time.Duration) {
			t.Helper()
			ttl, err := rdb.PTTL(ctx, key).Result()
			if err != nil || ttl < least || ttl > most {
				t.Fatalf("%s: pttl: got %v, %v; want %v to %v", step, ttl, err, least, most)
			}
		}
		do := func(step string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %v", step, err)
			}
		}

		find("before all", nil)
		do("delete a missing one", s.DeleteCtx(ctx, token))

		data := []byte("\x00\xff\r\n data")
		do("commit", s.CommitCtx(ctx, token, data, in(10*time.Minute)))
		find("committed", data)
		lives("until the expiry", 9*time.Minute, 10*time.Minute)

		do("update", s.Commit(token, []byte("other"), in(5*time.Hour)))
		find("updated", []byte("other"))
		lives("until the new expiry", 5*time.Hour-time.Minute, 5*time.Hour)

		do("empty", s.CommitCtx(ctx, token, nil, in(time.Hour)))
		if got, found, err := s.FindCtx(ctx, token); err != nil || !found || len(got) != 0 {
			t.Fatalf("empty: got %q, %v, %v", got, found, err)
		}

		do("delete", s.Delete(token))
		find("deleted", nil)

		// A past expiry deletes, and creates nothing: goredisstore leaves a key
		// without expiry here.
		do("commit", s.CommitCtx(ctx, token, data, in(time.Hour)))
		do("past", s.CommitCtx(ctx, token, data, in(-time.Minute)))
		find("past", nil)
		do("past, missing", s.CommitCtx(ctx, token, data, time.Time{}))
		find("past, missing", nil)

		// An expiry ends it.
		do("short", s.CommitCtx(ctx, token, data, in(150*time.Millisecond)))
		lives("short", 0, 150*time.Millisecond)
		testkit.Eventually(t, "the expiry", func() bool {
			_, found, err := s.FindCtx(ctx, token)
			return err == nil && !found
		})

		// Another type is ErrCorrupt when read, and overwritten when written.
		do("list", rdb.RPush(ctx, key, "x").Err())
		if _, _, err := s.FindCtx(ctx, token); !errors.Is(err, session.ErrCorrupt) {
			t.Errorf("a list: got %v; want ErrCorrupt", err)
		}
		do("over the list", s.CommitCtx(ctx, token, data, in(time.Hour)))
		find("over the list", data)
		lives("over the list", 59*time.Minute, time.Hour)

		// The caller's own end passes as it is.
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, _, err := s.FindCtx(ended, token); err != context.Canceled {
			t.Errorf("find, cancelled: got %v; want %v", err, context.Canceled)
		}
		if err := s.CommitCtx(ended, token, data, in(time.Hour)); err != context.Canceled {
			t.Errorf("commit, cancelled: got %v; want %v", err, context.Canceled)
		}
		if err := s.DeleteCtx(ended, token); err != context.Canceled {
			t.Errorf("delete, cancelled: got %v; want %v", err, context.Canceled)
		}
		do("delete", s.Delete(token))
	})
}

// On every kind of Redis: begin, find, change, read, renew, destroy.
func TestManager_contract(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb := b.Client(t)
		m := newManager(t, rdb)

		first := login(t, m, "alice")
		exists := func(token string, want bool) {
			t.Helper()
			if got := isStored(t, rdb, keyOf(token)); got != want {
				t.Fatalf("stored: got %v; want %v", got, want)
			}
		}
		exists(first, true)

		v := visit(m, first)
		if got := m.GetString(v, "user"); got != "alice" {
			t.Fatalf("user: got %q; want alice", got)
		}
		if c, err := v.Commit(); c != nil || err != nil {
			t.Fatalf("read: got %v, %v; want neither cookie nor error", c, err)
		}

		v = visit(m, first)
		m.Put(v, "n", 7)
		if c, err := v.Commit(); err != nil || c != nil {
			t.Fatalf("change: got %v, %v; want no new cookie", c, err)
		}

		v = visit(m, first)
		if err := m.RenewToken(v); err != nil {
			t.Fatal(err)
		}
		c, err := v.Commit()
		if err != nil || c == nil || c.Value == first {
			t.Fatalf("renew: got %v, %v; want another token", c, err)
		}
		second := c.Value
		exists(first, false)
		exists(second, true)

		v = visit(m, second)
		if m.GetString(v, "user") != "alice" || m.GetInt(v, "n") != 7 {
			t.Errorf("renewed: got keys %v; want user and n", m.Keys(v))
		}
		if err := m.Destroy(v); err != nil {
			t.Fatal(err)
		}
		if c, err := v.Commit(); err != nil || c == nil || c.Value != "" || c.MaxAge != -1 {
			t.Fatalf("destroy: got %v, %v; want a cookie that takes it away", c, err)
		}
		exists(second, false)
		if v = visit(m, second); len(m.Keys(v)) != 0 || m.Token(v) != "" {
			t.Errorf("after destroy: got keys %v, token %q; want none", m.Keys(v), m.Token(v))
		}
	})
}

// A record whose expiry somebody took away gets it back when it is read, also
// close to its deadline, where a touch gains nothing. Red without "left < 0" in
// held.tenth.
func TestManager_restoresExpiry(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb, ctx := b.Client(t), t.Context()
		m := newManager(t, rdb, session.WithIdleTimeout(time.Hour))
		for _, left := range []time.Duration{time.Hour, time.Minute} {
			v := visit(m, "")
			m.Put(v, "user", "alice")
			m.SetDeadline(v, time.Now().Add(left))
			c, err := v.Commit()
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := rdb.Persist(ctx, keyOf(c.Value)).Result(); !ok || err != nil {
				t.Fatalf("persist: got %v, %v", ok, err)
			}
			v = visit(m, c.Value)
			if got := m.GetString(v, "user"); got != "alice" {
				t.Fatalf("user: got %q; want alice", got)
			}
			if c, err := v.Commit(); c != nil || err != nil || v.Warning() != nil {
				t.Fatalf("commit: got %v, %v, warning %v", c, err, v.Warning())
			}
			if ttl := rdb.PTTL(ctx, keyOf(c.Value)).Val(); ttl < left-30*time.Second || ttl > left {
				t.Errorf("pttl: got %v; want %v", ttl, left)
			}
		}
	})
}

// A record that lost its expiry does not outlive its absolute deadline. Red
// without the deadline's case in Visit.enter: scs never looks at it.
func TestManager_deadlineWithoutExpiry(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb, ctx := b.Client(t), t.Context()
		m := newManager(t, rdb)
		token := login(t, m, "alice")
		old, err := scs.GobCodec{}.Encode(time.Now().Add(-time.Second), map[string]any{"user": "alice"})
		if err != nil {
			t.Fatal(err)
		}
		if err := rdb.Set(ctx, keyOf(token), old, 0).Err(); err != nil {
			t.Fatal(err)
		}
		v := visit(m, token)
		if got := m.GetString(v, "user"); got != "" {
			t.Errorf("user: got %q; want nobody", got)
		}
		if isStored(t, rdb, keyOf(token)) {
			t.Error("the record is still there")
		}
		m.Put(v, "user", "bob")
		if c, err := v.Commit(); err != nil || c == nil || c.Value == token {
			t.Errorf("commit: got %v, %v; want a new token", c, err)
		}
	})
}
