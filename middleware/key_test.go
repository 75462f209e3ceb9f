package middleware_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"

	"github.com/go-weir/weir/middleware"
	"github.com/go-weir/weir/ratelimit"
)

func TestKeyByIP(t *testing.T) {
	t.Parallel()
	tests := []struct{ remote, want string }{ // "" for no key
		{"192.0.2.1:4711", "192.0.2.1"},
		{"192.0.2.1", "192.0.2.1"},
		{"[::ffff:192.0.2.1]:4711", "192.0.2.1"},
		{"[::ffff:c000:201]:4711", "192.0.2.1"},
		{"[64:ff9b::192.0.2.1]:4711", "192.0.2.1"},
		{"[64:ff9b::c000:202]:4711", "192.0.2.2"},
		{"[64:ff9b:1::c000:202]:4711", "64:ff9b:1::/64"}, // a network of one's own, not the well-known prefix
		{"[2001:db8:1:2:3:4:5:6]:4711", "2001:db8:1:2::/64"},
		{"[2001:db8:1:2::]:4711", "2001:db8:1:2::/64"},
		{"[2001:db8:1:2:ffff:ffff:ffff:ffff]:4711", "2001:db8:1:2::/64"},
		{"[2001:db8:1:3::]:4711", "2001:db8:1:3::/64"},
		{"2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"},
		{"[fe80::1%eth0]:4711", "fe80::/64"},
		{"[fe80::2%eth1]:4711", "fe80::/64"},
		{"[::ffff:192.0.2.1%eth0]:4711", "192.0.2.1"},
		{"[::1]:4711", "::/64"},
		{"@", ""},
		{"", ""},
		{"/run/app.sock", ""},
		{"localhost:4711", ""},
		{"192.0.2.256:4711", ""},
		{"192.0.2.1:4711:", ""},
		{"192.0.2.01:4711", ""},
		{"[2001:db8::1", ""},
		{"garbage", ""},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.remote
		r.Header.Set("X-Forwarded-For", "198.51.100.7")
		r.Header.Set("X-Real-Ip", "198.51.100.7")
		r.Header.Set("Forwarded", "for=198.51.100.7")
		got, err := middleware.KeyByIP(r)
		if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, middleware.ErrNoKey) {
			t.Errorf("%q: %q, %v; want %q", tt.remote, got, err, tt.want)
		}
	}
}

// IPv6 counts by the prefix that was asked for, IPv4 in whatever form does not.
func TestKeyByIPPrefix(t *testing.T) {
	t.Parallel()
	tests := []struct {
		bits         int
		remote, want string
	}{
		{32, "[2001:db8:ffff::1]:1", "2001:db8::/32"},
		{48, "[2001:db8:1:2:3::1]:1", "2001:db8:1::/48"},
		{56, "[2001:db8:1:2ff:3::1]:1", "2001:db8:1:200::/56"},
		{64, "[2001:db8:1:2:3::1]:1", "2001:db8:1:2::/64"},
		{128, "[2001:db8::1]:1", "2001:db8::1/128"},
		{32, "192.0.2.1:1", "192.0.2.1"},
		{32, "[::ffff:192.0.2.1]:1", "192.0.2.1"},
		{32, "[64:ff9b::192.0.2.1]:1", "192.0.2.1"},
		{56, "@", ""},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.remote
		got, err := middleware.KeyByIPPrefix(tt.bits)(r)
		if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, middleware.ErrNoKey) {
			t.Errorf("%d bits of %q: %q, %v; want %q", tt.bits, tt.remote, got, err, tt.want)
		}
	}
}

// Neighbours in a /64 share a limit, as do the forms of one IPv4 address; others
// do not.
func TestRateLimit_neighbours(t *testing.T) {
	t.Parallel()
	h := middleware.RateLimit(newLimiter(t, &brokenRedis{err: errUnreachable}, ratelimit.PerHour(1)), middleware.KeyByIP)(new(countedHandler))
	for i, tt := range []struct {
		ip   string
		want int
	}{
		{"[2001:db8:0:1::1]", 200}, {"[2001:db8:0:1:ffff::2]", 429}, {"[2001:db8:0:2::1]", 200},
		{"192.0.2.1", 200}, {"[::ffff:192.0.2.1]", 429}, {"[64:ff9b::192.0.2.1]", 429}, {"192.0.2.2", 200},
	} {
		if got := ask(h, tt.ip); got.StatusCode != tt.want {
			t.Errorf("request %d from %s: %d; want %d", i+1, tt.ip, got.StatusCode, tt.want)
		}
	}
}

func TestKeyByUser(t *testing.T) {
	t.Parallel()
	key := middleware.KeyByUser(func(r *http.Request) string { return r.Header.Get("User") })
	r := httptest.NewRequest("GET", "/", nil)
	if got, err := key(r); got != "" || !errors.Is(err, middleware.ErrNoKey) {
		t.Errorf("nobody: %q, %v; want ErrNoKey", got, err)
	}
	r.Header.Set("User", "alice")
	if got, err := key(r); got != "alice" || err != nil {
		t.Errorf("%q, %v; want alice", got, err)
	}
}

// With one of chi's ClientIPFrom… outside, its word counts.
func TestKeyByIP_behindProxies(t *testing.T) {
	t.Parallel()
	fromXFF := chimiddleware.ClientIPFromXFF("10.0.0.0/8", "fd00::/8")
	tests := []struct {
		name, remote string
		forwarded    []string
		mount        middleware.Middleware
		want         string
	}{
		{"not mounted", "10.0.0.1:1", []string{"198.51.100.7"}, middleware.Chain(), "10.0.0.1"},
		{"from the proxy", "10.0.0.1:1", []string{"198.51.100.7"}, fromXFF, "198.51.100.7"},
		{"two proxies", "10.0.0.1:1", []string{"198.51.100.7, 10.0.0.2"}, fromXFF, "198.51.100.7"},
		{"forged on the left", "10.0.0.1:1", []string{"203.0.113.1", "203.0.113.2, 198.51.100.7"}, fromXFF, "198.51.100.7"},
		{"IPv6", "[fd00::1]:1", []string{"2001:db8:1:2:3:4:5:6"}, fromXFF, "2001:db8:1:2::/64"},
		{"mapped", "10.0.0.1:1", []string{"::ffff:198.51.100.7"}, fromXFF, "198.51.100.7"},
		{"translated", "10.0.0.1:1", []string{"64:ff9b::198.51.100.7"}, fromXFF, "198.51.100.7"},
		{"not from the proxy", "203.0.113.9:1", []string{"198.51.100.7"}, fromXFF, "203.0.113.9"},
		{"the proxy names nobody", "10.0.0.1:1", nil, fromXFF, "10.0.0.1"},
		{"the proxy names garbage", "10.0.0.1:1", []string{"unknown"}, fromXFF, "10.0.0.1"},
		{"zoned peer", "[fe80::1%eth0]:1", nil, chimiddleware.ClientIPFromRemoteAddr, "fe80::/64"},
	}
	for _, tt := range tests {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = tt.remote
		r.Header["X-Forwarded-For"] = tt.forwarded
		var got string
		var err error
		tt.mount(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got, err = middleware.KeyByIP(r) })).ServeHTTP(httptest.NewRecorder(), r)
		if got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
}

// A peer that no proxy vouches for cannot make itself many, whatever it writes.
func TestKeyByIP_forged(t *testing.T) {
	t.Parallel()
	for name, mount := range map[string]middleware.Middleware{
		"no proxies":   middleware.Chain(),
		"trusted ones": chimiddleware.ClientIPFromXFF("10.0.0.0/8"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			next := new(countedHandler)
			limiter := newLimiter(t, &brokenRedis{err: errUnreachable}, ratelimit.PerHour(5))
			h := middleware.Chain(mount, middleware.RateLimit(limiter, middleware.KeyByIP))(next)
			random := rand.New(rand.NewPCG(4, 4))
			for range 10_000 {
				r := httptest.NewRequest("GET", "/", nil)
				r.RemoteAddr = "203.0.113.9:4711"
				forged := fmt.Sprintf("%d.%d.%d.%d", random.IntN(256), random.IntN(256), random.IntN(256), random.IntN(256))
				for _, field := range []string{"X-Forwarded-For", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip"} {
					r.Header.Set(field, forged)
				}
				r.Header.Set("Forwarded", "for="+forged)
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
			if got := next.calls.Load(); got != 5 {
				t.Errorf("%d of 10000 admitted; want 5", got)
			}
		})
	}
}

func TestKeyByHeader(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lines []string
		want  string
	}{
		{"one line", []string{"k1"}, "k1"},
		{"a list in one line", []string{"k1, k2"}, "k1, k2"},
		{"case counts", []string{"K1"}, "K1"},
		{"missing", nil, ""},
		{"empty", []string{""}, ""},
		// Whoever has verified the first may not have seen the second.
		{"a good one and another", []string{"k1", "x"}, ""},
		{"the same twice", []string{"k1", "k1"}, ""},
		{"several empty", []string{"", ""}, ""},
	}
	for _, tt := range tests {
		for _, name := range []string{"X-Api-Key", "x-api-key"} {
			r := httptest.NewRequest("GET", "/", nil)
			r.Header["X-Api-Key"] = tt.lines
			got, err := middleware.KeyByHeader(name)(r)
			if got != tt.want || (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, middleware.ErrNoKey) {
				t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "k1") {
				t.Errorf("%s: the error tells the key: %v", tt.name, err)
			}
		}
	}
}

// keyInside returns a handler that notes its request's key by route.
func keyInside(got *[]string) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		key, err := middleware.KeyByRoute(r)
		if err != nil {
			key = err.Error()
		}
		*got = append(*got, key)
	}
}

func TestKeyByRoute(t *testing.T) {
	t.Parallel()
	var got []string
	h := keyInside(&got)
	mux := http.NewServeMux()
	mux.Handle("GET /users/{id}", h)
	mux.Handle("/files/", h)
	router := chi.NewRouter()
	router.Get("/users/{id}", h)
	router.Route("/shop", func(r chi.Router) { r.With(middleware.Chain()).Post("/carts/{id}/items", h) })
	nested := http.NewServeMux()
	nested.Handle("/inner/{id}", h)
	router.Mount("/outer", http.StripPrefix("/outer", nested))
	tests := []struct {
		router       http.Handler
		method, path string
		want         string
	}{
		{mux, "GET", "/users/1", "GET /users/{id}"},
		{mux, "HEAD", "/users/2", "GET /users/{id}"},
		{mux, "GET", "/files/a/b", "/files/"},
		{router, "GET", "/users/1", "/users/{id}"},
		{router, "POST", "/shop/carts/7/items", "/shop/carts/{id}/items"},
		{router, "GET", "/outer/inner/1", "/inner/{id}"},
	}
	for _, tt := range tests {
		got = nil
		tt.router.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(tt.method, tt.path, nil))
		if len(got) != 1 || got[0] != tt.want {
			t.Errorf("%s %s: %q; want %q", tt.method, tt.path, got, tt.want)
		}
	}

	// Around a router no route is known yet.
	r := httptest.NewRequest("GET", "/users/1", nil)
	if key, err := middleware.KeyByRoute(r); key != "" || !errors.Is(err, middleware.ErrNoKey) {
		t.Errorf("without a route: %q, %v; want ErrNoKey", key, err)
	}
}

// fixedKey is a KeyFunc that returns key.
func fixedKey(key string) middleware.KeyFunc {
	return func(*http.Request) (string, error) { return key, nil }
}

func TestJoinKeys(t *testing.T) {
	t.Parallel()
	lists := [][]string{
		{"a", "b"}, {"ab", "c"}, {"a", "bc"}, {"abc"}, {"a:b", "c"}, {"a", "b:c"}, {"b", "a"}, {"a", "b", "c"},
		{"\x01a", "b"}, {"\x01a\x01b"}, {strings.Repeat("x", 200), "y"}, {"x", strings.Repeat("x", 199) + "y"},
	}
	seen := make(map[string][]string)
	for _, list := range lists {
		var keys []middleware.KeyFunc
		for _, key := range list {
			keys = append(keys, fixedKey(key))
		}
		joined, err := middleware.JoinKeys(keys...)(nil)
		if other, ok := seen[joined]; ok || err != nil || joined == "" {
			t.Errorf("%q: %q, %v; like %q", list, joined, err, other)
		}
		seen[joined] = list
	}

	broken := errors.New("broken")
	for name, tt := range map[string]struct {
		keys []middleware.KeyFunc
		want error
	}{
		"a missing one": {[]middleware.KeyFunc{fixedKey("a"), middleware.KeyByHeader("X-Api-Key")}, middleware.ErrNoKey},
		"an empty one":  {[]middleware.KeyFunc{fixedKey("a"), fixedKey("")}, middleware.ErrNoKey},
		"a broken one":  {[]middleware.KeyFunc{fixedKey("a"), func(*http.Request) (string, error) { return "x", broken }}, broken},
	} {
		if got, err := middleware.JoinKeys(tt.keys...)(httptest.NewRequest("GET", "/", nil)); got != "" || !errors.Is(err, tt.want) {
			t.Errorf("%s: %q, %v; want %v", name, got, err, tt.want)
		}
	}
}

// Different lists never have one key.
//
// Red when join writes no lengths.
func FuzzJoinKeys(f *testing.F) {
	f.Add("a", "b", "ab", "c")
	f.Add("a", "bc", "ab", "c")
	f.Add("\x01a", "x", "", "\x01ax")
	f.Add("a\x01b", "c", "a", "b\x01c")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		if a == "" || b == "" || c == "" || d == "" {
			return
		}
		one, err1 := middleware.JoinKeys(fixedKey(a), fixedKey(b))(nil)
		two, err2 := middleware.JoinKeys(fixedKey(c), fixedKey(d))(nil)
		three, err3 := middleware.JoinKeys(fixedKey(a), fixedKey(b), fixedKey(c))(nil)
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		if same := a == c && b == d; (one == two) != same {
			t.Errorf("%q, %q and %q, %q: %q and %q", a, b, c, d, one, two)
		}
		if one == three || two == three {
			t.Errorf("a list of two has the key of one of three: %q", three)
		}
	})
}

// Whatever a peer is called, its key is an address, or it has none.
func FuzzKeyByIP(f *testing.F) {
	for _, seed := range []string{"192.0.2.1:1", "[2001:db8::1%z]:1", "@", "", "[::ffff:1.2.3.4]:1", "[64:ff9b::1.2.3.4]:1", "1.2.3.4:1:2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, remote string) {
		r := &http.Request{RemoteAddr: remote}
		key, err := middleware.KeyByIP(r)
		if (key == "") != (err != nil) || err != nil && !errors.Is(err, middleware.ErrNoKey) || len(key) > len("ffff:ffff:ffff:ffff::/64") || strings.Contains(key, "%") {
			t.Errorf("%q: %q, %v", remote, key, err)
		}
	})
}

func TestKeyByHeader_withoutAName(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic: every request would be without a key")
		}
	}()
	middleware.KeyByHeader("")
}
