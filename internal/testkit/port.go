package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// Ports are taken from below the range from which Linux (32768 and up), macOS
// and Windows (49152 and up) give ports to outgoing connections. A server that
// is killed and restarted thus finds its port still free; from ":0" it would
// now and then find it in use as the near end of somebody's connection.
const (
	firstPort = 10_000
	lastPort  = 21_999
	// busOffset is where a cluster node's bus listens, counted from its port.
	// The offset is Redis's own default; --cluster-port exists since 7.0 only.
	busOffset = 10_000
)

// claimed holds the ports this process has given out, so that a port whose
// owner happens to be down (killed, refusing) is not given to another test.
var claimed = struct {
	sync.Mutex
	ports map[int]bool
}{ports: make(map[int]bool)}

// claimPort returns a loopback port on which nobody listens and, bus or not,
// whose cluster bus port is free as well. Another process may take it before
// its user does: users listen, look, and claim another.
func claimPort() (int, error) {
	claimed.Lock()
	defer claimed.Unlock()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if claimed.ports[port] || !isFree(port) || !isFree(port+busOffset) {
			continue
		}
		claimed.ports[port] = true
		return port, nil
	}
	return 0, fmt.Errorf("no free port between %d and %d on 127.0.0.1", firstPort, lastPort)
}

// releasePort allows port to be claimed again.
func releasePort(port int) {
	claimed.Lock()
	defer claimed.Unlock()
	delete(claimed.ports, port)
}

func isFree(port int) bool {
	ln, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return false
	}
	return ln.Close() == nil
}

// loopback is the address of port on 127.0.0.1.
func loopback(port int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// listen claims a port and listens on it.
func listen() (net.Listener, int, error) {
	for {
		port, err := claimPort()
		if err != nil {
			return nil, 0, err
		}
		ln, err := net.Listen("tcp", loopback(port))
		if err == nil {
			return ln, port, nil
		}
		releasePort(port) // lost the race for it
	}
}

// RefusedAddr returns a loopback address that refuses connections until tb
// ends. The port is held meanwhile, so that nobody can start to listen on it.
func RefusedAddr(tb testing.TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("testkit: refused address: %v", err)
	}
	tb.Cleanup(func() { ln.Close() })
	for range 100 {
		port, err := claimPort()
		if err != nil {
			tb.Fatalf("testkit: refused address: %v", err)
		}
		// An established connection whose near end is the port occupies it
		// without listening on it: the portable way to hold a port shut.
		holder := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}}
		conn, err := holder.DialContext(tb.Context(), "tcp", ln.Addr().String())
		if err != nil {
			releasePort(port)
			continue
		}
		tb.Cleanup(func() {
			conn.Close()
			releasePort(port)
		})
		return loopback(port)
	}
	tb.Fatal("testkit: refused address: no port could be held")
	return ""
}

// HungServer returns the address of a server that accepts connections, reads
// all it is sent and never answers, until tb ends.
func HungServer(tb testing.TB) string {
	tb.Helper()
	ln, port, err := listen()
	if err != nil {
		tb.Fatalf("testkit: hung server: %v", err)
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns []net.Conn
		shut  bool
	)
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed by the cleanup below
			}
			mu.Lock()
			conns = append(conns, conn)
			if shut {
				conn.Close()
			}
			mu.Unlock()
			wg.Go(func() { discard(conn) })
		}
	})
	tb.Cleanup(func() {
		ln.Close()
		mu.Lock()
		shut = true
		for _, conn := range conns {
			conn.Close()
		}
		mu.Unlock()
		wg.Wait()
		releasePort(port)
	})
	return loopback(port)
}

// discard reads from conn until it ends.
func discard(conn net.Conn) {
	defer conn.Close()
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Read(buf); err != nil {
			return
		}
	}
}
