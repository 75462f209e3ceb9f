package middleware_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"log"
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

// These tests and those in session_*_test.go go through the OWASP Session Management
// Cheat Sheet and ASVS 5.0, chapters V3.3 and V7, point by point, over HTTP. Points
// are in the tests' names.

// 256 bits of a CSPRNG, no two the same, none of them fixed, none that depends on
// who the visitor is. Red with fewer bytes in newSecret, or without "rand.Read".
func TestOWASP_sessionIDEntropyAndContent_ASVS7_2_2_ASVS7_2_3(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		m := newSessions(t, testkit.Mini(t).Client(t))
		site := newSessionSite(t, m, enterPage(m))
		const n = 400
		var ones [256]int
		seen := make(map[string]bool)
		for range n {
			token := site.enter(way, "alice", "")
			secret, err := base64.RawURLEncoding.Strict().DecodeString(token[:43])
			if err != nil || len(secret) != 32 {
				t.Fatalf("token %q: got %d bytes, %v; want 32", token, len(secret), err)
			}
			if seen[token[:43]] {
				t.Fatalf("token %q: given twice", token)
			}
			seen[token[:43]] = true
			for i := range ones {
				ones[i] += int(secret[i/8]>>(i%8)) & 1
			}
			for _, meaning := range []string{"alice", hex.EncodeToString([]byte("alice")), "127.0.0.1", "127-0-0-1"} {
				if strings.Contains(token, meaning) || bytes.Contains(secret, []byte(meaning)) {
					t.Errorf("token %q tells %q", token, meaning)
				}
			}
		}
		for i, got := range ones {
			if got < n/4 || got > 3*n/4 { // ten standard deviations off
				t.Errorf("bit %d: got %d ones of %d; want about half", i, got, n)
			}
		}
	})
}

// Only Set-Cookie tells the token: no URL, body, other field, trailer, log, error,
// event or printed context. Not parallel: it watches the log. Red without
// Visit.String, for what is printed.
func TestOWASP_sessionIDExposure_ASVS3_3_4(t *testing.T) {
	logged := capture(t)
	p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
	var mu sync.Mutex
	var events []string
	m := newSessions(t, p.Client(t), session.WithTimeout(outageBudget), session.WithMaxSize(1024),
		session.WithObserver(func(ctx context.Context, e session.Event) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, fmt.Sprintf("%v %+v %v", ctx, e, e.Err))
		}))
	served := new(testkit.Buffer)
	site := newSessionSite(t, m, enterPage(m),
		handle("/big", func(w http.ResponseWriter, r *http.Request) {
			m.Put(r.Context(), "big", strings.Repeat("x", 2048))
		}),
		handle("/late", func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "begun")
			w.(http.Flusher).Flush()
			m.RenewToken(r.Context())
		}),
		handle("/printed", func(w http.ResponseWriter, r *http.Request) {
			m.Get(r.Context(), "user")
			ctx, cancel := context.WithTimeout(r.Context(), time.Hour)
			defer cancel()
			fmt.Fprintf(w, "%v %+v %s %q", ctx, ctx, r.Context(), r.Context())
			log.Print(ctx)
		}),
		handle("/panics", func(w http.ResponseWriter, r *http.Request) {
			defer func() {
				err, _ := session.Failure(recover())
				fmt.Fprint(served, err)
				panic(http.ErrAbortHandler)
			}()
			m.Get(r.Context(), "user")
		}),
	)
	var tokens []string
	testkit.Eventually(t, "two logins", func() bool { // the budget is short
		for _, way := range []string{scsLogin, weirLogin} {
			if a := site.visit("/enter?user=alice&way="+way, ""); a.token != "" {
				tokens = append(tokens, a.token)
			}
		}
		return len(tokens) >= 2
	})
	// tellsNothing checks an answer, and takes note of its token.
	tellsNothing := func(when string, a sessionAnswer) {
		if a.token != "" {
			tokens = append(tokens, a.token)
		}
		header := a.Header.Clone()
		header.Del("Set-Cookie")
		text := fmt.Sprint(header, a.Trailer, a.body, a.Request.URL)
		if slices.ContainsFunc(tokens, func(token string) bool { return strings.Contains(text, token[:43]) }) {
			t.Errorf("%s: got the token in %s", when, text)
		}
	}
	pages := []string{"/read", "/put?key=a&value=b", "/printed", "/big", "/late", "/panics", "/login?user=bob", "/printed", "/logout", "/read"}
	for _, token := range slices.Clone(tokens) {
		for _, path := range pages {
			if a, err := site.tryWith(t.Context(), path, sessionCookie+"="+token); err == nil {
				tellsNothing(path, a)
			}
		}
		p.Hang()
		for _, path := range pages {
			if a, err := site.tryWith(t.Context(), path, sessionCookie+"="+token); err == nil {
				tellsNothing("hung: "+path, a)
			}
		}
		p.Heal()
		testkit.Eventually(t, "recovery", func() bool { return site.visit("/put?key=n&value=1", "").StatusCode == 200 })
	}
	mu.Lock()
	defer mu.Unlock()
	text := logged.String() + served.String() + strings.Join(events, "\n")
	for _, token := range tokens {
		if strings.Contains(text, token[:43]) {
			t.Errorf("log, error or event: got a token in %s", text)
		}
	}
	if len(events) == 0 || served.String() == "" || logged.String() == "" {
		t.Errorf("got %d events, error %q, log %q; want some of each", len(events), served, logged)
	}
}

// Who reads Redis cannot take over a session: it holds SHA-256 of tokens, in none of
// its keys and values a token. Red when Manager.name returns the token.
func TestOWASP_sessionIDAtRest(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		b := testkit.Mini(t)
		m := newSessions(t, b.Client(t), session.WithRenewal(time.Minute))
		site := newSessionSite(t, m, enterPage(m))
		var tokens []string
		add := func(a sessionAnswer) string {
			if a.token != "" {
				tokens = append(tokens, a.token)
			}
			return tokens[len(tokens)-1]
		}
		add(site.visit("/put?key=cart&value=3", ""))
		token := site.enter(way, "alice", tokens[0])
		tokens = append(tokens, token)
		if !isStored(t, b.Client(t), token) {
			t.Fatalf("no session under the token's SHA-256; keys: %q", b.Miniredis().Keys())
		}
		ageToken(t, b.Client(t), token)
		if next := add(site.visit("/read", token)); next == token {
			t.Fatal("no renewal")
		}
		token = site.enter(scsLogin, "alice", tokens[len(tokens)-1]) // a change of privilege
		tokens = append(tokens, token)
		gone := site.enter(way, "bob", "")
		tokens = append(tokens, gone)
		site.visit("/logout", gone).is(t, 200, "bye")

		dump := dumpRedis(t, b)
		if !strings.Contains(dump, "alice") || strings.Contains(dump, "bob") {
			t.Errorf("dump: got %q; want alice's data, and not bob's", dump)
		}
		for i, token := range tokens {
			secret, _ := base64.RawURLEncoding.DecodeString(token[:43])
			for _, form := range []string{token, token[:43], string(secret), hex.EncodeToString(secret)} {
				if strings.Contains(dump, form) {
					t.Errorf("token %d: found as %q in %q", i, form, dump)
				}
			}
		}
	})
}

// The session is verified with Redis for each request, and what the client holds says
// nothing by itself.
func TestASVS7_2_1_verifiedByTheBackend(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		b := testkit.Mini(t)
		m := newSessions(t, b.Client(t))
		site := newSessionSite(t, m, enterPage(m))
		token, other := site.enter(way, "alice", ""), site.enter(way, "bob", "")
		site.visit("/read", token).is(t, 200, "user=alice")
		altered := []string{
			token[:42] + "A", token[:43], strings.ToUpper(token), token[:20] + other[20:],
			token[:43] + other[43:], other[:43] + token[43:], // a secret with another's binding
		}
		for _, forged := range altered {
			if forged == token || forged == other {
				continue // "A" it was, or a token without a binding
			}
			a := site.visit("/read", forged)
			a.is(t, 200, "user=")
			a.isSilent(t, forged)
		}
		b.Client(t).Del(t.Context(), sessionKey(token))
		site.visit("/read", token).is(t, 200, "user=")
		site.visit("/read", other).is(t, 200, "user=bob")
	})
}

// No session comes about without the visitor's doing something: bots get no cookie,
// and Redis no key.
func TestASVS7_6_2_noSessionWithoutAction(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	m := newSessions(t, b.Client(t))
	site := newSessionSite(t, m, handle("/empties", func(w http.ResponseWriter, r *http.Request) {
		m.Remove(r.Context(), "nothing")
		m.PopString(r.Context(), "nothing")
		m.Keys(r.Context())
		m.Exists(r.Context(), "nothing")
	}))
	for _, path := range []string{"/untouched", "/read", "/get?key=a", "/empties", "/logout", "/none"} {
		for _, cookie := range []string{"", sessionCookie + "=x", sessionCookie + "=" + strings.Repeat("A", 43)} {
			if a := site.visitWith(path, cookie); a.token != "" {
				t.Errorf("%s with %q: got the token %q; want none", path, cookie, a.token)
			}
		}
	}
	keys := slices.DeleteFunc(b.Miniredis().Keys(), func(key string) bool {
		return strings.HasPrefix(key, sessionKey(strings.Repeat("A", 43))) // a logout's mark, of 30 s
	})
	if len(keys) > 0 {
		t.Errorf("keys: got %q; want none", keys)
	}
}

// A cross-site POST is refused before a session is touched. Red when the protection
// is mounted inside.
func TestOWASP_crossSiteRequestForgery(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
	m := newSessions(t, p.Client(t))
	protection := http.NewCrossOriginProtection()
	site := serveSite(t, false, protection.Handler(middleware.Session(m)(sessionApp(m))))
	token := site.login("alice")
	post := func(fields ...string) sessionAnswer {
		t.Helper()
		head := "POST /put?key=paid&value=mallory HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 0\r\n" +
			"Cookie: " + sessionCookie + "=" + token + "\r\n" + strings.Join(fields, "\r\n") + "\r\n\r\n"
		return site.raw(head)
	}
	for _, fields := range [][]string{
		{"Sec-Fetch-Site: cross-site"},
		{"Sec-Fetch-Site: same-site", "Origin: https://other.shop.example"},
		{"Origin: https://evil.example"}, // a browser without Fetch metadata
		{"Origin: null"},
		{"Sec-Fetch-Site: cross-site", "Origin: https://shop.example"},
	} {
		p.Reset()
		a := post(fields...)
		if a.StatusCode != http.StatusForbidden || p.Commands() != 0 {
			t.Errorf("%q: got %s, %d commands; want 403, none", fields, a.Status, p.Commands())
		}
		if len(a.Header.Values("Set-Cookie"))+len(a.Header.Values("Vary")) > 0 {
			t.Errorf("%q: got %v; want nothing of the session", fields, a.Header)
		}
	}
	site.visit("/get?key=paid", token).is(t, 200, "")
	if a := post("Sec-Fetch-Site: same-origin", "Origin: https://shop.example"); a.StatusCode != 200 {
		t.Errorf("same origin: got %s; want 200", a.Status)
	}
	site.visit("/get?key=paid", token).is(t, 200, "mallory")
}

// Tenants by WithName share a Redis and a site: a token of one is nothing to the
// other, neither as a cookie nor in an iteration. Red when WithName does not set the
// prefix.
func TestOWASP_tenants(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		rdb := testkit.Mini(t).Client(t)
		shop, staff := newSessions(t, rdb, session.WithName("shop")), newSessions(t, rdb, session.WithName("staff"))
		mux := http.NewServeMux()
		for name, m := range map[string]*session.Manager{"shop": shop, "staff": staff} {
			mux.Handle("/"+name+"/", http.StripPrefix("/"+name, sessionApp(m, enterPage(m))))
		}
		site := serveSite(t, false, middleware.Chain(middleware.Session(shop), middleware.Session(staff))(mux))
		token := func(name, user string) string {
			cookies := site.visit("/"+name+"/enter?way="+way+"&user="+user, "").Cookies()
			if len(cookies) != 1 || cookies[0].Name != "__Host-"+name {
				t.Fatalf("%s: got %v; want its cookie alone", name, cookies)
			}
			return cookies[0].Value
		}
		customer, clerk := token("shop", "alice"), token("staff", "alice")
		both := "__Host-shop=" + customer + "; __Host-staff=" + clerk
		swapped := "__Host-shop=" + clerk + "; __Host-staff=" + customer
		for _, name := range []string{"shop", "staff"} {
			site.visitWith("/"+name+"/read", both).is(t, 200, "user=alice")
			site.visitWith("/"+name+"/read", swapped).is(t, 200, "user=")
		}
		var seen int
		err := shop.Iterate(t.Context(), func(ctx context.Context) error {
			seen++
			return shop.Destroy(ctx)
		})
		if err != nil || seen != 1 {
			t.Errorf("iterate: got %d sessions, %v; want 1", seen, err)
		}
		site.visitWith("/shop/read", both).is(t, 200, "user=")
		site.visitWith("/staff/read", both).is(t, 200, "user=alice")

		customer = token("shop", "alice")
		both = "__Host-shop=" + customer + "; __Host-staff=" + clerk
		if way == weirLogin {
			if err := shop.EndAll(t.Context(), "alice"); err != nil {
				t.Error(err)
			}
			site.visitWith("/shop/read", both).is(t, 200, "user=")
			site.visitWith("/staff/read", both).is(t, 200, "user=alice")
			if got, err := staff.Sessions(t.Context(), "alice"); err != nil || len(got) != 1 {
				t.Errorf("sessions of staff: got %v, %v; want one", got, err)
			}
		}
		site.visitWith("/staff/logout", both).is(t, 200, "bye")
		site.visitWith("/staff/read", both).is(t, 200, "user=")
	})
}
