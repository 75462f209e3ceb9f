package middleware_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/go-weir/weir/middleware"
)

func TestAppendEvent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ id, name, data, want string }{
		{"", "", "", "data: \n\n"},
		{"1-0", "", "a", "id: 1-0\ndata: a\n\n"},
		{"1-0", "paid", " a", "id: 1-0\nevent: paid\ndata:  a\n\n"},
		{"", "", "a\nb\rc\r\nd\n", "data: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"},
		{"", "", "a\n\rb", "data: a\ndata: \ndata: b\n\n"},
		{"", "", "x\n\nevent: paid\ndata: y", "data: x\ndata: \ndata: event: paid\ndata: data: y\n\n"},
	} {
		got, err := middleware.AppendEvent(nil, c.id, c.name, []byte(c.data))
		if string(got) != c.want || err != nil {
			t.Errorf("%q: %q, %v; want %q", c.data, got, err, c.want)
		}
	}
	for _, field := range []string{"a\nb", "a\rb", "a\x00b", "\n"} {
		for _, c := range [][2]string{{field, ""}, {"", field}} {
			if got, err := middleware.AppendEvent([]byte("x"), c[0], c[1], nil); err == nil || string(got) != "x" {
				t.Errorf("id %q, name %q: %q, %v; want an error", c[0], c[1], got, err)
			}
		}
	}
}

// What a browser reads back is what was sent, and one event, whatever is in it.
//
// Red when appendEvent looks for \n alone, or fitsField is always true.
func FuzzAppendEvent(f *testing.F) {
	for _, seed := range []string{"", "a", " a", "a\nb", "a\rb", "a\r\nb", "\r\r\n\n", "\n\ndata: x\n\n", "\x00", "\xff\xfe", "\ufeffa", "a: b", ":", "id: 1\n"} {
		f.Add("1-0", seed, []byte(seed))
		f.Add(seed, "", []byte("x"))
	}
	f.Fuzz(func(t *testing.T, id, name string, data []byte) {
		wire, err := middleware.AppendEvent([]byte("retry: 1\n\n"), id, name, data)
		if err != nil {
			if !strings.ContainsAny(id+name, "\r\n\x00") {
				t.Fatalf("id %q, name %q: %v", id, name, err)
			}
			return
		}
		p := newParser(bytes.NewReader(wire))
		lines := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(data))
		want := told{asUTF8([]byte(id)), asUTF8([]byte(name)), asUTF8([]byte(lines))}
		if got, err := p.next(); got != want || err != nil {
			t.Fatalf("%q is read as %q, %v; want %q", wire, got, err, want)
		}
		if got, err := p.next(); err != io.EOF || len(p.retries) != 1 {
			t.Fatalf("%q goes on: %q, %v", wire, got, err)
		}
	})
}
