package rfc9111_test

import (
	"net/http"
	"reflect"
	"testing"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestStoredTrailer_section3_1(t *testing.T) {
	t.Parallel()
	all := http.Header{
		"X-Sum": {"1"}, "Digest": {"a", "b"}, "Empty": {}, "No Token": {"x"},
		"Set-Cookie": {"a=b"}, "Cache-Control": {"no-store"}, "Content-Length": {"3"}, "Transfer-Encoding": {"gzip"}, "Trailer": {"X"},
	}
	tests := []struct {
		name   string
		policy rfc9111.Policy
		header http.Header
		want   []string
	}{
		{"what may stand in one", rfc9111.Policy{}, http.Header{}, []string{"X-Sum", "Digest"}},
		{"no cookie in any profile", rfc9111.Policy{Profile: rfc9111.RFC, SetCookie: true}, http.Header{}, []string{"X-Sum", "Digest"}},
		{"named by Connection", rfc9111.Policy{}, lines("Connection", "close, x-sum"), []string{"Digest"}},
		{"named by private, 5.2.2.7", rfc9111.Policy{}, lines("Cache-Control", `private="x-sum"`), []string{"Digest"}},
		{"named by no-cache, 5.2.2.4", rfc9111.Policy{}, lines("Cache-Control", `no-cache="digest"`), []string{"X-Sum"}},
		{"named by a targeted field", rfc9111.Policy{}, lines("Cdn-Cache-Control", `private="digest"`), []string{"X-Sum"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			want := http.Header{}
			for _, name := range tt.want {
				want[name] = all[name]
			}
			if got := tt.policy.StoredTrailer(tt.header, all); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v; want %v", got, want)
			}
		})
	}
	got := rfc9111.Policy{}.StoredTrailer(http.Header{}, all)
	got["Digest"][0] = "changed"
	if all["Digest"][0] != "a" {
		t.Error("the map shares a slice with the response's")
	}
}
