package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestLifetime_section4_2_1(t *testing.T) {
	t.Parallel()
	const s = time.Second
	in := func(d time.Duration) []string { return []string{date(noon.Add(d))} }
	tests := []struct {
		name   string
		header http.Header
		want   time.Duration
		basis  rfc9111.Basis
	}{
		{"nothing", http.Header{}, 0, rfc9111.BasisNone},
		{"max-age", lines("Cache-Control", "max-age=60"), 60 * s, rfc9111.BasisMaxAge},
		{"s-maxage over a longer max-age", lines("Cache-Control", "max-age=3600, s-maxage=1"), s, rfc9111.BasisSMaxage},
		{"s-maxage over a shorter max-age", lines("Cache-Control", "s-maxage=3600, max-age=1"), 3600 * s, rfc9111.BasisSMaxage},
		{"max-age over a past Expires", http.Header{"Cache-Control": {"max-age=60"}, "Expires": in(-time.Hour), "Date": in(0)}, 60 * s, rfc9111.BasisMaxAge},
		{"max-age over Expires: 0", http.Header{"Cache-Control": {"max-age=60"}, "Expires": {"0"}}, 60 * s, rfc9111.BasisMaxAge},
		{"max-age=0 over a future Expires", http.Header{"Cache-Control": {"max-age=0"}, "Expires": in(time.Hour)}, 0, rfc9111.BasisMaxAge},
		{"unreadable max-age over Expires", http.Header{"Cache-Control": {"max-age=x"}, "Expires": in(time.Hour)}, 0, rfc9111.BasisMaxAge},
		{"unreadable s-maxage over max-age", lines("Cache-Control", "s-maxage=x, max-age=60"), 0, rfc9111.BasisSMaxage},
		{"Expires - Date", http.Header{"Expires": in(70 * s), "Date": in(10 * s)}, 60 * s, rfc9111.BasisExpires},
		{"Expires before Date", http.Header{"Expires": in(300 * s), "Date": in(400 * s)}, 0, rfc9111.BasisExpires},
		{"Expires at Date", http.Header{"Expires": in(0), "Date": in(0)}, 0, rfc9111.BasisExpires},
		{"Expires without Date", http.Header{"Expires": in(60 * s)}, 60 * s, rfc9111.BasisExpires},
		{"Expires with a Date unreadable", http.Header{"Expires": in(60 * s), "Date": {"foo"}}, 60 * s, rfc9111.BasisExpires},
		{"Expires with two Dates", http.Header{"Expires": in(60 * s), "Date": {date(noon.Add(-time.Hour)), date(noon)}}, 60 * s, rfc9111.BasisExpires},
		{"Expires: 0, 5.3", lines("Expires", "0"), 0, rfc9111.BasisExpires},
		{"Expires empty, 5.3", lines("Expires", ""), 0, rfc9111.BasisExpires},
		{"two equal Expires", lines("Expires", date(noon.Add(time.Hour)), date(noon.Add(time.Hour))), 0, rfc9111.BasisExpires},
		{"Expires unreadable, no heuristic instead", http.Header{"Expires": {"-1"}, "Last-Modified": in(-time.Hour)}, 0, rfc9111.BasisExpires},
		{"Expires of RFC 850", lines("Expires", "Thursday, 18-Aug-50 02:01:18 GMT"), time.Date(2050, 8, 18, 2, 1, 18, 0, time.UTC).Sub(noon), rfc9111.BasisExpires},
		{"Expires in 2286, 1.2.2", lines("Expires", "Sun, 21 Nov 2286 04:46:39 GMT"), rfc9111.MaxDelta, rfc9111.BasisExpires},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := rfc9111.ParseResponseDirectives(tt.header)
			got, basis := rfc9111.Policy{}.Lifetime(200, tt.header, d, noon)
			if got != tt.want || basis != tt.basis {
				t.Errorf("Lifetime of %v: got %v by %v; want %v by %v", tt.header, got, basis, tt.want, tt.basis)
			}
		})
	}
}

func TestLifetime_section4_2_2_heuristic(t *testing.T) {
	t.Parallel()
	modified := func(ago time.Duration) http.Header {
		return http.Header{"Date": {date(noon)}, "Last-Modified": {date(noon.Add(-ago))}}
	}
	public := func(h http.Header) http.Header {
		h.Set("Cache-Control", "public")
		return h
	}
	const day = 24 * time.Hour
	// An hour for one status, a second for 404, none for 301, else a minute.
	status := func(status int) rfc9111.Policy {
		return rfc9111.Policy{DefaultLifetime: time.Minute, StatusLifetimes: map[int]time.Duration{status: time.Hour, 404: time.Second, 301: 0}}
	}
	tests := []struct {
		name   string
		policy rfc9111.Policy
		status int
		header http.Header
		want   time.Duration
		basis  rfc9111.Basis
	}{
		{"a tenth", rfc9111.Policy{}, 200, modified(day), day / 10, rfc9111.BasisHeuristic},
		{"at most a day", rfc9111.Policy{}, 200, modified(100 * day), day, rfc9111.BasisHeuristic},
		{"at most the limit", rfc9111.Policy{HeuristicLimit: time.Hour}, 200, modified(day), time.Hour, rfc9111.BasisHeuristic},
		{"switched off", rfc9111.Policy{HeuristicLimit: -1}, 200, modified(day), 0, rfc9111.BasisNone},
		{"no Last-Modified", rfc9111.Policy{}, 200, http.Header{"Date": {date(noon)}}, 0, rfc9111.BasisNone},
		{"Last-Modified unreadable", rfc9111.Policy{}, 200, lines("Last-Modified", "long ago"), 0, rfc9111.BasisNone},
		{"two of them", rfc9111.Policy{}, 200, lines("Last-Modified", date(noon.Add(-day)), date(noon.Add(-day))), 0, rfc9111.BasisNone},
		{"modified now", rfc9111.Policy{}, 200, modified(0), 0, rfc9111.BasisNone},
		{"modified in the future", rfc9111.Policy{}, 200, modified(-day), 0, rfc9111.BasisNone},
		{"status 302", rfc9111.Policy{}, 302, modified(day), 0, rfc9111.BasisNone},
		{"status 599", rfc9111.Policy{}, 599, modified(day), 0, rfc9111.BasisNone},
		{"status 599, public", rfc9111.Policy{}, 599, public(modified(day)), day / 10, rfc9111.BasisHeuristic},
		{"default", rfc9111.Policy{DefaultLifetime: time.Minute}, 200, http.Header{}, time.Minute, rfc9111.BasisDefault},
		{"default over Last-Modified", rfc9111.Policy{DefaultLifetime: time.Minute}, 200, modified(day), time.Minute, rfc9111.BasisDefault},
		{"default, heuristic off", rfc9111.Policy{DefaultLifetime: time.Minute, HeuristicLimit: -1}, 404, http.Header{}, time.Minute, rfc9111.BasisDefault},
		{"default, status 500", rfc9111.Policy{DefaultLifetime: time.Minute}, 500, http.Header{}, 0, rfc9111.BasisNone},
		{"default, max-age=0", rfc9111.Policy{DefaultLifetime: time.Minute}, 200, lines("Cache-Control", "max-age=0"), 0, rfc9111.BasisMaxAge},
		{"of the status, in the default's place", status(200), 404, http.Header{}, time.Second, rfc9111.BasisDefault},
		{"of the status, over Last-Modified", status(200), 404, modified(day), time.Second, rfc9111.BasisDefault},
		{"of another status", status(200), 410, http.Header{}, time.Minute, rfc9111.BasisDefault},
		{"of 200, for its parts", status(200), 206, http.Header{}, time.Hour, rfc9111.BasisDefault},
		{"of a status that is not cacheable", status(302), 302, http.Header{}, 0, rfc9111.BasisNone},
		{"of one that is not, public", status(302), 302, public(http.Header{}), time.Hour, rfc9111.BasisDefault},
		{"of the status, max-age=0", status(200), 404, lines("Cache-Control", "max-age=0"), 0, rfc9111.BasisMaxAge},
		{"of the status, a longer max-age", status(200), 404, lines("Cache-Control", "max-age=60"), time.Minute, rfc9111.BasisMaxAge},
		{"of the status, Expires", status(200), 404, lines("Expires", "0"), 0, rfc9111.BasisExpires},
		{"none for the status", status(200), 301, modified(day), 0, rfc9111.BasisNone},
		{"default, Expires: 0", rfc9111.Policy{DefaultLifetime: time.Minute}, 200, lines("Expires", "0"), 0, rfc9111.BasisExpires},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := rfc9111.ParseResponseDirectives(tt.header)
			got, basis := tt.policy.Lifetime(tt.status, tt.header, d, noon)
			if got != tt.want || basis != tt.basis {
				t.Errorf("Lifetime of %d %v: got %v by %v; want %v by %v", tt.status, tt.header, got, basis, tt.want, tt.basis)
			}
		})
	}
}

func TestLifetime_section4_2_2_statuses(t *testing.T) {
	t.Parallel()
	yes := map[int]bool{200: true, 203: true, 204: true, 206: true, 300: true, 301: true, 308: true,
		404: true, 405: true, 410: true, 414: true, 501: true}
	p := rfc9111.Policy{DefaultLifetime: time.Minute}
	for status := 200; status < 600; status++ {
		_, basis := p.Lifetime(status, http.Header{}, rfc9111.ResponseDirectives{}, noon)
		if got := basis == rfc9111.BasisDefault; got != yes[status] {
			t.Errorf("status %d heuristically cacheable: got %v; want %v", status, got, yes[status])
		}
	}
}
