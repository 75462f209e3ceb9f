package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/go-weir/weir/internal/rdb"
)

// Where scripts are forbidden the log is another sorted set: a member for each
// request, or for each unit of its cost, scored with its instant. MULTI cannot
// look before it adds, so it counts, adds, and what was too much is removed.
//
// Nor can it score with Redis's time. The score is the latest that Redis's clock
// can show when the request is sent, and what is counted are the windows that end
// with the earliest. So whatever was sent and answered within one window was
// counted by the last of it, however little is known of the clock: the less, the
// longer requests are counted. Each answer tells Redis's time; a request that was
// not within those bounds, as the clock was set, is taken back and asked for again.

// taken is the member that stands for a full log: what was in its place before was
// not one, or was of a time to come.
const taken = "!"

const (
	// attempts is how often the clock may be set, or a key spoiled, meanwhile.
	attempts = 4

	// spare is how many requests may stay that have left the longest window, beside
	// twice as many as are in it. To remove them costs a round trip: only an answer
	// tells with certainty which have left.
	spare = 32

	// ahead is how far ahead of Redis's clock an admission may be.
	ahead = time.Second
)

var errClockSet = fmt.Errorf("%w: its clock is set again and again", rdb.ErrUnavailable)

// span is between which bounds Redis's clock is at an instant, in µs since 1970.
type span struct {
	asked            time.Duration // the instant, on the stopwatch
	earliest, latest int64
}

// clockOf is the clock of the server that holds key.
func (e *engine) clockOf(ctx context.Context, key string) *clock {
	server := e.conn.Server(ctx, key)
	if c, ok := e.clocks.Load(server); ok {
		return c.(*clock)
	}
	c, _ := e.clocks.LoadOrStore(server, new(clock))
	return c.(*clock)
}

// spanOf is what the clock of key's server shows now. Should nothing be known of it,
// it asks.
func (l *Limiter) spanOf(ctx context.Context, key string) (s span, err error) {
	for ok := false; ; {
		clock := l.clockOf(ctx, key)
		s.asked = l.watch.now()
		if s.earliest, s.latest, ok = clock.span(s.asked); ok {
			return s, nil
		}
		told := rdb.NewCmd(key, "time")
		// The second command says which server.
		if err := l.conn.Transact(ctx, told, rdb.NewCmd(key, "pttl", key)); err != nil {
			return s, err
		}
		t, err := timeOf(told)
		if err != nil {
			return s, err
		}
		// Of the server that is known by now to hold the key.
		l.clockOf(ctx, key).learn(s.asked, l.watch.now(), t)
	}
}

// costByMulti bounds the members that one request adds.
const costByMulti = 10_000

// transact has Redis decide without a script. wary says that a denial is likely:
// then it looks first, and adds only if there is room.
func (l *Limiter) transact(ctx context.Context, base, id string, cost int, wary bool) (Result, error) {
	key := base + ":multi"
	if cost > costByMulti && !l.never(cost) {
		return Result{}, fmt.Errorf("%w: %d: without scripts it is at most %d", ErrCost, cost, costByMulti)
	}
	if l.local != nil {
		if err := l.repayByMulti(ctx, base); err != nil {
			return Result{}, err
		}
	}
	wary = wary || cost == 0 || l.never(cost)
	told := int64(math.MaxInt64)
	for range attempts {
		var members []string
		if !wary {
			members = membersOf(id, 0, cost)
		}
		v, err := l.count(ctx, key, cost, members, told)
		switch {
		case err != nil:
		case v.spoiled, v.fits && v.setBack():
			// Nobody is kept out for longer than a window, be the clock set back by a day.
			err = l.refill(ctx, key)
			wary = true
		case !v.fits:
			l.undo(ctx, key, members)
			told = v.now.UnixMicro()
		case wary:
			if v.last == -1 {
				_ = l.conn.Exec(ctx, rdb.NewCmd(key, "pexpire", key, l.lifetime()).Replayable()) // or another time
			}
			if r := v.verdict(l, cost, 0); cost == 0 || !r.Allowed {
				return r, nil
			}
			wary = false
		default:
			r := v.verdict(l, cost, cost)
			if !r.Allowed {
				l.undo(ctx, key, members)
				return r, nil
			}
			l.trim(ctx, key, &v)
			r.id, r.cost, r.At = id, cost, time.UnixMicro(v.latest)
			return r, nil
		}
		if err != nil {
			return Result{}, err
		}
	}
	return Result{}, errClockSet
}

// count asks how much is used of every limit, and then adds members, if any. told is
// what Redis's clock has shown when it was not as expected: it may have stopped.
func (l *Limiter) count(ctx context.Context, key string, cost int, members []string, told int64) (v counts, err error) {
	if v.span, err = l.spanOf(ctx, key); err != nil {
		return v, err
	}
	v.earliest = min(v.earliest, told)
	need := max(1, cost)
	cmds := []*rdb.Cmd{rdb.NewCmd(key, "time"), rdb.NewCmd(key, "zscore", key, taken)}
	for _, limit := range l.limits {
		from := "(" + strconv.FormatInt(v.earliest-limit.window.Microseconds(), 10) // itself not
		cmds = append(cmds,
			rdb.NewCmd(key, "zcount", key, from, "+inf"),
			rdb.NewCmd(key, "zrangebyscore", key, from, "+inf", "withscores", "limit", 0, 1))
		if needsMore(limit, need) {
			cmds = append(cmds,
				rdb.NewCmd(key, "zrevrange", key, limit.requests-need, limit.requests-need, "withscores"),
				rdb.NewCmd(key, "zrangebyscore", key, from, "+inf", "withscores", "limit", need-1, 1))
		}
	}
	if len(members) > 0 {
		add := make([]any, 2, 2+2*len(members))
		add[0], add[1] = "zadd", key
		for _, m := range members {
			add = append(add, v.latest, m)
		}
		cmds = append(cmds, rdb.NewCmd(key, add...), rdb.NewCmd(key, "pexpire", key, l.lifetime()), rdb.NewCmd(key, "zcard", key))
	} else {
		cmds = append(cmds, rdb.NewCmd(key, "pttl", key))
	}
	if err := l.conn.Transact(ctx, cmds...); errors.Is(err, ErrCorrupt) {
		v.spoiled = true // another type
		return v, nil
	} else if err != nil {
		return v, err
	}
	received := l.watch.now()
	if v.now, err = timeOf(cmds[0]); err != nil {
		return v, err
	}
	l.clockOf(ctx, key).learn(v.asked, received, v.now)
	now := v.now.UnixMicro()
	v.fits = v.earliest <= now && now-(received-v.asked).Microseconds() <= v.latest
	v.last = cmds[len(cmds)-1].Int()
	v.spoiled = v.read(l, need, cmds[1:]) != nil
	return v, nil
}

// needsMore reports whether another than the oldest may have to leave for a request
// to fit.
func needsMore(limit Limit, need int) bool { return need > 1 && need <= limit.requests }

func (l *Limiter) lifetime() int64 { return l.retention.Milliseconds() + 100 }

// counts is what MULTI has told of a key.
type counts struct {
	span
	now     time.Time
	fits    bool  // now is within span
	spoiled bool  // somebody else has written here
	taken   int64 // the instant from which the log counts as full; 0 if none
	tiers   []counted
	last    int64 // PTTL, or, if something was added, ZCARD
}

// counted is the use of a limit before a request, and instants of the log; 0 if
// there is none.
type counted struct {
	used  int64
	first int64 // the oldest in the window
	room  int64 // with which there is room, if no more than the limit is used
	nth   int64 // and if exactly the limit is used
}

// read takes the replies to ZSCORE, and two or four for each limit.
func (v *counts) read(l *Limiter, need int, cmds []*rdb.Cmd) error {
	next := func() any {
		val := cmds[0].Val()
		cmds = cmds[1:]
		return val
	}
	var errs [4]error
	v.taken, errs[0] = instantOf(next())
	for _, limit := range l.limits {
		var t counted
		t.used, _ = next().(int64)
		t.first, errs[1] = scoreOf(next())
		t.room, t.nth = t.first, t.first
		if needsMore(limit, need) {
			t.room, errs[2] = scoreOf(next())
			t.nth, errs[3] = scoreOf(next())
		}
		if err := errors.Join(errs[:]...); err != nil {
			return err
		}
		v.tiers = append(v.tiers, t)
	}
	return nil
}

// setBack reports whether Redis's clock was set back: all that counts is of a time
// to come.
func (v *counts) setBack() bool {
	for _, t := range v.tiers {
		if t.first > v.now.Add(ahead).UnixMicro() {
			return true
		}
	}
	return false
}

// verdict is that for a request of cost, of which added units are counted already.
func (v *counts) verdict(l *Limiter, cost, added int) Result {
	r := Result{Allowed: true, At: v.now, asked: v.asked}
	need := int64(max(1, cost))
	tiers := make([]standing, 0, maxLimits)
	for i, limit := range l.limits {
		t, window, requests := v.tiers[i], limit.window.Microseconds(), int64(limit.requests)
		if v.taken > v.earliest-window {
			t = counted{requests, v.taken, v.taken, v.taken}
		}
		// When it is before all windows that end with the earliest which the clock can
		// show by then.
		leaves := func(instant int64) time.Duration {
			rest := micros(max(1, instant+window-v.now.UnixMicro()+v.latest-v.earliest))
			return rest + (min(rest, clockAges)/(clockParts-1) + 2*time.Microsecond).Truncate(time.Microsecond)
		}
		s := standing{Status: Status{Limit: limit, Remaining: int(max(0, requests-t.used))}}
		if t.first > 0 {
			s.ResetAfter = leaves(t.first)
		}
		switch {
		case need > requests:
			s.wait = waitNever
		case t.used+need <= requests:
			s.Remaining -= added
			if s.ResetAfter == 0 && added > 0 {
				s.ResetAfter = limit.window
			}
		case t.used <= requests:
			s.wait = leaves(t.room)
		default:
			// What others have added only to remove it does not count.
			s.wait = leaves(t.nth)
		}
		if s.Full = s.wait != 0; s.Full {
			r.Allowed = false
		}
		tiers = append(tiers, s)
	}
	r.tell(tiers)
	return r
}

// undo removes what was too much. Should it fail, that stays counted: too few are
// admitted then.
func (l *Limiter) undo(ctx context.Context, key string, members []string) {
	if len(members) > 0 {
		_ = l.conn.Exec(context.WithoutCancel(ctx), removal(key, members))
	}
}

// trim removes what has left the longest window, once that is more than what is in
// it. It is not part of the transaction: after the clock was set back, one who has not
// heard of it would remove what counts.
func (l *Limiter) trim(ctx context.Context, key string, v *counts) {
	stay := int64(spare)
	for _, t := range v.tiers {
		stay = max(stay, spare+2*t.used)
	}
	if v.last > stay {
		before := v.now.UnixMicro() - l.retention.Microseconds()
		_ = l.conn.Exec(ctx, rdb.NewCmd(key, "zremrangebyscore", key, "-inf", before).Replayable()) // or another time
	}
}

// refill puts a full log in the place of a key that does not tell what was admitted.
func (l *Limiter) refill(ctx context.Context, key string) error {
	s, err := l.spanOf(ctx, key)
	if err != nil {
		return err
	}
	return l.conn.Transact(ctx,
		rdb.NewCmd(key, "del", key),
		rdb.NewCmd(key, "zadd", key, s.latest, taken),
		rdb.NewCmd(key, "pexpire", key, l.lifetime()))
}

// repayByMulti writes back what this process has admitted by itself: what base
// owes, and others' debts once Redis has answered. The error is that of base's.
func (l *Limiter) repayByMulti(ctx context.Context, base string) (failed error) {
	d, ok := l.local.debts.take(base)
	owed := l.local.owed()
	if ok {
		owed = append(owed, d)
	}
	if len(owed) == 0 {
		return nil
	}
	all := make([]*rdb.Cmd, 0, 2*len(owed))
	cmds := make([]*rdb.Cmd, len(owed))
	errs := make([]error, len(owed))
	for i, d := range owed {
		key := d.base + ":multi"
		var s span
		if s, errs[i] = l.spanOf(ctx, key); errs[i] != nil {
			continue // its server may be silent while base's is not
		}
		args := []any{"zadd", key, "nx"}
		for _, n := range d.loans {
			at := s.latest - (s.asked - n.at).Microseconds()
			for _, m := range membersOf(n.id, 0, n.cost) {
				args = append(args, at, m)
			}
		}
		cmds[i] = rdb.NewCmd(key, args...).Replayable()
		all = append(all, cmds[i], rdb.NewCmd(key, "pexpire", key, l.lifetime()).Replayable())
	}
	_ = l.conn.Exec(ctx, all...)
	for i, d := range owed {
		if cmds[i] != nil {
			errs[i] = cmds[i].Err()
		}
		if errs[i] == nil {
			continue
		}
		l.local.debts.restore(d)
		if d.base == base {
			failed = errs[i]
		}
	}
	return failed
}

// refundByMulti removes a request's members.
func (l *Limiter) refundByMulti(ctx context.Context, base string, t ticket) (found bool, err error) {
	// By so many at a time, until there are no more: a ticket's cost may be made up.
	const atOnce = 1000
	for from := 0; from < t.cost; from += atOnce {
		cmd := removal(base+":multi", membersOf(t.id, from, min(from+atOnce, t.cost)))
		if err := l.conn.Exec(ctx, cmd); err != nil {
			return false, wrap(ctx, "refund", err)
		}
		if cmd.Int() == 0 {
			break
		}
		found = true
	}
	return found, nil
}

func removal(key string, members []string) *rdb.Cmd {
	args := make([]any, 2, 2+len(members))
	args[0], args[1] = "zrem", key
	for _, m := range members {
		args = append(args, m)
	}
	return rdb.NewCmd(key, args...).Replayable()
}

// membersOf are a request's: one for each unit of its cost, here those from one to
// before another.
func membersOf(id string, from, to int) []string {
	members := make([]string, 0, to-from)
	for i := from; i < to; i++ {
		m := id
		if i > 0 {
			m += "." + strconv.Itoa(i)
		}
		members = append(members, m)
	}
	return members
}

// timeOf reads a reply to TIME.
func timeOf(cmd *rdb.Cmd) (time.Time, error) {
	if s := cmd.Slice(); len(s) == 2 {
		seconds, err1 := strconv.ParseInt(fmt.Sprint(s[0]), 10, 64)
		µs, err2 := strconv.ParseInt(fmt.Sprint(s[1]), 10, 64)
		if err1 == nil && err2 == nil {
			return time.Unix(seconds, µs*1000), nil
		}
	}
	return time.Time{}, fmt.Errorf("%w: TIME returned %v", rdb.ErrCorrupt, cmd.Val())
}

// scoreOf reads the instant of the one member that a reply holds; 0 if none.
func scoreOf(reply any) (int64, error) {
	pair, _ := reply.([]any)
	if len(pair) == 1 { // RESP3 pairs a member with its score
		pair, _ = pair[0].([]any)
	}
	if len(pair) < 2 {
		return 0, nil
	}
	return instantOf(pair[1])
}

// instantOf reads a score: text in RESP2, a number in RESP3.
func instantOf(v any) (int64, error) {
	f, ok := v.(float64)
	if text, isText := v.(string); isText {
		var err error
		f, err = strconv.ParseFloat(text, 64)
		ok = err == nil
	}
	if v == nil || ok && math.Abs(f) < 1<<53 {
		return int64(f), nil
	}
	return 0, fmt.Errorf("%w: a score is %v", rdb.ErrCorrupt, v)
}
