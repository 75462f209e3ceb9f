package testkit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// errProtocol says that bytes are not RESP, unlike the end of a connection.
var errProtocol = errors.New("not RESP")

// maxDepth bounds nesting. Redis's own replies stay below ten.
const maxDepth = 64

// maxBulk is Redis's limit for one string (proto-max-bulk-len).
const maxBulk = 512 << 20

// readReply reads one whole reply, RESP2 or RESP3, and returns its bytes and
// its type. Attributes ('|') come along with the reply they precede. It blocks
// until the reply is complete, so it does not matter how TCP cut it up.
//
// https://redis.io/docs/latest/develop/reference/protocol-spec/
func readReply(r *bufio.Reader) (frame []byte, kind byte, err error) {
	var raw bytes.Buffer
	for {
		kind, err := readValue(r, &raw, 0)
		if err != nil {
			return nil, 0, err
		}
		if kind != '|' {
			return raw.Bytes(), kind, nil
		}
	}
}

// readValue copies one value from r to raw and returns its type.
func readValue(r *bufio.Reader, raw *bytes.Buffer, depth int) (kind byte, err error) {
	if depth > maxDepth {
		return 0, fmt.Errorf("%w: nested deeper than %d", errProtocol, maxDepth)
	}
	line, err := readLine(r, raw)
	if err != nil {
		return 0, err
	}
	if line == "" {
		return 0, fmt.Errorf("%w: an empty line", errProtocol)
	}
	kind, rest := line[0], line[1:]
	children := 0
	switch kind {
	case '+', '-', ':', '_', ',', '#', '(': // one line
		return kind, nil
	case '$', '!', '=': // a length, and as many bytes
		n, err := parseLength(rest)
		if err != nil || n < 0 {
			return kind, err
		}
		return kind, readBulk(r, raw, n)
	case '*', '~', '>':
		children, err = parseLength(rest)
	case '%', '|': // pairs
		children, err = parseLength(rest)
		children *= 2
	default:
		return 0, fmt.Errorf("%w: a value of type %q", errProtocol, kind)
	}
	for i := 0; i < children && err == nil; i++ {
		_, err = readValue(r, raw, depth+1)
	}
	return kind, err
}

// readLine copies a line that ends in CRLF to raw and returns it without its end.
func readLine(r *bufio.Reader, raw *bytes.Buffer) (string, error) {
	line, err := r.ReadSlice('\n')
	raw.Write(line)
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", fmt.Errorf("%w: a line longer than %d bytes", errProtocol, r.Size())
	}
	if err != nil {
		return "", err
	}
	if !bytes.HasSuffix(line, []byte("\r\n")) {
		return "", fmt.Errorf("%w: a line that ends in \\n alone", errProtocol)
	}
	return string(line[:len(line)-2]), nil
}

// readBulk copies n bytes and the CRLF after them to raw.
func readBulk(r *bufio.Reader, raw *bytes.Buffer, n int) error {
	if _, err := io.CopyN(raw, r, int64(n)+2); err != nil {
		return err
	}
	if !bytes.HasSuffix(raw.Bytes(), []byte("\r\n")) {
		return fmt.Errorf("%w: a string longer than its length says", errProtocol)
	}
	return nil
}

// parseLength parses a length or a count; -1 is RESP2's null.
func parseLength(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < -1 || n > maxBulk {
		return 0, fmt.Errorf("%w: %q as a length", errProtocol, s)
	}
	return n, nil
}

// command is one command as a client sent it.
type command struct {
	raw  []byte
	name string // in upper case
}

// readCommand reads one whole command: an array of strings, or a line of words
// as typed by a person ("inline").
func readCommand(r *bufio.Reader) (command, error) {
	first, err := r.Peek(1)
	if err != nil {
		return command{}, err
	}
	var raw bytes.Buffer
	if first[0] != '*' {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return command{}, err
		}
		words := strings.Fields(string(line))
		if len(words) == 0 {
			return command{raw: line}, nil // Redis ignores an empty line
		}
		return command{raw: line, name: strings.ToUpper(words[0])}, nil
	}
	line, err := readLine(r, &raw)
	if err != nil {
		return command{}, err
	}
	n, err := parseLength(line[1:])
	if err != nil {
		return command{}, err
	}
	name := ""
	for i := range n {
		before := raw.Len()
		kind, err := readValue(r, &raw, 0)
		if err != nil {
			return command{}, err
		}
		if kind != '$' {
			return command{}, fmt.Errorf("%w: a command with a %q in it", errProtocol, kind)
		}
		if i == 0 {
			_, word, _ := bytes.Cut(raw.Bytes()[before:], []byte("\r\n"))
			name = strings.ToUpper(string(bytes.TrimSuffix(word, []byte("\r\n"))))
		}
	}
	return command{raw: raw.Bytes(), name: name}, nil
}

// isHandshake reports whether a client sends the command on its own account, to
// set up a connection or to learn about the server.
func (c command) isHandshake() bool {
	switch c.name {
	case "HELLO", "AUTH", "CLIENT", "COMMAND", "CLUSTER":
		return true
	}
	return false
}

// hasReply reports whether the server answers the command with a reply of its
// own. It does not answer an empty line, and confirms a subscription by pushes,
// one a channel, which cannot be told from messages without looking inside.
func (c command) hasReply() bool {
	switch c.name {
	case "", "SUBSCRIBE", "UNSUBSCRIBE", "PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUNSUBSCRIBE":
		return false
	}
	return true
}

// matches reports whether the command's bytes contain s, whatever their case.
// The empty s matches every command that is not of the handshake.
func (c command) matches(s string) bool {
	if s == "" {
		return !c.isHandshake()
	}
	return bytes.Contains(bytes.ToLower(c.raw), []byte(strings.ToLower(s)))
}
