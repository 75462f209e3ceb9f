package rfc9111_test

import (
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestCondition_section4_3_1(t *testing.T) {
	t.Parallel()
	day := date(noon)
	tests := []struct {
		name            string
		request, stored http.Header
		want            http.Header
	}{
		{"an ETag", h("Accept", "x"), h("ETag", `"a"`), h("Accept", "x", "If-None-Match", `"a"`)},
		{"a weak one", h(), h("ETag", `W/"a"`), h("If-None-Match", `W/"a"`)},
		{"a Last-Modified", h(), h("Last-Modified", day), h("If-Modified-Since", day)},
		{"both", h(), h("ETag", `"a"`, "Last-Modified", day), h("If-None-Match", `"a"`, "If-Modified-Since", day)},
		{"as it is written", h(), h("Last-Modified", "Monday, 23-Nov-26 12:00:00 GMT"), h("If-Modified-Since", "Monday, 23-Nov-26 12:00:00 GMT")},
		{"no entity tag", h(), h("ETag", "a", "Last-Modified", "yesterday"), h()},
		{"two ETags", h(), h("ETag", `"a"`, "ETag", `"b"`), h()},
		{"the client's conditions go", h("If-None-Match", `"x"`, "If-Modified-Since", day, "If-Match", "*", "If-Unmodified-Since", day), h("ETag", `"a"`), h("If-None-Match", `"a"`)},
		{"its range stays", h("Range", "bytes=0-1", "If-Range", `"a"`), h("ETag", `"a"`), h("Range", "bytes=0-1", "If-Range", `"a"`, "If-None-Match", `"a"`)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rfc9111.Condition(tt.request, tt.stored, noon)
			if !reflect.DeepEqual(tt.request, tt.want) {
				t.Errorf("got %v; want %v", tt.request, tt.want)
			}
			_, etag := tt.want["If-None-Match"]
			_, modified := tt.want["If-Modified-Since"]
			if got := rfc9111.HasValidator(tt.stored, noon); got != (etag || modified) {
				t.Errorf("HasValidator(%v): got %v", tt.stored, got)
			}
		})
	}
}

func TestUpdates_section4_3_4(t *testing.T) {
	t.Parallel()
	day, other := date(noon), date(noon.Add(time.Hour))
	tests := []struct {
		name        string
		fresh, kept http.Header
		want        bool
	}{
		{"the same strong validator", h("ETag", `"a"`), h("ETag", `"a"`), true},
		{"another strong one", h("ETag", `"b"`), h("ETag", `"a"`), false},
		{"strong for weak", h("ETag", `"a"`), h("ETag", `W/"a"`), false},
		{"weak for strong", h("ETag", `W/"a"`), h("ETag", `"a"`), true},
		{"weak for weak", h("ETag", `W/"a"`), h("ETag", `W/"a"`), true},
		{"another weak one", h("ETag", `W/"b"`), h("ETag", `W/"a"`), false},
		{"an ETag where none is stored", h("ETag", `"a"`), h("Last-Modified", day), false},
		{"none", h(), h("ETag", `"a"`), true},
		{"the same date", h("Last-Modified", day), h("Last-Modified", day), true},
		{"another date", h("Last-Modified", other), h("Last-Modified", day), false},
		{"another date beside the same ETag", h("ETag", `"a"`, "Last-Modified", other), h("ETag", `"a"`, "Last-Modified", day), true},
	}
	for _, tt := range tests {
		if got := rfc9111.Updates(tt.fresh, tt.kept); got != tt.want {
			t.Errorf("%s: got %v; want %v", tt.name, got, tt.want)
		}
	}
}

func TestFreshen_section3_2(t *testing.T) {
	t.Parallel()
	stored := h("Content-Length", "5", "Content-Type", "a/b", "Content-Encoding", "gzip", "ETag", `"a"`, "X-Old", "1", "X-Same", "1", "Age", "9",
		"Date", date(noon.Add(-time.Hour)), "Cache-Control", "max-age=1")
	before := stored.Clone()
	update := h("Content-Length", "9", "Content-Type", "c/d", "Content-Encoding", "br", "Content-Range", "bytes 0-1/2", "Content-MD5", "x", "ETag", `W/"a"`,
		"X-Same", "2", "X-New", "3", "Connection", "x-hop", "X-Hop", "4", "Set-Cookie", "a=b", "Cache-Control", "max-age=60")
	want := h("Content-Length", "5", "Content-Type", "c/d", "Content-Encoding", "gzip", "ETag", `"a"`, "X-Old", "1", "X-Same", "2", "X-New", "3",
		"Date", date(noon), "Cache-Control", "max-age=60")
	if got := safe.Freshen(stored, update, noon); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
	want.Set("Set-Cookie", "a=b")
	if got := rfc.Freshen(stored, update, noon); !reflect.DeepEqual(got, want) {
		t.Errorf("RFC: got %v; want %v", got, want)
	}
	if !reflect.DeepEqual(stored, before) {
		t.Errorf("the stored header was altered: %v", stored)
	}
	said := date(noon.Add(-time.Minute))
	got := safe.Freshen(nil, h("Date", said, "Age", "3"), noon)
	if want := h("Date", said, "Age", "3"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
}

func TestUpdatedByHead_section4_3_5(t *testing.T) {
	t.Parallel()
	day := date(noon)
	tests := []struct {
		name       string
		head, kept http.Header
		want       bool
	}{
		{"nothing to compare", h(), h("ETag", `"a"`), true},
		{"the same ETag", h("ETag", `"a"`), h("ETag", `"a"`), true},
		{"another ETag", h("ETag", `"b"`), h("ETag", `"a"`), false},
		{"an ETag where none is stored", h("ETag", `"a"`), h(), false},
		{"another date", h("Last-Modified", day), h("Last-Modified", date(noon.Add(time.Second))), false},
		{"one of two differs", h("ETag", `"a"`, "Last-Modified", day), h("ETag", `"a"`), false},
		{"the same length", h("Content-Length", "5"), h(), true},
		{"another length", h("Content-Length", "6"), h(), false},
	}
	for _, tt := range tests {
		if got := rfc9111.UpdatedByHead(tt.head, tt.kept, 5); got != tt.want {
			t.Errorf("%s: got %v; want %v", tt.name, got, tt.want)
		}
	}
}
