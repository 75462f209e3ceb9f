package rdb

import (
	"context"
	"strconv"
	"time"
)

const (
	// probeBudget is the budget of one probe.
	probeBudget = 500 * time.Millisecond

	// mastersFor is how long the masters of a Cluster are taken for known.
	mastersFor = 10 * time.Second
)

// prober is the part of a session that publishes to itself.
type prober struct {
	mute     bool // the user may not: there are no echoes
	listens  bool // the own channel is confirmed
	probing  bool // a PUBLISH is under way
	probedAt int64
	sent     uint64 // number of the last probe
	echoed   uint64 // number of the last echo
	echoDue  int64  // when the echo must have come; 0 if none is due

	// Only of the goroutine of a probe, of which there is one at a time.
	masters []*Conn
	askedAt int64
}

// probe publishes to the session's own channel, unless one such message is under way.
func (s *session) probe(at int64) {
	if s.mute || !s.listens || s.probing || s.echoDue != 0 {
		return
	}
	s.sent++
	s.probing, s.probedAt = true, at
	number := s.sent
	go func() { s.probed <- s.publish(number) }()
}

// publish sends probe number n by one of the masters, each in its turn.
func (s *session) publish(n uint64) error {
	ctx, cancel := context.WithTimeout(s.ctx, 2*probeBudget)
	defer cancel()
	c := &Conn{core: s.link.core, budget: probeBudget}
	if at := now(); len(s.masters) == 0 || at-s.askedAt > int64(mastersFor) {
		masters, err := c.Masters(ctx)
		if err != nil {
			return err
		}
		s.masters, s.askedAt = masters, at
	}
	channel := s.own.name.text
	err := s.masters[n%uint64(len(s.masters))].Exec(ctx, NewCmd(channel, "publish", channel, strconv.FormatUint(n, 10)))
	if outcomeOf(err) != answered {
		s.masters = nil // it may no longer be one
	}
	return err
}

// took takes in what came of a PUBLISH. Its echo may have been heard before.
func (l *link) took(s *session, err error) {
	s.probing = false
	switch {
	case IsForbidden(err):
		s.mute = true
		l.echoAt.Store(always)
	case err == nil && s.echoed < s.sent:
		s.echoDue = now() + int64(EchoWithin)
	}
}

// echo takes in a message of the session's own.
func (l *link) echo(s *session, payload string) {
	n, err := strconv.ParseUint(payload, 10, 64)
	if err != nil || n != s.sent {
		return // somebody else's, or late
	}
	s.echoed, s.echoDue, l.distrust = n, 0, false
	l.echoAt.Store(now())
}
