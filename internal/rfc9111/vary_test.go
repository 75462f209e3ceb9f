package rfc9111_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestVary_section4_1_names(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		lines []string
		names []string
		any   bool
	}{
		{"absent", nil, nil, false},
		{"empty", []string{"", " , "}, nil, false},
		{"one", []string{"accept"}, []string{"Accept"}, false},
		{"order, case, repetition", []string{"X-B, accept", " ACCEPT ,x-a"}, []string{"Accept", "X-A", "X-B"}, false},
		{"star", []string{"*"}, nil, true},
		{"two stars", []string{"*, *"}, nil, true},
		{"stars in two lines", []string{"*", "*"}, nil, true},
		{"empty and star", []string{", *"}, nil, true},
		{"an empty line and star", []string{"", "*"}, nil, true},
		{"star first", []string{"*, Foo"}, nil, true},
		{"star last", []string{"Foo, *"}, nil, true},
		{"no field name", []string{"Foo Bar"}, nil, true},
		{"no field name either", []string{`"Foo"`}, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			v := safe.Vary(lines("Vary", tt.lines...))
			if v.Any() != tt.any || !slices.Equal(v.Names(), tt.names) {
				t.Errorf("Vary %q: got %v, %q; want %v, %q", tt.lines, v.Any(), v.Names(), tt.any, tt.names)
			}
		})
	}
}

func TestVary_section4_1_key(t *testing.T) {
	t.Parallel()
	req := h("Accept-Encoding", "gzip , br", "X-Empty", "", "Other", "1")
	v := safe.Vary(lines("Vary", "x-empty, accept-encoding, accept-language"))
	key, ok := v.AppendKey([]byte("k:"), req)
	if want := "k:Accept-Encoding:7=br,gzip;Accept-Language:-;X-Empty:0=;"; !ok || string(key) != want {
		t.Errorf("key: got %q, %v; want %q", key, ok, want)
	}
	if key, ok := (rfc9111.Vary{}).AppendKey(nil, req); !ok || len(key) != 0 {
		t.Errorf("key without Vary: got %q, %v; want an empty one", key, ok)
	}
	if _, ok := safe.Vary(lines("Vary", "*")).AppendKey(nil, req); ok {
		t.Error("key with Vary: *: got one; want none")
	}
	if safe.Vary(lines("Vary", "*")).Match(nil, req) {
		t.Error("Vary: * matches; want not")
	}
}

func TestVary_section4_1_match(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		vary      string
		a, b      http.Header
		safe, rfc bool
	}{
		{"equal", "Foo", h("Foo", "1"), h("Foo", "1"), true, true},
		{"different", "Foo", h("Foo", "1"), h("Foo", "2"), false, false},
		{"case of an unknown field", "Foo", h("Foo", "a"), h("Foo", "A"), false, false},
		{"absent in one", "Foo", h("Foo", "1"), h(), false, false},
		{"absent and empty", "Foo", h("Foo", ""), h(), false, false},
		{"absent in both", "Foo", h(), h("Bar", "1"), true, true},
		{"an unnamed field differs", "Foo", h("Foo", "1", "Bar", "1"), h("Foo", "1", "Bar", "2"), true, true},
		{"one of three differs", "Foo, Bar, Baz", h("Foo", "1", "Bar", "abc", "Baz", "7"), h("Foo", "1", "Baz", "7", "Bar", "abcde"), false, false},
		{"values moved between fields", "A, B", h("A", "1", "B", "2"), h("A", "2", "B", "1"), false, false},
		{"a value that looks like a key", "A, B", h("A", "1;B:1=2"), h("A", "1", "B", "2"), false, false},

		{"lines combined", "Foo", h("Foo", "1", "Foo", "2"), h("Foo", "1, 2"), true, true},
		{"white space around the value", "Foo", h("Foo", " 1\t"), h("Foo", "1"), true, true},
		{"white space in a list", "Accept-Language", h("Accept-Language", "en, de"), h("Accept-Language", " en ,   de"), true, true},
		{"white space in a list of two lines", "Accept", h("Accept", "a ,b", "Accept", "c"), h("Accept", "a,b,c"), true, true},
		{"white space in an unknown field", "Foo", h("Foo", "1,2"), h("Foo", " 1, 2 "), true, true},
		{"order of languages, 9110 12.5.4", "Accept-Language", h("Accept-Language", "en, de;q=1"), h("Accept-Language", "de;q=1,en"), true, true},
		{"order of more languages", "Accept-Language", h("Accept-Language", "a,b,c,d"), h("Accept-Language", "d, c, b, a"), true, true},
		{"case of languages, 9110 8.5.1", "Accept-Language", h("Accept-Language", "en, de"), h("Accept-Language", "eN, De"), true, true},
		{"weights of languages", "Accept-Language", h("Accept-Language", "en, de;q=0.5"), h("Accept-Language", "de, en;q=0.5"), false, false},
		{"a language twice", "Accept-Language", h("Accept-Language", "en, en"), h("Accept-Language", "en"), false, false},
		{"order of codings, 9110 12.5.3", "Accept-Encoding", h("Accept-Encoding", "GZIP, br"), h("Accept-Encoding", "br, gzip"), true, true},
		{"more languages than are sorted", "Accept-Language", h("Accept-Language", strings.Repeat("a,", 17)+"b"), h("Accept-Language", "b"+strings.Repeat(",a", 17)), false, false},
		{"as many as are", "Accept-Language", h("Accept-Language", strings.Repeat("a,", 15)+"b"), h("Accept-Language", "b"+strings.Repeat(",a", 15)), true, true},
		{"quotes in languages", "Accept-Language", h("Accept-Language", `a,"b,a"`), h("Accept-Language", `"b,a",a`), false, false},
		{"order of an unknown field", "Foo", h("Foo", "1,2"), h("Foo", "2,1"), false, false},
		{"order of media types", "Accept", h("Accept", "a/b, c/d"), h("Accept", "c/d, a/b"), false, false},
		{"white space in no list", "User-Agent", h("User-Agent", "a (b,c)"), h("User-Agent", "a (b, c)"), false, false},
		{"white space within a member", "Accept", h("Accept", "a b"), h("Accept", "ab"), false, false},
		{"white space in quotes", "Accept", h("Accept", `a;x="1,2"`), h("Accept", `a;x="1, 2"`), false, false},
		{"a quoted pair in quotes", "Accept", h("Accept", `a;x="\",2"`), h("Accept", `a;x="\", 2"`), false, false},
		{"behind the quotes", "Accept", h("Accept", `a;x="1" , b`), h("Accept", `a;x="1",b`), true, true},
		{"quotes over two lines", "Accept", h("Accept", `a;x="1`, "Accept", `2"`), h("Accept", `a;x="1, 2"`), true, true},
		{"a backslash at the end of a line", "Accept", h("Accept", `a;x="\`, "Accept", `" , b`), h("Accept", `a;x="\, " , b`), true, true},
		{"an empty last line", "Foo", h("Foo", "1", "Foo", ""), h("Foo", "1,"), true, true},
		{"not as quotes without the space", "Accept", h("Accept", `a;x="1`, "Accept", `2"`), h("Accept", `a;x="1,2"`), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for name, p := range map[string]struct {
				policy rfc9111.Policy
				want   bool
			}{"Safe": {safe, tt.safe}, "RFC": {rfc, tt.rfc}} {
				v := p.policy.Vary(lines("Vary", tt.vary))
				for range 2 { // matching is symmetric
					key, _ := v.AppendKey(nil, tt.a)
					if got := v.Match(key, tt.b); got != p.want {
						t.Errorf("%s: Vary: %s, stored for %v, asked with %v: got %v; want %v", name, tt.vary, tt.a, tt.b, got, p.want)
					}
					tt.a, tt.b = tt.b, tt.a
				}
			}
		})
	}
}
