package rfc9111_test

import (
	"net/http"
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
		{"206", safe, nil, 206, h("Cache-Control", "max-age=60"), rfc9111.StatusUnsupported},
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
		{"private with fields", rfc, nil, 200, h("Cache-Control", `private="x-a", max-age=60`), rfc9111.ResponsePrivate},
		{"private and s-maxage", rfc, nil, 200, h("Cache-Control", "private; s-maxage=60"), rfc9111.ResponsePrivate},
		{"no-cache, 5.2.2.4", rfc, nil, 200, h("Cache-Control", "no-cache, max-age=60"), rfc9111.ResponseNoCache},
		{"no-cache with fields", rfc, nil, 200, h("Cache-Control", `no-cache="x-a", max-age=60`), rfc9111.ResponseNoCache},
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
		{"Authorization, s-maxage", safe, h("Authorization", "x"), 200, h("Cache-Control", "s-maxage=60"), rfc9111.Credentials},
		{"Authorization, must-revalidate", safe, h("Authorization", "x"), 200, h("Cache-Control", "max-age=60, must-revalidate"), rfc9111.Credentials},
		{"Authorization, public", safe, h("Authorization", "x"), 200, h("Cache-Control", "max-age=60, public"), rfc9111.Store},
		{"Cookie", safe, h("Cookie", "a=b"), 200, h("Cache-Control", "max-age=60"), rfc9111.Credentials},
		{"an empty Cookie", safe, h("Cookie", ""), 200, h("Cache-Control", "max-age=60"), rfc9111.Credentials},
		{"Cookie, public", safe, h("Cookie", "a=b"), 200, h("Cache-Control", "max-age=60, public"), rfc9111.Store},
		{"Cookie, default lifetime", rfc9111.Policy{DefaultLifetime: time.Hour}, h("Cookie", "a=b"), 200, h(), rfc9111.Credentials},
	})
}

// Remove the Set-Cookie case in forbidden, and these go red.
func TestStorable_section7_3_setCookie(t *testing.T) {
	t.Parallel()
	resp := h("Cache-Control", "public, s-maxage=60", "Set-Cookie", "sid=1")
	runStore(t, []storeCase{
		{"Safe", safe, nil, 200, resp, rfc9111.SetCookie},
		{"RFC", rfc, nil, 200, resp, rfc9111.SetCookie},
	})
}

func TestStorable_section5_2_2_3_mustUnderstand(t *testing.T) {
	t.Parallel()
	runStore(t, []storeCase{
		{"understood", safe, nil, 200, h("Cache-Control", "must-understand, no-store, max-age=60"), rfc9111.Store},
		{"without no-store", safe, nil, 404, h("Cache-Control", "must-understand, max-age=60"), rfc9111.Store},
		{"not understood", safe, nil, 599, h("Cache-Control", "must-understand, no-store, max-age=60"), rfc9111.NotUnderstood},
		{"not understood, without no-store", safe, nil, 499, h("Cache-Control", "must-understand, max-age=60"), rfc9111.NotUnderstood},
		{"206 is not", safe, nil, 206, h("Cache-Control", "must-understand, no-store, max-age=60"), rfc9111.StatusUnsupported},
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
	want := rfc9111.Stored{Status: 203, ResponseTime: noon, InitialAge: 7 * time.Second, Lifetime: time.Minute, Revalidate: true, Public: true}
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
