package session

import "context"

// EventKind says what happened to a session.
type EventKind int

const (
	// Created: a session was stored for the first time.
	Created EventKind = iota + 1
	// Renewed: a session has a new token, by RenewToken or WithRenewal.
	Renewed
	// LoggedIn: a session was bound to a user, and has a new token.
	LoggedIn
	// Ended: a session was ended: by Destroy, or by End, EndOthers or EndAll.
	Ended
	// Evicted: a session was ended by a login beyond WithMaxSessions.
	Evicted
	// Expired: a request brought the token of a session that is over, or that never
	// was. There is one for each such request which looks: Redis forgets sessions
	// without telling anybody.
	Expired
	// Lost: a change was not kept, as the session ended while the request was under
	// way; Err is ErrEnded.
	Lost
	// Damaged: what is stored does not decode or decrypt; Err is of kind ErrCorrupt.
	// The visitor has a new session.
	Damaged
	// Unsaved: an idle timeout could not be pushed back, or the data of sessions that
	// a login has evicted not be removed; Err says why.
	Unsaved
)

// Event is what an observer is told: see [WithObserver]. It holds no token.
type Event struct {
	Kind EventKind
	// User and ID name a session that is bound to a user; else they are empty.
	User, ID string
	// Err is why, where that is not in the kind.
	Err error
}

// String names the kind in lower case, as "logged in".
func (k EventKind) String() string {
	switch k {
	case Created:
		return "created"
	case Renewed:
		return "renewed"
	case LoggedIn:
		return "logged in"
	case Ended:
		return "ended"
	case Evicted:
		return "evicted"
	case Expired:
		return "expired"
	case Lost:
		return "lost"
	case Damaged:
		return "damaged"
	case Unsaved:
		return "unsaved"
	}
	return "unknown"
}

// tell tells the observer. Its context is the one outside of the visit: within, a look
// at the session, such as a logger's, would wait for the visit that is telling.
func (m *Manager) tell(ctx context.Context, e Event) {
	if m.observer == nil {
		return
	}
	if v := m.visitOf(ctx); v != nil {
		ctx = v.Context
	}
	m.observer(ctx, e)
}
