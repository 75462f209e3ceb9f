package rfc9111_test

import (
	"net/http"
	"reflect"
	"testing"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestStoredHeader_section3_1(t *testing.T) {
	t.Parallel()
	in := h(
		"Connection", "a, Close", "Connection", "x-b ,,", "A", "1", "X-B", "2", "C", "3",
		"Keep-Alive", "timeout=5", "Proxy-Connection", "x", "TE", "x", "Transfer-Encoding", "chunked", "Upgrade", "x",
		"Proxy-Authenticate", "x", "Proxy-Authentication-Info", "x", "Proxy-Authorization", "x",
		"Set-Cookie", "sid=1", "Trailer", "X-Sum", "X-Sum", "x", http.TrailerPrefix+"X-Late", "x",
		"Content-Length", "999", "Date", date(noon), "Age", "5", "Vary", "A", "Vary", "B", "Www-Authenticate", "x",
	)
	in["X-Nil"] = nil
	before := in.Clone()
	want := h("C", "3", "Content-Length", "5", "Date", date(noon), "Age", "5", "Vary", "A", "Vary", "B", "Www-Authenticate", "x")
	got := safe.StoredHeader(200, in, 5, noon)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("stored header: got %v; want %v", got, want)
	}
	for key, values := range got {
		for i := range values {
			values[i] = "overwritten"
		}
		got[key] = append(values, "appended")
	}
	if !reflect.DeepEqual(in, before) {
		t.Errorf("the response's header was altered through the stored one: got %v; want %v", in, before)
	}
}

func TestStoredHeader_section9110_6_6_1_date(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]http.Header{
		"absent":     {},
		"nil":        {"Date": nil},
		"unreadable": {"Date": {"now"}},
		"two":        {"Date": {date(noon), date(noon)}},
	} {
		if got := safe.StoredHeader(200, in, 0, noon).Values("Date"); !reflect.DeepEqual(got, []string{date(noon)}) {
			t.Errorf("Date %s: got %q; want the time of receipt", name, got)
		}
	}
	old := "Monday, 23-Nov-26 11:00:00 GMT"
	if got := safe.StoredHeader(200, lines("Date", old), 0, noon).Get("Date"); got != old {
		t.Errorf("a Date that can be read: got %q; want it left", got)
	}
	if got := safe.StoredHeader(200, nil, 0, noon).Get("Date"); got != date(noon) {
		t.Errorf("no header: got Date %q; want the time of receipt", got)
	}
}

func TestStoredHeader_section9110_8_6_contentLength(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{200: "0", 204: "", 404: "0"} {
		if got := safe.StoredHeader(status, lines("Content-Length", "0"), 0, noon).Get("Content-Length"); got != want {
			t.Errorf("Content-Length of a stored %d: got %q; want %q", status, got, want)
		}
	}
}

func TestComplete_section3_3(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		header http.Header
		n      int64
		want   bool
	}{
		{"not said", h(), 5, true},
		{"all of it", h("Content-Length", "5"), 5, true},
		{"too short", h("Content-Length", "6"), 5, false},
		{"too long", h("Content-Length", "4"), 5, false},
		{"twice", h("Content-Length", "5, 5", "Content-Length", "5"), 5, true},
		{"two lengths", h("Content-Length", "5", "Content-Length", "6"), 5, false},
		{"no number", h("Content-Length", "five"), 5, false},
		{"sign", h("Content-Length", "+5"), 5, false},
		{"empty", h("Content-Length", ""), 0, false},
		{"2^64+5", h("Content-Length", "18446744073709551621"), 5, false},
		{"overridden, RFC 9112 6.3", h("Content-Length", "6", "Transfer-Encoding", "chunked"), 5, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := rfc9111.Complete(tt.header, tt.n); got != tt.want {
				t.Errorf("Complete(%v, %d): got %v; want %v", tt.header, tt.n, got, tt.want)
			}
		})
	}
}

// Remove the loop over the fields of no-cache and private in passable, and this goes
// red.
func TestStoredHeader_section5_2_2_namedFields(t *testing.T) {
	t.Parallel()
	in := h("Cache-Control", `max-age=60, no-cache="x-a, x-b", private=x-c`, "X-A", "1", "X-B", "2", "X-C", "3", "X-D", "4")
	got := safe.StoredHeader(200, in, 0, noon)
	for key, want := range map[string]bool{"X-A": false, "X-B": false, "X-C": false, "X-D": true} {
		if _, ok := got[key]; ok != want {
			t.Errorf("%s stored: got %v; want %v", key, ok, want)
		}
	}
}

func TestStoredHeader_profiles(t *testing.T) {
	t.Parallel()
	in := h("Set-Cookie", "a=b", "Content-Range", "bytes 0-4/10", "Content-Length", "9")
	for name, tt := range map[string]struct {
		policy rfc9111.Policy
		status int
		want   http.Header
	}{
		"safe":   {safe, 200, h("Date", date(noon), "Content-Length", "5", "Content-Range", "bytes 0-4/10")},
		"RFC":    {rfc, 200, h("Date", date(noon), "Content-Length", "5", "Set-Cookie", "a=b", "Content-Range", "bytes 0-4/10")},
		"a part": {safe, 206, h("Date", date(noon), "Content-Length", "5")},
	} {
		if got := tt.policy.StoredHeader(tt.status, in, 5, noon); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v; want %v", name, got, tt.want)
		}
	}
}
