package session_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2/memstore"
	"github.com/redis/go-redis/v9"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/session"
)

func TestNew_mistakes(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)})
	t.Cleanup(func() { rdb.Close() })
	tests := []struct {
		name    string
		client  redis.UniversalClient
		options []session.Option
		// want has, for each mistake, the option and a word of the remedy.
		want [][2]string
	}{
		{"no client", nil, nil, [][2]string{{"client is nil", "pass"}}},
		{"nil pointer", (*redis.Client)(nil), nil, [][2]string{{"client is nil", "pass"}}},
		{"nil option", rdb, []session.Option{nil}, [][2]string{{"option 1 is nil", "leave it out"}}},
		{"lifetime 0", rdb, []session.Option{session.WithLifetime(0)}, [][2]string{{"WithLifetime(0s)", "at least 1s"}}},
		{"lifetime below 0", rdb, []session.Option{session.WithLifetime(-time.Hour)}, [][2]string{{"WithLifetime(-1h0m0s)", "at least 1s"}}},
		{"idle 0", rdb, []session.Option{session.WithIdleTimeout(0)}, [][2]string{{"WithIdleTimeout(0s)", "give the lifetime"}}},
		{"idle too short", rdb, []session.Option{session.WithIdleTimeout(time.Millisecond)}, [][2]string{{"WithIdleTimeout(1ms)", "at least 1s"}}},
		{
			"idle beyond lifetime", rdb,
			[]session.Option{session.WithLifetime(time.Hour), session.WithIdleTimeout(2 * time.Hour)},
			[][2]string{{"WithIdleTimeout(2h0m0s)", "at most that"}},
		},
		{"budget 0", rdb, []session.Option{session.WithTimeout(0)}, [][2]string{{"WithTimeout(0s)", "leave it out"}}},
		{"budget too long", rdb, []session.Option{session.WithTimeout(time.Hour)}, [][2]string{{"WithTimeout(1h0m0s)", "30s"}}},
		{"name with a space", rdb, []session.Option{session.WithCookieName("my session")}, [][2]string{{`WithCookieName("my session")`, "use letters"}}},
		{"name with ;", rdb, []session.Option{session.WithCookieName("a;b")}, [][2]string{{`WithCookieName("a;b")`, "use letters"}}},
		{
			"__Host- without Secure", rdb,
			[]session.Option{session.WithCookieName("__hOST-x"), session.WithInsecureCookie()},
			[][2]string{{`WithCookieName("__hOST-x")`, "without the prefix"}},
		},
		{
			"SameSite=None without Secure", rdb,
			[]session.Option{session.WithSameSite(http.SameSiteNoneMode), session.WithInsecureCookie()},
			[][2]string{{"WithSameSite(None)", "keep Secure"}},
		},
		{"SameSite unset", rdb, []session.Option{session.WithSameSite(0)}, [][2]string{{"WithSameSite(0)", "SameSiteLaxMode"}}},
		{
			"Domain with __Host-", rdb,
			[]session.Option{session.WithCookieDomain("example.com"), session.WithCookieName("__Host-id")},
			[][2]string{{`WithCookieDomain("example.com")`, "leave the domain out"}},
		},
		{"no domain", rdb, []session.Option{session.WithCookieDomain("a b")}, [][2]string{{`WithCookieDomain("a b")`, "example.com"}}},
		{
			"path with __Host-", rdb,
			[]session.Option{session.WithCookiePath("/shop"), session.WithCookieName("__Host-Http-id")},
			[][2]string{{`WithCookiePath("/shop")`, "leave the path out"}},
		},
		{"no path", rdb, []session.Option{session.WithCookiePath("shop")}, [][2]string{{`WithCookiePath("shop")`, "must begin with"}}},
		{
			"Partitioned without Secure", rdb,
			[]session.Option{session.WithPartitioned(), session.WithInsecureCookie()},
			[][2]string{{"WithPartitioned", "keep Secure"}},
		},
		{"no key", rdb, []session.Option{session.WithEncryption()}, [][2]string{{"WithEncryption", "32"}}},
		{"16 bytes", rdb, []session.Option{session.WithEncryption(make([]byte, 16))}, [][2]string{{"WithEncryption: key 1 has 16 bytes", "32"}}},
		{"plaintext of nothing", rdb, []session.Option{session.WithInsecurePlaintext()}, [][2]string{{"WithInsecurePlaintext", "leave it out"}}},
		{
			"encryption of another store", rdb,
			[]session.Option{session.WithEncryption(make([]byte, 32)), session.WithStore(memstore.NewWithCleanupInterval(0))},
			[][2]string{{"WithEncryption with WithStore", "leave one of them out"}},
		},
		{"nil store", rdb, []session.Option{session.WithStore(nil)}, [][2]string{{"WithStore(nil)", "leave it out"}}},
		{"nil codec", rdb, []session.Option{session.WithCodec(nil)}, [][2]string{{"WithCodec(nil)", "leave it out"}}},
		{
			"nil functions", rdb,
			[]session.Option{session.WithObserver(nil), session.WithClientIP(nil), session.WithDevice(nil)},
			[][2]string{{"WithObserver(nil)", ""}, {"WithClientIP(nil)", ""}, {"WithDevice(nil)", ""}},
		},
		{"renewal too often", rdb, []session.Option{session.WithRenewal(time.Second)}, [][2]string{{"WithRenewal(1s)", "at least 1m"}}},
		{"renewal beyond lifetime", rdb, []session.Option{session.WithRenewal(48 * time.Hour)}, [][2]string{{"WithRenewal(48h0m0s)", "at most the lifetime"}}},
		{
			"remember me", rdb,
			[]session.Option{session.WithRememberMe(2*time.Hour, time.Hour)},
			[][2]string{{"WithRememberMe: an idle timeout of 2h0m0s", "at most its lifetime"}},
		},
		{"remember for ever", rdb, []session.Option{session.WithRememberMe(time.Hour, 0)}, [][2]string{{"WithRememberMe: a lifetime of 0s", "at least 1s"}}},
		{"too small", rdb, []session.Option{session.WithMaxSize(1)}, [][2]string{{"WithMaxSize(1)", "leave it out"}}},
		{"no sessions", rdb, []session.Option{session.WithMaxSessions(0, session.EvictOldest)}, [][2]string{{"WithMaxSessions(0)", "from 1"}}},
		{"no policy", rdb, []session.Option{session.WithMaxSessions(1, 7)}, [][2]string{{"WhenFull(7)", "session.EvictOldest"}}},
		{"a name with a brace", rdb, []session.Option{session.WithName("a{b")}, [][2]string{{`WithName("a{b")`, "use letters"}, {`WithCookieName("__Host-a{b")`, ""}}},
		{"a prefix with a brace", rdb, []session.Option{session.WithPrefix("a{b}")}, [][2]string{{`WithPrefix("a{b}")`, "use letters"}}},
		{
			"the issue's", nil,
			[]session.Option{
				session.WithSameSite(http.SameSiteNoneMode), session.WithInsecureCookie(), session.WithCookieDomain("example.com"),
				session.WithCookieName("__Host-id"), session.WithEncryption(make([]byte, 16)), session.WithIdleTimeout(48 * time.Hour),
			},
			[][2]string{
				{"client is nil", "pass"}, {"WithSameSite(None)", "keep Secure"}, {"WithCookieDomain", "leave the domain out"},
				{`WithCookieName("__Host-id") with WithInsecureCookie`, "without the prefix"}, {"16 bytes", "32"}, {"WithIdleTimeout(48h0m0s)", "at most that"},
			},
		},
		{
			"all at once", nil,
			[]session.Option{
				session.WithLifetime(0), session.WithIdleTimeout(-1), session.WithTimeout(-1),
				session.WithCookieName("a=b"), session.WithSameSite(9), nil,
			},
			[][2]string{
				{"option 6 is nil", ""}, {"WithLifetime(0s)", ""}, {"WithIdleTimeout(-1ns)", ""},
				{"WithTimeout(-1ns)", ""}, {`WithCookieName("a=b")`, ""}, {"WithSameSite(9)", ""}, {"client is nil", ""},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m, err := session.New(test.client, test.options...)
			if m != nil || !errors.Is(err, session.ErrConfig) {
				t.Fatalf("got %v, %v; want nil, ErrConfig", m, err)
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Errorf("got %d mistakes; want %d:\n%v", len(lines), len(test.want), err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want[0]) || !strings.Contains(err.Error(), want[1]) {
					t.Errorf("got %v; want %q and %q in it", err, want[0], want[1])
				}
			}
			for _, line := range lines {
				if !strings.HasPrefix(line, "session.New: invalid configuration: ") {
					t.Errorf("got %q; want the function and the kind first", line)
				}
			}
		})
	}
}

func TestNew_accepts(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{Addr: testkit.RefusedAddr(t)}) // New does no I/O
	t.Cleanup(func() { rdb.Close() })
	for name, options := range map[string][]session.Option{
		"none":             nil,
		"short lifetime":   {session.WithLifetime(time.Minute)}, // the default idle timeout follows
		"idle as lifetime": {session.WithLifetime(time.Hour), session.WithIdleTimeout(time.Hour)},
		"None":             {session.WithSameSite(http.SameSiteNoneMode)},
		"Strict":           {session.WithSameSite(http.SameSiteStrictMode)},
		"plain HTTP":       {session.WithInsecureCookie()},
		"a name":           {session.WithCookieName("__Secure-id")},
		"a domain":         {session.WithCookieDomain("example.com"), session.WithCookiePath("/shop")},
		"embedded":         {session.WithPartitioned(), session.WithSameSite(http.SameSiteNoneMode)},
		"named":            {session.WithName("staff")},
		"the least":        {session.WithLifetime(time.Second), session.WithIdleTimeout(time.Second), session.WithTimeout(time.Millisecond)},
	} {
		if m, err := session.New(rdb, options...); err != nil || m == nil {
			t.Errorf("%s: got %v, %v", name, m, err)
		}
	}
}

// NewStore takes the options that are a store's, and no others.
func TestNewStore_mistakes(t *testing.T) {
	t.Parallel()
	_, err := session.NewStore(nil, session.WithPrefix("a:"), session.WithLifetime(time.Hour), session.WithTimeout(0))
	if !errors.Is(err, session.ErrConfig) {
		t.Fatalf("got %v; want ErrConfig", err)
	}
	for _, want := range []string{"client is nil", `WithPrefix("a:")`, "WithLifetime: configures a Manager", "WithTimeout(0s)", "session.NewStore: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q in it", err, want)
		}
	}
}

// scs.New starts a goroutine for ever; ours does not. Not parallel: it counts.
// Moreover a bubble of synctest does not end while a goroutine in it goes on.
// Red when newManager falls back to scs.New.
func TestNew_startsNoGoroutine(t *testing.T) {
	p := testkit.NewProxy(t, testkit.RefusedAddr(t))
	rdb := p.Client(t)
	synctest.Test(t, func(t *testing.T) {
		before := runtime.NumGoroutine()
		for range 50 {
			newManager(t, rdb)
		}
		if after := runtime.NumGoroutine(); after > before { // earlier tests' may still end
			t.Fatalf("goroutines: got %d; want %d, as before", after, before)
		}
	})
	if n := p.Connections(); n != 0 {
		t.Errorf("connections: got %d; want none: New does no I/O", n)
	}
}

// Each manager finds its own data. Red when newManager gives all the same name.
func TestNew_managersApart(t *testing.T) {
	t.Parallel()
	rdb := testkit.Mini(t).Client(t)
	a := newManager(t, rdb, session.WithCookieName("__Host-a"))
	b := newManager(t, rdb, session.WithCookieName("__Host-b"))
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	outer := a.Visit(r)
	inner := b.Visit(r.WithContext(outer))
	a.Put(inner, "who", "a")
	b.Put(inner, "who", "b")
	if a.GetString(inner, "who") != "a" || b.GetString(inner, "who") != "b" {
		t.Errorf("got %q and %q; want a and b", a.GetString(inner, "who"), b.GetString(inner, "who"))
	}
	cookieB, errB := inner.Commit()
	cookieA, errA := outer.Commit()
	if errA != nil || errB != nil || cookieA.Name != "__Host-a" || cookieB.Name != "__Host-b" {
		t.Fatalf("got %v, %v and %v, %v", cookieA, errA, cookieB, errB)
	}

	// What the outer session's store does under the inner's context is the outer
	// session's: an ended one stays ended. Red when Manager.visitOf takes the
	// innermost visit.
	r = httptest.NewRequest(http.MethodGet, "/", nil)
	r.AddCookie(cookieA)
	outer = a.Visit(r)
	inner = b.Visit(r.WithContext(outer))
	a.Put(inner, "late", true)
	if err := rdb.Del(t.Context(), keyOf(cookieA.Value)).Err(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.SessionManager.Commit(inner); err == nil {
		t.Error("scs's Commit: got no error; want one: the session has ended")
	}
	if rdb.Exists(t.Context(), keyOf(cookieA.Value)).Val() != 0 {
		t.Error("the session was written back")
	}
}
