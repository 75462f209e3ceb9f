package middleware_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

// The two ways in which an application may log a visitor in.
const (
	scsLogin  = "RenewToken"
	weirLogin = "Login"
)

func bothLogins(t *testing.T, run func(t *testing.T, way string)) {
	t.Helper()
	for _, way := range []string{scsLogin, weirLogin} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			run(t, way)
		})
	}
}

// enterPage is a login at /enter, by the way and for the user that the form names.
func enterPage(m *session.Manager) func(*http.ServeMux) {
	return handle("/enter", func(w http.ResponseWriter, r *http.Request) {
		ctx, user := r.Context(), r.FormValue("user")
		var err error
		if r.FormValue("way") == weirLogin {
			err = m.Login(ctx, user)
		} else {
			err = m.RenewToken(ctx)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		m.Put(ctx, "user", user)
		io.WriteString(w, "welcome")
	})
}

// enter logs a visitor in who comes with a token, "" for none.
func (s *sessionSite) enter(way, user, token string) (fresh string) {
	s.t.Helper()
	a := s.visit("/enter?way="+way+"&user="+user, token)
	a.is(s.t, 200, "welcome")
	if a.token == "" || a.token == token {
		s.t.Fatalf("login: got the token %q after %q; want a new one", a.token, token)
	}
	return a.token
}

// isSilent checks that an answer says nothing to the browser about the session.
func (a sessionAnswer) isSilent(t *testing.T, what string) {
	t.Helper()
	if a.set {
		t.Errorf("%s: got Set-Cookie %q; want none", what, a.Header.Values("Set-Cookie"))
	}
}

// raw sends a request head as it stands, over a connection of its own.
func (s *sessionSite) raw(head string) (a sessionAnswer) {
	s.t.Helper()
	conn := s.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, head); err != nil {
		s.t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodGet})
	if err != nil {
		s.t.Fatalf("%q: %v", head, err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a = sessionAnswer{Response: r, body: string(body)}
	for _, c := range r.Cookies() {
		if c.Name == sessionCookie {
			a.token, a.set = c.Value, true
		}
	}
	return a
}

// dial connects to the site by TLS and HTTP/1.1.
func (s *sessionSite) dial() net.Conn {
	s.t.Helper()
	config := s.client.Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", strings.TrimPrefix(s.url, "https://"), config)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// ageToken makes a stored session's token an hour old, for WithRenewal.
func ageToken(t *testing.T, client redis.UniversalClient, token string) {
	t.Helper()
	alter(t, client, token, func(_ *time.Time, values map[string]any) {
		values["__weir.born"] = time.Now().Add(-time.Hour).Unix()
	})
}

// alter changes a session in Redis, past Weir, and leaves its time to live.
func alter(t *testing.T, client redis.UniversalClient, token string, change func(deadline *time.Time, values map[string]any)) {
	t.Helper()
	codec, key := scs.GobCodec{}, sessionKey(token)
	stored, err := client.Get(t.Context(), key).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	deadline, values, err := codec.Decode(stored)
	if err != nil {
		t.Fatal(err)
	}
	change(&deadline, values)
	if stored, err = codec.Encode(deadline, values); err != nil {
		t.Fatal(err)
	}
	if err := client.Set(t.Context(), key, stored, redis.KeepTTL).Err(); err != nil {
		t.Fatal(err)
	}
}

// dumpRedis is all that a miniredis holds.
func dumpRedis(t *testing.T, b *testkit.Backend) string {
	t.Helper()
	m := b.Miniredis()
	var dump strings.Builder
	for _, key := range m.Keys() {
		fmt.Fprintln(&dump, key)
		var err error
		var all any
		switch m.Type(key) {
		case "string":
			all, err = m.Get(key)
		case "hash":
			all, err = b.Client(t).HGetAll(t.Context(), key).Result()
		case "zset":
			all, err = m.ZMembers(key)
		default:
			err = fmt.Errorf("a key of type %s", m.Type(key))
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&dump, all)
	}
	return dump.String()
}
