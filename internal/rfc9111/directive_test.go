package rfc9111_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

// lines makes a header of one field.
func lines(key string, values ...string) http.Header {
	return http.Header{key: values}
}

func secs(n int64) rfc9111.Seconds {
	return rfc9111.Seconds{Value: time.Duration(n) * time.Second, Present: true, Valid: true}
}

var unreadable = rfc9111.Seconds{Present: true}

func TestParseResponseDirectives_section5_2_maxAge(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lines []string
		want  rfc9111.Seconds
	}{
		{"token", []string{"max-age=60"}, secs(60)},
		{"case", []string{"MaX-aGe=60"}, secs(60)},
		{"quoted, 5.2", []string{`max-age="60"`}, secs(60)},
		{"quoted pair", []string{`max-age="\6\0"`}, secs(60)},
		{"zero", []string{"max-age=0"}, secs(0)},
		{"leading zeros", []string{"max-age=003600"}, secs(3600)},
		{"after an extension, 5.2.3", []string{"foobar, max-age=3600"}, secs(3600)},
		{"white space and empty members", []string{" ,,\tmax-age=60 \t,, public,"}, secs(60)},
		{"a second line", []string{"public", "max-age=60"}, secs(60)},
		{"2^31-1", []string{"max-age=2147483647"}, secs(2147483647)},
		{"2^31", []string{"max-age=2147483648"}, secs(2147483648)},
		{"beyond 2^31, 1.2.2", []string{"max-age=2147483649"}, secs(2147483648)},
		{"beyond 2^64, 1.2.2", []string{"max-age=99999999999999999999999999"}, secs(2147483648)},
		{"in a quoted string", []string{`extension="max-age=3600"`}, rfc9111.Seconds{}},
		{"before one in a quoted string", []string{`max-age=1, extension="max-age=3600"`}, secs(1)},
		{"after one in a quoted string", []string{`extension="max-age=3600, \", x", max-age=1`}, secs(1)},
		{"another name", []string{"max-ages=5, xmax-age=5, max-age-x=5"}, rfc9111.Seconds{}},
		{"Kelvin sign is no k", []string{"ma\u212A-age=5"}, rfc9111.Seconds{}},

		{"no argument", []string{"max-age"}, unreadable},
		{"empty argument", []string{"max-age="}, unreadable},
		{"empty quotes", []string{`max-age=""`}, unreadable},
		{"negative", []string{"max-age=-3600"}, unreadable},
		{"plus sign", []string{"max-age=+3600"}, unreadable},
		{"decimal", []string{"max-age=3600.0"}, unreadable},
		{"single quotes", []string{"max-age='3600'"}, unreadable},
		{"letter before", []string{"max-age=a3600"}, unreadable},
		{"letter after", []string{"max-age=3600a"}, unreadable},
		{"space in quotes", []string{`max-age=" 60"`}, unreadable},
		{"space before =", []string{"max-age =3600"}, unreadable},
		{"space after =", []string{"max-age= 3600"}, unreadable},
		{"two words", []string{"max-age=60 60"}, unreadable},
		{"semicolon", []string{"max-age=60; public"}, unreadable},
		{"text behind the quotes", []string{`max-age="60"0`}, unreadable},

		{"twice the same, 4.2.1", []string{"max-age=60, max-age=060"}, secs(60)},
		{"two values, 4.2.1", []string{"max-age=1800, max-age=1"}, unreadable},
		{"two values in two lines, 4.2.1", []string{"max-age=1", "max-age=1800"}, unreadable},
		{"three, the last as the first", []string{"max-age=1, max-age=2, max-age=1"}, unreadable},
		{"a bad one first", []string{"max-age=x, max-age=60"}, unreadable},
		{"a bad one last", []string{"max-age=60, max-age=x"}, unreadable},
		{"quote without end before", []string{`x="y, max-age=60`}, unreadable},
		{"quote without end after", []string{`max-age=60, x="y`}, unreadable},
		{"quote without end in another line", []string{`x="y`, "max-age=60"}, unreadable},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := rfc9111.ParseResponseDirectives(lines("Cache-Control", tt.lines...)).MaxAge; got != tt.want {
				t.Errorf("max-age of %q: got %+v; want %+v", tt.lines, got, tt.want)
			}
		})
	}
}

func TestParseResponseDirectives_section5_2_2(t *testing.T) {
	t.Parallel()
	type D = rfc9111.ResponseDirectives
	all := rfc9111.Scope{Present: true}
	only := func(f ...string) rfc9111.Scope { return rfc9111.Scope{Present: true, Fields: f} }
	tests := []struct {
		name  string
		lines []string
		want  D
	}{
		{"nothing", nil, D{}},
		{"an empty line", []string{""}, D{}},
		{"each of them", []string{
			"s-maxage=5, no-store, No-Cache, PRIVATE, public",
			"must-revalidate, proxy-revalidate, must-understand, no-transform, immutable, x=y",
		}, D{SMaxage: secs(5), NoStore: true, NoCache: all, Private: all, Public: true,
			MustRevalidate: true, ProxyRevalidate: true, MustUnderstand: true, Immutable: true}},
		{"the windows of RFC 5861", []string{`stale-while-revalidate=5, Stale-If-Error="6"`}, D{StaleWhileRevalidate: secs(5), StaleIfError: secs(6)}},
		{"a window that differs", []string{"stale-while-revalidate=5, stale-while-revalidate=6"}, D{StaleWhileRevalidate: unreadable}},
		{"windows beside a malformed member", []string{"stale-while-revalidate=5, stale-if-error=5, immutable, a b"}, D{Malformed: true}},

		{"no-cache with fields, 5.2.2.4", []string{`no-cache="set-cookie, x-a"`}, D{NoCache: only("Set-Cookie", "X-A")}},
		{"private with fields, 5.2.2.7", []string{`private=" x-a ,, x-b"`}, D{Private: only("X-A", "X-B")}},
		{"a field as a token", []string{"private=x-a"}, D{Private: only("X-A")}},
		{"a quoted pair in a name", []string{`private="x-\a"`}, D{Private: only("X-A")}},
		{"two lists", []string{`no-cache=a, no-cache="b"`}, D{NoCache: only("A", "B")}},
		{"a list does not narrow the plain form", []string{`no-cache, no-cache="a"`}, D{NoCache: all}},
		{"nor before it", []string{`no-cache="a", no-cache, no-cache="b"`}, D{NoCache: all}},
		{"an empty list", []string{`private=""`}, D{Private: all}},
		{"a list of other things", []string{`private="a b"`}, D{Private: all}},

		// What is malformed forbids and does not permit.
		{"semicolons", []string{"private; max-age=60"}, D{Private: all, Malformed: true}},
		{"no-store with an argument", []string{"no-store=1"}, D{NoStore: true, Malformed: true}},
		{"public with an argument", []string{"public=x"}, D{Malformed: true}},
		{"public beside a malformed member", []string{"public, must-understand, a b"}, D{Malformed: true}},
		{"behind a quote without end", []string{`x="y, no-store`}, D{NoStore: true, Malformed: true, MaxAge: unreadable, SMaxage: unreadable}},
		{"no name", []string{`=5, "no-store", (private)`}, D{Malformed: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := rfc9111.ParseResponseDirectives(lines("Cache-Control", tt.lines...))
			// Whether a Scope remembers the plain form is its own business.
			got.NoCache = rfc9111.Scope{Present: got.NoCache.Present, Fields: got.NoCache.Fields}
			got.Private = rfc9111.Scope{Present: got.Private.Present, Fields: got.Private.Fields}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("directives of %q: got %+v; want %+v", tt.lines, got, tt.want)
			}
		})
	}
}

func TestParseRequestDirectives_section5_2_1(t *testing.T) {
	t.Parallel()
	type D = rfc9111.RequestDirectives
	tests := []struct {
		name   string
		header http.Header
		want   D
	}{
		{"nothing", nil, D{}},
		{"each of them", lines("Cache-Control", "max-age=1, MAX-STALE=2", "min-fresh=3, no-cache, no-store, only-if-cached"),
			D{MaxAge: secs(1), MaxStale: secs(2), MinFresh: secs(3), NoCache: true, NoStore: true, OnlyIfCached: true}},
		{"max-stale alone", lines("Cache-Control", "max-stale"), D{AnyStale: true}},
		{"max-stale twice", lines("Cache-Control", "max-stale, max-stale=5"), D{MaxStale: secs(5)}},
		{"the more demanding of two, 4.2.1", lines("Cache-Control", "max-age=5, max-age=3, max-age=9, min-fresh=3, min-fresh=5, min-fresh=1"),
			D{MaxAge: secs(3), MinFresh: secs(5)}},
		{"unreadable is ignored", lines("Cache-Control", "max-age=x, min-fresh=-1, max-stale=1.5, max-stale;"), D{}},
		{"Pragma, 5.4", lines("Pragma", "No-Cache"), D{NoCache: true}},
		{"Pragma in a list", lines("Pragma", "x, no-cache"), D{NoCache: true}},
		{"another Pragma", lines("Pragma", `no-cached, x="no-cache"`), D{}},
		{"Pragma beside Cache-Control", http.Header{"Pragma": {"no-cache"}, "Cache-Control": {"max-stale=5"}}, D{MaxStale: secs(5)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := rfc9111.ParseRequestDirectives(tt.header); got != tt.want {
				t.Errorf("directives of %v: got %+v; want %+v", tt.header, got, tt.want)
			}
		})
	}
}
