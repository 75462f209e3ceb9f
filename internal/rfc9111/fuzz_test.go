package rfc9111_test

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"

	"github.com/go-weir/weir/internal/rfc9111"
)

func FuzzParseResponseDirectives(f *testing.F) {
	for _, s := range []string{"max-age=60, public", `private="a, b"`, `x="a, no-store`, `max-age="\6"`, "no-cache=\"a\", no-cache", "a=\"\\", "s-maxage=1;x, ,"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		two := rfc9111.ParseResponseDirectives(lines("Cache-Control", a, b))
		for _, s := range []rfc9111.Seconds{two.MaxAge, two.SMaxage} {
			if s.Valid && (!s.Present || s.Value < 0 || s.Value > rfc9111.MaxDelta) || !s.Valid && s.Value != 0 {
				t.Errorf("%q, %q: got seconds %+v", a, b, s)
			}
		}
		if two.Malformed && (two.Public || two.MustUnderstand) {
			t.Errorf("%q, %q: malformed, and yet permits: %+v", a, b, two)
		}
		// A line more never takes back what another forbids.
		one := rfc9111.ParseResponseDirectives(lines("Cache-Control", a))
		if one.NoStore && !two.NoStore || one.Private.Present && !two.Private.Present || one.NoCache.Present && !two.NoCache.Present ||
			one.MustRevalidate && !two.MustRevalidate || one.MaxAge.Present && !one.MaxAge.Valid && two.MaxAge.Valid {
			t.Errorf("%q forbids %+v; with %q only %+v", a, one, b, two)
		}
		// The lines are one list (RFC 9110 5.3).
		if !two.Malformed {
			if got := rfc9111.ParseResponseDirectives(lines("Cache-Control", a+", "+b)); !reflect.DeepEqual(got, two) {
				t.Errorf("%q, %q: got %+v in one line; want %+v", a, b, got, two)
			}
		}
		rfc9111.ParseRequestDirectives(http.Header{"Cache-Control": {a}, "Pragma": {b}})
		rfc9111.ParseRequestDirectives(http.Header{"Pragma": {b}})
	})
}

func FuzzParseDate(f *testing.F) {
	for _, s := range []string{"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "Sat, 31 Dec 2016 23:59:60 GMT", "Thursday, 29-Feb-00 00:00:00 GMT"} {
		f.Add(s, int64(1795435200))
	}
	f.Fuzz(func(t *testing.T, s string, unix int64) {
		now := time.Unix(unix%(1<<36), 0)
		got, ok := rfc9111.ParseDate(s, now)
		if !ok {
			return
		}
		if got.Location() != time.UTC || got.Nanosecond() != 0 {
			t.Errorf("ParseDate(%q): got %v; want whole seconds in UTC", s, got)
		}
		// A date is one of the three forms of the time it stands for, but for the
		// weekday, letters' case, asctime's "06" for " 6" and the leap second.
		in := strings.Replace(s, "23:59:60", "23:59:59", 1)
		for d := time.Sunday; d <= time.Saturday; d++ {
			for _, name := range []string{d.String(), d.String()[:3]} {
				if end := len(name); len(in) > end && strings.EqualFold(in[:end], name) && (in[end] == ',' || in[end] == ' ') {
					right := got.Weekday().String()
					if end == 3 {
						right = right[:3]
					}
					in = right + in[end:]
					break
				}
			}
			if in != strings.Replace(s, "23:59:60", "23:59:59", 1) {
				break
			}
		}
		forms := []string{got.Format(http.TimeFormat), got.Format("Monday, 02-Jan-06 15:04:05 GMT"), got.Format(time.ANSIC), got.Format("Mon Jan 02 15:04:05 2006")}
		for _, form := range forms {
			if strings.EqualFold(in, form) {
				if form == forms[1] && got.After(now.AddDate(50, 0, 0)) {
					t.Errorf("ParseDate(%q) in %v: got %v, more than 50 years ahead", s, now, got)
				}
				return
			}
		}
		t.Errorf("ParseDate(%q): got %v, of which it is no form: %q", s, got, forms)
	})
}

func FuzzParseAge(f *testing.F) {
	for _, s := range []string{"0", "7200, 0", "-1", "1.5", "99999999999999999999", " 5 ,x", "5;x=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := rfc9111.ParseAge(lines("Age", s))
		if got < 0 || got > rfc9111.MaxDelta || !ok && got != 0 {
			t.Errorf("ParseAge(%q): got %v, %v", s, got, ok)
		}
		first := strings.Trim(strings.Split(strings.ReplaceAll(s, ";", ","), ",")[0], " \t")
		if digits := first != "" && strings.Trim(first, "0123456789") == ""; ok != digits {
			t.Errorf("ParseAge(%q): got ok %v; want %v", s, ok, digits)
		}
		// What is read can be written, and reads the same.
		head := http.Header{}
		rfc9111.SetAge(head, got)
		if again, _ := rfc9111.ParseAge(head); again != got {
			t.Errorf("ParseAge(%q): got %v, written and read again %v", s, got, again)
		}
	})
}

func FuzzVary(f *testing.F) {
	f.Add("accept, x-a", "a, b", `c;q="1, 2"`, "x")
	f.Add("*", "", "", "")
	f.Add("x-a, accept", `"`, `\`, "-")
	f.Fuzz(func(t *testing.T, vary, a, b, x string) {
		// As a server hands lines on (RFC 9110 5.5: without white space around).
		a, b, x = strings.Trim(a, " \t"), strings.Trim(b, " \t"), strings.Trim(x, " \t")
		for _, p := range []rfc9111.Policy{safe, rfc} {
			v := p.Vary(lines("Vary", vary))
			req := http.Header{"Accept": {a, b}, "X-A": {x}}
			key, ok := v.AppendKey(nil, req)
			if ok == v.Any() {
				t.Fatalf("Vary %q: any %v, key %v", vary, v.Any(), ok)
			}
			if v.Match(key, req) != ok {
				t.Errorf("Vary %q: a request does not match itself", vary)
			}
			// Combined lines match (4.1): it is the same value.
			if ok && !v.Match(key, http.Header{"Accept": {a + ", " + b}, "X-A": {x}}) {
				t.Errorf("Vary %q: %q and %q, combined, do not match", vary, a, b)
			}
			// A field of another value matches only if white space is all that
			// differs, and an absent one never.
			named := strings.Contains(","+strings.Join(v.Names(), ",")+",", ",X-A,")
			if other := (http.Header{"Accept": {a, b}, "X-A": {b}}); ok && named && squeeze(b) != squeeze(x) && v.Match(key, other) {
				t.Errorf("Vary %q: %q matches %q", vary, x, b)
			}
			if ok && named && v.Match(key, http.Header{"Accept": {a, b}}) {
				t.Errorf("Vary %q: %q matches none", vary, x)
			}
		}
	})
}

func squeeze(s string) string {
	return strings.NewReplacer(" ", "", "\t", "").Replace(s)
}

func FuzzNotModified(f *testing.F) {
	for _, s := range []string{"*", `"a", W/"b"`, `W/"`, `""`, `"a" "b"`, "a"} {
		f.Add(s, `"a"`, "Sun, 06 Nov 1994 08:49:37 GMT")
	}
	f.Fuzz(func(t *testing.T, inm, etag, since string) {
		stored := rfc9111.Stored{Status: 200, ResponseTime: noon}
		match := rfc9111.NotModified(rfc9111.NewRequest("GET", lines("If-None-Match", inm)), stored, lines("Etag", etag))
		opaque := strings.TrimPrefix(strings.Trim(etag, " \t"), "W/")
		if match && strings.Trim(inm, " \t") != "*" && (len(opaque) < 2 || !strings.Contains(inm, opaque)) {
			t.Errorf("If-None-Match %q matches %q", inm, etag)
		}
		// Behind it If-Modified-Since changes nothing (RFC 9110 13.1.3).
		both := http.Header{"If-None-Match": {inm}, "If-Modified-Since": {since}}
		if got := rfc9111.NotModified(rfc9111.NewRequest("GET", both), stored, lines("Etag", etag)); got != match {
			t.Errorf("If-None-Match %q, ETag %q: got %v beside If-Modified-Since %q; want %v", inm, etag, got, since, match)
		}
		alone := rfc9111.NotModified(rfc9111.NewRequest("GET", lines("If-Modified-Since", since)), stored, nil)
		if _, ok := rfc9111.ParseDate(strings.Trim(since, " \t"), noon); alone && !ok {
			t.Errorf("If-Modified-Since %q: got a match; want it ignored", since)
		}
	})
}

// Whatever is put in, one member comes out that says it.
func FuzzStatus(f *testing.F) {
	f.Add("weir", "k", "d", int64(5), true)
	f.Add(`a"b`, "\x00", "é", int64(-1), false)
	f.Fuzz(func(t *testing.T, cache, key, detail string, ttl int64, hit bool) {
		got := rfc9111.Status{Cache: cache, Hit: hit, Fwd: rfc9111.FwdMiss, TTL: time.Duration(ttl), HasTTL: true, Key: key, Detail: detail}.Append(nil)
		list, err := httpsfv.UnmarshalList([]string{string(got)})
		if err != nil || cache != "" && len(list) != 1 {
			t.Errorf("member %q: got %v, %v; want one", got, list, err)
		}
	})
}
