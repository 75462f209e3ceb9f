package middleware_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// A long answer out of the cache takes few system calls, as its bytes would.
//
// Red when writeText is io.WriteString: net/http then writes 4 KiB at a time.
func TestCache_longBody(t *testing.T) {
	t.Parallel()
	body := strings.Repeat("0123456789abcde\n", 200<<10/16)
	c := newCached(t, fresh(body, "Content-Type: text/plain"))
	var writes atomic.Int64
	s := httptest.NewUnstartedServer(c)
	s.Listener = writeCounting{s.Listener, &writes}
	s.Start()
	t.Cleanup(s.Close)
	for range 2 {
		resp, err := http.Get(s.URL + "/page")
		received(t, resp, err).hasBody(200, body)
	}
	writes.Store(0)
	resp, err := http.Get(s.URL + "/page")
	received(t, resp, err).hasBody(200, body).isHit()
	if got := writes.Load(); got > 10 {
		t.Errorf("%d writes of 200 KiB; want 10 at most", got)
	}
}

// writeCounting counts the writes to its connections.
type writeCounting struct {
	net.Listener
	n *atomic.Int64
}

func (l writeCounting) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return countedConn{conn, l.n}, err
}

type countedConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.n.Add(1)
	return c.Conn.Write(p)
}
