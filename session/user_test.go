package session_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// loginAs binds a new session, or that of token, to a user, and returns the new token.
func loginAs(tb testing.TB, m *session.Manager, token, user string) string {
	tb.Helper()
	v := visit(m, token)
	if err := m.Login(v, user); err != nil {
		tb.Fatal(err)
	}
	c, err := v.Commit()
	if err != nil || c == nil {
		tb.Fatalf("login: got %v, %v; want a cookie", c, err)
	}
	return c.Value
}

// userOf is the user that a token is bound to.
func userOf(m *session.Manager, token string) string { return m.User(visit(m, token)) }

// list are a user's sessions as token's visitor sees them.
func list(tb testing.TB, m *session.Manager, token, user string) []session.Info {
	tb.Helper()
	v := visit(m, token)
	m.Get(v, "")
	infos, err := m.Sessions(v, user)
	if err != nil {
		tb.Fatal(err)
	}
	return infos
}

func TestManager_Login(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb := b.Client(t)
		m := newManager(t, rdb)
		user := "user of " + b.Prefix(t)
		anonymous := visit(m, "")
		m.Put(anonymous, "cart", 3)
		c, err := anonymous.Commit()
		if err != nil {
			t.Fatal(err)
		}

		v := visit(m, c.Value)
		if got := m.User(v) + m.ID(v); got != "" {
			t.Errorf("before: got %q; want nobody", got)
		}
		if err := m.Login(v, user); err != nil {
			t.Fatal(err)
		}
		if m.User(v) != user || m.ID(v) == "" || m.GetInt(v, "cart") != 3 {
			t.Errorf("logged in: got %q, %q, cart %d", m.User(v), m.ID(v), m.GetInt(v, "cart"))
		}
		m.Put(v, "name", "Alice")
		cookie, err := v.Commit()
		if err != nil || cookie == nil || cookie.Value == c.Value || cookie.Value != m.Token(v) {
			t.Fatalf("got %v, %v; want a new token", cookie, err)
		}
		old := visit(m, c.Value)
		m.Put(old, "cart", 4)
		if got, err := old.Commit(); m.User(old) != "" || got != nil || err != nil {
			t.Errorf("the old token: got %q, %v, %v; want nobody and no cookie", m.User(old), got, err)
		}
		token, id := cookie.Value, m.ID(v)

		// A new token keeps the binding.
		v = visit(m, token)
		if err := m.RenewToken(v); err != nil {
			t.Fatal(err)
		}
		if cookie, err = v.Commit(); err != nil || cookie == nil || cookie.Value == token {
			t.Fatalf("renewed: got %v, %v", cookie, err)
		}
		if got := userOf(m, token); got != "" {
			t.Errorf("renewed: the old token is %q", got)
		}
		token = cookie.Value
		v = visit(m, token)
		if m.User(v) != user || m.ID(v) != id || m.GetString(v, "name") != "Alice" {
			t.Errorf("renewed: got %q, %q, %q; want the same", m.User(v), m.ID(v), m.GetString(v, "name"))
		}
		// So does Clear, which takes away all else.
		if err := m.Clear(v); err != nil {
			t.Fatal(err)
		}
		if _, err := v.Commit(); err != nil {
			t.Fatal(err)
		}
		v = visit(m, token)
		if m.User(v) != user || m.Exists(v, "name") {
			t.Errorf("cleared: got %q, keys %v", m.User(v), m.Keys(v))
		}
		if infos := list(t, m, token, user); len(infos) != 1 || infos[0].ID != id || !infos[0].Current {
			t.Errorf("list: got %+v; want %s, current", infos, id)
		}

		if err := m.Destroy(v); err != nil {
			t.Fatal(err)
		}
		if got := userOf(m, token); got != "" {
			t.Errorf("destroyed: got %q", got)
		}
		if infos := list(t, m, token, user); len(infos) != 0 {
			t.Errorf("destroyed: got %+v", infos)
		}
	})
}

func TestManager_Sessions(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		user := b.Prefix(t)
		m := newManager(t, b.Client(t), session.WithClientIP(func(r *http.Request) string { return r.Header.Get("X-Test-IP") }))
		var tokens, ids []string
		for i := range 4 {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header.Set("X-Test-IP", fmt.Sprintf("192.0.2.%d", i))
			r.Header.Set("User-Agent", fmt.Sprintf("Browser/%d %s\xff", i, strings.Repeat("x", 300)))
			v := m.Visit(r)
			if err := m.Login(v, user); err != nil {
				t.Fatal(err)
			}
			c, err := v.Commit()
			if err != nil || c == nil {
				t.Fatal(c, err)
			}
			tokens, ids = append(tokens, c.Value), append(ids, m.ID(v))
		}
		infos := list(t, m, tokens[1], user)
		if len(infos) != 4 {
			t.Fatalf("got %+v; want 4", infos)
		}
		for _, info := range infos {
			i := slices.Index(ids, info.ID)
			if i < 0 || info.IP != fmt.Sprintf("192.0.2.%d", i) || !strings.HasPrefix(info.Device, fmt.Sprintf("Browser/%d ", i)) || len(info.Device) > 256 || info.Current != (i == 1) {
				t.Errorf("%d: got %+v", i, info)
			}
			if since := time.Since(info.Created); since < -time.Minute || since > time.Minute || info.Seen.Before(info.Created) {
				t.Errorf("%d: created %v, seen %v", i, info.Created, info.Seen)
			}
			if strings.Contains(fmt.Sprint(info), tokens[i]) {
				t.Error("the list shows a token")
			}
		}
		if got := list(t, m, tokens[1], user+"x"); len(got) != 0 {
			t.Errorf("another user: got %+v", got)
		}

		alive := func() (out []bool) {
			for _, token := range tokens {
				out = append(out, userOf(m, token) == user)
			}
			return out
		}
		want := func(step string, want ...bool) {
			t.Helper()
			if got := alive(); !slices.Equal(got, want) {
				t.Errorf("%s: alive: got %v; want %v", step, got, want)
			}
			n := 0
			for _, w := range want {
				if w {
					n++
				}
			}
			if got := list(t, m, "", user); len(got) != n {
				t.Errorf("%s: listed: got %d; want %d", step, len(got), n)
			}
		}
		want("begun", true, true, true, true)
		if ok, err := m.End(t.Context(), user, ids[0]); !ok || err != nil {
			t.Errorf("end: got %v, %v", ok, err)
		}
		want("end", false, true, true, true)
		if ok, err := m.End(t.Context(), user, ids[0]); ok || err != nil {
			t.Errorf("end again: got %v, %v; want false", ok, err)
		}
		if ok, err := m.End(t.Context(), user+"x", ids[1]); ok || err != nil {
			t.Errorf("end of another user's: got %v, %v; want false", ok, err)
		}
		want("end again", false, true, true, true)
		v := visit(m, tokens[2])
		if err := m.EndOthers(v); err != nil {
			t.Fatal(err)
		}
		if c, err := v.Commit(); c != nil || err != nil {
			t.Errorf("end others: got %v, %v; want no cookie", c, err)
		}
		want("end others", false, false, true, false)
		v = visit(m, tokens[2])
		m.Get(v, "")
		if err := m.EndAll(v, user); err != nil {
			t.Fatal(err)
		}
		if c, err := v.Commit(); err != nil || c == nil || c.MaxAge >= 0 {
			t.Errorf("end all: got %v, %v; want the cookie taken away", c, err)
		}
		want("end all", false, false, false, false)
		if err := m.EndOthers(visit(m, "")); !errors.Is(err, session.ErrNoUser) {
			t.Errorf("end others of nobody: got %v; want ErrNoUser", err)
		}
		rdb := b.Client(t)
		for _, token := range tokens {
			if isStored(t, rdb, keyOf(token)) {
				t.Error("the data of an ended session is there")
			}
		}
	})
}

// A login that is under way when all of the user's sessions are ended does not outlive
// that. Red without the mark in the index.
func TestManager_EndAll_beatsLogin(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		m := newManager(t, b.Client(t))
		user := b.Prefix(t)
		v := visit(m, "") // the request begins; the password is being checked
		if err := m.EndAll(t.Context(), user); err != nil {
			t.Fatal(err)
		}
		if err := m.Login(v, user); !errors.Is(err, session.ErrEnded) {
			t.Errorf("got %v; want ErrEnded", err)
		}
		if c, err := v.Commit(); c != nil || err != nil {
			t.Errorf("commit: got %v, %v; want neither", c, err)
		}
		if got := list(t, m, "", user); len(got) != 0 {
			t.Errorf("got %+v", got)
		}
	})
}

// Who has ended all sessions logs in again at once, in the same request, as after a
// change of the password, or in the next one. Red without v.cleared, and when enlist
// does not look again.
func TestManager_EndAll_thenLogin(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		m := newManager(t, b.Client(t))
		user := b.Prefix(t)
		for range 20 {
			token := loginAs(t, m, "", user)
			v := visit(m, token)
			m.Get(v, "")
			if err := m.EndAll(v, user); err != nil {
				t.Fatal(err)
			}
			if err := m.Login(v, user); err != nil {
				t.Fatalf("the same request: %v", err)
			}
			c, err := v.Commit()
			if err != nil || c == nil || c.Value == token || userOf(m, c.Value) != user || userOf(m, token) != "" {
				t.Fatalf("the same request: got %v, %v", c, err)
			}
			if err := m.EndAll(t.Context(), user); err != nil {
				t.Fatal(err)
			}
			if got := loginAs(t, m, "", user); userOf(m, got) != user {
				t.Fatal("the next request: not logged in")
			}
		}
	})
}

// A renewal beside EndAll does not carry the session over.
func TestManager_EndAll_beatsRenewal(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	token := loginAs(t, m, "", "alice")
	v := visit(m, token)
	if err := m.RenewToken(v); err != nil {
		t.Fatal(err)
	}
	if err := m.EndAll(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if c, err := v.Commit(); c != nil || err != nil || !errors.Is(v.Warning(), session.ErrEnded) {
		t.Errorf("got %v, %v, warning %v; want no cookie and ErrEnded", c, err, v.Warning())
	}
	if got := list(t, m, "", "alice"); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

// 50 logins of one user side by side, at most 5 sessions: exactly 5 are alive, and
// never more.
func TestWithMaxSessions(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		for _, full := range []session.WhenFull{session.EvictOldest, session.RefuseNew} {
			ms := three(t, b, session.WithMaxSessions(5, full), session.WithPrefix(b.Prefix(t)))
			user := b.Prefix(t)
			var mu sync.Mutex
			var tokens []string
			refused := 0
			var done sync.WaitGroup
			for i := range 50 {
				done.Go(func() {
					m := ms[i%3]
					v := visit(m, "")
					err := m.Login(v, user)
					c, err2 := v.Commit()
					mu.Lock()
					defer mu.Unlock()
					switch {
					case errors.Is(err, session.ErrTooMany) && c == nil && err2 == nil:
						refused++
					case err != nil || err2 != nil || c == nil:
						t.Errorf("got %v, %v, %v", err, c, err2)
					default:
						tokens = append(tokens, c.Value)
					}
				})
			}
			done.Wait()
			alive := 0
			for _, token := range tokens {
				if userOf(ms[0], token) == user {
					alive++
				}
			}
			if want := map[session.WhenFull]int{session.EvictOldest: 0, session.RefuseNew: 45}[full]; alive != 5 || refused != want {
				t.Errorf("policy %v: alive %d, refused %d; want 5, %d", full, alive, refused, want)
			}
			if got := list(t, ms[1], "", user); len(got) != 5 {
				t.Errorf("policy %v: listed %d; want 5", full, len(got))
			}
		}
	})
}

// What a session says of its user counts only if its token says so, too: not when it
// was put or merged there.
func TestManager_User_forged(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	alice := loginAs(t, m, "", "alice")
	v := visit(m, alice)
	id := m.ID(v)
	mallory := loginAs(t, m, "", "mallory")
	for _, token := range []string{"", mallory, login(t, m, "x")} {
		v := visit(m, token)
		before := m.User(v)
		m.Put(v, "__weir.user", id+"alice")
		c, err := v.Commit()
		if err != nil {
			t.Fatal(err)
		}
		if c != nil {
			token = c.Value
		}
		if got := userOf(m, token); got != before {
			t.Errorf("got %q; want %q", got, before)
		}
	}
	v = visit(m, mallory)
	if err := m.MergeSession(v, alice); err != nil {
		t.Fatal(err)
	}
	if _, err := v.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := userOf(m, mallory); got != "mallory" {
		t.Errorf("merged: got %q; want mallory", got)
	}
	if got := userOf(m, alice); got != "" {
		t.Errorf("merged: the other session is still %q's", got)
	}
}

// A token whose parts were exchanged for those of another is nobody's.
func TestManager_Login_mixedTokens(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	alice, bob := loginAs(t, m, "", "alice"), loginAs(t, m, "", "bob")
	for _, token := range []string{alice[:43] + bob[43:], bob[:43] + alice[43:], alice[:43], alice[:59] + bob[59:]} {
		if got := userOf(m, token); got != "" {
			t.Errorf("got %q", got)
		}
	}
	if userOf(m, alice) != "alice" || userOf(m, bob) != "bob" {
		t.Error("the true ones do not work")
	}
}

// No key of users or sessions is without expiry, and none is left when all have ended.
func TestManager_Login_expires(t *testing.T) {
	t.Parallel()
	testkit.Each(t, func(t *testing.T, b *testkit.Backend) {
		t.Parallel()
		rdb := b.Client(t)
		m := newManager(t, rdb, session.WithPrefix(b.Prefix(t)), session.WithIdleTimeout(time.Second), session.WithLifetime(time.Second))
		user := b.Prefix(t)
		token := loginAs(t, m, "", user)
		for _, prefix := range []string{b.Prefix(t), "weir:session-user:"} {
			for _, key := range testkit.Keys(t, rdb, prefix) {
				if ttl := rdb.PTTL(t.Context(), key).Val(); ttl == -1 {
					t.Errorf("%s never expires", key)
				}
			}
		}
		testkit.Eventually(t, "the expiry", func() bool { return userOf(m, token) == "" })
		testkit.Eventually(t, "the index to be empty", func() bool { return len(list(t, m, "", user)) == 0 })
	})
}

// One round trip finds out whether a bound session is alive; a change is one more.
func TestManager_Login_cost(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	m := newManager(t, p.Client(t))
	warm := loginAs(t, m, login(t, m, "x"), "warm")
	v := visit(m, warm)
	m.Put(v, "n", 1)
	commit(t, v)
	anonymous := login(t, m, "x")

	p.Reset()
	token := loginAs(t, m, anonymous, "alice")
	if got := p.RoundTrips(); got > 4 {
		t.Errorf("login: got %d round trips; want at most 4", got)
	}
	p.Reset()
	v = visit(m, token)
	if m.User(v) != "alice" {
		t.Fatal("not alice")
	}
	commit(t, v)
	if got := p.RoundTrips(); got != 1 {
		t.Errorf("read: got %d round trips; want 1", got)
	}
	m.Put(v, "n", 1)
	commit(t, v)
	if got := p.RoundTrips(); got != 2 {
		t.Errorf("changed: got %d round trips; want 2", got)
	}
}
