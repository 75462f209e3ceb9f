package idempotency

import (
	"context"
	"time"
)

// StopRenewals leaves a claim without the timer that renews it, as a process that stands
// still does.
func StopRenewals(c *Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
}

// Renew is what the timer calls.
func Renew(c *Claim) { c.renew() }

// SetClock has s believe that Redis's clock was d ahead of what it is.
func SetClock(s *Store, d time.Duration) { s.ahead.Add(d.Microseconds()) }

// Key is the key of a record in Redis.
func Key(s *Store, key string) string { return s.redisKey(key) }

// LateClaim gives a claim up before its command arrives, and returns what that is told.
func LateClaim(s *Store, key string) string {
	c := s.newClaim(context.Background(), s.redisKey(key))
	c.giveUp(context.Background())
	_, word, err := s.claim(context.Background(), c, "", false)
	if err != nil {
		return err.Error()
	}
	return string(word)
}

// BeginRenewal is a renewal under way, until it is called back.
func BeginRenewal(c *Claim) (end func()) {
	c.renewals.Add(1)
	return c.renewals.Done
}
