package middleware_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"strconv"
	"strings"
	"testing"

	"github.com/go-weir/weir/internal/testkit"
	"github.com/go-weir/weir/middleware"
)

// What a request is kept by beside its target: the values of the fields that Vary names,
// and where an answer says No-Vary-Search the query as that has it. Protected by the
// lengths that AppendKey and key put before each part, and by the field in keyUnder.
func FuzzKeyOfVariant(f *testing.F) {
	f.Add("User-Agent, Cookie", "a", "b", true, "a,b", "", false, "params", "params", "a=1", "a=2")
	f.Add("Cookie", "a;User-Agent:1=b", "", false, "a", "b", true, `params=("a")`, "", "a=1", "b=1")
	f.Add("User-Agent,Cookie", "1=a;Cookie:-", "", false, "a", "-", true, "key-order", "key-order", "a&b", "b&a")
	f.Fuzz(func(t *testing.T, vary, agent1, cookie1 string, has1 bool, agent2, cookie2 string, has2 bool, field1, field2, query1, query2 string) {
		for _, name := range strings.Split(vary, ",") {
			switch strings.Trim(name, " ") {
			case "", "User-Agent", "Cookie": // no lists, whose white space means nothing
			default:
				return
			}
		}
		header := func(agent, cookie string, has bool) (h http.Header, values string) {
			h = http.Header{"User-Agent": {agent}}
			values = fmt.Sprintf("%q", textproto.TrimString(agent))
			if !strings.Contains(vary, "User-Agent") {
				values = ""
			}
			if has {
				h["Cookie"] = []string{cookie}
			}
			if strings.Contains(vary, "Cookie") {
				values += fmt.Sprintf(" %t %q", has, textproto.TrimString(strings.Join(h["Cookie"], "")))
			}
			return h, values
		}
		h1, want1 := header(agent1, cookie1, has1)
		h2, want2 := header(agent2, cookie2, has2)
		if same := middleware.VariantOf(vary, h1) == middleware.VariantOf(vary, h2); same != (want1 == want2) {
			t.Errorf("Vary: %s, %q and %q: same variant %v", vary, h1, h2, same)
		}
		r1, ok1 := requestFor(t, "/a?"+query1, "h")
		r2, ok2 := requestFor(t, "/a?"+query2, "h")
		if !ok1 || !ok2 {
			return
		}
		key1, search1 := middleware.KeyUnder(r1, field1)
		key2, search2 := middleware.KeyUnder(r2, field2)
		if same := key1 == key2; same != (field1 == field2 && search1 == search2) {
			t.Errorf("No-Vary-Search %q and %q, queries %q and %q: same key %v", field1, field2, query1, query2, same)
		}
		for _, plain := range []string{middleware.KeyOf(r1), middleware.KeyOf(r2)} {
			if plain == key1 || plain == key2 || plain == middleware.KeyOfAll(r1) {
				t.Errorf("a plain key is one by No-Vary-Search: %q", plain)
			}
		}
	})
}

// hostile is a cache whose handler answers with whatever fields, and a body that says what
// it is the answer to.
type hostile struct {
	*cached
	status int
	fields http.Header
}

func newHostile(tb testing.TB) *hostile {
	tb.Helper()
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	tb.Cleanup(func() { slog.SetDefault(before) })
	h := &hostile{}
	h.cached = newCachedOn(tb, testkit.Mini(tb), nil, func(w http.ResponseWriter, r *http.Request) {
		for name, values := range h.fields {
			w.Header()[name] = values
		}
		w.WriteHeader(h.status)
		_, _ = io.WriteString(w, textOf(r))
	}, middleware.WithRFCProfile())
	return h
}

func textOf(r *http.Request) string {
	return strings.Repeat("all there is of "+r.URL.EscapedPath()+". ", 4)
}

// ask sends a GET for path, and checks that its answer can be one: the handler's own, or
// what RFC 9110 and 9111 make of it.
func (h *hostile) ask(t *testing.T, path string, fields http.Header) {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	for name, values := range fields {
		r.Header[name] = values
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	whole, got := textOf(r), w.Body.String()
	asks := func(names ...string) bool {
		for _, name := range names {
			if len(fields[name]) > 0 {
				return true
			}
		}
		return false
	}
	fits := got == whole && w.Code == h.status // as the handler said
	switch w.Code {
	case http.StatusPartialContent:
		fits = fits || asks("Range") && isPart(w.Header(), got, whole)
	case http.StatusNotModified:
		fits = fits || got == "" && asks("If-None-Match", "If-Modified-Since")
	case http.StatusRequestedRangeNotSatisfiable:
		fits = fits || got == "" && asks("Range")
	case http.StatusGatewayTimeout:
		fits = fits || asks("Cache-Control") && w.Header().Get("Content-Type") == "application/problem+json"
	case http.StatusOK: // of what is stored, joined, or was validated
		fits = got == whole
	}
	if !fits {
		t.Errorf("GET %s %q of %d %q: got %d %q %q", path, fields, h.status, h.fields, w.Code, w.Header(), got)
	}
}

// isPart reports whether an answer's body is the parts of whole that it says it is.
func isPart(h http.Header, body, whole string) bool {
	var from, to, size int
	part := func(field, body string) bool {
		_, err := fmt.Sscanf(field, "bytes %d-%d/%d", &from, &to, &size)
		return err == nil && size == len(whole) && from <= to && to < size && body == whole[from:to+1]
	}
	typ, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil || typ != "multipart/byteranges" {
		return part(h.Get("Content-Range"), body)
	}
	for all := multipart.NewReader(strings.NewReader(body), params["boundary"]); ; {
		p, err := all.NextPart()
		if err == io.EOF {
			return true
		}
		var text bytes.Buffer
		if err != nil {
			return false
		}
		if _, err := text.ReadFrom(p); err != nil || !part(p.Header.Get("Content-Range"), text.String()) {
			return false
		}
	}
}

// damage alters, or cuts off, what is stored.
func (h *hostile) damage(at uint16, xor byte, cut bool) {
	for _, key := range h.keys() {
		for field, value := range h.rdb.HGetAll(h.t.Context(), key).Val() {
			if value == "" {
				continue
			}
			altered := []byte(value)
			i := int(at) % len(altered)
			if altered[i] ^= xor; cut {
				altered = altered[:i]
			}
			h.rdb.HSet(h.t.Context(), key, field, altered)
		}
	}
}

// Whatever fields the handler and the client send, and whatever becomes of the bytes in
// Redis: never a panic, never another body. Protected, for the bytes, by unseal in cache.
func FuzzCache_badInput(f *testing.F) {
	h := newHostile(f)
	f.Add(uint16(200), "max-age=60", "0", "Accept", "Sun, 06 Nov 1994 08:49:37 GMT", `"1"`, "", "", `bytes=0-4,7-9`, `"1"`, "", "", uint16(300), byte(1), false)
	f.Add(uint16(200), `max-age="60, public`, "-1, 7", "*", "Sun Nov  6 08:49:37 1994", `W/"`, "bytes 0-2/9", "15", "bytes=-5", `"2", *`, "Sunday", "max-stale", uint16(90), byte(0x80), true)
	f.Add(uint16(206), "max-age=99999999999999999999", "99999999999", "a b", "0", "x", "bytes 5-9/*", "9", "bytes=9-1", "*", "0", "only-if-cached", uint16(0), byte(9), false)
	f.Add(uint16(304), "stale-while-revalidate=5,max-age=0", "", "Cookie,,", "", `"`, "bytes */9", "-1", "octets", "", "", "min-fresh=x", uint16(40), byte(0xff), false)
	n := 0
	f.Fuzz(func(t *testing.T, status uint16, control, age, vary, date, etag, contentRange, length, ranges, ifNone, ifSince, asks string, at uint16, xor byte, cut bool) {
		h.t = t
		h.status = 200 + int(status)%400
		switch h.status {
		case http.StatusNoContent, http.StatusResetContent:
			return // they have no body to judge by
		}
		h.fields = fieldsOf("Cache-Control", control, "Age", age, "Vary", vary, "Date", date, "Expires", date, "Last-Modified", date,
			"Etag", etag, "Content-Range", contentRange, "Content-Length", length, "Cdn-Cache-Control", asks)
		if h.status == http.StatusPartialContent {
			delete(h.fields, "Content-Range") // what the handler says of its parts is believed
		}
		if n, err := strconv.Atoi(length); err == nil && n == 0 {
			delete(h.fields, "Content-Length") // net/http would let nothing through
		}
		client := fieldsOf("Range", ranges, "If-None-Match", ifNone, "If-Modified-Since", ifSince, "If-Range", etag, "Cache-Control", asks)
		n++
		one, other := fmt.Sprint("/one/", n), fmt.Sprint("/other/", n)
		h.ask(t, one, client)
		h.ask(t, one, nil)
		h.ask(t, one, client)
		h.damage(at, xor, cut)
		h.ask(t, one, client)
		h.ask(t, one, nil)
		h.ask(t, other, client)
		h.rdb.FlushAll(t.Context())
	})
}

// fieldsOf is a header of pairs, without those that are empty or that net/http would not
// let through.
func fieldsOf(pairs ...string) http.Header {
	h := make(http.Header)
	for ; len(pairs) > 0; pairs = pairs[2:] {
		if pairs[1] != "" && !strings.ContainsFunc(pairs[1], func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			h[pairs[0]] = []string{pairs[1]}
		}
	}
	return h
}

// Whatever a byte of what is stored is turned into, or is cut off, the answer is the
// handler's. Protected by unseal in cache: most of the bytes are the body's, and decode
// whatever they are.
func TestCache_alteredEntry(t *testing.T) {
	t.Parallel()
	c := newCached(t, fresh("the body of the page", "X-Field: value"))
	c.get().isStored()
	key := c.keys()[0]
	stored := c.rdb.HGet(t.Context(), key, "v:").Val()
	_, data, _ := strings.Cut(stored, "\n")
	for i := len(stored) - len(data); i < len(stored); i++ {
		for _, altered := range []string{stored[:i] + string([]byte{stored[i] ^ 1}) + stored[i+1:], stored[:i]} {
			c.rdb.HSet(t.Context(), key, "v:", altered)
			c.get().isStored().hasBody(200, "the body of the page").has("X-Field", "value")
		}
	}
}
