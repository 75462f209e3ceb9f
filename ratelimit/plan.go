package ratelimit

import (
	"fmt"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// batches is into how many parts a limit is divided that is not kept request by
// request: an admission is counted too long only while its part's latest one is.
// 57 parts, 32 to 55 single requests: Redis keeps 128 members compact.
const batches = 56

// quantum is how many requests one batch of limit may hold.
func (l Limit) quantum(exact int) int {
	if l.requests <= exact {
		return 1
	}
	return 1 + l.requests/batches
}

// tailOf is a script's arguments that say the limits.
func tailOf(limits []Limit, exact int, ban *ban) []any {
	var tail []any
	for _, l := range limits {
		switch l.kind {
		case Sliding:
			tail = append(tail, "w", l.window.Microseconds(), l.requests, l.quantum(exact))
		case Smooth:
			tail = append(tail, "s", l.window.Microseconds(), l.requests, l.burst)
		case InFlight:
			tail = append(tail, "f", l.window.Microseconds(), l.requests, 0)
		}
	}
	if ban != nil {
		tail = append(tail, "b", ban.denials, ban.within.Microseconds(), ban.lasting.Microseconds())
	}
	return tail
}

// plan is the whole decision as one command. It does no I/O.
func (l *Limiter) plan(base, id string, cost int) *rdb.Cmd {
	var buf [32]any // on the stack
	args := append(append(buf[:0], id, cost, l.retention.Microseconds()), l.tail...)
	if l.features == hasLog {
		return l.scripts.admit.Cmd(base, args...).Again("again")
	}
	return l.scripts.admit.On(l.features.keys(base), args...).Again("again")
}

// never reports whether cost is above what some limit admits at all.
func (l *Limiter) never(cost int) bool {
	for i := range l.limits {
		if limit := &l.limits[i]; limit.kind != InFlight && cost > limit.Burst() {
			return true
		}
	}
	return false
}

// What a limit's wait is, if not a time.
const (
	waitNever   time.Duration = -1
	waitUnknown time.Duration = -2
)

// verdict reads the script's reply.
func (l *Limiter) verdict(reply []any, id string, cost int) (Result, error) {
	var buf [3 + 3*maxLimits]int64
	n := buf[:3+3*len(l.limits)]
	if len(reply) != len(n) {
		return Result{}, fmt.Errorf("%w: the script returned %d values, want %d", rdb.ErrCorrupt, len(reply), len(n))
	}
	for i, v := range reply {
		var ok bool
		if n[i], ok = v.(int64); !ok {
			return Result{}, fmt.Errorf("%w: the script returned a %T, want integers", rdb.ErrCorrupt, v)
		}
	}
	r := Result{Allowed: n[0] == 1, Banned: n[0] == 2, At: time.UnixMicro(n[1])}
	banned := micros(n[2])
	tiers := make([]standing, 0, maxLimits)
	for i, limit := range l.limits {
		t := n[3+3*i:]
		s := standing{Status{limit, int(t[0]), micros(t[1]), t[2] != 0}, waitNever}
		switch {
		case t[2] >= 0:
			s.wait = micros(t[2])
		case t[2] == -2:
			s.wait = waitUnknown
		}
		tiers = append(tiers, s)
	}
	r.tell(tiers)
	if r.Banned {
		r.Never, r.RetryAfter = false, banned
	}
	if r.Allowed {
		r.id, r.cost = id, cost
	}
	return r, nil
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// standing is a Status with the time until the limit would admit the request.
type standing struct {
	Status
	wait time.Duration
}

// tell chooses the limit that r speaks of.
func (r *Result) tell(tiers []standing) {
	shown := 0
	for i, t := range tiers {
		s := &tiers[shown]
		switch {
		case t.wait == waitNever:
			r.Never = true
			if s.wait != waitNever {
				shown = i
			}
		case s.wait == waitNever || t.wait == 0 && s.wait != 0:
		case t.wait > s.wait && t.wait > 0, t.wait == waitUnknown && s.wait == 0,
			t.wait == 0 && t.Remaining < s.Remaining:
			shown = i
		}
	}
	s := tiers[shown]
	r.denies = s.Full
	r.Limit, r.Remaining, r.ResetAfter = s.Limit, s.Remaining, s.ResetAfter
	if s.wait > 0 {
		r.RetryAfter = s.wait
	}
	if len(tiers) > 1 {
		r.tiers = make([]Status, len(tiers))
		for i, t := range tiers {
			r.tiers[i] = t.Status
		}
	}
}

// checksum tells limits from others; names do not matter.
func checksum(limits []Limit) uint32 {
	h := uint64(14695981039346656037) // FNV-1a, by words
	for _, l := range limits {
		for _, n := range [...]uint64{uint64(l.kind), uint64(l.requests), uint64(l.window), uint64(l.burst)} {
			h = (h ^ n) * 1099511628211
			h ^= h >> 29
		}
	}
	return uint32(h ^ h>>32)
}
