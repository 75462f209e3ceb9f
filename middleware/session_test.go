package middleware_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

func TestSession_nilManager(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic at mount time")
		}
	}()
	middleware.Session(nil)
}

func TestSession_cookie(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	tests := []struct {
		name    string
		options []session.Option
		want    string // with the token as *
		gone    string // what logout sends
	}{
		{
			"default", nil,
			"__Host-session=*; Path=/; HttpOnly; Secure; SameSite=Lax",
			"__Host-session=; Path=/; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Lax",
		},
		{
			"insecure", []session.Option{session.WithInsecureCookie()},
			"session=*; Path=/; HttpOnly; SameSite=Lax",
			"session=; Path=/; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; HttpOnly; SameSite=Lax",
		},
		{
			"strict", []session.Option{session.WithSameSite(http.SameSiteStrictMode), session.WithCookieName("__Host-id")},
			"__Host-id=*; Path=/; HttpOnly; Secure; SameSite=Strict",
			"__Host-id=; Path=/; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0; HttpOnly; Secure; SameSite=Strict",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newSessions(t, rdb, test.options...)
			site := newSessionSite(t, m)
			a := site.visit("/login?user=alice", "")
			lines := a.Header.Values("Set-Cookie")
			if len(lines) != 1 {
				t.Fatalf("Set-Cookie: got %q; want one", lines)
			}
			token := a.Cookies()[0].Value
			if len(token) != 43 { // 32 bytes: 256 bits
				t.Errorf("token: got %q; want 43 characters", token)
			}
			if got := strings.Replace(lines[0], token, "*", 1); got != test.want {
				t.Errorf("login: got %q; want %q", got, test.want)
			}
			a = site.visitWith("/logout", m.Cookie.Name+"="+token)
			if got := a.Header.Values("Set-Cookie"); !slices.Equal(got, []string{test.gone}) {
				t.Errorf("logout: got %q; want %q", got, test.gone)
			}
		})
	}
}

func TestSession_rememberMe(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t), session.WithLifetime(10*time.Hour))
	site := newSessionSite(t, m)
	a := site.visit("/login?user=alice&remember=1", "")
	c := a.Cookies()[0]
	if want := 36000; c.MaxAge < want-5 || c.MaxAge > want {
		t.Errorf("Max-Age: got %d; want %d", c.MaxAge, want)
	}
	// Expires is a whole second, rounded up like Max-Age.
	if left := time.Until(c.Expires); left < 10*time.Hour-5*time.Second || left > 10*time.Hour+time.Second {
		t.Errorf("Expires: got %v from now; want 10h", left)
	}
}

// One browser's way through a site, over both protocols.
func TestSession_browser(t *testing.T) {
	t.Parallel()
	bothProtocols(t, func(t *testing.T, http2 bool) {
		m := newSessions(t, testkit.Shared(t, "server").Client(t))
		site := serveSite(t, http2, middleware.Session(m)(sessionApp(m)))
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		site.client.Jar = jar
		home, _ := url.Parse(site.url)
		token := func() string {
			if cookies := jar.Cookies(home); len(cookies) == 1 {
				return cookies[0].Value
			}
			return ""
		}

		site.visit("/read", "").is(t, 200, "user=")
		if token() != "" {
			t.Error("a visitor who was only read has a cookie")
		}
		site.visit("/put?key=cart&value=3", "").is(t, 200, "put")
		first := token()
		site.visit("/get?key=cart", "").is(t, 200, "3")

		site.visit("/login?user=alice", "") // with RenewToken
		second := token()
		if first == "" || second == "" || second == first {
			t.Fatalf("tokens: got %q, then %q; want two", first, second)
		}
		site.visit("/read", "").is(t, 200, "user=alice")
		site.visit("/get?key=cart", "").is(t, 200, "3")

		site.visit("/logout", "").is(t, 200, "bye")
		if token() != "" {
			t.Error("logout left the cookie")
		}
		site.visit("/read", "").is(t, 200, "user=")

		site.client.Jar = nil
		for _, old := range []string{first, second} {
			site.visit("/read", old).is(t, 200, "user=")
			site.visit("/get?key=cart", old).is(t, 200, "")
		}
	})
}

// What a request costs and what it says, by what it does.
func TestSession_cost(t *testing.T) {
	t.Parallel()
	site, _, p := sharedSite(t, func(m *session.Manager) func(*http.ServeMux) {
		return handle("/public", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=60")
			w.Header().Add("Vary", "Accept-Encoding, cookie")
			m.Put(r.Context(), "n", 1)
		})
	})
	token := site.login("alice")
	site.visit("/put?key=warm&value=up", token) // Redis learns the scripts
	unknown := strings.Repeat("A", 43)
	tests := []struct {
		path, token  string
		trips        int
		commands     int
		vary, caches string
		cookie       bool
	}{
		{"/untouched", "", 0, 0, "", "", false},
		{"/untouched", token, 0, 0, "", "", false},
		{"/untouched", "malformed", 0, 0, "", "", false},
		{"/read", "", 0, 0, "Cookie", "", false},
		{"/read", "malformed", 0, 0, "Cookie", "", false},
		{"/read", token, 1, 2, "Cookie", "", false}, // GET and PTTL in one pipeline
		{"/read", unknown, 1, 2, "Cookie", "", false},
		{"/put?key=a&value=b", token, 2, 3, "Cookie", "", false},
		{"/put?key=a&value=b", token, 1, 2, "Cookie", "", false}, // the same again: nothing to write
		{"/put?key=a&value=b", "", 1, 1, "Cookie", "no-store", true},
		{"/public", token, 2, 3, "Accept-Encoding, cookie", "public, max-age=60", false},
		{"/public", "", 1, 1, "Accept-Encoding, cookie", "no-store", true},
		{"/logout", token, 2, 3, "Cookie", "no-store", true},
	}
	for _, test := range tests {
		p.Reset()
		a := site.visit(test.path, test.token)
		if a.StatusCode != http.StatusOK {
			t.Errorf("%s: got %s", test.path, a.Status)
		}
		if p.RoundTrips() != test.trips || p.Commands() != test.commands {
			t.Errorf("%s with %.9q: got %d round trips, %d commands; want %d, %d",
				test.path, test.token, p.RoundTrips(), p.Commands(), test.trips, test.commands)
		}
		if got := strings.Join(a.Header.Values("Vary"), ", "); got != test.vary {
			t.Errorf("%s with %.9q: Vary: got %q; want %q", test.path, test.token, got, test.vary)
		}
		if got := strings.Join(a.Header.Values("Cache-Control"), ", "); got != test.caches {
			t.Errorf("%s with %.9q: Cache-Control: got %q; want %q", test.path, test.token, got, test.caches)
		}
		if a.set != test.cookie {
			t.Errorf("%s with %.9q: Set-Cookie: got %q; want one: %v", test.path, test.token, a.Header.Values("Set-Cookie"), test.cookie)
		}
	}
}

// pass serves one request without a network, for use in a bubble of synctest.
func pass(h http.Handler, path, token string) *http.Response {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	if token != "" {
		r.AddCookie(&http.Cookie{Name: sessionCookie, Value: token})
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(r *http.Response) string {
	b, _ := io.ReadAll(r.Body)
	return string(b)
}

// A touchCounter counts what a client sends to push a timeout back.
type touchCounter struct{ n atomic.Int64 }

func (c *touchCounter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *touchCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" { // no other script runs meanwhile
			c.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (c *touchCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A read writes nothing but the time left, and that only when a tenth of the
// idle timeout has passed, and never beyond the absolute deadline.
func TestSession_idleTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb := testkit.Memory(t).Client(t)
		touches := new(touchCounter)
		rdb.AddHook(touches)
		m := newSessions(t, rdb, session.WithIdleTimeout(30*time.Minute), session.WithLifetime(2*time.Hour))
		site := middleware.Session(m)(sessionApp(m))
		token := pass(site, "/login?user=alice", "").Cookies()[0].Value
		key := sessionKey(token)
		stored := rdb.Get(t.Context(), key).Val()

		// read advances the clock, reads, and checks the time left and whether
		// it was pushed back.
		read := func(after, want time.Duration, touched bool) {
			t.Helper()
			time.Sleep(after) // the bubble's clock
			touches.n.Store(0)
			if got := bodyOf(pass(site, "/read", token)); got != "user=alice" {
				t.Fatalf("got %q; want alice", got)
			}
			if got := touches.n.Load() == 1; got != touched {
				t.Errorf("pushed back: got %v; want %v", got, touched)
			}
			if got := rdb.PTTL(t.Context(), key).Val(); got != want {
				t.Errorf("time left: got %v; want %v", got, want)
			}
			if rdb.Get(t.Context(), key).Val() != stored {
				t.Error("a read has written the data")
			}
		}
		read(0, 30*time.Minute, false)
		read(2*time.Minute, 28*time.Minute, false)
		read(2*time.Minute, 30*time.Minute, true) // 4 min of 30 have passed
		read(28*time.Minute, 30*time.Minute, true)
		read(29*time.Minute, 30*time.Minute, true) // at 1h01m
		read(29*time.Minute, 30*time.Minute, true) // at 1h30m
		// Toward the deadline there is nothing to gain: no write. Red when touch
		// compares with the idle timeout alone.
		read(10*time.Minute, 20*time.Minute, false)
		read(19*time.Minute, time.Minute, false)

		time.Sleep(time.Minute) // 2 h: the absolute deadline
		if got := bodyOf(pass(site, "/read", token)); got != "user=" {
			t.Errorf("past the deadline: got %q; want nobody", got)
		}

		// Unused for the idle timeout.
		token = pass(site, "/login?user=bob", "").Cookies()[0].Value
		time.Sleep(30*time.Minute - time.Millisecond)
		if got := bodyOf(pass(site, "/untouched", token)); got != "hello" {
			t.Errorf("got %q", got)
		}
		time.Sleep(time.Millisecond)
		if got := bodyOf(pass(site, "/read", token)); got != "user=" {
			t.Errorf("unused for the idle timeout: got %q; want nobody", got)
		}
	})
}

// Neither timeout lets a request that was under way write the session back.
// Red without "xx" in Store.CommitCtx, and without its check of a past expiry.
func TestSession_expiryDuringRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rdb := testkit.Memory(t).Client(t)
		m := newSessions(t, rdb, session.WithIdleTimeout(30*time.Minute), session.WithLifetime(time.Hour))
		site := middleware.Session(m)(sessionApp(m, handle("/slow", func(w http.ResponseWriter, r *http.Request) {
			d, _ := time.ParseDuration(r.FormValue("d"))
			io.WriteString(io.Discard, m.GetString(r.Context(), "user"))
			time.Sleep(d)
			m.Put(r.Context(), "late", true)
		})))
		for _, d := range []string{"31m", "61m"} {
			token := pass(site, "/login?user=alice", "").Cookies()[0].Value
			a := pass(site, "/slow?d="+d, token)
			if a.StatusCode != http.StatusOK || len(a.Cookies()) != 0 {
				t.Errorf("after %s: got %s, cookies %v; want 200 and none", d, a.Status, a.Cookies())
			}
			if isStored(t, rdb, token) {
				t.Errorf("after %s: the session is back", d)
			}
		}
	})
}

// Two managers on one request, each with its cookie and its data.
func TestSession_nested(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	shop := newSessions(t, rdb, session.WithCookieName("__Host-shop"))
	staff := newSessions(t, rdb, session.WithCookieName("__Host-staff"))
	mux := http.NewServeMux()
	mux.HandleFunc("/both", func(w http.ResponseWriter, r *http.Request) {
		shop.Put(r.Context(), "who", "customer")
		staff.Put(r.Context(), "who", "clerk")
	})
	mux.HandleFunc("/one", func(w http.ResponseWriter, r *http.Request) {
		shop.Put(r.Context(), "n", 1)
	})
	mux.HandleFunc("/show", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, shop.GetString(r.Context(), "who")+","+staff.GetString(r.Context(), "who"))
	})
	mux.HandleFunc("/leave", func(w http.ResponseWriter, r *http.Request) { staff.Destroy(r.Context()) })
	site := serveSite(t, false, middleware.Chain(middleware.Session(shop), middleware.Session(staff))(mux))

	a := site.visit("/both", "")
	var cookies []string
	for _, c := range a.Cookies() {
		cookies = append(cookies, c.Name+"="+c.Value)
	}
	if len(cookies) != 2 || len(a.Header.Values("Vary")) != 1 {
		t.Fatalf("got cookies %q, Vary %q; want two and one", cookies, a.Header.Values("Vary"))
	}
	both := strings.Join(cookies, "; ")
	site.visitWith("/show", both).is(t, 200, "customer,clerk")
	slices.Sort(cookies)
	if a = site.visitWith("/one", cookies[1]); len(a.Cookies()) != 1 || a.Cookies()[0].Name != "__Host-shop" {
		t.Errorf("one: got %v; want the shop's cookie", a.Cookies())
	}
	site.visitWith("/leave", both)
	site.visitWith("/show", both).is(t, 200, "customer,")
}
