package rfc9111_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestGroups_section9875_2(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("%q", fmt.Sprint(i)))
	}
	tests := []struct {
		name  string
		lines []string
		want  []string
	}{
		{"none", nil, nil},
		{"one", []string{`"scripts"`}, []string{"scripts"}},
		{"several, in two lines", []string{`"a", "b"`, `"c"`}, []string{"a", "b", "c"}},
		{"twice", []string{`"a", "a"`}, []string{"a"}},
		{"case counts", []string{`"a", "A"`}, []string{"a", "A"}},
		{"parameters are ignored", []string{`"a";x=1`}, []string{"a"}},
		{"a token", []string{`"a", b`}, nil},
		{"an inner list", []string{`("a")`}, nil},
		{"no list", []string{`"a`}, nil},
		{"empty", []string{""}, nil},
		{"too long a name", []string{`"a", "` + strings.Repeat("x", 300) + `"`}, []string{"a"}},
	}
	for _, tt := range tests {
		if got := rfc9111.Groups(lines("Cache-Groups", tt.lines...)); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q; want %q", tt.name, got, tt.want)
		}
	}
	if got := rfc9111.Groups(lines("Cache-Groups", strings.Join(many, ", "))); len(got) != rfc9111.MaxGroups {
		t.Errorf("of 100: got %d; want %d", len(got), rfc9111.MaxGroups)
	}
}

func TestInvalidatedGroups_section9875_3(t *testing.T) {
	t.Parallel()
	field := lines("Cache-Group-Invalidation", `"a", "b"`)
	for _, tt := range []struct {
		method string
		status int
		want   []string
	}{
		{"POST", 200, []string{"a", "b"}},
		{"DELETE", 204, []string{"a", "b"}},
		{"GET", 200, nil},
		{"POST", 500, nil},
	} {
		if got := rfc9111.InvalidatedGroups(tt.method, tt.status, field); !slices.Equal(got, tt.want) {
			t.Errorf("%s, %d: got %q; want %q", tt.method, tt.status, got, tt.want)
		}
	}
}

func FuzzGroups(f *testing.F) {
	f.Add(`"a", "b"`)
	f.Add(`("a"), b;c`)
	f.Fuzz(func(t *testing.T, s string) {
		got := rfc9111.Groups(lines("Cache-Groups", s))
		sorted := slices.Sorted(slices.Values(got))
		if len(got) > rfc9111.MaxGroups || len(slices.Compact(sorted)) != len(got) {
			t.Errorf("%q: got %q", s, got)
		}
	})
}
