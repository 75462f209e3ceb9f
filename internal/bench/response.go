package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// answering is a contestant that answers over HTTP, from a process of its own.
type answering = contestant[answers]

// answers is how a contestant is opened: by one of wrap and program.
type answers struct {
	// wrap puts it around the handler, in Go. The process that calls it serves what
	// it returns.
	wrap func(client *redis.Client, h http.Handler) (http.Handler, error)
	// program stands before the handler, as a proxy.
	program *program
	// fresh has each request be for another URL, so that none is answered from the
	// cache.
	fresh bool
	// near says that what is kept is answered without Redis.
	near bool
	// noStore has the handler forbid to store its answers.
	noStore bool
}

// misses says that the handler answers each request.
func (a answers) misses() bool { return a.fresh || a.noStore }

// program is a server of Debian's that caches what an origin answers.
type program struct {
	binary, debian string // its name, and its package's
	version        string // the flag that makes it tell its version
	// command makes what serves on addr what the origin has, from a directory of its
	// own.
	command func(binary, dir, addr, origin string) (*exec.Cmd, error)
}

// answerers are the contestants, in the order of the tables' rows.
var answerers = []answering{
	bareHandler,
	weirNearAnswer,
	weirStoredAnswer,
	weirDeadlineAnswer,
	weirUnstored,
	weirMissed,
	nginx,
	varnish,
}

// answererReferences are compared with.
var answererReferences = []string{bareHandler.name}

// bareHandler answers without a cache.
var bareHandler = answering{
	name: "bare handler",
	open: answers{wrap: func(_ *redis.Client, h http.Handler) (http.Handler, error) { return h, nil }, noStore: true},
}

// page is what all contestants answer: size bytes, with the fields of a small page.
type page struct {
	body   []byte
	length string
	cache  string
	calls  atomic.Int64
}

func newPage(size int, noStore bool) *page {
	p := &page{body: bytes.Repeat([]byte("x"), size), length: strconv.Itoa(size), cache: "max-age=3600"}
	if noStore {
		p.cache = "no-store"
	}
	return p
}

func (p *page) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	p.calls.Add(1)
	h := w.Header()
	h["Cache-Control"] = []string{p.cache}
	h["Content-Length"] = []string{p.length}
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["Etag"] = []string{`"1"`}
	_, _ = w.Write(p.body) // the client may be gone
}

// wire is a client's connection. It takes little time, as client and server share the
// cores.
type wire struct {
	conn net.Conn
	r    *bufio.Reader
	line []byte
}

func dialWire(addr string) (*wire, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, r: bufio.NewReaderSize(conn, 16<<10)}, nil
}

// get asks for path, and returns how many bytes the answer has; an answer that is no
// 200 with its length in the header is an error.
func (w *wire) get(path string) (size int, err error) {
	w.line = append(append(append(w.line[:0], "GET "...), path...), " HTTP/1.1\r\nHost: bench\r\n\r\n"...)
	if _, err := w.conn.Write(w.line); err != nil {
		return 0, err
	}
	status, err := w.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return 0, fmt.Errorf("%s: %q", path, status)
	}
	size = -1
	for {
		field, err := w.r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(field) == 2 {
			break
		}
		const name = "content-length: "
		if len(field) > len(name) && bytes.EqualFold(field[:len(name)], []byte(name)) {
			if size, err = strconv.Atoi(string(bytes.TrimSpace(field[len(name):]))); err != nil {
				return 0, err
			}
		}
	}
	if size < 0 {
		return 0, fmt.Errorf("%s: an answer without Content-Length", path)
	}
	return w.r.Discard(size)
}
