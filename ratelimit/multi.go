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
// look before it adds, so it adds, counts, and what was too much is removed.
//
// Nor can it score with Redis's time. The score is the latest that Redis's clock can
// show when the request is sent. This is later than the sending and, as the round
// trip takes its time, earlier than the answer; so whatever happens between
// those two is within the limit.

// taken is the member that stands for a full log: what was in its place before was
// of another type.
const taken = "!"

// slack is for how long beyond the longest window admissions are kept: another
// process's score may be this much behind.
const slack = time.Second

// clockOf is the clock of the server that holds key.
func (e *engine) clockOf(ctx context.Context, key string) *clock {
	server := e.conn.Server(ctx, key)
	if c, ok := e.clocks.Load(server); ok {
		return c.(*clock)
	}
	c, _ := e.clocks.LoadOrStore(server, new(clock))
	return c.(*clock)
}

// transact has Redis decide without a script. wary says that a denial is likely:
// then it looks first, and adds only if there is room.
func (l *Limiter) transact(ctx context.Context, base, id string, cost int, wary bool) (Result, error) {
	key := base + ":multi"
	clock := l.clockOf(ctx, key)
	if l.local != nil {
		if err := l.repayByMulti(ctx, base); err != nil {
			return Result{}, err
		}
	}
	_, known := clock.latest(l.watch.now())
	if !known || wary || cost == 0 || l.never(cost) {
		result, err := l.look(ctx, clock, key, cost)
		if err != nil || cost == 0 || !result.Allowed {
			return result, err
		}
	}
	return l.addAndCount(ctx, clock, key, id, cost)
}

// look decides without adding.
func (l *Limiter) look(ctx context.Context, clock *clock, key string, cost int) (Result, error) {
	begun := l.watch.now()
	at, ok := clock.latest(begun)
	if !ok {
		// The first question to this server: its time, and then the rest.
		now := rdb.NewCmd(key, "time")
		if err := l.conn.Transact(ctx, now, rdb.NewCmd(key, "pttl", key)); err != nil {
			return Result{}, err
		}
		t, err := timeOf(now)
		if err != nil {
			return Result{}, err
		}
		clock.learn(begun, l.watch.now(), t)
		at, _ = clock.latest(l.watch.now())
	}
	need := max(1, cost)
	cmds := []*rdb.Cmd{rdb.NewCmd(key, "time"), rdb.NewCmd(key, "zscore", key, taken)}
	for _, limit := range l.limits {
		from := exclusive(at - limit.window.Microseconds())
		// The n-th oldest must leave for the request to fit, if the log is full.
		cmds = append(cmds,
			rdb.NewCmd(key, "zcount", key, from, "+inf"),
			rdb.NewCmd(key, "zrangebyscore", key, from, "+inf", "withscores", "limit", 0, 1),
			rdb.NewCmd(key, "zrangebyscore", key, from, "+inf", "withscores", "limit", min(need, limit.requests)-1, 1))
	}
	if err := l.conn.Transact(ctx, cmds...); err != nil {
		if errors.Is(err, ErrCorrupt) {
			return l.refill(ctx, clock, key, cost)
		}
		return Result{}, err
	}
	v, err := l.read(cmds, at, clock, begun)
	if err != nil {
		return Result{}, err
	}
	return v.verdict(l, cost, 0), nil
}

// addAndCount adds the request and removes it again if that was too much.
func (l *Limiter) addAndCount(ctx context.Context, clock *clock, key, id string, cost int) (Result, error) {
	begun := l.watch.now()
	at, _ := clock.latest(begun)
	members := membersOf(id, cost)
	add := []any{"zadd", key}
	for _, m := range members {
		add = append(add, at, m)
	}
	cmds := []*rdb.Cmd{
		rdb.NewCmd(key, "time"),
		rdb.NewCmd(key, "zscore", key, taken),
	}
	for _, limit := range l.limits {
		from := exclusive(at - limit.window.Microseconds())
		cmds = append(cmds,
			rdb.NewCmd(key, "zcount", key, from, "+inf"),
			rdb.NewCmd(key, "zrangebyscore", key, from, "+inf", "withscores", "limit", 0, 1),
			rdb.NewCmd(key, "zrangebyscore", key, from, "+inf", "withscores", "limit", min(cost, limit.requests)-1, 1))
	}
	cmds = append(cmds,
		rdb.NewCmd(key, "zremrangebyscore", key, "-inf", at-(l.retention+slack).Microseconds()),
		rdb.NewCmd(key, add...),
		rdb.NewCmd(key, "pexpire", key, l.lifetime()))
	if err := l.conn.Transact(ctx, cmds...); err != nil {
		if errors.Is(err, ErrCorrupt) {
			return l.refill(ctx, clock, key, cost)
		}
		return Result{}, err
	}
	v, err := l.read(cmds, at, clock, begun)
	if err != nil {
		return Result{}, err
	}
	result := v.verdict(l, cost, cost)
	if !result.Allowed {
		// Should this fail, the request stays counted: too few are admitted then.
		_ = l.conn.Exec(context.WithoutCancel(ctx), removal(key, members))
		return result, nil
	}
	if now := v.now.UnixMicro(); at < now-(l.watch.now()-begun).Microseconds() || at > now+slack.Microseconds() {
		// Redis's clock was set meanwhile, and at is not between question and answer.
		at = now
		fix := []any{"zadd", key, "xx"}
		for _, m := range members {
			fix = append(fix, at, m)
		}
		if err := l.conn.Exec(ctx, rdb.NewCmd(key, fix...).Replayable()); err != nil {
			return Result{}, err
		}
	}
	result.id, result.cost, result.At = id, cost, time.UnixMicro(at)
	return result, nil
}

func (l *Limiter) lifetime() int64 { return l.retention.Milliseconds() + 100 }

// counts is what MULTI has told of a key.
type counts struct {
	asked time.Duration
	now   time.Time
	at    int64 // the windows' end
	taken int64 // the instant from which the log counts as full; 0 if none
	tiers []counted
}

type counted struct {
	used       int
	first, nth int64 // instants; 0 if there is none
}

// read takes the replies to TIME, ZSCORE, and three for each limit.
func (l *Limiter) read(cmds []*rdb.Cmd, at int64, clock *clock, begun time.Duration) (counts, error) {
	v := counts{asked: begun, at: at}
	var err error
	if v.now, err = timeOf(cmds[0]); err != nil {
		return v, err
	}
	clock.learn(begun, l.watch.now(), v.now)
	if v.taken, err = instantOf(cmds[1].Val()); err != nil {
		return v, err
	}
	for i := range l.limits {
		c := cmds[2+3*i:]
		t := counted{used: int(c[0].Int())}
		for j, p := range []*int64{&t.first, &t.nth} {
			if pair := c[1+j].Slice(); len(pair) > 1 {
				if *p, err = instantOf(pair[1]); err != nil {
					return v, err
				}
			} else if len(pair) == 1 { // RESP3 pairs a member with its score
				if nested, ok := pair[0].([]any); ok && len(nested) == 2 {
					if *p, err = instantOf(nested[1]); err != nil {
						return v, err
					}
				}
			}
		}
		v.tiers = append(v.tiers, t)
	}
	return v, nil
}

// verdict is that for a request of cost, of which added units are counted already.
func (v counts) verdict(l *Limiter, cost, added int) Result {
	r := Result{Allowed: true, At: v.now, asked: v.asked}
	now := v.now.UnixMicro()
	need := max(1, cost)
	tiers := make([]standing, 0, maxLimits)
	for i, limit := range l.limits {
		t, window := v.tiers[i], limit.window.Microseconds()
		if v.taken > v.at-window {
			t = counted{limit.requests, v.taken, v.taken}
		}
		s := standing{Status: Status{Limit: limit, Remaining: max(0, limit.requests-t.used)}}
		if t.first > 0 {
			s.ResetAfter = micros(max(1, t.first+window-now))
		}
		switch {
		case cost > limit.requests:
			s.wait = waitNever
		case t.used+need > limit.requests:
			// What others have added only to remove it does not count.
			wait := t.nth
			if t.used < limit.requests || wait == 0 {
				wait = t.first
			}
			s.wait = micros(max(1, wait+window-now))
		case added > 0:
			s.Remaining -= added
			if s.ResetAfter == 0 {
				s.ResetAfter = limit.window
			}
		}
		if s.Full = s.wait != 0; s.Full {
			r.Allowed = false
		}
		tiers = append(tiers, s)
	}
	r.tell(tiers)
	return r
}

// refill puts a full log in the place of a key of another type: what was admitted
// is not known.
func (l *Limiter) refill(ctx context.Context, clock *clock, key string, cost int) (Result, error) {
	at, _ := clock.latest(l.watch.now())
	err := l.conn.Transact(ctx,
		rdb.NewCmd(key, "del", key),
		rdb.NewCmd(key, "zadd", key, at, taken),
		rdb.NewCmd(key, "pexpire", key, l.lifetime()))
	if err != nil {
		return Result{}, err
	}
	return l.look(ctx, clock, key, cost)
}

// repayByMulti writes back what this process has admitted by itself: what base
// owes, and others' debts once Redis has answered.
func (l *Limiter) repayByMulti(ctx context.Context, base string) error {
	d, ok := l.local.debts.take(base)
	owed := l.local.owed()
	if ok {
		owed = append(owed, d)
	}
	if len(owed) == 0 {
		return nil
	}
	cmds := make([]*rdb.Cmd, 0, 2*len(owed))
	for _, d := range owed {
		key := d.base + ":multi"
		now, ok := l.clockOf(ctx, key).latest(l.watch.now())
		if !ok {
			now = time.Now().UnixMicro()
		}
		args := []any{"zadd", key, "nx"}
		for _, n := range d.loans {
			at := now - (l.watch.now() - n.at).Microseconds()
			for _, m := range membersOf(n.id, n.cost) {
				args = append(args, at, m)
			}
		}
		cmds = append(cmds, rdb.NewCmd(key, args...).Replayable(), rdb.NewCmd(key, "pexpire", key, l.lifetime()).Replayable())
	}
	err := l.conn.Exec(ctx, cmds...)
	for i, d := range owed {
		if cmds[2*i].Err() != nil {
			l.local.debts.restore(d)
		}
	}
	return err
}

// refundByMulti removes a request's members.
func (l *Limiter) refundByMulti(ctx context.Context, base string, t ticket) (bool, error) {
	cmd := removal(base+":multi", membersOf(t.id, t.cost))
	if err := l.conn.Exec(ctx, cmd); err != nil {
		return false, wrap(ctx, "refund", err)
	}
	return cmd.Int() > 0, nil
}

func removal(key string, members []string) *rdb.Cmd {
	args := []any{"zrem", key}
	for _, m := range members {
		args = append(args, m)
	}
	return rdb.NewCmd(key, args...).Replayable()
}

// membersOf are a request's: one for each unit of its cost.
func membersOf(id string, cost int) []string {
	members := make([]string, cost)
	for i := range members {
		members[i] = id
		if i > 0 {
			members[i] = id + "." + strconv.Itoa(i)
		}
	}
	return members
}

// exclusive is the bound of a range that does not contain it.
func exclusive(µs int64) string { return "(" + strconv.FormatInt(µs, 10) }

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

// instantOf reads a score: text in RESP2, a number in RESP3.
func instantOf(v any) (int64, error) {
	switch v := v.(type) {
	case nil:
		return 0, nil
	case float64:
		return int64(v), nil
	case string:
		if f, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(f) < 1<<53 {
			return int64(f), nil
		}
	}
	return 0, fmt.Errorf("%w: a score is %v", rdb.ErrCorrupt, v)
}
