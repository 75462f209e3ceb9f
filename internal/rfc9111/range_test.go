package rfc9111_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

func TestParseRange_section9110_14_2(t *testing.T) {
	t.Parallel()
	type spans = []rfc9111.Span
	tests := []struct {
		name  string
		lines []string
		ok    bool
		want  spans // of 10 octets
	}{
		{"first and last", []string{"bytes=0-1"}, true, spans{{0, 2}}},
		{"one octet", []string{"bytes=9-9"}, true, spans{{9, 10}}},
		{"beyond the end", []string{"bytes=5-99"}, true, spans{{5, 10}}},
		{"from", []string{"bytes=3-"}, true, spans{{3, 10}}},
		{"the last", []string{"bytes=-4"}, true, spans{{6, 10}}},
		{"more than all", []string{"bytes=-40"}, true, spans{{0, 10}}},
		{"several", []string{"Bytes= 0-1 ,, 4-5 "}, true, spans{{0, 2}, {4, 6}}},
		{"in the order asked", []string{"bytes=8-9,0-1"}, true, spans{{8, 10}, {0, 2}}},
		{"overlapping", []string{"bytes=0-5,4-7"}, true, spans{{0, 8}}},
		{"one in another", []string{"bytes=0-,2-3,-1"}, true, spans{{0, 10}}},
		{"beside each other", []string{"bytes=0-3,4-7"}, true, spans{{0, 4}, {4, 8}}},
		{"one beyond", []string{"bytes=0-1,10-"}, true, spans{{0, 2}}},
		{"all beyond", []string{"bytes=10-,99-100"}, true, nil},
		{"none of them", []string{"bytes=-0"}, true, nil},

		{"no field", nil, false, nil},
		{"two lines", []string{"bytes=0-1", "bytes=2-3"}, false, nil},
		{"another unit", []string{"lines=0-1"}, false, nil},
		{"the end before the start", []string{"bytes=2-1"}, false, nil},
		{"no number", []string{"bytes=a-b"}, false, nil},
		{"a sign", []string{"bytes=+1-2"}, false, nil},
		{"no dash", []string{"bytes=1"}, false, nil},
		{"nothing", []string{"bytes=-"}, false, nil},
		{"no ranges", []string{"bytes=,"}, false, nil},
		{"too many", []string{"bytes=" + strings.Repeat("0-1,", 17)}, false, nil},
		{"too large", []string{"bytes=0-99999999999999999999"}, false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, ok := rfc9111.ParseRange(lines("Range", tt.lines...))
			if ok != tt.ok {
				t.Fatalf("%q: got %v; want %v", tt.lines, ok, tt.ok)
			}
			if got := r.AppendSpans(nil, 10); !slices.Equal(got, tt.want) {
				t.Errorf("%q: got %v; want %v", tt.lines, got, tt.want)
			}
		})
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-1,-5,3-", "bytes=9223372036854775807-", "bytes=-9223372036854775807", "x=1-2"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, s string, size int64) {
		r, ok := rfc9111.ParseRange(lines("Range", s))
		spans := r.AppendSpans(nil, size)
		if !ok && spans != nil {
			t.Fatalf("%q: got %v; want nothing", s, spans)
		}
		var sum int64
		for _, span := range spans {
			if span.First < 0 || span.First >= span.End || span.End > size {
				t.Errorf("%q of %d: got %v", s, size, span)
			}
			sum += span.Len()
		}
		if sum > max(0, size) {
			t.Errorf("%q of %d: %d octets in all", s, size, sum)
		}
	})
}

func TestContentRange_section9110_14_4(t *testing.T) {
	t.Parallel()
	tests := []struct {
		s    string
		ok   bool
		want rfc9111.Part
	}{
		{"bytes 0-4/10", true, rfc9111.Part{Span: rfc9111.Span{First: 0, End: 5}, Size: 10}},
		{"bytes 5-9/10", true, rfc9111.Part{Span: rfc9111.Span{First: 5, End: 10}, Size: 10}},
		{"bytes 5-9/*", true, rfc9111.Part{Span: rfc9111.Span{First: 5, End: 10}, Size: -1}},
		{"bytes 5-10/10", false, rfc9111.Part{}},
		{"bytes 5-4/10", false, rfc9111.Part{}},
		{"bytes */10", false, rfc9111.Part{}},
		{"bytes 0-4", false, rfc9111.Part{}},
		{"bytes=0-4/10", false, rfc9111.Part{}},
		{"lines 0-4/10", false, rfc9111.Part{}},
		{"bytes 0-9223372036854775807/*", false, rfc9111.Part{}},
		{"", false, rfc9111.Part{}},
	}
	for _, tt := range tests {
		got, ok := rfc9111.ParseContentRange(lines("Content-Range", tt.s))
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q: got %v, %v; want %v, %v", tt.s, got, ok, tt.want, tt.ok)
		}
		if ok && rfc9111.ContentRange(got.Span, got.Size) != tt.s {
			t.Errorf("%q: written again as %q", tt.s, rfc9111.ContentRange(got.Span, got.Size))
		}
	}
	if got := rfc9111.Unsatisfied(10); got != "bytes */10" {
		t.Errorf("got %q", got)
	}
}

func FuzzParseContentRange(f *testing.F) {
	f.Add("bytes 0-4/10")
	f.Add("bytes 9223372036854775806-9223372036854775806/9223372036854775807")
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := rfc9111.ParseContentRange(lines("Content-Range", s))
		if ok && (p.First < 0 || p.First >= p.End || p.Size != -1 && p.End > p.Size) {
			t.Errorf("%q: got %+v", s, p)
		}
	})
}

func TestIfRange_section9110_13_1_5(t *testing.T) {
	t.Parallel()
	day, before := date(noon), date(noon.Add(-time.Second))
	tests := []struct {
		name    string
		ifRange []string
		stored  http.Header
		want    bool
	}{
		{"absent", nil, h("ETag", `"a"`), true},
		{"the ETag", []string{`"a"`}, h("ETag", `"a"`), true},
		{"another", []string{`"b"`}, h("ETag", `"a"`), false},
		{"a weak one", []string{`W/"a"`}, h("ETag", `W/"a"`), false},
		{"strong for weak", []string{`"a"`}, h("ETag", `W/"a"`), false},
		{"an ETag where none is", []string{`"a"`}, h("Last-Modified", before, "Date", day), false},
		{"the date", []string{before}, h("Last-Modified", before, "Date", day), true},
		{"a later date is not the same", []string{day}, h("Last-Modified", before, "Date", day), false},
		{"a date that is weak, 8.8.2.2", []string{day}, h("Last-Modified", day, "Date", day), false},
		{"a date without a Date", []string{before}, h("Last-Modified", before), false},
		{"no validator", []string{"x"}, h("ETag", `"a"`), false},
		{"two lines", []string{`"a"`, `"a"`}, h("ETag", `"a"`), false},
	}
	for _, tt := range tests {
		req := rfc9111.NewRequest("GET", lines("If-Range", tt.ifRange...))
		if got := rfc9111.IfRange(req, rfc9111.Stored{Status: 200, ResponseTime: noon}, tt.stored); got != tt.want {
			t.Errorf("%s: got %v; want %v", tt.name, got, tt.want)
		}
	}
}

func TestSelect(t *testing.T) {
	t.Parallel()
	whole := rfc9111.Stored{Status: 200, ResponseTime: noon}
	part := rfc9111.Stored{Status: 206, ResponseTime: noon, First: 4, Size: 10}
	open := rfc9111.Stored{Status: 206, ResponseTime: noon, First: 4, Size: -1}
	missing := rfc9111.Stored{Status: 404, ResponseTime: noon}
	etag := h("ETag", `"a"`)
	type spans = []rfc9111.Span
	tests := []struct {
		name   string
		method string
		req    http.Header
		stored rfc9111.Stored
		have   int64
		want   rfc9111.Selection
		spans  spans
	}{
		{"all of it", "GET", h(), whole, 10, rfc9111.SelectWhole, nil},
		{"a range", "GET", h("Range", "bytes=1-2"), whole, 10, rfc9111.SelectSpans, spans{{1, 3}}},
		{"a range of a HEAD, 9110 14.2", "HEAD", h("Range", "bytes=1-2"), whole, 10, rfc9111.SelectWhole, nil},
		{"a range that cannot be read", "GET", h("Range", "bytes=x"), whole, 10, rfc9111.SelectWhole, nil},
		{"a range of something else", "GET", h("Range", "bytes=1-2", "If-Range", `"b"`), whole, 10, rfc9111.SelectWhole, nil},
		{"a range of this", "GET", h("Range", "bytes=1-2", "If-Range", `"a"`), whole, 10, rfc9111.SelectSpans, spans{{1, 3}}},
		{"a range beyond", "GET", h("Range", "bytes=10-"), whole, 10, rfc9111.SelectUnsatisfiable, nil},
		{"a range of nothing", "GET", h("Range", "bytes=0-"), whole, 0, rfc9111.SelectUnsatisfiable, nil},
		{"a range of an error", "GET", h("Range", "bytes=0-1"), missing, 10, rfc9111.SelectWhole, nil},
		{"a condition", "GET", h("If-None-Match", `"a"`), whole, 10, rfc9111.SelectNotModified, nil},
		{"a condition before a range, 9110 13.2.2", "GET", h("If-None-Match", `"a"`, "Range", "bytes=99-"), whole, 10, rfc9111.SelectNotModified, nil},
		{"a condition not met, and a range", "GET", h("If-None-Match", `"b"`, "Range", "bytes=1-2"), whole, 10, rfc9111.SelectSpans, spans{{1, 3}}},

		{"a part for the whole, 9111 3.3", "GET", h(), part, 5, rfc9111.SelectNone, nil},
		{"a part for a HEAD", "HEAD", h(), part, 5, rfc9111.SelectNone, nil},
		{"what is in the part", "GET", h("Range", "bytes=6-8"), part, 5, rfc9111.SelectSpans, spans{{6, 9}}},
		{"all of the part", "GET", h("Range", "bytes=4-8"), part, 5, rfc9111.SelectSpans, spans{{4, 9}}},
		{"before the part", "GET", h("Range", "bytes=3-5"), part, 5, rfc9111.SelectNone, nil},
		{"behind the part", "GET", h("Range", "bytes=6-9"), part, 5, rfc9111.SelectNone, nil},
		{"to the end, which is there", "GET", h("Range", "bytes=6-"), part, 6, rfc9111.SelectSpans, spans{{6, 10}}},
		{"the last, which is there", "GET", h("Range", "bytes=-1"), part, 6, rfc9111.SelectSpans, spans{{9, 10}}},
		{"the last, which is not", "GET", h("Range", "bytes=-1"), part, 5, rfc9111.SelectNone, nil},
		{"one of two is not", "GET", h("Range", "bytes=0-1,5-6"), part, 5, rfc9111.SelectNone, nil},
		{"beyond the whole", "GET", h("Range", "bytes=10-"), part, 5, rfc9111.SelectUnsatisfiable, nil},
		{"a condition on a part", "GET", h("If-None-Match", `"a"`), part, 5, rfc9111.SelectNotModified, nil},
		{"in a part of unknown size", "GET", h("Range", "bytes=4-5"), open, 5, rfc9111.SelectSpans, spans{{4, 6}}},
		{"the last of an unknown size", "GET", h("Range", "bytes=-1"), open, 5, rfc9111.SelectNone, nil},
		{"to the end of an unknown size", "GET", h("Range", "bytes=5-"), open, 5, rfc9111.SelectNone, nil},
		{"no octets of an unknown size", "GET", h("Range", "bytes=-0"), open, 5, rfc9111.SelectNone, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, spans := rfc9111.Select(rfc9111.NewRequest(tt.method, tt.req), tt.stored, etag, tt.have, nil)
			if got != tt.want || !slices.Equal(spans, tt.spans) {
				t.Errorf("got %v, %v; want %v, %v", got, spans, tt.want, tt.spans)
			}
		})
	}
}

func TestMissing_section3_4(t *testing.T) {
	t.Parallel()
	head := rfc9111.Stored{Status: 206, ResponseTime: noon, First: 0, Size: 10}
	tail := rfc9111.Stored{Status: 206, ResponseTime: noon, First: 5, Size: 10}
	day, before := date(noon), date(noon.Add(-time.Second))
	tests := []struct {
		name    string
		stored  rfc9111.Stored
		h       http.Header
		have    int64
		ok      bool
		span    rfc9111.Span
		ifRange string
		field   string
	}{
		{"the end", head, h("ETag", `"a"`), 5, true, rfc9111.Span{First: 5, End: 10}, `"a"`, "bytes=5-"},
		{"the beginning", tail, h("ETag", `"a"`), 5, true, rfc9111.Span{First: 0, End: 5}, `"a"`, "bytes=0-4"},
		{"by date", head, h("Last-Modified", before, "Date", day), 5, true, rfc9111.Span{First: 5, End: 10}, before, "bytes=5-"},
		{"both ends", tail, h("ETag", `"a"`), 4, false, rfc9111.Span{}, "", ""},
		{"nothing", head, h("ETag", `"a"`), 10, false, rfc9111.Span{}, "", ""},
		{"a weak validator", head, h("ETag", `W/"a"`), 5, false, rfc9111.Span{}, "", ""},
		{"no validator", head, h(), 5, false, rfc9111.Span{}, "", ""},
		{"a weak date", head, h("Last-Modified", day, "Date", day), 5, false, rfc9111.Span{}, "", ""},
		{"of an unknown size", rfc9111.Stored{Status: 206, Size: -1}, h("ETag", `"a"`), 5, false, rfc9111.Span{}, "", ""},
		{"of a whole", rfc9111.Stored{Status: 200}, h("ETag", `"a"`), 5, false, rfc9111.Span{}, "", ""},
	}
	for _, tt := range tests {
		span, ifRange, ok := rfc9111.Missing(tt.stored, tt.h, tt.have)
		if ok != tt.ok || ok && (span != tt.span || ifRange != tt.ifRange || rfc9111.RangeOf(span, 10) != tt.field) {
			t.Errorf("%s: got %v, %q, %v, %q", tt.name, span, ifRange, ok, rfc9111.RangeOf(span, 10))
		}
	}
}

func TestCombines_section3_4(t *testing.T) {
	t.Parallel()
	day := date(noon)
	for _, tt := range []struct {
		name string
		a, b http.Header
		want bool
	}{
		{"one strong validator", h("ETag", `"a"`), h("ETag", `"a"`), true},
		{"two", h("ETag", `"a"`), h("ETag", `"b"`), false},
		{"weak", h("ETag", `W/"a"`), h("ETag", `W/"a"`), false},
		{"in one of them", h("ETag", `"a"`, "Last-Modified", day), h("Last-Modified", day), false},
		{"one date", h("Last-Modified", day), h("Last-Modified", day), true},
		{"none", h(), h(), false},
	} {
		if got := rfc9111.Combines(tt.a, tt.b); got != tt.want {
			t.Errorf("%s: got %v; want %v", tt.name, got, tt.want)
		}
	}
}

func TestJoin_section3_4(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		a      int64
		first  string
		b      int64
		second string
		ok     bool
		at     int64
		want   string
	}{
		{"one behind the other", 0, "01234", 5, "56789", true, 0, "0123456789"},
		{"one before the other", 5, "56789", 0, "01234", true, 0, "0123456789"},
		{"overlapping, the newer counts", 0, "01234", 3, "XYZ", true, 0, "012XYZ"},
		{"one in the other", 2, "234567", 4, "XX", true, 2, "23XX67"},
		{"a gap", 0, "012", 4, "45", false, 0, ""},
	} {
		a := rfc9111.Span{First: tt.a, End: tt.a + int64(len(tt.first))}
		b := rfc9111.Span{First: tt.b, End: tt.b + int64(len(tt.second))}
		span, got, ok := rfc9111.Join(a, []byte(tt.first), b, []byte(tt.second))
		if ok != tt.ok || string(got) != tt.want || ok && (span.First != tt.at || span.Len() != int64(len(got))) {
			t.Errorf("%s: got %v, %q, %v", tt.name, span, got, ok)
		}
	}
}
