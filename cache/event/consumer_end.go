package event

import (
	"fmt"
	"strings"
	"time"
)

const (
	// heed is how long handlers whose context has ended have to notice.
	heed = 500 * time.Millisecond

	// lastTries is how often a silent Redis is asked in the end.
	lastTries = 3
)

// end lets handlers finish, and hands back what is left.
func (c *consumer[T]) end() error {
	c.ending = true
	c.stopRetries()
	grace := time.NewTimer(c.cfg.grace)
	defer grace.Stop()
	c.finish(grace.C)
	unfinished := 0
	if c.running > 0 {
		for _, j := range c.hand {
			if j.running {
				// It is no fault of the entry's: this delivery does not count.
				j.entry.Delivery--
			}
		}
		c.halt(errEnding)
		last := time.NewTimer(heed)
		defer last.Stop()
		c.finish(last.C)
		unfinished = c.running
	}
	c.halt(errEnding)
	c.stopRetries()
	c.handBack()
	if unfinished > 0 {
		return fmt.Errorf("%w: %d still running", ErrUnfinished, unfinished)
	}
	return nil
}

// stopRetries sees to it that no job begins anew.
func (c *consumer[T]) stopRetries() {
	for _, j := range c.hand {
		if j.timer != nil {
			j.timer.Stop()
		}
	}
	c.again = nil
}

// finish waits for handlers until time is over. It tells Redis of each end at once,
// and gives signs for those that run.
func (c *consumer[T]) finish(over <-chan time.Time) {
	sign := time.NewTicker(max(c.cfg.claimAfter/4, time.Millisecond))
	defer sign.Stop()
	for c.running > 0 {
		select {
		case <-over:
			return
		case j := <-c.done:
			c.settle(j)
		case <-sign.C:
			c.signAt = time.Time{}
		}
		c.collect()
		c.report()
	}
}

// report tells Redis what is handled and what is dead. An error leaves that for later.
func (c *consumer[T]) report() error {
	now := time.Now()
	if err := c.bury(c.calls, now); err != nil {
		return err
	}
	return c.take(c.calls, now)
}

// handBack leaves what is not handled to others, and the group.
func (c *consumer[T]) handBack() {
	for try := range lastTries {
		if try > 0 {
			time.Sleep(jitter(pollEvery / 10))
		}
		if c.report() != nil {
			continue
		}
		args := []any{c.group, c.name, c.cfg.claimAfter.Milliseconds(), c.mark}
		for id, j := range c.hand {
			// Those that still run are nobody else's yet.
			if !j.running && !j.lost {
				args = append(args, id, max(0, j.entry.Delivery))
			}
		}
		cmd := leave.On([]string{c.stream.keys.entries, c.stream.keys.meta}, args...)
		if err := c.stream.bus.conn.Exec(c.calls, cmd); err != nil && !isNoGroup(err) {
			continue
		}
		reply := cmd.Slice()
		if len(reply) != 2 || reply[0] == int64(0) {
			return
		}
		c.miss(reply[0], reply[1]) // and once more, to say so
	}
}

// isNoGroup reports whether Redis knows no such group, or no such stream.
func isNoGroup(err error) bool { return err != nil && strings.Contains(err.Error(), "NOGROUP") }
