package event

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// maxReason is how much of an error's text a dead letter keeps, in bytes.
const maxReason = 1000

// join makes the group if it is not there, and takes on what is in nobody's hands.
func (c *consumer[T]) join(ctx context.Context, now time.Time) error {
	free := c.free()
	if now.Before(c.joinAt) && !(c.claims && free > 0) {
		return nil
	}
	start, known := Oldest, 0
	if c.cfg.fromNow {
		start = Newest
	}
	if c.joined {
		known = 1
	}
	args := []any{c.group, c.name, free, start, known, c.cfg.claimAfter.Milliseconds(), c.elder, c.stream.lifetime(), c.mark}
	for id := range c.hand {
		args = append(args, id)
	}
	for _, id := range c.acks {
		args = append(args, id)
	}
	cmd := join.On([]string{c.stream.keys.entries, c.stream.keys.meta}, args...)
	if err := c.stream.bus.conn.Exec(c.calls, cmd); err != nil {
		return err
	}
	reply := cmd.Slice()
	if len(reply) != 5 {
		return fmt.Errorf("%w: reply %v", ErrCorrupt, cmd.Val())
	}
	c.joined = true
	c.miss(reply[0], reply[1])
	for _, id := range textsOf(reply[2]) {
		c.tell(Notice{Kind: NoticeMissed, ID: id, Count: 1})
		c.acks = append(c.acks, id) // now that it is told
	}
	rows, _ := reply[3].([]any)
	for _, row := range rows {
		if err := c.claim(ctx, row); err != nil {
			return err
		}
	}
	// The keys must not expire in between.
	c.joinAt = now.Add(jitter(min(c.cfg.claimAfter, c.stream.cfg.retention) / 2))
	more, _ := reply[4].(int64)
	c.claims = more == 1
	return nil
}

// claim starts an entry that was in nobody's hands.
func (c *consumer[T]) claim(ctx context.Context, row any) error {
	parts, _ := row.([]any)
	if len(parts) != 3 {
		return fmt.Errorf("%w: a pending entry of %d parts", ErrCorrupt, len(parts))
	}
	e, err := c.stream.entryOf(parts[0], parts[2])
	if err != nil {
		return err
	}
	count, _ := parts[1].(int64)
	e.Delivery = int(count)
	if e.Delivery > 1 {
		c.tell(Notice{Kind: NoticeClaimed, ID: e.ID, Delivery: e.Delivery})
	}
	c.start(ctx, &job[T]{entry: e})
	return nil
}

// take tells what is handled, gives a sign for what is not, and takes new entries.
func (c *consumer[T]) take(ctx context.Context, now time.Time) error {
	want := 0
	if c.more || !now.Before(c.pollAt) {
		want = c.free()
	}
	sign := len(c.hand) > 0 && !now.Before(c.signAt)
	if want <= 0 && len(c.acks) == 0 && !sign {
		return nil
	}
	if want <= 0 && len(c.acks) > 0 && c.free() > 0 {
		want = c.free() // on this trip it costs nothing
	}
	args := append(make([]any, 0, 5+len(c.acks)), c.group, c.name, max(0, want), len(c.acks), c.mark)
	for _, id := range c.acks {
		args = append(args, id)
	}
	if sign {
		for id := range c.hand {
			args = append(args, id)
		}
	}
	cmd := take.On([]string{c.stream.keys.entries, c.stream.keys.meta}, args...)
	if err := c.stream.bus.conn.Exec(c.calls, cmd); err != nil {
		return err
	}
	reply := cmd.Slice()
	if len(reply) != 5 {
		return fmt.Errorf("%w: reply %v", ErrCorrupt, cmd.Val())
	}
	if again, _ := reply[0].(int64); again == 1 {
		c.joinAt, c.more = time.Time{}, true
		return nil
	}
	c.acks = c.acks[:0]
	if sign {
		c.signAt = now.Add(jitter(c.cfg.claimAfter / 4))
	}
	c.miss(reply[1], reply[2])
	c.lose(textsOf(reply[3]))
	if want <= 0 {
		return nil
	}
	entries, err := c.stream.entriesOf(reply[4])
	if err != nil {
		return err
	}
	if len(entries) > 0 && len(c.hand) == 0 {
		c.signAt = now.Add(jitter(c.cfg.claimAfter / 4))
	}
	for _, e := range entries {
		e.Delivery = 1
		c.start(ctx, &job[T]{entry: e})
	}
	c.more = len(entries) == want
	c.pollAt = now.Add(jitter(pollEvery))
	return nil
}

// retry begins anew with entries whose back-off has passed.
func (c *consumer[T]) retry(ctx context.Context, _ time.Time) error {
	n := min(len(c.again), c.cfg.workers-c.running)
	if n <= 0 {
		return nil
	}
	args := []any{c.group, c.name}
	for _, j := range c.again[:n] {
		args = append(args, j.entry.ID, j.entry.Delivery+1)
	}
	cmd := retry.On([]string{c.stream.keys.entries}, args...)
	if err := c.stream.bus.conn.Exec(c.calls, cmd); err != nil && !isNoGroup(err) {
		return err
	} else if err != nil {
		c.joinAt, c.more = time.Time{}, true // and the jobs begin all the same
	}
	jobs := c.again[:n:n]
	c.again = c.again[n:]
	c.lose(textsOf(cmd.Val()))
	for _, j := range jobs {
		if !j.lost {
			j.entry.Delivery++
			c.start(ctx, j)
		}
	}
	return nil
}

// bury moves what cannot be handled to the dead letters.
func (c *consumer[T]) bury(context.Context, time.Time) error {
	for len(c.graves) > 0 {
		j := c.graves[0]
		reason := strings.ToValidUTF8(j.err.Error(), "?")
		cmd := bury.On([]string{c.stream.keys.entries, c.stream.keys.dead},
			c.group, c.name, j.entry.ID, j.entry.Raw, reason[:min(len(reason), maxReason)], j.entry.Delivery,
			c.stream.cfg.maxDead, c.stream.cfg.deadRetention.Milliseconds()).Again(1)
		if err := c.stream.bus.conn.Exec(c.calls, cmd); err != nil && !isNoGroup(err) {
			return err
		}
		c.graves = c.graves[1:]
		delete(c.hand, j.entry.ID)
		if n := cmd.Int(); n > 0 {
			c.tell(Notice{Kind: NoticeDead, ID: j.entry.ID, Delivery: j.entry.Delivery, Count: n - 1, Err: j.err})
		} else {
			c.tell(Notice{Kind: NoticeLost, ID: j.entry.ID, Delivery: j.entry.Delivery})
		}
	}
	return nil
}

// miss announces entries that are gone and were not read, once for each mark.
func (c *consumer[T]) miss(count, mark any) {
	n, _ := count.(int64)
	text, _ := mark.(string)
	if n != 0 && text != c.mark {
		c.tell(Notice{Kind: NoticeMissed, Count: n})
		c.mark = text
	}
}

// lose gives up entries that another consumer has taken over.
func (c *consumer[T]) lose(ids []string) {
	for _, id := range ids {
		j := c.hand[id]
		if j == nil || j.lost {
			continue
		}
		j.lost = true
		c.tell(Notice{Kind: NoticeLost, ID: id, Delivery: j.entry.Delivery})
		if j.running {
			j.cancel(ErrClaimed) // settle does the rest
			continue
		}
		if j.timer != nil {
			j.timer.Stop()
		}
		delete(c.hand, id)
	}
}
