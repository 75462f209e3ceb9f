package middleware_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// A logout ends the session on the server, however late and however often the token
// comes again; of what was in it nothing is left in Redis but a mark of 30 s. Red
// without Store.mark in Manager.end.
func TestOWASP_logout_endsOnTheServer_ASVS7_4_1(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		bothProtocols(t, func(t *testing.T, http2 bool) {
			b := testkit.Mini(t)
			rdb := b.Client(t)
			m := newSessions(t, rdb)
			site := serveSite(t, http2, middleware.Session(m)(sessionApp(m, enterPage(m))))
			token := site.enter(way, "alice", "")
			site.visit("/put?key=iban&value=DE00123", token).is(t, 200, "put")
			a := site.visit("/logout", token)
			a.is(t, 200, "bye")
			if !a.set || a.token != "" || a.Cookies()[0].MaxAge >= 0 {
				t.Errorf("got %q; want the cookie cleared", a.Header.Values("Set-Cookie"))
			}
			for range 3 { // the stolen token
				site.visit("/read", token).is(t, 200, "user=")
				site.visit("/get?key=iban", token).is(t, 200, "")
				site.visit("/logout", token).is(t, 200, "bye")
				if a := site.visit("/put?key=user&value=alice", token); a.token == token {
					t.Error("the old token was adopted")
				}
			}
			if isStored(t, rdb, token) {
				t.Error("the session is stored")
			}
			if dump := dumpRedis(t, b); strings.Contains(dump, "DE00123") {
				t.Errorf("the data is in Redis: %q", dump)
			}
			if ttl := rdb.PTTL(t.Context(), sessionKey(token)).Val(); ttl <= 0 || ttl > 31*time.Second {
				t.Errorf("the mark: got %v to live; want 30 s", ttl)
			}
		})
	})
}

// Many tabs log out at once: all are told that it has happened, and it has.
func TestOWASP_logout_parallel_ASVS7_4_1(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		m := newSessions(t, testkit.Shared(t, "server").Client(t))
		site := newSessionSite(t, m, enterPage(m))
		token := site.enter(way, "alice-"+t.Name(), "")
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				path := []string{"/logout", "/put?key=a&value=b", "/read"}[i%3]
				a, err := site.tryWith(t.Context(), path, sessionCookie+"="+token)
				if err != nil || a.StatusCode != 200 {
					t.Errorf("%s: got %v, %v", path, a.Response, err)
				}
				if a.token == token {
					t.Errorf("%s: got the old token again", path)
				}
			})
		}
		wg.Wait()
		site.visit("/read", token).is(t, 200, "user=")
	})
}

// Clear-Site-Data is sent by option, with a logout, and with nothing else.
func TestOWASP_logout_clearSiteData(t *testing.T) {
	t.Parallel()
	tests := []struct {
		types []string
		want  string
	}{
		{nil, ""},
		{[]string{"cache"}, `"cache"`},
		{[]string{"cache", "cookies", "storage", "executionContexts"}, `"cache", "cookies", "storage", "executionContexts"`},
		{[]string{"*"}, `"*"`},
	}
	for _, test := range tests {
		m := newSessions(t, testkit.Mini(t).Client(t))
		var options []middleware.SessionOption
		if test.types != nil {
			options = append(options, middleware.WithClearSiteData(test.types...))
		}
		site := serveSite(t, false, middleware.Session(m, options...)(sessionApp(m, enterPage(m),
			handle("/switch", func(w http.ResponseWriter, r *http.Request) {
				if err := m.Destroy(r.Context()); err != nil {
					t.Error(err)
				}
				m.Put(r.Context(), "user", "guest") // another session begins in the same answer
			}))))
		token := site.enter(scsLogin, "alice", "")
		for _, path := range []string{"/untouched", "/read", "/put?key=a&value=b", "/login?user=alice"} {
			a := site.visit(path, token)
			if got := a.Header.Values("Clear-Site-Data"); len(got) != 0 {
				t.Errorf("%v: %s: got Clear-Site-Data %q; want none", test.types, path, got)
			}
			if a.token != "" {
				token = a.token
			}
		}
		if a := site.visit("/logout", token); a.Header.Get("Clear-Site-Data") != test.want {
			t.Errorf("%v: logout: got Clear-Site-Data %q; want %q", test.types, a.Header.Values("Clear-Site-Data"), test.want)
		}
		a := site.visit("/switch", site.enter(scsLogin, "alice", ""))
		if a.token == "" || a.Header.Get("Clear-Site-Data") != "" {
			t.Errorf("%v: a session that another one follows: got token %q, Clear-Site-Data %q; want one, none",
				test.types, a.token, a.Header.Values("Clear-Site-Data"))
		}
	}
}

// An option that cannot be used is told when the middleware is made.
func TestSession_clearSiteDataMistakes(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t))
	for _, types := range [][]string{nil, {""}, {`"cache"`}, {"Cache"}, {"cache", "history"}} {
		func() {
			defer func() {
				if text := fmt.Sprint(recover()); !strings.Contains(text, "WithClearSiteData") {
					t.Errorf("%q: got the panic %s; want one that names the option", types, text)
				}
			}()
			middleware.Session(m, middleware.WithClearSiteData(types...))
		}()
	}
}

// The back button shows nothing of a session that has ended: no answer that sets or
// clears the cookie may be kept, whatever the handler says of it. Answers that do
// neither are the handler's own business. Red when BeforeHeader only adds
// Cache-Control.
func TestOWASP_webContentCaching_noStore(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		m := newSessions(t, testkit.Mini(t).Client(t))
		app := sessionApp(m, enterPage(m))
		cached := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Cache-Control"] = []string{"public", "max-age=3600"} // two lines
			w.Header().Set("Expires", "Fri, 01 Jan 2100 00:00:00 GMT")
			app.ServeHTTP(w, r)
		})
		site := serveSite(t, http2, middleware.Session(m)(cached))
		var token string
		steps := []struct {
			path string
			sets bool
		}{
			{"/untouched", false},
			{"/read", false},
			{"/put?key=a&value=b", true},
			{"/put?key=a&value=c", false},
			{"/enter?user=alice&way=RenewToken", true},
			{"/enter?user=alice&way=Login", true},
			{"/read", false},
			{"/logout", true},
			{"/logout", true}, // of a session that is over
		}
		for i, step := range steps {
			a := site.visit(step.path, token)
			want := []string{"public", "max-age=3600"}
			if step.sets {
				want = []string{"no-store"}
			}
			if got := a.Header.Values("Cache-Control"); a.set != step.sets || !slices.Equal(got, want) {
				t.Errorf("step %d, %s: got Set-Cookie %v, Cache-Control %q; want %v, %q", i, step.path, a.set, got, step.sets, want)
			}
			if a.token != "" {
				token = a.token
			}
		}
	})
}

// Vary: Cookie is there exactly when the session was looked at, once, whatever else is
// there; an answer of a handler that did not look is untouched, also if it sets a
// cookie of its own.
func TestOWASP_webContentCaching_vary(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		// outside and inside are Vary lines set before Session and by the handler.
		outside, inside []string
		want, untouched []string
	}{
		{"none", nil, nil, []string{"Cookie"}, nil},
		{"another", nil, []string{"Accept-Encoding"}, []string{"Accept-Encoding", "Cookie"}, []string{"Accept-Encoding"}},
		{"the same", nil, []string{"Cookie"}, []string{"Cookie"}, []string{"Cookie"}},
		{"in other letters", nil, []string{"accept, COOKIE"}, []string{"accept, COOKIE"}, []string{"accept, COOKIE"}},
		{"on two lines", nil, []string{"Accept", "Origin"}, []string{"Accept", "Origin", "Cookie"}, []string{"Accept", "Origin"}},
		{"everything", nil, []string{"*"}, []string{"*"}, []string{"*"}},
		{"a name that contains it", nil, []string{"X-Cookie, Cookie2"}, []string{"X-Cookie, Cookie2", "Cookie"}, []string{"X-Cookie, Cookie2"}},
		{"set outside", []string{"Origin"}, nil, []string{"Origin", "Cookie"}, []string{"Origin"}},
		{"outside, and the same inside", []string{"Cookie"}, nil, []string{"Cookie"}, []string{"Cookie"}},
	}
	for _, test := range tests {
		m := newSessions(t, testkit.Mini(t).Client(t))
		inner := sessionApp(m, handle("/own", func(w http.ResponseWriter, r *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "theme", Value: "dark"})
			w.Header().Set("Cache-Control", "public, max-age=60")
			io.WriteString(w, "own")
		}))
		site := serveSite(t, false, vary(test.outside, middleware.Session(m)(vary(test.inside, inner))))
		token := site.login("alice")
		for _, c := range []struct {
			path string
			want []string
		}{{"/read", test.want}, {"/put?key=a&value=b", test.want}, {"/logout", test.want}, {"/untouched", test.untouched}, {"/own", test.untouched}} {
			for _, token := range []string{token, ""} {
				a := site.visit(c.path, token)
				if got := a.Header.Values("Vary"); !slices.Equal(got, c.want) {
					t.Errorf("%s: %s with %.3q: Vary: got %q; want %q", test.name, c.path, token, got, c.want)
				}
				if c.path == "/own" && (a.Header.Get("Cache-Control") != "public, max-age=60" || len(a.Header.Values("Set-Cookie")) != 1) {
					t.Errorf("%s: a handler's own cookie: got %v; want the handler's fields alone", test.name, a.Header)
				}
			}
		}
	}
}

func vary(lines []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, line := range lines {
			w.Header().Add("Vary", line)
		}
		next.ServeHTTP(w, r)
	})
}

// Manager.Iterate finds sessions whose tokens nobody knows, and what is destroyed or
// changed there is destroyed or changed. scs's Iterate and Destroy end nothing when
// tokens are hashed. Red when revive does not hold the name.
func TestASVS7_4_5_iterateAndDestroy(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		rdb := testkit.Mini(t).Client(t)
		m := newSessions(t, rdb)
		site := newSessionSite(t, m, enterPage(m))
		tokens := make(map[string]string)
		for i := range 250 { // several steps of SCAN
			user := fmt.Sprint("user", i)
			tokens[user] = site.enter(way, user, "")
		}
		var seen []string
		err := m.Iterate(t.Context(), destroyOdd(m, &seen))
		slices.Sort(seen)
		if err != nil || len(slices.Compact(seen)) != 250 {
			t.Errorf("got %d sessions, %v; want 250", len(seen), err)
		}
		for user, token := range tokens {
			got := site.visit("/read", token).body
			switch odd := user[len(user)-1]%2 == 1; {
			case odd && (got != "user=" || isStored(t, rdb, token)):
				t.Errorf("%s: got %q; want a dead session", user, got)
			case !odd && got != "user="+user:
				t.Errorf("%s: got %q; want a live session", user, got)
			case !odd:
				if note := site.visit("/get?key=note", token).body; note != "seen" {
					t.Errorf("%s: got the note %q; want it written", user, note)
				}
				if ttl := rdb.PTTL(t.Context(), sessionKey(token)).Val(); ttl <= 0 || ttl > 30*time.Minute {
					t.Errorf("%s: got %v to live; want the idle timeout", user, ttl)
				}
			}
		}
	})
}

// destroyOdd ends the sessions of users whose name ends in an odd digit, and leaves a
// note in the others.
func destroyOdd(m *session.Manager, seen *[]string) func(context.Context) error {
	return func(ctx context.Context) error {
		user := m.GetString(ctx, "user")
		*seen = append(*seen, user)
		if user[len(user)-1]%2 == 1 {
			return m.Destroy(ctx)
		}
		m.Put(ctx, "note", "seen")
		_, _, err := m.Commit(ctx)
		return err
	}
}
