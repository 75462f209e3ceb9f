package testkit_test

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-weir/weir/internal/testkit"
)

func TestReadReply_framesWhatRedisSends(t *testing.T) {
	t.Parallel()
	replies := []struct {
		raw  string
		kind byte
	}{
		{"+OK\r\n", '+'},
		{"-ERR no\r\n", '-'},
		{":-1\r\n", ':'},
		{"$0\r\n\r\n", '$'},
		{"$4\r\n\r\n*1\r\n", '$'},
		{"$-1\r\n", '$'},
		{"*-1\r\n", '*'},
		{"*0\r\n", '*'},
		{"*2\r\n*1\r\n$1\r\na\r\n:3\r\n", '*'},
		{"_\r\n", '_'},
		{"#t\r\n", '#'},
		{",1.5e10\r\n", ','},
		{"(12345678901234567890\r\n", '('},
		{"!5\r\nERR x\r\n", '!'},
		{"=7\r\ntxt:abc\r\n", '='},
		{"%1\r\n+a\r\n*1\r\n:1\r\n", '%'},
		{"~2\r\n:1\r\n:2\r\n", '~'},
		{">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", '>'},
		{"|1\r\n+ttl\r\n:3\r\n+OK\r\n", '+'}, // an attribute comes with its reply
	}
	var all strings.Builder
	for _, reply := range replies {
		all.WriteString(reply.raw)
	}
	// One byte at a time: a frame is a frame however it is cut.
	r := bufio.NewReader(iotest.OneByteReader(strings.NewReader(all.String())))
	for _, want := range replies {
		raw, kind, err := testkit.ReadReply(r)
		if err != nil || string(raw) != want.raw || kind != want.kind {
			t.Errorf("got %q, %q, %v; want %q, %q", raw, kind, err, want.raw, want.kind)
		}
	}
	if _, _, err := testkit.ReadReply(r); err != io.EOF {
		t.Errorf("at the end: got %v; want %v", err, io.EOF)
	}
}

func TestReadReply_refusesWhatIsNone(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"", "\r\n", "hello\r\n", "+OK\n", "$5\r\nhello", "$1\r\nhello\r\n", "$-2\r\n", "$x\r\n", "$\r\n",
		"*1\r\n", "$?\r\n", "$536870913\r\n", strings.Repeat("*1\r\n", 100) + ":1\r\n", "+" + strings.Repeat("x", 1<<20),
	} {
		if got, _, err := testkit.ReadReply(bufio.NewReader(strings.NewReader(raw))); err == nil {
			t.Errorf("%.20q: got %q; want an error", raw, got)
		}
	}
}

func TestReadCommand_names(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ raw, name string }{
		{"*1\r\n$4\r\nping\r\n", "PING"},
		{"*2\r\n$4\r\nEcho\r\n$2\r\n\r\n\r\n", "ECHO"},
		{"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "GET"},
		{"*0\r\n", ""},
		{"ping now\r\n", "PING"},
		{"\r\n", ""},
	} {
		raw, name, err := testkit.ReadCommand(bufio.NewReader(strings.NewReader(tt.raw + "rest")))
		if err != nil || string(raw) != tt.raw || name != tt.name {
			t.Errorf("%q: got %q, %q, %v; want %q", tt.raw, raw, name, err, tt.name)
		}
	}
	for _, raw := range []string{"", "PING", "*1\r\n:1\r\n", "*1\r\n$4\r\nPI", "*x\r\n"} {
		if got, _, err := testkit.ReadCommand(bufio.NewReader(strings.NewReader(raw))); err == nil {
			t.Errorf("%q: got %q; want an error", raw, got)
		}
	}
}

// Whatever comes, the parser neither panics nor changes or invents a byte.
func FuzzParseRESP(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", "*2\r\n$1\r\na\r\n:3\r\n", "$-1\r\n", "|1\r\n+a\r\n+b\r\n%1\r\n_\r\n#f\r\n", ">1\r\n+x\r\n",
		"*1\r\n$4\r\nPING\r\n", "PING\r\n", "*-1\r\n", "$99999999999999999999\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		readers := map[string]func(*bufio.Reader) ([]byte, error){
			"reply": func(r *bufio.Reader) ([]byte, error) {
				raw, _, err := testkit.ReadReply(r)
				return raw, err
			},
			"command": func(r *bufio.Reader) ([]byte, error) {
				raw, _, err := testkit.ReadCommand(r)
				return raw, err
			},
		}
		for name, read := range readers {
			r := bufio.NewReader(bytes.NewReader(in))
			rest := in
			for {
				raw, err := read(r)
				if err != nil {
					break
				}
				if len(raw) == 0 || !bytes.HasPrefix(rest, raw) {
					t.Fatalf("%s: got %q of %q", name, raw, rest)
				}
				rest = rest[len(raw):]
			}
		}
	})
}
