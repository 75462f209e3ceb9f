package rfc9111_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestNotModified_section4_3_2(t *testing.T) {
	t.Parallel()
	day := func(n int) string { return date(noon.AddDate(0, 0, n)) }
	tests := []struct {
		name   string
		req    http.Header
		stored http.Header
		want   bool
	}{
		{"no precondition", h(), h("Etag", `"a"`), false},
		{"strong", h("If-None-Match", `"a"`), h("Etag", `"a"`), true},
		{"another", h("If-None-Match", `"b"`), h("Etag", `"a"`), false},
		{"weak and weak, 8.8.3.2", h("If-None-Match", `W/"a"`), h("Etag", `W/"a"`), true},
		{"weak and strong", h("If-None-Match", `W/"a"`), h("Etag", `"a"`), true},
		{"strong and weak", h("If-None-Match", `"a"`), h("Etag", `W/"a"`), true},
		{"case counts", h("If-None-Match", `"A"`), h("Etag", `"a"`), false},
		{"first of a list", h("If-None-Match", `"a", "b", "c"`), h("Etag", `"a"`), true},
		{"middle of a list", h("If-None-Match", `"b","a" , W/"c"`), h("Etag", `"a"`), true},
		{"last of a list", h("If-None-Match", `, "b",, "c", "a"`), h("Etag", `"a"`), true},
		{"a second line", h("If-None-Match", `"b"`, "If-None-Match", `"a"`), h("Etag", `"a"`), true},
		{"a comma in a tag", h("If-None-Match", `"b,c", "a"`), h("Etag", `"a"`), true},
		{"a tag in a tag", h("If-None-Match", `"b, 'a'"`), h("Etag", `"a"`), false},
		{"obs-text", h("If-None-Match", "\"a\xfc\""), h("Etag", "\"a\xfc\""), true},
		{"the empty tag", h("If-None-Match", `""`), h("Etag", `""`), true},
		{"star", h("If-None-Match", "*"), h("Etag", `"a"`), true},
		{"star without ETag", h("If-None-Match", " * "), h(), true},
		{"star in a list is no tag", h("If-None-Match", `"b", *`), h("Etag", `"a"`), false},
		{"star in two lines", h("If-None-Match", "*", "If-None-Match", "*"), h("Etag", `"a"`), false},
		{"no ETag", h("If-None-Match", `"a"`), h(), false},
		{"two ETags", h("If-None-Match", `"a"`), h("Etag", `"a"`, "Etag", `"a"`), false},
		{"unquoted", h("If-None-Match", "a"), h("Etag", `"a"`), false},
		{"unquoted both", h("If-None-Match", "a"), h("Etag", "a"), false},
		{"small w", h("If-None-Match", `w/"a"`), h("Etag", `w/"a"`), false},
		{"text behind the stored tag", h("If-None-Match", `"a"`), h("Etag", `"a" x`), false},
		{"text behind a tag", h("If-None-Match", `"a"x`), h("Etag", `"a"`), false},
		{"a space in a tag", h("If-None-Match", `"a b"`), h("Etag", `"a b"`), false},
		{"no end", h("If-None-Match", `"a`), h("Etag", `"a"`), false},
		{"If-None-Match over If-Modified-Since, no match", h("If-None-Match", `"b"`, "If-Modified-Since", day(1)), h("Etag", `"a"`, "Last-Modified", day(0)), false},
		{"If-None-Match over If-Modified-Since, match", h("If-None-Match", `"a"`, "If-Modified-Since", day(-1)), h("Etag", `"a"`, "Last-Modified", day(0)), true},
		{"unreadable If-None-Match over If-Modified-Since, 13.1.3", h("If-None-Match", "", "If-Modified-Since", day(0)), h("Last-Modified", day(0)), false},

		{"not modified since", h("If-Modified-Since", day(-1)), h("Last-Modified", day(-1)), true},
		{"modified before", h("If-Modified-Since", day(-1)), h("Last-Modified", day(-2)), true},
		{"modified since", h("If-Modified-Since", day(-2)), h("Last-Modified", day(-1)), false},
		{"a date of RFC 850", h("If-Modified-Since", "Monday, 23-Nov-26 12:00:00 GMT"), h("Last-Modified", day(0)), true},
		{"no HTTP-date, 13.1.3", h("If-Modified-Since", noon.Format(time.RFC3339)), h("Last-Modified", day(-1)), false},
		{"not GMT, 13.1.3", h("If-Modified-Since", noon.Format(time.RFC1123)), h("Last-Modified", day(-1)), false},
		{"two dates, 13.1.3", h("If-Modified-Since", day(0), "If-Modified-Since", day(0)), h("Last-Modified", day(-1)), false},
		{"no Last-Modified: Date", h("If-Modified-Since", day(0)), h("Date", day(0)), true},
		{"no Last-Modified: Date after", h("If-Modified-Since", day(-1)), h("Date", day(0)), false},
		{"neither: time of receipt", h("If-Modified-Since", day(0)), h(), true},
		{"neither: received after", h("If-Modified-Since", date(noon.Add(-time.Second))), h(), false},
		{"Last-Modified unreadable", h("If-Modified-Since", day(0)), h("Last-Modified", "x", "Date", day(-1)), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			stored := rfc9111.Stored{Status: 200, ResponseTime: noon.Add(time.Millisecond)}
			if got := rfc9111.NotModified(rfc9111.NewRequest("GET", tt.req), stored, tt.stored); got != tt.want {
				t.Errorf("NotModified(%v, %v): got %v; want %v", tt.req, tt.stored, got, tt.want)
			}
		})
	}
}

func TestNotModified_section9110_13_2_1(t *testing.T) {
	t.Parallel()
	req, etag := h("If-None-Match", `"a"`), h("Etag", `"a"`)
	tests := []struct {
		method string
		status int
		want   bool
	}{
		{"GET", 200, true},
		{"HEAD", 200, true},
		{"POST", 200, false},
		{"GET", 404, false},
		{"GET", 301, false},
	}
	for _, tt := range tests {
		got := rfc9111.NotModified(rfc9111.NewRequest(tt.method, req), rfc9111.Stored{Status: tt.status, ResponseTime: noon}, etag)
		if got != tt.want {
			t.Errorf("%s on a stored %d: got %v; want %v", tt.method, tt.status, got, tt.want)
		}
	}
}

func TestNotModifiedHeader_section9110_15_4_5(t *testing.T) {
	t.Parallel()
	kept := []string{"Content-Location", "/a", "Date", "d", "Etag", `"a"`, "Vary", "Accept", "Cache-Control", "max-age=1", "Expires", "e", "X-Other", "x"}
	got := h(append(kept, "Content-Length", "5", "Content-Type", "text/plain", "Content-Encoding", "gzip",
		"Content-Language", "en", "Content-Range", "x", "Last-Modified", "l")...)
	rfc9111.NotModifiedHeader(got)
	if want := h(kept...); !reflect.DeepEqual(got, want) {
		t.Errorf("header of a 304: got %v; want %v", got, want)
	}
	got = h("Last-Modified", "l", "Content-Type", "t")
	rfc9111.NotModifiedHeader(got)
	if want := h("Last-Modified", "l"); !reflect.DeepEqual(got, want) {
		t.Errorf("header of a 304 without ETag: got %v; want %v", got, want)
	}
}
