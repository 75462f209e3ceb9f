package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/go-weir/weir/internal/rfc9111"
)

// browser is what a browser sends with a plain reload-free visit.
var browser = h("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "Accept-Encoding", "gzip, deflate, br",
	"Accept-Language", "en-GB,en;q=0.5", "User-Agent", "Mozilla/5.0 (X11; Linux x86_64)")

// BenchmarkReuse_hit is all that is decided about a plain hit: the request is
// parsed, its variant's key is made, the stored response is judged.
func BenchmarkReuse_hit(b *testing.B) {
	r := &http.Request{Method: "GET", Header: browser}
	vary := safe.Vary(lines("Vary", "Accept-Encoding, Accept-Language"))
	stored := rfc9111.Stored{Status: 200, ResponseTime: noon, Lifetime: time.Minute}
	now := noon.Add(time.Second)
	var buf [256]byte
	b.ReportAllocs()
	for b.Loop() {
		if v, bypass := rfc9111.Bypass(r); bypass {
			b.Fatal(v)
		}
		req := rfc9111.NewRequest(r.Method, r.Header)
		if _, ok := vary.AppendKey(buf[:0], r.Header); !ok {
			b.Fatal("no key")
		}
		if d := safe.Reuse(req, stored, now); !d.OK() {
			b.Fatal(d.Verdict)
		}
	}
}

// BenchmarkReuse_directives is the same with a request that has directives.
func BenchmarkReuse_directives(b *testing.B) {
	head := h("Cache-Control", "max-age=600, min-fresh=5, max-stale=60")
	stored := rfc9111.Stored{Status: 200, ResponseTime: noon, Lifetime: time.Minute}
	now := noon.Add(time.Second)
	b.ReportAllocs()
	for b.Loop() {
		if d := safe.Reuse(rfc9111.NewRequest("GET", head), stored, now); !d.OK() {
			b.Fatal(d.Verdict)
		}
	}
}

func BenchmarkNotModified(b *testing.B) {
	req := rfc9111.NewRequest("GET", h("If-None-Match", `"aaaa", W/"bbbb", "cccc"`))
	stored := rfc9111.Stored{Status: 200, ResponseTime: noon}
	etag := h("Etag", `"cccc"`)
	b.ReportAllocs()
	for b.Loop() {
		if !rfc9111.NotModified(req, stored, etag) {
			b.Fatal("modified")
		}
	}
}

func BenchmarkStorable(b *testing.B) {
	req := rfc9111.NewRequest("GET", browser)
	resp := rfc9111.Response{Status: 200, RequestTime: noon, ResponseTime: noon,
		Header: h("Cache-Control", "public, max-age=60", "Date", date(noon), "Content-Type", "text/html")}
	b.ReportAllocs()
	for b.Loop() {
		if _, v := safe.Storable(req, resp); !v.OK() {
			b.Fatal(v)
		}
	}
}

func BenchmarkParseDate(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := rfc9111.ParseDate("Sun, 06 Nov 1994 08:49:37 GMT", noon); !ok {
			b.Fatal("no date")
		}
	}
}

func BenchmarkStatus_hit(b *testing.B) {
	status := rfc9111.Status{Cache: "weir", Hit: true, TTL: time.Minute, HasTTL: true}
	head := http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		delete(head, "Cache-Status")
		status.AddTo(head)
		rfc9111.SetAge(head, time.Hour)
	}
}

// A request built to be slow to read must be read in linear time.
func BenchmarkParseRequestDirectives_hostile(b *testing.B) {
	line := make([]byte, 64<<10)
	for i := range line {
		line[i] = `,"\`[i%3]
	}
	head := lines("Cache-Control", string(line))
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		rfc9111.ParseRequestDirectives(head)
	}
}
