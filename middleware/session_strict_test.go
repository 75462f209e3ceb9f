package middleware_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// What comes as a cookie and is none of ours, byte for byte as an attacker sends it:
// nobody is taken for alice, nothing that is no token reaches Redis, and what the
// visitor then stores gets a token of ours. Red without isToken in tokensOf.
func TestOWASP_strictSessionManagement_hostileBytes(t *testing.T) {
	t.Parallel()
	site, _, p := sharedSite(t)
	token := site.login("alice")
	c := sessionCookie + "="
	long := c + strings.Repeat("A", 4096-len(c))
	tests := []struct {
		name, cookie string
		trips        int // of a look; -1: net/http itself answers 400
	}{
		{"an empty value", c, 0},
		{"no value", sessionCookie, 0},
		{"4096 bytes", long, 0},
		{"64 KiB", c + strings.Repeat("A", 64<<10), 0},
		{"one byte short", c + token[:42], 0},
		{"one byte long", c + token + "A", 0},
		{"a bound token's length less one", c + token + token[:37], 0},
		{"twice the length", c + token + token, 0},
		{"quotes", c + `"` + strings.Repeat("A", 43) + `"`, 1}, // RFC 6265 section 4.1.1 allows them
		{"a quote too many", c + `"` + token, 0},
		{"percent-encoded", c + "%41" + token[1:], 0},
		{"all of it percent-encoded", c + percent(token), 0},
		{"an encoded NUL", c + token + "%00", 0},
		{"a NUL", c + token[:20] + "\x00" + token[21:], -1},
		{"a NUL behind", c + token + "\x00", -1},
		{"a DEL", c + token[:42] + "\x7f", -1},
		{"an e with an accent", c + token[:41] + "é", 0},
		{"a wide A", c + token[:40] + "Ａ", 0},
		{"bytes that are no text", c + token[:41] + "\xff\xfe", 0},
		{"an overlong encoding", c + token[:41] + "\xc1\x81", 0},
		{"a backslash", c + token[:42] + `\`, 0},
		{"a comma and another", c + token + "," + c + token, 0},
		{"plus", c + strings.Repeat("+", 43), 0},
		{"a glob", c + strings.Repeat("?", 43), 0},
		{"a hash tag of Cluster", c + "{" + token[2:] + "}", 0},
		{"line breaks of RESP", c + token[:20] + "%0D%0A" + token[26:], 0},
		{"the name in capitals", "__HOST-SESSION=" + token, 0},
		{"the name in small letters", "__host-session=" + token, 0},
		{"the name in other letters", "__Host-Session=" + token, 0},
		{"the name with a dot", ".__Host-session=" + token, 0},
		{"the name within a value", "a=" + c + token, 0},
		// What goes through other parsers and so past a browser's rule on __Host-:
		// white space of Unicode before the name, and cookies of RFC 2109.
		{"a wide space before the name", "\u2000" + c + token, 0},
		{"a no-break space before the name", "\u00a0" + c + token, 0},
		{"that in Latin-1", "\xa0" + c + token, 0},
		{"a NEL before the name", "\x85" + c + token, 0},
		{"a byte-order mark before the name", "\ufeff" + c + token, 0},
		{"RFC 2109 by a comma", "$Version=1,a=b," + c + token, 0},
		{"RFC 2109 within quotes", `$Version=1; a="b; ` + c + token + `"`, 0},
		{"a nameless cookie", "=" + c + token, 0},
		{"the name with a bracket", sessionCookie + "[0]=" + token, 0},
		{"the name with a space", sessionCookie + " =" + strings.Repeat("A", 43), 1}, // white space around is no part
		{"unknown", c + strings.Repeat("A", 43), 1},
		{"unknown, of a bound token's length", c + strings.Repeat("A", 81), 1},
	}
	for _, test := range tests {
		head := func(path string) string {
			return "GET " + path + " HTTP/1.1\r\nHost: x\r\nCookie: " + test.cookie + "\r\n\r\n"
		}
		p.Reset()
		a := site.raw(head("/read"))
		if test.trips < 0 {
			if a.StatusCode != 400 || p.Commands() != 0 {
				t.Errorf("%s: got %s, %d commands; want 400, none", test.name, a.Status, p.Commands())
			}
			continue
		}
		if a.StatusCode != 200 || a.body != "user=" || a.set {
			t.Errorf("%s: got %s %q, cookies %q; want an anonymous visitor", test.name, a.Status, a.body, a.Header.Values("Set-Cookie"))
		}
		if p.RoundTrips() != test.trips {
			t.Errorf("%s: got %d round trips; want %d", test.name, p.RoundTrips(), test.trips)
		}
		a = site.raw(head("/put?key=a&value=b"))
		if a.body != "put" || len(a.token) != 43 || strings.Contains(test.cookie, a.token) {
			t.Errorf("%s: put: got %s %q, the token %q; want a new one", test.name, a.Status, a.body, a.token)
		}
	}
	site.visit("/read", token).is(t, 200, "user=alice")
}

func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	return b.String()
}

// However many cookies of the name there are, and in however many fields: what is no
// token costs nothing, four tokens are looked up at most, and the valid one is found
// among these whatever its place. Red without maxTokens, and without the loop in
// Visit.load.
func TestOWASP_strictSessionManagement_manyCookies(t *testing.T) {
	t.Parallel()
	p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
	m := newSessions(t, p.Client(t))
	bothProtocols(t, func(t *testing.T, http2 bool) {
		p := testkit.NewProxy(t, testkit.Shared(t, "server").Addrs()[0])
		m := newSessions(t, p.Client(t))
		site := serveSite(t, http2, middleware.Session(m)(sessionApp(m)))
		token := site.login("alice")
		others := strings.ReplaceAll("ABCDE", token[:1], "")
		unknown := func(n int) string { return others[n:n+1] + token[1:] }
		for place := range 4 {
			var values []string
			for n := range 3 {
				values = append(values, unknown(n))
			}
			values = slices.Insert(values, place, token)
			p.Reset()
			site.visitWith("/read", cookies(values...)).is(t, 200, "user=alice")
			if want := place + 1; p.RoundTrips() != want {
				t.Errorf("the valid one at place %d: got %d round trips; want %d", place, p.RoundTrips(), want)
			}
		}
		// Malformed ones do not count, however many come first.
		var values []string
		for n := range 99 {
			values = append(values, fmt.Sprint("malformed-", n))
		}
		p.Reset()
		site.visitWith("/read", cookies(append(values, token)...)).is(t, 200, "user=alice")
		if p.RoundTrips() != 1 {
			t.Errorf("99 malformed: got %d round trips; want 1", p.RoundTrips())
		}
		// A hundred that could be tokens.
		values = values[:0]
		for n := range 100 {
			values = append(values, fmt.Sprintf("%043d", n))
		}
		p.Reset()
		site.visitWith("/read", cookies(values...)).is(t, 200, "user=")
		if p.RoundTrips() != 4 {
			t.Errorf("100 unknown: got %d round trips; want 4", p.RoundTrips())
		}
		// The same one a hundred times.
		p.Reset()
		site.visitWith("/read", cookies(slices.Repeat([]string{unknown(3)}, 100)...)).is(t, 200, "user=")
		if p.RoundTrips() != 1 {
			t.Errorf("one a hundred times: got %d round trips; want 1", p.RoundTrips())
		}
		a := site.visitWith("/put?key=a&value=b", cookies(values...))
		if len(a.token) != 43 || slices.Contains(values, a.token) {
			t.Errorf("put: got the token %q; want a new one", a.token)
		}
	})

	// In several Cookie fields, as a proxy may pass them on (RFC 9113 section 8.2.3).
	site := newSessionSite(t, m)
	token := site.login("alice")
	a := site.raw("GET /read HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\nCookie: " + sessionCookie + "=x\r\nCookie: " +
		sessionCookie + "=" + token + "\r\n\r\n")
	if a.body != "user=alice" {
		t.Errorf("several fields: got %q; want alice", a.body)
	}
}

func cookies(values ...string) string {
	fields := make([]string, len(values))
	for i, v := range values {
		fields[i] = sessionCookie + "=" + v
	}
	return strings.Join(fields, "; ")
}

// An unknown token is not only not adopted: it is not there afterwards either, and
// looking for it again finds nothing.
func TestOWASP_strictSessionManagement_unknownIsNotCreated(t *testing.T) {
	t.Parallel()
	bothLogins(t, func(t *testing.T, way string) {
		b := testkit.Mini(t)
		m := newSessions(t, b.Client(t))
		site := newSessionSite(t, m, enterPage(m))
		for _, chosen := range []string{strings.Repeat("A", 43), strings.Repeat("A", 81)} {
			site.visit("/put?key=a&value=b", chosen).is(t, 200, "put")
			if fresh := site.enter(way, "alice", chosen); fresh == chosen {
				t.Errorf("the token %q was adopted", chosen)
			}
			for _, path := range []string{"/read", "/get?key=a"} {
				a := site.visit(path, chosen)
				a.isSilent(t, path)
				if strings.TrimPrefix(a.body, "user=") != "" {
					t.Errorf("%s by the chosen token: got %q; want nothing", path, a.body)
				}
			}
			if b.Miniredis().Exists(sessionKey(chosen)) || b.Miniredis().Exists("scs:session:"+chosen) {
				t.Errorf("the token %q is in Redis", chosen)
			}
		}
	})
}
