package event

import (
	"context"
	"fmt"
	"log/slog"
)

// Notice tells of something in a consumer that its handler does not see.
type Notice struct {
	Kind   NoticeKind
	Stream string
	Group  string
	// ID is that of the entry in question, empty if it is about none or several.
	ID string
	// Delivery says which delivery it was, 0 if there was none.
	Delivery int
	// Count says how many entries are gone, -1 if something may be gone and nobody
	// knows what: of NoticeMissed. Of NoticeDead it says how many older dead letters
	// had to make room ([WithDeadLetters]).
	Count int64
	// Err is the cause, if there is one.
	Err error
}

// NoticeKind says what a Notice is about.
type NoticeKind int

// The kinds of Notice.
const (
	// NoticeMissed: entries are gone that the group has not handled. They were
	// trimmed before it read them, or while they were in hand (ID tells which); or
	// Redis has lost the stream or what the group had read.
	NoticeMissed NoticeKind = iota + 1
	// NoticeFailed: a handler returned an error, or panicked; the entry will be
	// delivered again.
	NoticeFailed
	// NoticeDead: the entry was moved to the dead letters.
	NoticeDead
	// NoticeClaimed: the entry was taken over from a consumer that gave no sign.
	NoticeClaimed
	// NoticeLost: the entry was taken over by another consumer while its handler ran
	// here, or before it ran again.
	NoticeLost
	// NoticeUnavailable: Redis has fallen silent. The consumer goes on when it is
	// back.
	NoticeUnavailable
)

var noticeNames = [...]string{"", "missed", "failed", "dead", "claimed", "lost", "unavailable"}

// String is the kind in one word.
func (k NoticeKind) String() string {
	if k < NoticeMissed || k > NoticeUnavailable {
		return fmt.Sprintf("NoticeKind(%d)", int(k))
	}
	return noticeNames[k]
}

// logNotice is what happens to notices that nobody has asked for.
func logNotice(n Notice) {
	level := slog.LevelWarn
	if n.Kind == NoticeClaimed || n.Kind == NoticeFailed {
		level = slog.LevelInfo
	}
	args := []any{"stream", n.Stream, "group", n.Group}
	if n.ID != "" {
		args = append(args, "id", n.ID, "delivery", n.Delivery)
	}
	if n.Count != 0 {
		args = append(args, "count", n.Count)
	}
	if n.Err != nil {
		args = append(args, "error", n.Err)
	}
	slog.Log(context.Background(), level, "event: consumer: "+n.Kind.String(), args...)
}
