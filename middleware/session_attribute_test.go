package middleware_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/session"
)

// Each way to configure the cookie, as it goes over the wire when it is set and when
// it is taken away: a browser forgets a cookie only if name, domain and path are the
// same, and heeds a __Host- or partitioned one's end only if the rest is, too. ASVS
// 3.3.1 is Secure with a prefix, 3.3.2 SameSite, 3.3.3 __Host-, 3.3.4 HttpOnly. Red
// without any of the fields in Manager.cookieOf.
func TestOWASP_cookieAttributes_ASVS3_3_1_ASVS3_3_2_ASVS3_3_3_ASVS3_3_4(t *testing.T) {
	t.Parallel()
	const gone = "; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0"
	tests := []struct {
		name    string
		options []session.Option
		// cookie and rest stand around the token; "^" is where the end of the
		// cookie's life goes.
		cookie, rest string
	}{
		{"no options", nil, "__Host-session", "; Path=/^; HttpOnly; Secure; SameSite=Lax"},
		{
			"WithName", []session.Option{session.WithName("staff")},
			"__Host-staff", "; Path=/^; HttpOnly; Secure; SameSite=Lax",
		},
		{
			"__Host-Http-", []session.Option{session.WithCookieName("__Host-Http-session")},
			"__Host-Http-session", "; Path=/^; HttpOnly; Secure; SameSite=Lax",
		},
		{
			"Strict", []session.Option{session.WithSameSite(http.SameSiteStrictMode)},
			"__Host-session", "; Path=/^; HttpOnly; Secure; SameSite=Strict",
		},
		{
			"None", []session.Option{session.WithSameSite(http.SameSiteNoneMode)},
			"__Host-session", "; Path=/^; HttpOnly; Secure; SameSite=None",
		},
		{
			"Partitioned", []session.Option{session.WithPartitioned(), session.WithSameSite(http.SameSiteNoneMode)},
			"__Host-session", "; Path=/^; HttpOnly; Secure; SameSite=None; Partitioned",
		},
		{
			"a domain", []session.Option{session.WithCookieDomain("example.com")},
			"__Secure-session", "; Path=/; Domain=example.com^; HttpOnly; Secure; SameSite=Lax",
		},
		{
			"a path", []session.Option{session.WithCookiePath("/shop")},
			"__Secure-session", "; Path=/shop^; HttpOnly; Secure; SameSite=Lax",
		},
		{
			"a domain, a path and a name",
			[]session.Option{session.WithCookieDomain("example.com"), session.WithCookiePath("/shop"), session.WithName("staff")},
			"__Secure-staff", "; Path=/shop; Domain=example.com^; HttpOnly; Secure; SameSite=Lax",
		},
		{
			"insecure", []session.Option{session.WithInsecureCookie()},
			"session", "; Path=/^; HttpOnly; SameSite=Lax",
		},
		{
			"insecure, with a name", []session.Option{session.WithInsecureCookie(), session.WithName("staff")},
			"staff", "; Path=/^; HttpOnly; SameSite=Lax",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			bothProtocols(t, func(t *testing.T, http2 bool) {
				m := newSessions(t, testkit.Mini(t).Client(t), test.options...)
				site := serveSite(t, http2, middleware.Session(m)(sessionApp(m, enterPage(m))))
				line := func(path, cookie, want string) (token string) {
					t.Helper()
					a := site.visitWith(path, cookie)
					lines := a.Header.Values("Set-Cookie")
					if len(lines) != 1 {
						t.Fatalf("%s: got %q; want one line", path, lines)
					}
					token = a.Cookies()[0].Value
					if got := strings.Replace(lines[0], "="+token+";", "=*;", 1); got != want {
						t.Errorf("%s: got %q; want %q", path, got, want)
					}
					return token
				}
				set := test.cookie + "=*" + strings.Replace(test.rest, "^", "", 1)
				unset := test.cookie + "=" + strings.Replace(test.rest, "^", gone, 1)
				first := line("/put?key=a&value=b", "", set)
				second := line("/enter?way=RenewToken&user=alice", test.cookie+"="+first, set)
				line("/enter?way=Login&user=alice", test.cookie+"="+second, set)
				last := line("/enter?way=RenewToken&user=alice", "", set)
				a := site.visitWith("/logout", test.cookie+"="+last)
				if got := a.Header.Values("Set-Cookie"); !slices.Equal(got, []string{unset}) {
					t.Errorf("logout: got %q; want %q", got, unset)
				}
			})
		})
	}
}

// The longest cookie there is stays far below what browsers keep (RFC 6265bis section
// 5.6).
func TestASVS3_3_5_cookieSize(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t), session.WithName(strings.Repeat("n", 64)))
	site := newSessionSite(t, m, enterPage(m))
	c := site.visit("/enter?way=Login&user="+strings.Repeat("u", 5000), "").Cookies()[0]
	if got := len(c.Name) + len(c.Value); got > 256 {
		t.Errorf("name and value: got %d bytes; want 256 at most, whatever the user's name", got)
	}
}

// A cookie outlives the browser only for those who asked to be remembered (NIST SP
// 800-63B: session secrets shall not persist), and for 400 days at most (RFC 6265bis
// section 5.5). Red without min in Manager.cookieOf, and with Persist.
func TestOWASP_cookieLifetime(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	tests := []struct {
		name    string
		options []session.Option
		page    func(m *session.Manager, r *http.Request)
		want    time.Duration // 0: a session cookie
	}{
		{"not asked", nil, func(m *session.Manager, r *http.Request) {}, 0},
		{"not asked, with WithRememberMe", []session.Option{session.WithRememberMe(30*day, 90*day)}, func(*session.Manager, *http.Request) {}, 0},
		{"asked", nil, func(m *session.Manager, r *http.Request) { m.RememberMe(r.Context(), true) }, day},
		{
			"asked, with WithRememberMe", []session.Option{session.WithRememberMe(30*day, 90*day)},
			func(m *session.Manager, r *http.Request) { m.RememberMe(r.Context(), true) }, 90 * day,
		},
		{
			"asked and taken back", []session.Option{session.WithRememberMe(30*day, 90*day)},
			func(m *session.Manager, r *http.Request) {
				m.RememberMe(r.Context(), true)
				m.RememberMe(r.Context(), false)
			}, 0,
		},
		{
			"the longest there is", []session.Option{session.WithRememberMe(366*day, 366*day)},
			func(m *session.Manager, r *http.Request) { m.RememberMe(r.Context(), true) }, 366 * day,
		},
		{
			"longer than browsers allow", nil,
			func(m *session.Manager, r *http.Request) {
				m.RememberMe(r.Context(), true)
				m.SetDeadline(r.Context(), time.Now().Add(1000*day))
			}, 400 * day,
		},
		{
			"a deadline is not a wish to be remembered", nil,
			func(m *session.Manager, r *http.Request) { m.SetDeadline(r.Context(), time.Now().Add(1000*day)) }, 0,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			m := newSessions(t, testkit.Mini(t).Client(t), test.options...)
			site := newSessionSite(t, m, handle("/page", func(w http.ResponseWriter, r *http.Request) {
				m.Put(r.Context(), "user", "alice")
				test.page(m, r)
			}))
			c := site.visit("/page", "").Cookies()[0]
			if test.want == 0 {
				if c.MaxAge != 0 || !c.Expires.IsZero() {
					t.Errorf("got %v; want no Max-Age and no Expires", c)
				}
				return
			}
			if want := int(test.want / time.Second); c.MaxAge > want || c.MaxAge < want-60 {
				t.Errorf("Max-Age: got %d; want %d", c.MaxAge, want)
			}
			if left := time.Until(c.Expires); left > test.want+time.Second || left < test.want-time.Minute {
				t.Errorf("Expires: got %v from now; want %v", left, test.want)
			}
		})
	}
}

// Who is remembered later, or no longer, has the cookie changed; who stays as they
// are does not get it again.
func TestOWASP_cookieLifetime_changes(t *testing.T) {
	t.Parallel()
	m := newSessions(t, testkit.Mini(t).Client(t), session.WithRememberMe(720*time.Hour, 2160*time.Hour))
	site := newSessionSite(t, m, handle("/remember", func(w http.ResponseWriter, r *http.Request) {
		m.RememberMe(r.Context(), r.FormValue("on") != "")
	}))
	token := site.login("alice")
	steps := []struct {
		path string
		want string // of the cookie: none, session, persistent
	}{
		{"/remember?on=1", "persistent"},
		{"/remember?on=1", "none"},
		{"/put?key=a&value=b", "none"},
		{"/read", "none"},
		{"/remember", "session"},
		{"/remember", "none"},
		{"/remember?on=1", "persistent"},
	}
	for i, step := range steps {
		a := site.visit(step.path, token)
		got := "none"
		if c := a.Cookies(); len(c) == 1 {
			got = map[bool]string{false: "session", true: "persistent"}[c[0].MaxAge > 0]
			if c[0].Value != token {
				t.Errorf("step %d: got another token", i)
			}
		}
		if got != step.want {
			t.Errorf("step %d, %s: got %s; want %s", i, step.path, got, step.want)
		}
	}
}
