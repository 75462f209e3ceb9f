package rfc9111_test

import (
	"testing"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestNoVarySearch_equivalence(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, field, a, b string
		want              bool
	}{
		{"no field", "", "a=1&b=2", "b=2&a=1", false},
		{"no field, other spelling", "", "a=%31", "a=1", false},
		{"params", "params", "a=1", "b=2&c", true},
		{"params and no query", "params", "a=1", "", true},
		{"params=?0", "params=?0", "a=1", "a=2", false},
		{"one param", `params=("utm_source")`, "a=1&utm_source=x", "a=1", true},
		{"one param, another differs", `params=("utm_source")`, "a=1&utm_source=x", "a=2", false},
		{"a name by its encoding", `params=("a%20b")`, "a+b=1", "", true},
		{"a name with escapes in the query", `params=("ab")`, "%61b=1", "", true},
		{"except", `params, except=("id")`, "id=1&x=2", "y=3&id=1", true},
		{"except differs", `params, except=("id")`, "id=1", "id=2", false},
		{"except without params", `except=("id")`, "id=1&x=2", "id=1", false},
		{"order", "key-order", "a=1&b=2", "b=2&a=1", true},
		{"order of one key's values", "key-order", "a=1&a=2", "a=2&a=1", false},
		{"order does not matter, values do", "key-order", "a=1&b=2", "b=1&a=2", false},
		{"order alone does", `params=("x")`, "a=1&b=2", "b=2&a=1", false},
		{"both", `key-order, params=("x")`, "x=1&a=1&b=2", "b=2&a=1", true},
		{"spelling", "key-order", "a=%31+x", "a=1%20x", true},
		{"empty members", "key-order", "&a=1&&", "a=1", true},
		{"no value is an empty one", "key-order", "a", "a=", true},
		{"a percent sign of its own", "key-order", "a=%zz", "a=%25zz", true},
		{"a percent sign at the end", "key-order", "a=%4%41", "a=%254A", true},
		{"no dictionary", "&", "a=1", "a=2", false},
		{"params of the wrong type", "params=1", "a=1", "a=2", false},
		{"names of the wrong type", "params=(a)", "a=1", "a=2", false},
		{"order of the wrong type", `key-order="x"`, "a=1&b=2", "b=2&a=1", false},
		{"a separator in a value", "key-order", "a=1%26b=2", "a=1&b=2", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			head := lines("No-Vary-Search")
			if tt.field != "" {
				head = lines("No-Vary-Search", tt.field)
			}
			n := rfc9111.ParseNoVarySearch(head)
			a, b := n.Query(tt.a), n.Query(tt.b)
			if (a == b) != tt.want {
				t.Errorf("%q and %q under %q: got %q and %q; want equal %v", tt.a, tt.b, tt.field, a, b, tt.want)
			}
			if n.None() && a != tt.a {
				t.Errorf("%q: got %q; want it left alone", tt.a, a)
			}
		})
	}
}

func FuzzNoVarySearch(f *testing.F) {
	f.Add(`key-order, params=("a")`, "a=1&b=%41&&c")
	f.Add("params", "%")
	f.Fuzz(func(t *testing.T, field, query string) {
		n := rfc9111.ParseNoVarySearch(lines("No-Vary-Search", field))
		once := n.Query(query)
		if again := n.Query(once); again != once {
			t.Errorf("%q under %q: got %q, and of that %q", query, field, once, again)
		}
	})
}
