package middleware_test

import (
	"context"
	"log"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
)

// What is not a token never reaches Redis; a token that Redis does not know is
// never adopted; of several cookies of the name the one it knows is found.
func TestSession_hostileCookies(t *testing.T) {
	t.Parallel()
	site, _, p := sharedSite(t)
	token := site.login("alice")
	unknown := strings.Repeat("Z", 43)
	c := func(values ...string) string {
		for i, v := range values {
			values[i] = sessionCookie + "=" + v
		}
		return strings.Join(values, "; ")
	}
	tests := []struct {
		name, cookie string
		body         string
		trips        int
	}{
		{"none", "", "user=", 0},
		{"empty", c(""), "user=", 0},
		{"too short", c(token[:42]), "user=", 0},
		{"too long", c(token + "A"), "user=", 0},
		{"oversized", c(strings.Repeat("A", 1<<14)), "user=", 0},
		{"a path", c("../../../../../../../etc/passwd_____________"), "user=", 0},
		{"standard base64", c(token[:42] + "+"), "user=", 0},
		{"padding", c(token[:42] + "="), "user=", 0},
		{"a glob", c(strings.Repeat("*", 43)), "user=", 0},
		{"a line break", c(token[:20] + "\t" + token[21:]), "user=", 0},
		{"a brace", c("{" + token[1:]), "user=", 0},
		{"the name in small letters", strings.ToLower(sessionCookie) + "=" + token, "user=", 0},
		{"the name without its prefix", "session=" + token, "user=", 0},
		{"the digest in place of the token", c(strings.TrimPrefix(sessionKey(token), "scs:session:")), "user=", 1},
		{"the key in place of the token", c(sessionKey(token)), "user=", 0},
		{"unknown", c(unknown), "user=", 1},
		{"known", c(token), "user=alice", 1},
		{"malformed, known", c("x", token), "user=alice", 1},
		{"known, malformed", c(token, "x"), "user=alice", 1},
		{"unknown, known", c(unknown, token), "user=alice", 2},
		{"known, unknown", c(token, unknown), "user=alice", 1},
		{"unknown twice, known", c(unknown, unknown, token), "user=alice", 2},
		{"known fifth", c(unknown, "Y"+unknown[1:], "X"+unknown[1:], "W"+unknown[1:], token), "user=", 4},
	}
	for _, test := range tests {
		p.Reset()
		a := site.visitWith("/read", test.cookie)
		a.is(t, 200, test.body)
		if a.set || p.RoundTrips() != test.trips {
			t.Errorf("%s: got cookie %v, %d round trips; want none, %d", test.name, a.set, p.RoundTrips(), test.trips)
		}
		if test.body == "user=alice" {
			continue
		}
		// What such a visitor stores is stored under a token of ours.
		a = site.visitWith("/put?key=a&value=b", test.cookie)
		if len(a.token) != 43 || strings.Contains(test.cookie, a.token) {
			t.Errorf("%s: got token %q; want a new one", test.name, a.token)
		}
	}
}

// The token is in no key and no value.
func TestSession_tokenIsNotStored(t *testing.T) {
	t.Parallel()
	b := testkit.Mini(t)
	site := newSessionSite(t, newSessions(t, b.Client(t)))
	token := site.login("alice")
	keys := b.Miniredis().Keys()
	if !slices.Equal(keys, []string{sessionKey(token)}) {
		t.Fatalf("keys: got %q; want one, of the token's SHA-256", keys)
	}
	value, err := b.Miniredis().Get(keys[0])
	if err != nil || !strings.Contains(value, "alice") || strings.Contains(value, token) {
		t.Errorf("value: got %q, %v; want alice and no token", value, err)
	}
	if ttl := b.Miniredis().TTL(sessionKey(token)); ttl <= 0 {
		t.Errorf("ttl: got %v; want one", ttl)
	}
}

// capture collects what is logged while the test runs. Not for parallel tests.
func capture(t *testing.T) *testkit.Buffer {
	t.Helper()
	before := slog.Default()
	b := new(testkit.Buffer)
	slog.SetDefault(slog.New(slog.NewTextHandler(b, nil)))
	t.Cleanup(func() {
		slog.SetDefault(before)
		log.SetOutput(os.Stderr) // SetDefault had led it to slog
		log.SetFlags(log.LstdFlags)
	})
	return b
}

// A record that cannot be read is a new session, not an error page for ever.
// Red without the case of ErrCorrupt in Visit.load. Not parallel: it watches the
// log.
func TestSession_corruptRecords(t *testing.T) {
	b := testkit.Shared(t, "server")
	rdb, ctx := b.Client(t), t.Context()
	spoil := map[string]func(key string){
		"not gob":      func(key string) { rdb.Set(ctx, key, "\x00garbage", 0) },
		"empty":        func(key string) { rdb.Set(ctx, key, "", 0) },
		"cut short":    func(key string) { rdb.SetRange(ctx, key, 0, "\x7f\x7f\x7f") },
		"a list":       func(key string) { rdb.Del(ctx, key); rdb.RPush(ctx, key, "x") },
		"a hash":       func(key string) { rdb.Del(ctx, key); rdb.HSet(ctx, key, "a", "b") },
		"another type": func(key string) { rdb.Set(ctx, key, "\x08\xff\x81\x04\x01\x02\xff\x82", 0) },
	}
	for name, do := range spoil {
		t.Run(name, func(t *testing.T) {
			logged := capture(t)
			site := newSessionSite(t, newSessions(t, rdb))
			token := site.login("alice")
			do(sessionKey(token))
			t.Cleanup(func() { rdb.Del(context.Background(), sessionKey(token)) })

			a := site.visit("/read", token)
			a.is(t, 200, "user=")
			if a.set {
				t.Error("a look has set or cleared the cookie")
			}
			got := logged.String()
			if strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "corrupt") {
				t.Errorf("log: got %q; want one warning", got)
			}
			if strings.Contains(got, token) {
				t.Errorf("log: got the token in %q", got)
			}
			a = site.visit("/put?key=a&value=b", token)
			a.is(t, 200, "put")
			if len(a.token) != 43 || a.token == token {
				t.Fatalf("put: got token %q; want a new one", a.token)
			}
			site.visit("/get?key=a", a.token).is(t, 200, "b")

			// Beside a good one it does not hide it.
			good := site.login("bob")
			site.visitWith("/read", sessionCookie+"="+token+"; "+sessionCookie+"="+good).is(t, 200, "user=bob")
		})
	}
}
