package testkit

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"
)

// link is one client's connection through a [Proxy]. Three goroutines run it:
// up takes commands to the server, down takes replies from it, and deliver
// hands them to the client when they are due.
type link struct {
	p      *Proxy
	client net.Conn
	out    chan parcel
	done   chan struct{} // closed by close
	once   sync.Once

	mu         sync.Mutex
	server     net.Conn  // nil if none was dialled
	pending    []command // passed on, not yet answered
	asked      bool      // commands were passed on since the last reply
	mute       bool      // a reply was lost: so is every other that follows it
	hung       bool      // everything is lost, both ways, replies under way too
	clientGone bool
	serverGone bool
}

// parcel is what deliver is to do at a time: write bytes, then close something.
type parcel struct {
	due   time.Time
	bytes []byte
	then  ending
}

// ending is what is closed after a parcel.
type ending int

const (
	endNothing ending = iota
	endReplies        // the client's reading side: it sees EOF
	endWhole          // the link
)

func newLink(p *Proxy, client net.Conn, hung bool) *link {
	return &link{
		p:      p,
		client: client,
		out:    make(chan parcel, 256),
		done:   make(chan struct{}),
		hung:   hung,
	}
}

func (l *link) run() {
	if !l.isHung() {
		server, err := net.DialTimeout("tcp", l.p.upstream, 5*time.Second)
		if err != nil {
			l.close()
			return
		}
		l.adopt(server)
		l.p.wg.Go(func() { l.down(server) })
	}
	l.p.wg.Go(l.deliver)
	l.up()
}

// adopt keeps the server's side, or closes it if the link was closed meanwhile.
func (l *link) adopt(server net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.server = server
	select {
	case <-l.done:
		server.Close()
	default:
	}
}

// hang makes the link lose everything from now on.
func (l *link) hang() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hung = true
}

// isLossy reports whether replies are lost.
func (l *link) isLossy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mute || l.hung
}

func (l *link) isHung() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hung
}

// close ends the link at once, both sides.
func (l *link) close() {
	l.once.Do(func() {
		close(l.done)
		l.client.Close()
		l.mu.Lock()
		if l.server != nil {
			l.server.Close()
		}
		l.mu.Unlock()
		l.p.forget(l)
	})
}

// up passes commands on until the client ends, in bursts: all that are complete
// in what has arrived. A burst whose last command is incomplete waits for the
// rest of it, so that how TCP cuts a pipeline up does not show in the counts.
func (l *link) up() {
	r := bufio.NewReaderSize(l.client, 64<<10)
	var burst []command
	for {
		cmd, err := readCommand(r)
		if err != nil {
			l.pass(burst)
			l.clientEnded(err)
			return
		}
		if cmd.name != "" && !cmd.isHandshake() {
			l.p.commands.Add(1)
		}
		burst = append(burst, cmd)
		if r.Buffered() == 0 {
			l.pass(burst)
			burst = nil
		}
	}
}

// pass sends a burst to the server, unless the link is hung.
func (l *link) pass(burst []command) {
	var raw []byte
	l.mu.Lock()
	server := l.server
	if l.hung || server == nil {
		l.mu.Unlock()
		return
	}
	for _, cmd := range burst {
		raw = append(raw, cmd.raw...)
		if cmd.hasReply() {
			// Before the bytes are sent: the reply may be here at once.
			l.pending = append(l.pending, cmd)
			l.asked = l.asked || !cmd.isHandshake()
		}
	}
	l.mu.Unlock()
	_, _ = server.Write(raw) // if the server is gone, down sees it
}

// clientEnded ends the server's side as the client ended its own: the server
// still runs what it was sent before, then sees the end, and closes.
func (l *link) clientEnded(err error) {
	if errors.Is(err, errProtocol) {
		l.p.tb.Errorf("testkit: proxy: from the client: %v", err)
	}
	l.mu.Lock()
	l.clientGone = true
	server, alone := l.server, l.serverGone
	l.mu.Unlock()
	half, ok := server.(*net.TCPConn)
	if alone || !ok || errors.Is(err, errProtocol) || half.CloseWrite() != nil {
		l.close()
	}
}

// down takes replies until the server ends.
func (l *link) down(server net.Conn) {
	r := bufio.NewReaderSize(server, 64<<10)
	var batch []byte
	for {
		reply, kind, err := readReply(r)
		if err != nil {
			if errors.Is(err, errProtocol) {
				l.p.tb.Errorf("testkit: proxy: from the server: %v", err)
			}
			l.send(parcel{bytes: batch, then: endWhole})
			return
		}
		if l.isLossy() {
			continue
		}
		if kind != '>' { // a push answers nothing
			then, lost := l.answered()
			if lost {
				l.lose(batch, then)
				batch = nil
				continue
			}
		}
		batch = append(batch, reply...)
		if r.Buffered() == 0 {
			l.send(parcel{bytes: batch})
			batch = nil
		}
	}
}

// answered takes the command that a reply belongs to off the list, and reports
// whether that reply is to be lost.
func (l *link) answered() (Then, bool) {
	l.mu.Lock()
	if len(l.pending) == 0 { // a message to a RESP2 subscriber
		l.mu.Unlock()
		return 0, false
	}
	cmd := l.pending[0]
	l.pending = l.pending[1:]
	trip := l.asked && !cmd.isHandshake()
	if trip {
		l.asked = false
	}
	l.mu.Unlock()
	if trip {
		l.p.roundTrips.Add(1)
	}
	return l.p.swallows(cmd)
}

// lose mutes the link once the replies in batch have been delivered. Commands
// pass as before: what the client has sent by now the server is to run, all of a
// pipeline. That is why the connection is not closed whole, but at its reading
// end; the client sees EOF, closes its own, and only then the server's is ended.
func (l *link) lose(batch []byte, then Then) {
	l.mu.Lock()
	l.mute = true
	l.mu.Unlock()
	last := parcel{bytes: batch}
	if then == ThenClose {
		last.then = endReplies
	}
	l.send(last)
}

// send has a parcel delivered when its time has come.
func (l *link) send(next parcel) {
	if len(next.bytes) == 0 && next.then == endNothing {
		return
	}
	next.due = l.p.due()
	select {
	case l.out <- next:
	case <-l.done:
	}
}

// deliver hands parcels to the client, in order, each not before it is due.
func (l *link) deliver() {
	for {
		select {
		case <-l.done:
			return
		case next := <-l.out:
			if !l.await(next.due) {
				return
			}
			if !l.isHung() {
				_, _ = l.client.Write(next.bytes) // if the client is gone, up sees it
			}
			switch next.then {
			case endReplies:
				if half, ok := l.client.(*net.TCPConn); ok {
					_ = half.CloseWrite() // if the client is gone, up sees it
				}
			case endWhole:
				l.serverEnded()
			}
		}
	}
}

// serverEnded closes the link, unless it is hung: a server behind a dead network
// ends unheard, and the client goes on waiting.
func (l *link) serverEnded() {
	l.mu.Lock()
	l.serverGone = true
	unheard := l.hung && !l.clientGone
	l.mu.Unlock()
	if !unheard {
		l.close()
	}
}

// await returns true at due, or false when the link is closed.
func (l *link) await(due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.done:
		return false
	}
}
