package session_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

func TestVisit_touched(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	outer := m.Visit(r)
	type key struct{}
	inside := context.WithValue(newManager(t, testkit.Mini(t).Client(t)).Visit(r.WithContext(outer)), key{}, 1)
	if session.Touched(t.Context()) || session.Touched(inside) || outer.Touched() {
		t.Error("touched before anybody looked")
	}
	m.Get(inside, "x")
	if !session.Touched(inside) || !outer.Touched() {
		t.Error("not touched after a look at the outer session")
	}
}

// Many goroutines of one handler use its session; one of them loads it.
func TestVisit_concurrent(t *testing.T) {
	t.Parallel()
	b := testkit.Shared(t, "server")
	p := testkit.NewProxy(t, b.Addrs()[0])
	m := newManager(t, p.Client(t))
	token := login(t, m, "alice")
	p.Reset()
	v := visit(m, token)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			if got := m.GetString(v, "user"); got != "alice" {
				t.Errorf("user: got %q; want alice", got)
			}
			m.Put(v, fmt.Sprint("key", i), i)
			m.Keys(v)
			session.Touched(v)
		})
	}
	wg.Wait()
	if got := p.RoundTrips(); got != 1 {
		t.Errorf("round trips of 32 goroutines: got %d; want 1", got)
	}
	if _, err := v.Commit(); err != nil {
		t.Fatal(err)
	}
	v = visit(m, token)
	for i := range 32 {
		if got := m.GetInt(v, fmt.Sprint("key", i)); got != i {
			t.Errorf("key %d: got %d", i, got)
		}
	}
}

// A session looked at again after Commit is not written again: not over what
// another request has written meanwhile. Red without Visit.refresh.
func TestVisit_lateReadWritesNothing(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	m := newManager(t, rdb)
	token := login(t, m, "alice")

	stream := visit(m, token)
	m.Put(stream, "stream", "open")
	if _, err := stream.Commit(); err != nil {
		t.Fatal(err)
	}
	other := visit(m, token)
	m.Put(other, "cart", 3)
	if _, err := other.Commit(); err != nil {
		t.Fatal(err)
	}
	stored := rdb.Get(t.Context(), keyOf(token)).Val()

	if m.GetString(stream, "user") != "alice" || m.GetString(stream, "stream") != "open" {
		t.Errorf("late look: got keys %v", m.Keys(stream))
	}
	if err := stream.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := rdb.Get(t.Context(), keyOf(token)).Val(); got != stored {
		t.Error("a late look has written the session")
	}

	// A late change is.
	m.Put(stream, "stream", "closed")
	if err := stream.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := m.GetString(visit(m, token), "stream"); got != "closed" {
		t.Errorf("late change: got %q; want closed", got)
	}
}

func TestVisit_finish(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	m := newManager(t, rdb)
	tests := []struct {
		name string
		late func(v *session.Visit)
		want error
	}{
		{"nothing", func(*session.Visit) {}, nil},
		{"a look", func(v *session.Visit) { m.Get(v, "user") }, nil},
		{"a change", func(v *session.Visit) { m.Put(v, "x", 1) }, nil},
		{"a logout", func(v *session.Visit) { _ = m.Destroy(v) }, nil},
		{"a renewal", func(v *session.Visit) { _ = m.RenewToken(v) }, session.ErrTooLate},
		{"a new one", func(v *session.Visit) { _ = m.Destroy(v); m.Put(v, "x", 1) }, session.ErrTooLate},
	}
	for _, early := range []bool{false, true} { // whether it was changed before Commit, too
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s/%v", test.name, early), func(t *testing.T) {
				t.Parallel()
				token := login(t, m, "alice")
				v := visit(m, token)
				if early {
					m.Put(v, "early", 1)
				}
				if _, err := v.Commit(); err != nil {
					t.Fatal(err)
				}
				test.late(v)
				if err := v.Finish(); !errors.Is(err, test.want) {
					t.Errorf("got %v; want %v", err, test.want)
				}
			})
		}
	}
}

// Merging in another session does not make the store take that one for the
// request's own: a logout meanwhile still holds. Red when Store.FindCtx notes
// what it finds for any visit, not only while it loads.
func TestVisit_mergeDoesNotRevive(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	m := newManager(t, rdb)
	own, other := login(t, m, "alice"), login(t, m, "old cart")
	v := visit(m, own)
	m.Get(v, "user")
	if err := m.MergeSession(v, scsName(other)); err != nil {
		t.Fatal(err)
	}
	if err := m.MergeSession(v, other); err != nil {
		t.Fatal(err)
	}
	if got := m.GetString(v, "user"); got != "old cart" {
		t.Fatalf("merged: got %q; want old cart", got)
	}
	rdb.Del(t.Context(), keyOf(own)) // a logout elsewhere
	if c, err := v.Commit(); c != nil || err != nil {
		t.Errorf("commit: got %v, %v; want neither", c, err)
	}
	if rdb.Exists(t.Context(), keyOf(own)).Val() != 0 {
		t.Error("the session was written back")
	}
}

// scsName is a name that no session has.
func scsName(token string) string { return strings.ToUpper(token) + "x" }

// Contexts are printed into logs.
func TestVisit_printsNoToken(t *testing.T) {
	t.Parallel()
	m := newManager(t, testkit.Mini(t).Client(t))
	token := login(t, m, "alice")
	v := visit(m, token)
	m.Get(v, "user")
	ctx, cancel := context.WithTimeout(v, time.Minute)
	defer cancel()
	for _, text := range []string{fmt.Sprint(v), fmt.Sprintf("%+v %s", v, ctx), fmt.Sprint(ctx)} {
		if strings.Contains(text, token) || strings.Contains(text, "alice") {
			t.Errorf("got %q; want no token and no data", text)
		}
	}
}

// No cookie, however made, brings another key to Redis than that of a token.
func FuzzVisit_cookie(f *testing.F) {
	b := testkit.Mini(f)
	rdb := b.Client(f)
	m := newManager(f, rdb)
	known := login(f, m, "alice")
	for _, seed := range []string{
		"", "__Host-session=", "__Host-session=" + known, "__Host-session=" + known + "; __Host-session=x",
		`__Host-session="` + known + `"`, "a=b; __Host-session=" + known, "__Host-session=" + known + known,
		"__Host-session=../../etc/passwd", "__host-session=" + known, "__Host-session=" + strings.Repeat("A", 43),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Cookie"] = []string{header}
		before := b.Miniredis().CommandCount()
		v := m.Visit(r)
		user := m.GetString(v, "user")
		if (user == "alice") != (m.Token(v) == known) {
			t.Errorf("%q: got user %q, token %q", header, user, m.Token(v))
		}
		if token := m.Token(v); token != "" && token != known {
			t.Errorf("%q: adopted %q", header, token)
		}
		if user != "" && !strings.Contains(header, known) {
			t.Errorf("%q: is alice", header)
		}
		if c, err := v.Commit(); c != nil || err != nil {
			t.Errorf("%q: commit: got %v, %v", header, c, err)
		}
		// GET and PTTL for each of at most four tokens.
		if n := b.Miniredis().CommandCount() - before; n > 8 || n > 0 && len(header) < 43 {
			t.Errorf("%q: %d commands", header, n)
		}
	})
}
