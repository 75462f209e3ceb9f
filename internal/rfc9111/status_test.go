package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestStatus_section9211_2(t *testing.T) {
	t.Parallel()
	type S = rfc9111.Status
	tests := []struct {
		name   string
		status S
		want   string
	}{
		{"hit", S{Cache: "weir", Hit: true, TTL: 376 * time.Second, HasTTL: true}, "weir;hit;ttl=376"},
		{"stale hit", S{Cache: "weir", Hit: true, TTL: -412 * time.Second, HasTTL: true}, "weir;hit;ttl=-412"},
		{"rounded down", S{Cache: "weir", Hit: true, TTL: 1500 * time.Millisecond, HasTTL: true}, "weir;hit;ttl=1"},
		{"rounded down below zero", S{Cache: "weir", Hit: true, TTL: -1, HasTTL: true}, "weir;hit;ttl=-1"},
		{"ttl of zero", S{Cache: "weir", Hit: true, HasTTL: true}, "weir;hit;ttl=0"},
		{"a hit was not forwarded, 2.1", S{Cache: "weir", Hit: true, Fwd: rfc9111.FwdMiss, FwdStatus: 200, Stored: true, Collapsed: true}, "weir;hit"},
		{"miss", S{Cache: "weir", Fwd: rfc9111.FwdURIMiss, Stored: true, Key: "a\"b\\c"}, `weir;fwd=uri-miss;stored;key="a\"b\\c"`},
		{"collapsed", S{Cache: "weir", Fwd: rfc9111.FwdVaryMiss, Collapsed: true}, "weir;fwd=vary-miss;collapsed"},
		{"validated", S{Cache: "weir", Fwd: rfc9111.FwdStale, FwdStatus: 304}, "weir;fwd=stale;fwd-status=304"},
		{"detail as token", S{Cache: "weir", Fwd: rfc9111.FwdBypass, Detail: rfc9111.RequestRange.String()}, "weir;fwd=bypass;detail=request-range"},
		{"detail as string", S{Cache: "weir", Fwd: rfc9111.FwdMiss, Detail: "no room"}, `weir;fwd=miss;detail="no room"`},
		{"name as string", S{Cache: "edge cache 1", Hit: true}, `"edge cache 1";hit`},
		{"name as token", S{Cache: "edge.example:443/a", Hit: true}, "edge.example:443/a;hit"},
		{"a key is a string", S{Cache: "weir", Hit: true, Key: "abc"}, `weir;hit;key="abc"`},
		{"octets no string holds", S{Cache: "weir", Hit: true, Key: "a\r\né\x7f"}, `weir;hit;key="a%0D%0A%C3%A9%7F"`},
		{"no name", S{Hit: true}, ""},
		{"only a name", S{Cache: "weir"}, "weir"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := string(tt.status.Append(nil))
			if got != tt.want {
				t.Errorf("member: got %s; want %s", got, tt.want)
			}
			if list, err := httpsfv.UnmarshalList([]string{got}); err != nil || tt.want != "" && len(list) != 1 {
				t.Errorf("%s as a structured field: got %d members, %v; want one", got, len(list), err)
			}
		})
	}
}

func TestStatus_section9211_2_forward(t *testing.T) {
	t.Parallel()
	want := []string{"", "bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial", "", ""}
	for i, want := range want {
		if got := rfc9111.Forward(i).String(); got != want {
			t.Errorf("Forward(%d): got %q; want %q", i, got, want)
		}
	}
}

// The member of the cache closest to the client is the last one.
func TestStatus_AddTo_appends(t *testing.T) {
	t.Parallel()
	shared := make([]string, 1, 4)
	shared[0] = "origin;hit"
	head := http.Header{"Cache-Status": shared}
	rfc9111.Status{Cache: "weir", Hit: true}.AddTo(head)
	rfc9111.Status{}.AddTo(head)
	list, err := httpsfv.UnmarshalList(head["Cache-Status"])
	if err != nil || len(list) != 2 {
		t.Fatalf("list of %q: got %v, %v; want two members", head["Cache-Status"], list, err)
	}
	item := list[1].(httpsfv.Item)
	if item.Value != httpsfv.Token("weir") {
		t.Errorf("last member: got %v; want weir", item.Value)
	}
	if hit, _ := item.Params.Get("hit"); hit != true {
		t.Errorf("hit: got %v; want true", hit)
	}
	if shared[:2][1] != "" {
		t.Errorf("AddTo wrote %q into a slice that may be shared", shared[:2][1])
	}
}
