package middleware_test

import (
	"encoding/binary"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-weir/weir/middleware"
)

// Whatever a handler can answer comes back as it was.
func TestEntry_roundTrip(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	text := func(most int) string {
		b := make([]byte, random.IntN(most))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return string(b)
	}
	header := func() http.Header {
		h := http.Header{}
		for range random.IntN(12) {
			values := make([]string, random.IntN(4))
			for i := range values {
				values[i] = text(200)
			}
			h["X-"+text(20)] = values
		}
		return h
	}
	for range 2000 {
		want := middleware.Entry{
			Status:     []int{200, 206, 404, 200 + random.IntN(400)}[random.IntN(4)],
			Age:        time.Duration(random.Int64N(1<<40)) * time.Microsecond,
			Lifetime:   time.Duration(random.Int64N(1<<31)) * time.Second,
			Revalidate: time.Duration(random.Int64N(1<<31)) * time.Second, Error: time.Duration(random.Int64N(1<<31)) * time.Second,
			NoCache: random.IntN(2) == 0, Must: random.IntN(2) == 0, Public: random.IntN(2) == 0,
			Declared: random.IntN(2) == 0, Immutable: random.IntN(2) == 0, Validator: random.IntN(2) == 0,
			Body: random.Int64N(5000),
		}
		if want.Status == http.StatusPartialContent {
			want.Body++
			want.First = random.Int64N(1 << 40)
			want.Size = []int64{-1, want.First + want.Body, 1 << 50}[random.IntN(3)]
		}
		sent := header()
		data := string(middleware.Encode(want, sent, nil))
		got := http.Header{}
		e, err := middleware.Decode(data, want.Body, got)
		if err != nil || e != want || !maps.EqualFunc(got, sent, slices.Equal) {
			t.Fatalf("got %+v, %v, %q; want %+v, %q", e, err, got, want, sent)
		}
		if data != string(middleware.Encode(want, sent, nil)) {
			t.Fatal("the same response has two encodings")
		}
		// Every shorter entry is none, nor is one of another version.
		cut := random.IntN(len(data))
		if middleware.Check(data[:cut], want.Body) || middleware.Check(data+"x", want.Body) {
			t.Fatalf("cut at %d of %d: taken for an entry", cut, len(data))
		}
		if other := string(rune(middleware.EntryVersion+1)) + data[1:]; middleware.Check(other, want.Body) {
			t.Fatal("another version: taken for an entry")
		}
	}
}

// A header's fields against what outside had set.
func TestEntry_ownFields(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ outside, answer, next, want http.Header }{
		"nothing outside": {nil, http.Header{"A": {"1"}}, http.Header{}, http.Header{"A": {"1"}}},
		"left alone":      {http.Header{"A": {"1"}}, http.Header{"A": {"1"}}, http.Header{"A": {"2"}}, http.Header{"A": {"2"}}},
		"set":             {http.Header{"A": {"1"}}, http.Header{"A": {"x"}}, http.Header{"A": {"2"}}, http.Header{"A": {"x"}}},
		"added":           {http.Header{"A": {"1"}}, http.Header{"A": {"1", "x"}}, http.Header{"A": {"2"}}, http.Header{"A": {"2", "x"}}},
		"added to many":   {http.Header{"A": {"1", "2"}}, http.Header{"A": {"1", "2", "x"}}, http.Header{"A": {"3"}}, http.Header{"A": {"3", "x"}}},
		"removed":         {http.Header{"A": {"1"}}, http.Header{}, http.Header{"A": {"2"}}, http.Header{"A": {"2"}}},
		"emptied":         {http.Header{"A": {"1"}}, http.Header{"A": {}}, http.Header{"A": {"2"}}, http.Header{"A": {}}},
		"new outside":     {nil, http.Header{"A": {"1"}}, http.Header{"B": {"2"}}, http.Header{"A": {"1"}, "B": {"2"}}},
		"Vary is added":   {nil, http.Header{"Vary": {"A"}}, http.Header{"Vary": {"B"}}, http.Header{"Vary": {"B", "A"}}},
		"Vary set":        {http.Header{"Vary": {"B"}}, http.Header{"Vary": {"A"}}, http.Header{"Vary": {"B"}}, http.Header{"Vary": {"B", "A"}}},
	} {
		data := middleware.Encode(middleware.Entry{Status: 200}, test.answer, test.outside)
		if _, err := middleware.Decode(string(data), 0, test.next); err != nil || !maps.EqualFunc(test.next, test.want, slices.Equal) {
			t.Errorf("%s: got %q, %v; want %q", name, test.next, err, test.want)
		}
	}
}

// What is appended to one field of an answer gets into no other. Protected by
// Clip in setHeader.
func TestEntry_fieldsAreApart(t *testing.T) {
	t.Parallel()
	data := middleware.Encode(middleware.Entry{Status: 200}, http.Header{"A": {"1"}, "B": {"2"}, "C": {"3"}}, nil)
	h := http.Header{}
	if _, err := middleware.Decode(string(data), 0, h); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"A", "B", "C"} {
		h.Add(name, "x")
	}
	for name, want := range map[string]string{"A": "1", "B": "2", "C": "3"} {
		if got := h[name]; !slices.Equal(got, []string{want, "x"}) {
			t.Errorf("%s: got %q; want %q and \"x\"", name, got, want)
		}
	}
}

// A number in an entry is believed when it has been seen: no count makes memory.
// Protected by decodeResponse reading all before setHeader makes anything.
func TestEntry_hostileCounts(t *testing.T) { // not parallel: it counts allocations
	head := []byte{middleware.EntryVersion, 0, 200, 1, 0, 60, 0, 0}
	for name, tail := range map[string][]byte{
		"fields":            binary.AppendUvarint(nil, 1<<62),
		"fields, some room": append(binary.AppendUvarint(nil, 1000), make([]byte, 1500)...),
		"values":            append([]byte{1, 1, 'A'}, append(binary.AppendUvarint(nil, 1<<40), make([]byte, 100)...)...),
		"a value's length":  append([]byte{1, 1, 'A', 2}, binary.AppendUvarint(nil, 1<<62)...),
		"endless number":    []byte(strings.Repeat("\xff", 1000)),
	} {
		data := string(append(slices.Clip(head), tail...))
		if middleware.Check(data, 0) {
			t.Errorf("%s: taken for an entry", name)
		}
		if n := testing.AllocsPerRun(5, func() { middleware.Check(data, 0) }); n > 0 {
			t.Errorf("%s: got %v allocations; want 0", name, n)
		}
	}
	for _, status := range []int{0, 1, 100, 199, 600, 999} {
		if middleware.Check(string(middleware.Encode(middleware.Entry{Status: status}, nil, nil)), 0) {
			t.Errorf("status %d: taken for an entry; WriteHeader may panic", status)
		}
	}
}

// A part lies within its whole, or it is no entry: part in cache_serve.go takes that
// for granted. Protected by fits.
func TestEntry_parts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		first, size int64
		body        int64
		want        bool
	}{
		{0, 5, 5, true},
		{4, 9, 5, true},
		{4, -1, 5, true},
		{4, 8, 5, false},
		{4, 10, 0, false},
		{math.MaxInt64 - 2, -1, 5, false},
	} {
		e := middleware.Entry{Status: 206, First: test.first, Size: test.size, Body: test.body}
		if got := middleware.Check(string(middleware.Encode(e, nil, nil)), e.Body); got != test.want {
			t.Errorf("%+v: got %v; want %v", test, got, test.want)
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	e := middleware.Entry{Status: 200, Age: time.Second, Lifetime: time.Minute, Public: true}
	f.Add(string(middleware.Encode(e, http.Header{"A": {"1", ""}, "Vary": {"B"}, "C": nil}, http.Header{"A": {"1"}})), uint16(4))
	f.Add(string(middleware.Encode(middleware.Entry{Status: 204}, nil, nil)), uint16(0))
	f.Add(string(middleware.Encode(middleware.Entry{Status: 206, First: 5, Size: 10, Error: time.Second}, nil, nil)), uint16(5))
	f.Add("\x01\x00\xc8\x01\x00\x3c\xff\xff\xff\xff\xff\xff\xff\xff\x7f", uint16(0))
	f.Fuzz(func(t *testing.T, data string, body uint16) {
		h := http.Header{"A": {"0"}, "Vary": {"V"}}
		got, err := middleware.Decode(data, int64(body), h)
		if err != nil {
			return
		}
		lines := 0
		for _, values := range h {
			lines += len(values)
		}
		if lines > len(data)+2 {
			t.Fatalf("%d lines out of %d octets", lines, len(data))
		}
		if end := got.First + got.Body; got.Status == 206 && (got.First < 0 || end <= got.First || got.Size >= 0 && end > got.Size) {
			t.Fatalf("got a part %d to %d of %d", got.First, end, got.Size)
		}
		if got.Status < 200 || got.Status > 599 || got.Age < 0 || got.Lifetime < 0 {
			t.Fatalf("got %+v", got)
		}
	})
}
