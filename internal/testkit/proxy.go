package testkit

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Proxy is a TCP proxy on a loopback port in front of one Redis, with faults to
// switch on and off. It understands RESP, and so knows which reply belongs to
// which command, and how often a client waited for the network. It takes bytes
// on in whole commands and whole replies, all that have arrived at a time.
//
// Its methods may be called from any goroutine, at any time. It ends with the
// test that made it.
type Proxy struct {
	tb       testing.TB
	upstream string
	addr     string
	port     int
	wg       sync.WaitGroup // of every goroutine of the proxy

	connections, commands, roundTrips, swallowed atomic.Int64

	mu      sync.Mutex
	ln      net.Listener // nil while refusing
	links   map[*link]struct{}
	closed  bool
	delay   time.Duration
	hung    bool
	swallow swallow
}

// swallow is an order to lose the replies to the next left commands that match.
type swallow struct {
	left  int
	match string
	then  Then
}

// Then is what a client sees of a reply that was swallowed; see [Proxy.SwallowReply].
type Then int

const (
	// ThenClose closes the connection to the client: it sees EOF.
	ThenClose Then = iota
	// ThenSilence leaves the connection open and silent: the client sees a timeout.
	ThenSilence
)

// NewProxy starts a proxy in front of the server at upstream, which need not be
// there yet: a connection is made to it for each that is accepted, and if that
// fails the accepted one is closed at once.
func NewProxy(tb testing.TB, upstream string) *Proxy {
	tb.Helper()
	ln, port, err := listen()
	if err != nil {
		tb.Fatalf("testkit: proxy: %v", err)
	}
	p := &Proxy{
		tb:       tb,
		upstream: upstream,
		addr:     loopback(port),
		port:     port,
		ln:       ln,
		links:    make(map[*link]struct{}),
	}
	p.wg.Go(func() { p.accept(ln) })
	tb.Cleanup(p.close)
	return p
}

// Addr is the host:port that clients dial. It stays the same.
func (p *Proxy) Addr() string { return p.addr }

// Options are go-redis's default options with the proxy's address.
func (p *Proxy) Options() *redis.Options { return &redis.Options{Addr: p.addr} }

// Client returns a new client that goes through the proxy, closed when tb ends.
// Its options are go-redis's defaults; each alter may change them first.
func (p *Proxy) Client(tb testing.TB, alter ...func(*redis.Options)) *redis.Client {
	tb.Helper()
	opts := p.Options()
	for _, change := range alter {
		change(opts)
	}
	client := redis.NewClient(opts)
	tb.Cleanup(func() { client.Close() })
	return client
}

// Delay makes every reply arrive d later. As commands are not delayed, d is what
// is added to a round trip. Replies that follow each other closely are delayed
// together, not one after the other. 0 ends it for replies yet to come.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Hang makes the proxy accept connections, swallow all bytes of either
// direction, and answer nothing. That holds for connections that exist already,
// replies under way included. Commands are still counted, but not passed on.
func (p *Proxy) Hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hung = true
	for l := range p.links {
		l.hang()
	}
}

// SwallowReply has the server run the next n commands that match, but their
// replies are lost; n < 0 means all of them, 0 ends it. A command matches if its
// bytes as sent (name and arguments) contain match, whatever the case: "evalsha".
// With "" every command does but those of the handshake.
//
// After the loss the connection is closed or silent, as then says, and every
// further reply on it is lost as well, uncounted: the server runs the rest of a
// pipeline, but no more of it is answered. In a MULTI match "exec": the reply
// to a command before it only says that it was queued. Replies to SUBSCRIBE and
// its like cannot be swallowed.
func (p *Proxy) SwallowReply(n int, match string, then Then) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = swallow{left: n, match: match, then: then}
}

// Cut closes all connections there are. New ones are welcome.
func (p *Proxy) Cut() {
	for _, l := range p.snapshot(func(*link) bool { return true }) {
		l.close()
	}
}

// Refuse stops listening: connections are refused. Those that exist go on; a
// server that is gone is Refuse and [Proxy.Cut].
func (p *Proxy) Refuse() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil {
		p.ln.Close()
		p.ln = nil
	}
}

// Heal ends every fault: no delay, no swallowing, listening on the same port as
// before. Connections that lost bytes, by Hang or by a swallowed reply, are
// closed, as they are out of step; all others go on.
func (p *Proxy) Heal() {
	p.tb.Helper()
	p.mu.Lock()
	p.delay, p.hung, p.swallow = 0, false, swallow{}
	refusing := p.ln == nil && !p.closed
	p.mu.Unlock()
	for _, l := range p.snapshot((*link).isLossy) {
		l.close()
	}
	if refusing {
		p.listenAgain()
	}
}

func (p *Proxy) listenAgain() {
	p.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := poll(ctx, func() error {
		ln, err := net.Listen("tcp", p.addr)
		if err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed || p.ln != nil {
			return ln.Close() // somebody else was here meanwhile
		}
		p.ln = ln
		p.wg.Go(func() { p.accept(ln) })
		return nil
	})
	if err != nil {
		p.tb.Errorf("testkit: proxy does not listen again on %s: %v", p.addr, err)
	}
}

// Connections is how many connections were accepted.
func (p *Proxy) Connections() int { return int(p.connections.Load()) }

// Commands is how many commands clients sent, without those of the handshake:
// HELLO, AUTH, CLIENT, COMMAND and CLUSTER. A command counts even if it is then
// swallowed by [Proxy.Hang].
func (p *Proxy) Commands() int { return int(p.commands.Load()) }

// RoundTrips is how often a client waited for the network: how many bursts of
// commands were answered. A burst is what a connection sends between one reply
// and the next, so a pipeline is one, however many commands it has, up to the 32
// KiB that go-redis writes at once; beyond that the server may answer the
// beginning before the end is sent. The handshake does not count, nor do
// subscriptions and their messages. A swallowed reply does: it was given.
func (p *Proxy) RoundTrips() int { return int(p.roundTrips.Load()) }

// Swallowed is how many replies [Proxy.SwallowReply] has swallowed.
func (p *Proxy) Swallowed() int { return int(p.swallowed.Load()) }

// Reset sets all counters to zero.
func (p *Proxy) Reset() {
	for _, counter := range []*atomic.Int64{&p.connections, &p.commands, &p.roundTrips, &p.swallowed} {
		counter.Store(0)
	}
}

// accept serves ln until it is closed.
func (p *Proxy) accept(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		p.connections.Add(1)
		p.mu.Lock()
		if p.closed || p.ln != ln {
			// Refuse came between: Cut, behind it, would not see this one.
			p.mu.Unlock()
			conn.Close()
			return
		}
		l := newLink(p, conn, p.hung)
		p.links[l] = struct{}{}
		p.wg.Go(l.run)
		p.mu.Unlock()
	}
}

// snapshot returns the links that fit. They are closed outside the lock, since
// a link takes it to leave.
func (p *Proxy) snapshot(fits func(*link) bool) []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var links []*link
	for l := range p.links {
		if fits(l) {
			links = append(links, l)
		}
	}
	return links
}

func (p *Proxy) forget(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// swallows reports whether the reply to cmd is to be lost, and then counts it.
func (p *Proxy) swallows(cmd command) (Then, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.swallow.left == 0 || !cmd.matches(p.swallow.match) {
		return 0, false
	}
	if p.swallow.left > 0 {
		p.swallow.left--
	}
	p.swallowed.Add(1)
	return p.swallow.then, true
}

// due is when a reply that arrives now is to be passed on.
func (p *Proxy) due() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().Add(p.delay)
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.Refuse()
	p.Cut()
	p.wg.Wait()
	releasePort(p.port)
}

// Proxies are the proxies in front of all nodes of a [Backend].
type Proxies []*Proxy

// Commands is the sum over all proxies; see [Proxy.Commands].
func (ps Proxies) Commands() int { return ps.sum((*Proxy).Commands) }

// RoundTrips is the sum over all proxies; see [Proxy.RoundTrips]. Trips to
// several nodes count each, though they may have been made side by side.
func (ps Proxies) RoundTrips() int { return ps.sum((*Proxy).RoundTrips) }

// Swallowed is the sum over all proxies; see [Proxy.Swallowed].
func (ps Proxies) Swallowed() int { return ps.sum((*Proxy).Swallowed) }

// Each calls do for every proxy: ps.Each((*Proxy).Hang).
func (ps Proxies) Each(do func(*Proxy)) {
	for _, p := range ps {
		do(p)
	}
}

func (ps Proxies) sum(counter func(*Proxy) int) int {
	total := 0
	for _, p := range ps {
		total += counter(p)
	}
	return total
}

// ProxiedClient returns a client as [Backend.Client] does that reaches every
// node through a proxy, and the proxies in the order of [Backend.Nodes]. The
// client's Dialer maps the addresses that the cluster or the sentinel names to
// those of the proxies; a slot's owner is thus still told apart.
func (b *Backend) ProxiedClient(tb testing.TB, alter ...func(*redis.UniversalOptions)) (redis.UniversalClient, Proxies) {
	tb.Helper()
	addrs := b.Addrs()
	if len(b.nodes) > 0 {
		addrs = addrs[:0]
		for _, n := range b.nodes {
			addrs = append(addrs, n.addr)
		}
	}
	if len(addrs) == 0 {
		tb.Fatalf("testkit: %s has no address to put a proxy before", b.name)
	}
	var proxies Proxies
	behind := make(map[string]string, len(addrs)) // a node's address to its proxy's
	for _, addr := range addrs {
		p := NewProxy(tb, addr)
		proxies = append(proxies, p)
		behind[addr] = p.Addr()
	}
	dial := func(opts *redis.UniversalOptions) {
		opts.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			proxied, ok := behind[addr]
			if !ok {
				return nil, &net.OpError{Op: "dial", Net: network, Err: errUnknownNode(addr)}
			}
			dialer := net.Dialer{Timeout: 5 * time.Second} // go-redis's DialTimeout
			return dialer.DialContext(ctx, network, proxied)
		}
	}
	alter = append([]func(*redis.UniversalOptions){dial}, alter...)
	return b.Client(tb, alter...), proxies
}

// errUnknownNode is an address that is none of the backend's nodes: a client
// that went there would go round the proxies unseen.
type errUnknownNode string

func (e errUnknownNode) Error() string {
	return "testkit: no proxy for " + string(e)
}
