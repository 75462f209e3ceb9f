package quota

import (
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// MaxAmount is the most that an account may have, and that a call may be about:
// 2^53, up to which Redis's Lua counts without gaps.
const MaxAmount = 1 << 53

// Outcome is what became of a request.
type Outcome string

const (
	// Done says that the request was carried out.
	Done Outcome = "done"
	// Insufficient says that the balance is below the amount.
	Insufficient Outcome = "insufficient"
	// Overflow says that the account would have had more than MaxAmount, holds
	// included.
	Overflow Outcome = "overflow"
	// Expired says that the hold had ended, and its amount returned to the
	// balance, before it was committed or cancelled.
	Expired Outcome = "expired"
	// Committed says that the hold was committed before, by another request.
	Committed Outcome = "committed"
	// Cancelled says that the hold was cancelled before, by another request.
	Cancelled Outcome = "cancelled"
	// Exceeds says that the hold is below the amount to commit. It stays open.
	Exceeds Outcome = "exceeds"
	// Unknown says that there is no such hold: Reserve was refused or never came,
	// or the hold ended longer ago than ids are remembered.
	Unknown Outcome = "unknown"
)

// outcomes are those that a script may tell.
var outcomes = map[Outcome]bool{
	Done: true, Insufficient: true, Overflow: true, Expired: true,
	Committed: true, Cancelled: true, Exceeds: true, Unknown: true,
}

// Receipt says what became of a request, and what the account had right after it.
// If the Outcome is not Done, nothing was changed.
type Receipt struct {
	// OK says that the Outcome is Done.
	OK      bool
	Outcome Outcome
	// ID is the request's id, generated if the caller gave none; of Reserve,
	// Commit and Cancel it is also the hold's. It is set even beside an error, so
	// that the request can be repeated; Balance has none.
	ID string
	// Amount is what was added, deducted, reserved, committed or returned: 0 if
	// not OK.
	Amount int64
	// Balance is what can be spent, and Held what open holds keep back. The
	// account has the sum of both.
	Balance, Held int64
	// At is the instant of the answer by Redis's clock.
	At time.Time
	// Expires is when the hold that Reserve made ends by itself, by Redis's clock.
	// It is zero for other requests.
	Expires time.Time
	// Repeated says that an earlier call with this id was answered so: nothing was
	// changed by this one. All else is as the earlier call was told.
	Repeated bool
	// Ended is how the hold ended that the id stands for: Committed, Cancelled or
	// Expired. It is empty while the hold is open, and where there is none. It is
	// the one field that is newer than the call that a repeated one repeats.
	Ended Outcome
}

// parse reads a script's reply. Its form is in lua/account.lua.
func parse(reply any) (Receipt, error) {
	list, _ := reply.([]any)
	if len(list) == 0 {
		return Receipt{}, fmt.Errorf("%w: the script returned %T", rdb.ErrCorrupt, reply)
	}
	word, _ := list[0].(string)
	switch {
	case word == "reused":
		return Receipt{}, ErrReused
	case word == "full" && len(list) == 2 && list[1] == "holds":
		return Receipt{}, fmt.Errorf("%w: too many open holds: close them, or see WithMaxHolds", ErrFull)
	case word == "full":
		return Receipt{}, fmt.Errorf("%w: too many remembered requests: see WithMaxIDs and WithIDLifetime", ErrFull)
	case word == "corrupt" && len(list) == 2:
		return Receipt{}, fmt.Errorf("%w: %v", rdb.ErrCorrupt, list[1])
	case !outcomes[Outcome(word)] || len(list) != 8:
		return Receipt{}, fmt.Errorf("%w: the script returned %q and %d values", rdb.ErrCorrupt, word, len(list)-1)
	}
	var n [6]int64 // balance, held, amount, at, expires, repeated
	for i := range n {
		var ok bool
		if n[i], ok = list[i+1].(int64); !ok || n[i] < 0 || n[i] > MaxAmount {
			return Receipt{}, fmt.Errorf("%w: the script returned %v for number %d", rdb.ErrCorrupt, list[i+1], i+1)
		}
	}
	ended, ok := list[7].(string)
	if !ok || ended != "" && !outcomes[Outcome(ended)] || n[1] > MaxAmount-n[0] {
		return Receipt{}, fmt.Errorf("%w: the script's values do not fit together", rdb.ErrCorrupt)
	}
	r := Receipt{
		OK:       Outcome(word) == Done,
		Outcome:  Outcome(word),
		Balance:  n[0],
		Held:     n[1],
		Amount:   n[2],
		At:       time.UnixMicro(n[3]),
		Repeated: n[5] == 1,
		Ended:    Outcome(ended),
	}
	if n[4] > 0 {
		r.Expires = time.UnixMicro(n[4])
	}
	return r, nil
}
