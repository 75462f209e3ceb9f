package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestDirectives_section9213_2(t *testing.T) {
	t.Parallel()
	own := rfc9111.Policy{Targets: []string{"Weir-Cache-Control", "Cdn-Cache-Control"}}
	none := rfc9111.Policy{Targets: []string{}}
	const minute = time.Minute
	tests := []struct {
		name   string
		policy rfc9111.Policy
		resp   http.Header
		want   rfc9111.Verdict
		life   time.Duration
	}{
		{"max-age alone", rfc, h("CDN-Cache-Control", "max-age=60"), rfc9111.Store, minute},
		{"greater than 2^31", rfc, h("CDN-Cache-Control", "max-age=99999999999"), rfc9111.Store, rfc9111.MaxDelta},
		{"against a shorter Cache-Control", rfc, h("CDN-Cache-Control", "max-age=60", "Cache-Control", "max-age=1"), rfc9111.Store, minute},
		{"against a longer one", rfc, h("CDN-Cache-Control", "max-age=60", "Cache-Control", "s-maxage=3600"), rfc9111.Store, minute},
		{"against no-store", rfc, h("CDN-Cache-Control", "max-age=60", "Cache-Control", "no-store"), rfc9111.Store, minute},
		{"against a past Expires", rfc, h("CDN-Cache-Control", "max-age=60", "Expires", "0"), rfc9111.Store, minute},
		{"an extension", rfc, h("CDN-Cache-Control", "foobar, max-age=60"), rfc9111.Store, minute},
		{"parameters are ignored", rfc, h("CDN-Cache-Control", "max-age=60;x=1"), rfc9111.Store, minute},
		{"two lines are one dictionary", rfc, h("CDN-Cache-Control", "public", "CDN-Cache-Control", "max-age=60"), rfc9111.Store, minute},
		{"the last of two counts, RFC 9651 4.2.2", rfc, h("CDN-Cache-Control", "max-age=1, max-age=60"), rfc9111.Store, minute},

		{"max-age=0 against a future Expires", rfc, h("CDN-Cache-Control", "max-age=0", "Expires", date(noon.Add(time.Hour))), rfc9111.Stale, 0},
		{"no-store against max-age", rfc, h("CDN-Cache-Control", "no-store", "Cache-Control", "max-age=60"), rfc9111.ResponseNoStore, 0},
		{"no-cache against max-age", rfc, h("CDN-Cache-Control", "no-cache", "Cache-Control", "max-age=60"), rfc9111.ResponseNoCache, 0},
		{"private against max-age", rfc, h("CDN-Cache-Control", "private", "Cache-Control", "max-age=60"), rfc9111.ResponsePrivate, 0},
		{"private for a field", rfc, h("CDN-Cache-Control", `private="x-a", max-age=60`), rfc9111.Store, minute},
		{"a directive said not to apply", rfc, h("CDN-Cache-Control", "no-store=?0, max-age=60"), rfc9111.Store, minute},
		{"its Age counts", rfc, h("CDN-Cache-Control", "max-age=60", "Age", "60"), rfc9111.Stale, 0},
		{"no Expires without a lifetime", rfc, h("CDN-Cache-Control", "public", "Expires", date(noon.Add(time.Hour))), rfc9111.NoFreshness, 0},

		{"a parsing error: ignored", rfc, h("CDN-Cache-Control", "max-age=60, &&&", "Cache-Control", "no-store"), rfc9111.ResponseNoStore, 0},
		{"capitals are one", rfc, h("CDN-Cache-Control", "MaX-aGe=60", "Cache-Control", "max-age=1"), rfc9111.Store, time.Second},
		{"a space before =", rfc, h("CDN-Cache-Control", "max-age =60", "Cache-Control", "max-age=1"), rfc9111.Store, time.Second},
		{"empty: ignored", rfc, h("CDN-Cache-Control", "", "Cache-Control", "max-age=60"), rfc9111.Store, minute},
		{"of the wrong type: not usable", rfc, h("CDN-Cache-Control", `max-age="60"`, "Cache-Control", "max-age=60"), rfc9111.Stale, 0},
		{"negative: not usable", rfc, h("CDN-Cache-Control", "max-age=-60"), rfc9111.Stale, 0},
		{"no-store of the wrong type: forbids", rfc, h("CDN-Cache-Control", "no-store=1, max-age=60"), rfc9111.ResponseNoStore, 0},
		{"an inner list: forbids", rfc, h("CDN-Cache-Control", "private=(a b), max-age=60"), rfc9111.ResponsePrivate, 0},

		{"one's own before it", own, h("CDN-Cache-Control", "no-store", "Weir-Cache-Control", "max-age=60"), rfc9111.Store, minute},
		{"the next where one's own is unusable", own, h("CDN-Cache-Control", "max-age=60", "Weir-Cache-Control", "&"), rfc9111.Store, minute},
		{"another's", rfc, h("Weir-Cache-Control", "max-age=60"), rfc9111.NoFreshness, 0},
		{"no targets", none, h("CDN-Cache-Control", "no-store", "Cache-Control", "max-age=60"), rfc9111.Store, minute},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stored, got := tt.policy.Storable(rfc9111.NewRequest("GET", nil), rfc9111.Response{Status: 200, Header: tt.resp, RequestTime: noon, ResponseTime: noon})
			if got != tt.want || stored.Lifetime != tt.life {
				t.Errorf("%v: got %v, %v; want %v, %v", tt.resp, got, stored.Lifetime, tt.want, tt.life)
			}
		})
	}
}

// What a targeted field says with a mistake in it is consent to nothing.
func TestDirectives_section9213_malformed(t *testing.T) {
	t.Parallel()
	d := rfc.Directives(h("CDN-Cache-Control", "public=1, must-understand, immutable, stale-if-error=60, max-age=60"))
	if !d.Targeted || !d.Malformed || d.Public || d.MustUnderstand || d.Immutable || d.StaleIfError.Valid || !d.MaxAge.Valid {
		t.Errorf("got %+v; want max-age alone", d)
	}
	d = rfc.Directives(h("CDN-Cache-Control", "public, must-understand, immutable, must-revalidate, proxy-revalidate, s-maxage=1, stale-while-revalidate=2, stale-if-error=3"))
	want := rfc9111.ResponseDirectives{
		SMaxage:              rfc9111.Seconds{Value: time.Second, Present: true, Valid: true},
		StaleWhileRevalidate: rfc9111.Seconds{Value: 2 * time.Second, Present: true, Valid: true},
		StaleIfError:         rfc9111.Seconds{Value: 3 * time.Second, Present: true, Valid: true},
		Public:               true, MustUnderstand: true, Immutable: true, MustRevalidate: true, ProxyRevalidate: true, Targeted: true,
	}
	d.NoCache, d.Private = rfc9111.Scope{}, rfc9111.Scope{}
	if d.MaxAge != want.MaxAge || d.SMaxage != want.SMaxage || d.StaleWhileRevalidate != want.StaleWhileRevalidate || d.StaleIfError != want.StaleIfError ||
		d.Public != want.Public || d.MustUnderstand != want.MustUnderstand || d.Immutable != want.Immutable || d.MustRevalidate != want.MustRevalidate || d.ProxyRevalidate != want.ProxyRevalidate {
		t.Errorf("got %+v; want %+v", d, want)
	}
}
