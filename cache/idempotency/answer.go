package idempotency

import (
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// State is what is known of a key.
type State string

const (
	// Free says that nothing is known of the key. Reserve never says so.
	Free State = "free"
	// Claimed says that the key was free, or its holder had died under Retry, and is
	// now the caller's.
	Claimed State = "claimed"
	// Kept says that the work was done: its outcome is in the Answer.
	Kept State = "kept"
	// Busy says that another holder does the work at present.
	Busy State = "busy"
	// Differs says that the key was used for a request of another fingerprint.
	Differs State = "differs"
	// Interrupted says that a holder died before it had an outcome, under Block: the
	// work may have been done, in part, as a whole, or not at all.
	Interrupted State = "interrupted"
)

// Answer is what Redis says of a key.
type Answer struct {
	State State
	// Claim is the caller's if the State is Claimed, else nil.
	Claim *Claim
	// Outcome is what Finish was given, if the State is Kept.
	Outcome string
	// Since is when the key was claimed, by Redis's clock; zero if it is Free.
	Since time.Time
	// Left is how long the holder's lease lasts if it is not renewed, if the State is
	// Busy.
	Left time.Duration

	at int64 // the instant of the answer, in µs
}

// word is the first that a script returns: a State, or one of these.
type word string

const (
	wordLate word = "late"
	wordGone word = "gone"
	wordHeld word = "held"
	wordLost word = "lost"
)

// lengths is how many values a script returns with each word, itself included.
var lengths = map[word]int{
	word(Free): 2, word(Claimed): 2, word(Kept): 4, word(Busy): 4, word(Differs): 3, word(Interrupted): 3,
	wordLate: 2, wordGone: 2, wordHeld: 1, wordLost: 1,
}

// parse reads a script's reply.
func parse(cmd *rdb.Cmd) (Answer, word, error) {
	list := cmd.Slice()
	if len(list) == 0 {
		return Answer{}, "", fmt.Errorf("%w: the script returned %T", rdb.ErrCorrupt, cmd.Val())
	}
	text, _ := list[0].(string)
	w := word(text)
	if w == "corrupt" && len(list) == 2 {
		return Answer{}, "", fmt.Errorf("%w: %v", rdb.ErrCorrupt, list[1])
	}
	if n := lengths[w]; n == 0 || n != len(list) {
		return Answer{}, "", fmt.Errorf("%w: the script returned %q and %d values", rdb.ErrCorrupt, text, len(list)-1)
	}
	a := Answer{State: State(w)}
	if len(list) > 1 {
		a.at, _ = list[1].(int64)
		a.Since = time.UnixMicro(a.at)
	}
	if len(list) > 2 {
		since, _ := list[2].(int64)
		a.Since = time.UnixMicro(since)
	}
	switch a.State {
	case Free:
		a.Since = time.Time{}
	case Kept:
		a.Outcome, _ = list[3].(string)
	case Busy:
		left, _ := list[3].(int64)
		a.Left = time.Duration(left) * time.Millisecond
	}
	return a, w, nil
}
