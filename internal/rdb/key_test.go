package rdb_test

import (
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/rdb"
)

func TestKey(t *testing.T) {
	t.Parallel()
	tests := []struct {
		id    string
		parts []string
		want  string
	}{
		{"42", nil, "weir:lock:{42}"},
		{"a.b-c_D", []string{"seq"}, "weir:lock:{a.b-c_D}:seq"},
		{"}{", nil, "weir:lock:{~"},
		{"", nil, "weir:lock:{~"},
		{"~x", nil, "weir:lock:{~"},
		{strings.Repeat("x", 64), nil, "weir:lock:{" + strings.Repeat("x", 64) + "}"},
		{strings.Repeat("x", 65), nil, "weir:lock:{~"},
	}
	for _, tt := range tests {
		if got := rdb.Key("weir", "lock", tt.id, tt.parts...); !strings.HasPrefix(got, tt.want) {
			t.Errorf("Key(%q, %v) = %s; want %s…", tt.id, tt.parts, got, tt.want)
		}
	}
}

// FuzzKey: different ids have different keys, and all keys of an id share its
// hash tag, whatever bytes the ids hold.
func FuzzKey(f *testing.F) {
	f.Add("a", "b")
	f.Add("{a}", "a")
	f.Add("~x", "}{")
	f.Add("", "\x00")
	f.Fuzz(func(t *testing.T, a, b string) {
		ka, kb := rdb.Key("p", "k", a), rdb.Key("p", "k", b)
		if (a == b) != (ka == kb) {
			t.Errorf("ids %q and %q: keys %s and %s", a, b, ka, kb)
		}
		part := rdb.Key("p", "k", a, "part")
		if tag(part) == "" || tag(part) != tag(ka) {
			t.Errorf("id %q: %s and %s have different hash tags", a, ka, part)
		}
	})
}

// tag is what Redis Cluster hashes: what is between the first { and the next }.
func tag(key string) string {
	_, rest, _ := strings.Cut(key, "{")
	tag, _, _ := strings.Cut(rest, "}")
	return tag
}

// FuzzDigest: no list of fields can imitate another.
func FuzzDigest(f *testing.F) {
	f.Add("a", "b", "ab", "")
	f.Add("a:b", "c", "a", "b:c")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		if (a == c && b == d) != (rdb.Digest(a, b) == rdb.Digest(c, d)) {
			t.Errorf("Digest(%q, %q) and Digest(%q, %q)", a, b, c, d)
		}
		if rdb.Digest(a, b) == rdb.Digest(a+b) {
			t.Errorf("Digest(%q, %q) = Digest(%q)", a, b, a+b)
		}
	})
}

func TestValidPrefix(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]bool{
		"weir": true, "shop:eu": true, "a.b-c_1": true,
		"": false, "a{b}": false, "a:": false, ":a": false, "a::b": false, "a b": false, "ä": false,
	} {
		if got := rdb.ValidPrefix(prefix); got != want {
			t.Errorf("ValidPrefix(%q) = %v; want %v", prefix, got, want)
		}
	}
}
