package rfc9111_test

import (
	"slices"
	"testing"

	"github.com/dunglas/httpsfv"

	"github.com/go-weir/weir/internal/rfc9111"
)

var permits = []rfc9111.Verdict{rfc9111.Store, rfc9111.Fresh, rfc9111.StaleAllowed, rfc9111.StaleRefreshing, rfc9111.StaleOnError}

// Every verdict has a name of its own that is a token, and none but the five
// that permit is OK: the zero value above all.
func TestVerdict_names(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for i := range 256 {
		v := rfc9111.Verdict(i)
		name := v.String()
		if want := slices.Contains(permits, v); v.OK() != want {
			t.Errorf("%v.OK(): got %v; want %v", v, v.OK(), want)
		}
		item, err := httpsfv.UnmarshalItem([]string{name})
		if err != nil || item.Value != httpsfv.Token(name) {
			t.Errorf("name of verdict %d: got %q, %v; want a token", i, name, err)
		}
		if name != "undecided" {
			seen[name]++
		}
	}
	if got, want := len(seen), len(permits)+int(rfc9111.Stale-rfc9111.MethodNotCached)+1; got != want {
		t.Errorf("names: got %d; want %d, one for each verdict", got, want)
	}
	for name, n := range seen {
		if n > 1 {
			t.Errorf("name %q: given %d times; want once", name, n)
		}
	}
}

func TestVerdict_Forward(t *testing.T) {
	t.Parallel()
	for v, want := range map[rfc9111.Verdict]rfc9111.Forward{
		rfc9111.MethodNotCached: rfc9111.FwdMethod,
		rfc9111.RequestBody:     rfc9111.FwdBypass,
		rfc9111.RequestRange:    rfc9111.FwdPartial,
		rfc9111.RequestUpgrade:  rfc9111.FwdBypass,
		rfc9111.Credentials:     rfc9111.FwdBypass,
		rfc9111.RequestNoCache:  rfc9111.FwdRequest,
		rfc9111.RequestMaxAge:   rfc9111.FwdRequest,
		rfc9111.RequestMinFresh: rfc9111.FwdRequest,
		rfc9111.Stale:           rfc9111.FwdStale,
		rfc9111.ResponseNoCache: rfc9111.FwdStale,
		rfc9111.SetCookie:       rfc9111.FwdMiss,
		0:                       rfc9111.FwdMiss,
	} {
		if got := v.Forward(); got != want {
			t.Errorf("%v.Forward(): got %v; want %v", v, got, want)
		}
	}
}

// A verdict about a request and who made it is no reason to remove what is stored.
func TestVerdict_AboutRequest(t *testing.T) {
	t.Parallel()
	for v, want := range map[rfc9111.Verdict]bool{
		rfc9111.RequestNoStore:  true,
		rfc9111.Credentials:     true,
		rfc9111.Unkeyed:         true,
		rfc9111.Authorization:   true,
		rfc9111.SetCookie:       true,
		rfc9111.ResponseNoStore: false,
		rfc9111.ResponsePrivate: false,
		rfc9111.VaryAny:         false,
		rfc9111.NoFreshness:     false,
		rfc9111.Store:           false,
	} {
		if got := v.AboutRequest(); got != want {
			t.Errorf("%v.AboutRequest(): got %v; want %v", v, got, want)
		}
	}
}
