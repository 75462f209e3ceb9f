package rfc9111_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

// h makes a header of "Field: value" pairs.
func h(pairs ...string) http.Header {
	out := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		out.Add(pairs[i], pairs[i+1])
	}
	return out
}

var (
	safe = rfc9111.Policy{}
	rfc  = rfc9111.Policy{Profile: rfc9111.RFC}
)

type storeCase struct {
	name   string
	policy rfc9111.Policy
	req    http.Header
	status int
	resp   http.Header
	want   rfc9111.Verdict
}

func runStore(t *testing.T, tests []storeCase) {
	t.Helper()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			resp := rfc9111.Response{Status: tt.status, Header: tt.resp, RequestTime: noon, ResponseTime: noon}
			stored, got := tt.policy.Storable(rfc9111.NewRequest("GET", tt.req), resp)
			if got != tt.want {
				t.Errorf("Storable(%v, %d %v): got %v; want %v", tt.req, tt.status, tt.resp, got, tt.want)
			}
			if !got.OK() && stored != (rfc9111.Stored{}) {
				t.Errorf("Storable gave %+v along with the refusal %v", stored, got)
			}
		})
	}
}

func TestStorable_section3(t *testing.T) {
	t.Parallel()
	runStore(t, []storeCase{
		{"max-age", safe, nil, 200, h("Cache-Control", "max-age=60"), rfc9111.Store},
		{"s-maxage", safe, nil, 200, h("Cache-Control", "s-maxage=60"), rfc9111.Store},
		{"Expires", safe, nil, 200, h("Expires", date(noon.Add(time.Minute))), rfc9111.Store},
		{"heuristic", safe, nil, 200, h("Last-Modified", date(noon.Add(-time.Hour))), rfc9111.Store},
		{"default lifetime", rfc9111.Policy{DefaultLifetime: 1}, nil, 200, h(), rfc9111.Store},
		{"any status with explicit freshness", safe, nil, 499, h("Cache-Control", "max-age=60"), rfc9111.Store},
		{"5xx too", safe, nil, 503, h("Cache-Control", "max-age=60"), rfc9111.Store},
		{"no freshness", safe, nil, 200, h(), rfc9111.NoFreshness},
		{"public alone", safe, nil, 200, h("Cache-Control", "public"), rfc9111.NoFreshness},
		{"status not heuristic", safe, nil, 500, h("Last-Modified", date(noon.Add(-time.Hour))), rfc9111.NoFreshness},
		{"max-age=0", safe, nil, 200, h("Cache-Control", "max-age=0"), rfc9111.Stale},
		{"unreadable max-age", safe, nil, 200, h("Cache-Control", "max-age='60'"), rfc9111.Stale},
		{"older than it may be", safe, nil, 200, h("Cache-Control", "max-age=60", "Age", "60"), rfc9111.Stale},
		{"not yet", safe, nil, 200, h("Cache-Control", "max-age=60", "Age", "59"), rfc9111.Store},

		{"interim", safe, nil, 103, h("Cache-Control", "max-age=60"), rfc9111.StatusNotFinal},
		{"no status", safe, nil, 600, h("Cache-Control", "max-age=60"), rfc9111.StatusNotFinal},
		{"206, 3.3", safe, nil, 206, h("Cache-Control", "max-age=60", "Content-Range", "bytes 0-4/10"), rfc9111.Store},
		{"206 of several parts", safe, nil, 206, h("Cache-Control", "max-age=60", "Content-Type", "multipart/byteranges"), rfc9111.PartUnusable},
		{"206 of another unit", safe, nil, 206, h("Cache-Control", "max-age=60", "Content-Range", "lines 0-4/10"), rfc9111.PartUnusable},
		{"304", safe, nil, 304, h("Cache-Control", "max-age=60"), rfc9111.StatusUnsupported},
		{"428, RFC 6585 3", rfc, nil, 428, h("Cache-Control", "public, max-age=60"), rfc9111.StatusNeverStored},
		{"429, RFC 6585 4", rfc, nil, 429, h("Cache-Control", "public, max-age=60"), rfc9111.StatusNeverStored},
		{"431, RFC 6585 5", rfc, nil, 431, h("Cache-Control", "public, max-age=60"), rfc9111.StatusNeverStored},
		{"511, RFC 6585 6", rfc, nil, 511, h("Cache-Control", "public, max-age=60"), rfc9111.StatusNeverStored},

		{"no-store in the request, 5.2.1.5", rfc, h("Cache-Control", "no-store"), 200, h("Cache-Control", "max-age=60"), rfc9111.RequestNoStore},
		{"no-store, 5.2.2.5", rfc, nil, 200, h("Cache-Control", "max-age=60, no-store"), rfc9111.ResponseNoStore},
		{"no-store and public", rfc, nil, 200, h("Cache-Control", "public, max-age=60, No-StOrE"), rfc9111.ResponseNoStore},
		{"private, 5.2.2.7", rfc, nil, 200, h("Cache-Control", "private, max-age=60"), rfc9111.ResponsePrivate},
		{"private and public", rfc, nil, 200, h("Cache-Control", "public, private, max-age=60"), rfc9111.ResponsePrivate},
		{"private with fields, 5.2.2.7", rfc, nil, 200, h("Cache-Control", `private="x-a", max-age=60`), rfc9111.Store},
		{"private with fields and without", rfc, nil, 200, h("Cache-Control", `private="x-a", private, max-age=60`), rfc9111.ResponsePrivate},
		{"private and s-maxage", rfc, nil, 200, h("Cache-Control", "private; s-maxage=60"), rfc9111.ResponsePrivate},
		{"no-cache, 5.2.2.4", rfc, nil, 200, h("Cache-Control", "no-cache, max-age=60"), rfc9111.ResponseNoCache},
		{"no-cache with fields, 5.2.2.4", rfc, nil, 200, h("Cache-Control", `no-cache="x-a", max-age=60`), rfc9111.Store},
		{"no-cache with an ETag", rfc, nil, 200, h("Cache-Control", "no-cache", "Etag", `"a"`), rfc9111.Store},
		{"no-cache with a Last-Modified", rfc, nil, 200, h("Cache-Control", "no-cache", "Last-Modified", date(noon)), rfc9111.Store},
		{"no-cache with no entity tag", rfc, nil, 200, h("Cache-Control", "no-cache", "Etag", "a"), rfc9111.ResponseNoCache},
		{"stale with a validator, 4.3", rfc, nil, 200, h("Cache-Control", "max-age=0", "Etag", `"a"`), rfc9111.Store},
		{"stale, to be served so, RFC 5861 3", rfc, nil, 200, h("Cache-Control", "max-age=0, stale-while-revalidate=5"), rfc9111.Store},
		{"stale, but for errors, RFC 5861 4", rfc, nil, 200, h("Cache-Control", "max-age=0, stale-if-error=5"), rfc9111.Store},
		{"too stale for that", rfc, nil, 200, h("Cache-Control", "max-age=0, stale-if-error=5", "Age", "5"), rfc9111.Stale},
		{"stale, and never to be served so", rfc, nil, 200, h("Cache-Control", "max-age=0, stale-if-error=5, must-revalidate"), rfc9111.Stale},
		{"an ETag says nothing of freshness", rfc, nil, 200, h("Etag", `"a"`), rfc9111.NoFreshness},
		{"Vary: *, 4.1", rfc, nil, 200, h("Cache-Control", "max-age=60", "Vary", "", "Vary", "a, *"), rfc9111.VaryAny},
		{"Vary", rfc, nil, 200, h("Cache-Control", "max-age=60", "Vary", "Accept"), rfc9111.Store},
		{"Pragma in the response, 5.4", safe, nil, 200, h("Cache-Control", "max-age=60", "Pragma", "no-cache"), rfc9111.Store},
	})
}

func TestStorable_section3_methods(t *testing.T) {
	t.Parallel()
	resp := rfc9111.Response{Status: 200, Header: h("Cache-Control", "public, max-age=60"), RequestTime: noon, ResponseTime: noon}
	for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS", "QUERY", "M-SEARCH", "get", ""} {
		if _, got := rfc.Storable(rfc9111.NewRequest(method, nil), resp); got != rfc9111.MethodNotCached {
			t.Errorf("answer to %q: got %v; want %v", method, got, rfc9111.MethodNotCached)
		}
	}
}

// Remove the call of authenticated in forbidden, and these go red.
func TestStorable_section3_5_authorization(t *testing.T) {
	t.Parallel()
	auth := h("Authorization", "Bearer x")
	runStore(t, []storeCase{
		{"nothing said", rfc, auth, 200, h("Cache-Control", "max-age=60"), rfc9111.Authorization},
		{"only Expires", rfc, auth, 200, h("Expires", date(noon.Add(time.Hour))), rfc9111.Authorization},
		{"an empty field", rfc, h("Authorization", ""), 200, h("Cache-Control", "max-age=60"), rfc9111.Authorization},
		{"public", rfc, auth, 200, h("Cache-Control", "max-age=60, public"), rfc9111.Store},
		{"must-revalidate", rfc, auth, 200, h("Cache-Control", "max-age=60, must-revalidate"), rfc9111.Store},
		{"s-maxage", rfc, auth, 200, h("Cache-Control", "s-maxage=60"), rfc9111.Store},
		{"proxy-revalidate is not among them", rfc, auth, 200, h("Cache-Control", "max-age=60, proxy-revalidate"), rfc9111.Authorization},
		{"s-maxage unreadable", rfc, auth, 200, h("Cache-Control", "s-maxage=x"), rfc9111.Authorization},
		{"public with an argument", rfc, auth, 200, h("Cache-Control", "max-age=60, public=x"), rfc9111.Authorization},
		{"must-revalidate malformed", rfc, auth, 200, h("Cache-Control", "max-age=60, must-revalidate;"), rfc9111.Authorization},
		{"a cookie is not asked about", rfc, h("Cookie", "a=b"), 200, h("Cache-Control", "max-age=60"), rfc9111.Store},
	})
}

// Remove the Profile's branch in authenticated, and these go red.
func TestStorable_safeProfile(t *testing.T) {
	t.Parallel()
	runStore(t, []storeCase{
		{"Authorization", safe, h("Authorization", "x"), 200, h("Cache-Control", "max-age=60"), rfc9111.Credentials},
		{"Authorization, s-maxage", safe, h("Authorization", "x"), 200, h("Cache-Control", "s-maxage=60"), rfc9111.Store},
		{"Authorization and Cookie, s-maxage", safe, h("Authorization", "x", "Cookie", "a=b"), 200, h("Cache-Control", "s-maxage=60"), rfc9111.Credentials},
		{"Authorization, must-revalidate", safe, h("Authorization", "x"), 200, h("Cache-Control", "max-age=60, must-revalidate"), rfc9111.Credentials},
		{"Authorization, public", safe, h("Authorization", "x"), 200, h("Cache-Control", "max-age=60, public"), rfc9111.Store},
		{"Cookie", safe, h("Cookie", "a=b"), 200, h("Cache-Control", "max-age=60"), rfc9111.Credentials},
		{"an empty Cookie", safe, h("Cookie", ""), 200, h("Cache-Control", "max-age=60"), rfc9111.Credentials},
		{"Cookie, public", safe, h("Cookie", "a=b"), 200, h("Cache-Control", "max-age=60, public"), rfc9111.Store},
		{"Cookie, s-maxage", safe, h("Cookie", "a=b"), 200, h("Cache-Control", "s-maxage=60"), rfc9111.Credentials},
		{"Cookie, the rule lifted", rfc9111.Policy{Credentials: true}, h("Cookie", "a=b"), 200, h("Cache-Control", "max-age=60"), rfc9111.Store},
		{"Authorization, the rule lifted", rfc9111.Policy{Credentials: true}, h("Authorization", "x"), 200, h("Cache-Control", "max-age=60"), rfc9111.Authorization},
		{"Cookie, default lifetime", rfc9111.Policy{DefaultLifetime: time.Hour}, h("Cookie", "a=b"), 200, h(), rfc9111.Credentials},
	})
}

// Remove the Set-Cookie case in forbidden, and these go red.
func TestStorable_section7_3_setCookie(t *testing.T) {
	t.Parallel()
	resp := h("Cache-Control", "public, s-maxage=60", "Set-Cookie", "sid=1")
	runStore(t, []storeCase{
		{"Safe", safe, nil, 200, resp, rfc9111.SetCookie},
		{"RFC", rfc, nil, 200, resp, rfc9111.Store},
		{"the rule lifted", rfc9111.Policy{SetCookie: true}, nil, 200, resp, rfc9111.Store},
	})
}

func TestStorable_section5_2_2_3_mustUnderstand(t *testing.T) {
	t.Parallel()
	runStore(t, []storeCase{
		{"understood", safe, nil, 200, h("Cache-Control", "must-understand, no-store, max-age=60"), rfc9111.Store},
		{"without no-store", safe, nil, 404, h("Cache-Control", "must-understand, max-age=60"), rfc9111.Store},
		{"not understood", safe, nil, 599, h("Cache-Control", "must-understand, no-store, max-age=60"), rfc9111.NotUnderstood},
		{"not understood, without no-store", safe, nil, 499, h("Cache-Control", "must-understand, max-age=60"), rfc9111.NotUnderstood},
		{"206 is", safe, nil, 206, h("Cache-Control", "must-understand, no-store, max-age=60", "Content-Range", "bytes 0-4/10"), rfc9111.Store},
		{"no-store in the request stands", safe, h("Cache-Control", "no-store"), 200, h("Cache-Control", "must-understand, no-store, max-age=60"), rfc9111.RequestNoStore},
		{"malformed lifts nothing", safe, nil, 200, h("Cache-Control", "must-understand=1, no-store, max-age=60"), rfc9111.ResponseNoStore},
	})
}

func TestStorable_keeps(t *testing.T) {
	t.Parallel()
	resp := rfc9111.Response{
		Status:       203,
		Header:       h("Cache-Control", "public, s-maxage=60", "Age", "5"),
		RequestTime:  noon.Add(-2 * time.Second),
		ResponseTime: noon,
	}
	want := rfc9111.Stored{Status: 203, ResponseTime: noon, InitialAge: 7 * time.Second, Lifetime: time.Minute, Revalidate: true, Public: true, Declared: true}
	if got, v := safe.Storable(rfc9111.NewRequest("GET", nil), resp); v != rfc9111.Store || got != want {
		t.Errorf("got %+v, %v; want %+v, store", got, v, want)
	}
	for cc, want := range map[string]bool{
		"max-age=60":                   false,
		"max-age=60, must-revalidate":  true,
		"max-age=60, proxy-revalidate": true,
		"s-maxage=60":                  true,
	} {
		resp.Header = h("Cache-Control", cc)
		if got, _ := safe.Storable(rfc9111.NewRequest("GET", nil), resp); got.Revalidate != want {
			t.Errorf("%s: Revalidate: got %v; want %v", cc, got.Revalidate, want)
		}
	}
}

// Remove the Unkeyed case in forbidden, and these go red.
func TestStorable_unkeyedFields(t *testing.T) {
	t.Parallel()
	fresh := h("Cache-Control", "public, max-age=60")
	runStore(t, []storeCase{
		{"X-Forwarded-Host", safe, h("X-Forwarded-Host", "evil"), 200, fresh, rfc9111.Unkeyed},
		{"Forwarded", safe, h("Forwarded", "host=evil"), 200, fresh, rfc9111.Unkeyed},
		{"X-HTTP-Method-Override", safe, h("X-HTTP-Method-Override", "DELETE"), 200, fresh, rfc9111.Unkeyed},
		{"X-Original-URL", safe, h("X-Original-URL", "/admin"), 200, fresh, rfc9111.Unkeyed},
		{"an empty one", safe, h("X-Forwarded-Host", ""), 200, fresh, rfc9111.Unkeyed},
		{"named by Vary", safe, h("X-Forwarded-Host", "a"), 200, h("Cache-Control", "max-age=60", "Vary", "Accept, X-Forwarded-Host"), rfc9111.Store},
		{"X-Forwarded-Proto of a load balancer", safe, h("X-Forwarded-Proto", "https"), 200, fresh, rfc9111.Store},
		{"X-Forwarded-Proto of nobody", safe, h("X-Forwarded-Proto", "javascript"), 200, fresh, rfc9111.Unkeyed},
		{"X-Forwarded-Port of a load balancer", safe, h("X-Forwarded-Port", "443"), 200, fresh, rfc9111.Store},
		{"X-Forwarded-Port of nobody", safe, h("X-Forwarded-Port", "1"), 200, fresh, rfc9111.Unkeyed},
		{"X-Forwarded-For", safe, h("X-Forwarded-For", "192.0.2.1"), 200, fresh, rfc9111.Store},
		{"the rule lifted", rfc9111.Policy{Forwarded: true}, h("X-Forwarded-Host", "a"), 200, fresh, rfc9111.Store},
		{"RFC", rfc, h("X-Forwarded-Host", "a"), 200, fresh, rfc9111.Store},
	})
}

func TestStorable_section9110_9_3_3_post(t *testing.T) {
	t.Parallel()
	asked, _ := url.Parse("http://shop.example/items?q=1")
	fresh := []string{"Cache-Control", "max-age=60", "Content-Location", "/items?q=1"}
	tests := []struct {
		name   string
		url    *url.URL
		status int
		resp   http.Header
		want   rfc9111.Verdict
	}{
		{"its own URL", asked, 200, h(fresh...), rfc9111.Store},
		{"absolute", asked, 200, h("Cache-Control", "max-age=60", "Content-Location", "HTTP://Shop.Example:80/items?q=1"), rfc9111.Store},
		{"another path", asked, 200, h("Cache-Control", "max-age=60", "Content-Location", "/items/1"), rfc9111.MethodNotCached},
		{"another host", asked, 200, h("Cache-Control", "max-age=60", "Content-Location", "http://other.example/items?q=1"), rfc9111.MethodNotCached},
		{"none", asked, 200, h("Cache-Control", "max-age=60"), rfc9111.MethodNotCached},
		{"two", asked, 200, h(append(fresh, "Content-Location", "/items?q=1")...), rfc9111.MethodNotCached},
		{"no URL", asked, 200, h("Cache-Control", "max-age=60", "Content-Location", "%zz"), rfc9111.MethodNotCached},
		{"a guessed lifetime", asked, 200, h("Last-Modified", date(noon.AddDate(0, 0, -9)), "Content-Location", "/items?q=1"), rfc9111.NoFreshness},
		{"201", asked, 201, h(fresh...), rfc9111.MethodNotCached},
		{"unknown URL", nil, 200, h(fresh...), rfc9111.MethodNotCached},
		{"no-store", asked, 200, h(append(fresh, "Cache-Control", "no-store")...), rfc9111.ResponseNoStore},
	}
	for _, tt := range tests {
		req := rfc9111.NewRequest("POST", nil)
		req.URL = tt.url
		_, got := rfc.Storable(req, rfc9111.Response{Status: tt.status, Header: tt.resp, RequestTime: noon, ResponseTime: noon})
		if got != tt.want {
			t.Errorf("%s: got %v; want %v", tt.name, got, tt.want)
		}
	}
}

func TestPolicy_Keep(t *testing.T) {
	t.Parallel()
	const s = time.Second
	minute := rfc9111.Stored{Lifetime: 60 * s, InitialAge: 10 * s}
	with := func(f func(*rfc9111.Stored)) rfc9111.Stored { st := minute; f(&st); return st }
	short := rfc9111.Policy{KeepStale: 5 * s}
	never := rfc9111.Policy{KeepStale: -1}
	for _, tt := range []struct {
		name   string
		policy rfc9111.Policy
		stored rfc9111.Stored
		want   time.Duration
	}{
		{"by default", safe, minute, 50*s + rfc9111.DefaultKeepStale},
		{"as set", short, minute, 55 * s},
		{"not at all", never, minute, 50 * s},
		{"stale on arrival", short, rfc9111.Stored{InitialAge: 10 * s}, 5 * s},
		{"a longer window", short, with(func(st *rfc9111.Stored) { st.IfError = 20 * s }), 70 * s},
		{"a window all the same", never, with(func(st *rfc9111.Stored) { st.WhileRevalidate = 20 * s }), 70 * s},
		{"never served stale", short, with(func(st *rfc9111.Stored) { st.Revalidate = true }), 50 * s},
		{"but validated", short, with(func(st *rfc9111.Stored) { st.Revalidate, st.Validator = true, true }), 55 * s},
	} {
		if got := tt.policy.Keep(tt.stored); got != tt.want {
			t.Errorf("%s: got %v; want %v", tt.name, got, tt.want)
		}
	}
}
